"""Grouped convolution on CPU: one convolution for each group, or for a few merged groups.

XLA has no fast implementation of groups on CPU, but each group is a convolution of its own, on its
own channels of x, k and g. Groups of few channels are merged: the kernels of several are the blocks
on the diagonal of one kernel that is zero elsewhere (a block-diagonal kernel), and of its gradient
only those blocks count. As the zeros are multiplied too, an infinity or NaN in one group reaches
the others that it is merged with.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from ..geometry import Geometry, Impl

_UNROLLED = 4  # blocks


def grouped_conv(x: jax.Array, k: jax.Array, *, geometry: Geometry, impl: Impl) -> jax.Array:
    """Compute y = dT/dg, by `impl` for each block of merged groups.

    Args:
        x: input, ``(N, *size, Ci)``.
        k: kernel, ``(*window, Ci // groups, Co)``, dtype of `x`.
        geometry: of the convolution.
        impl: computes each of the smaller convolutions.

    Returns:
        ``(N, *output, Co)``, dtype of `x`; added up in float32 at least.
    """
    return _map_blocks(impl, geometry, x, _block_diagonal(k, *_merge_groups(geometry, k.shape[-2])))


def grouped_input_grad(g: jax.Array, k: jax.Array, *, geometry: Geometry, impl: Impl) -> jax.Array:
    """Compute gx = dT/dx, by `impl` for each block of merged groups.

    Args:
        g: gradient of the output, ``(N, *output, Co)``.
        k: kernel, ``(*window, Ci // groups, Co)``, dtype of `g`.
        geometry: of the convolution.
        impl: computes each of the smaller convolutions.

    Returns:
        ``(N, *size, Ci)``, dtype of `g`; added up in float32 at least.
    """
    return _map_blocks(impl, geometry, g, _block_diagonal(k, *_merge_groups(geometry, k.shape[-2])))


def grouped_kernel_grad(x: jax.Array, g: jax.Array, *, geometry: Geometry, impl: Impl) -> jax.Array:
    """Compute gk = dT/dk, by `impl` for each block of merged groups.

    Args:
        x: input, ``(N, *size, Ci)``.
        g: gradient of the output, ``(N, *output, Co)``, dtype of `x`.
        geometry: of the convolution.
        impl: computes each of the smaller convolutions.

    Returns:
        ``(*window, Ci // groups, Co)``, dtype of `x`; added up in float32 at least.
    """
    Ci, Co = (a.shape[-1] // geometry.groups for a in (x, g))
    blocks, merged = _merge_groups(geometry, Ci)

    def of_block(a, b):
        gk = impl(a, b, geometry=geometry._replace(groups=1))
        gk = gk.reshape(*geometry.window, merged, Ci, merged, Co)
        return jnp.concatenate([gk[..., i, :, i, :] for i in range(merged)], axis=-1)

    return _join_blocks(of_block, _split_channels(x, blocks), _split_channels(g, blocks))


def _merge_groups(geometry: Geometry, Ci: int) -> tuple[int, int]:
    """Return how many blocks, and how many groups in each: the fewest that have 8 channels."""
    G = geometry.groups
    divisors = [n for n in range(1, 9) if G % n == 0]
    merged = next((n for n in divisors if n * Ci >= 8), divisors[-1])
    return G // merged, merged


def _block_diagonal(k, blocks: int, merged: int) -> jax.Array:
    """Return the kernels of the blocks, ``(blocks, *window, Ci, Co)`` with Ci, Co of a block."""
    k = _split_channels(k, blocks)
    if merged == 1:
        return k
    *window, Ci, Co = k.shape
    k = k.reshape(*window, Ci, merged, Co // merged)
    same = jnp.eye(merged, dtype=bool)[:, None, :, None]
    k = jnp.moveaxis(k, -2, -3)[..., :, :, None, :]
    k = jnp.where(same, k, jnp.zeros((), k.dtype))
    return k.reshape(*window, merged * Ci, Co)


def _map_blocks(impl, geometry, a, kernels):
    """Apply `impl` to each block of `a` and its kernel."""
    one_block = partial(impl, geometry=geometry._replace(groups=1))
    return _join_blocks(one_block, _split_channels(a, len(kernels)), kernels)


def _join_blocks(function, a, b):
    """Join the results of all blocks. More than a few are a loop, or they compile long."""
    if len(a) <= _UNROLLED:
        parts = [function(*block) for block in zip(a, b, strict=True)]
        return jnp.concatenate(parts, axis=-1)
    parts = lax.map(lambda block: function(*block), (a, b))
    parts = jnp.moveaxis(parts, 0, -2)
    return parts.reshape(*parts.shape[:-2], parts.shape[-2] * parts.shape[-1])


def _split_channels(a, blocks: int) -> jax.Array:
    """Split the last axis into blocks, and bring those to the front."""
    return jnp.moveaxis(a.reshape(*a.shape[:-1], blocks, a.shape[-1] // blocks), -2, 0)
