"""Grouped convolution on CPU: one convolution for each group, or for a few neighbours together.

XLA has no fast form for groups on CPU, but each group is a convolution of its own, on its own
channels of x, k and g. Where groups have few channels, several at a time make one: their kernels
are then the blocks on the diagonal of a kernel that is zero elsewhere, and of its gradient only
those blocks count.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from .conv_geometry import Geometry

Form = Callable[..., jax.Array]


def groups_conv(x: jax.Array, k: jax.Array, *, geometry: Geometry, form: Form) -> jax.Array:
    """y = dT/dg, by `form` for each lot of groups."""
    return _apart(form, geometry, x, _diagonal(k, *_lots(geometry, k.shape[-2])))


def groups_input_grad(g: jax.Array, k: jax.Array, *, geometry: Geometry, form: Form) -> jax.Array:
    """gx = dT/dx, by `form` for each lot of groups."""
    return _apart(form, geometry, g, _diagonal(k, *_lots(geometry, k.shape[-2])))


def groups_kernel_grad(x: jax.Array, g: jax.Array, *, geometry: Geometry, form: Form) -> jax.Array:
    """gk = dT/dk, by `form` for each lot of groups."""
    Ci, Co = (a.shape[-1] // geometry.groups for a in (x, g))
    lots, together = _lots(geometry, Ci)
    parts = []
    for a, b in zip(_split(x, lots), _split(g, lots), strict=True):
        gk = form(a, b, geometry=geometry._replace(groups=1))
        gk = gk.reshape(*geometry.window, together, Ci, together, Co)
        blocks = [gk[..., i, :, i, :] for i in range(together)]
        parts.append(jnp.concatenate(blocks, axis=-1))
    return jnp.concatenate(parts, axis=-1)


def _lots(geometry: Geometry, Ci: int) -> tuple[int, int]:
    """How many lots, and how many groups in each: so many that a lot has 8 channels at least."""
    G = geometry.groups
    together = next(n for n in range(1, G + 1) if G % n == 0 and (n * Ci >= 8 or n == G))
    return G // together, together


def _diagonal(k, lots: int, together: int) -> list[jax.Array]:
    """The kernel of each lot."""
    if together == 1:
        return _split(k, lots)
    *window, Ci, Co = k.shape
    k = k.reshape(*window, Ci, lots, together, Co // (lots * together))
    same = jnp.eye(together, dtype=bool)[:, None, :, None]
    kernels = []
    for lot in range(lots):
        block = jnp.moveaxis(k[..., lot, :, :], -2, -3)[..., :, :, None, :]
        block = jnp.where(same, block, jnp.zeros((), k.dtype))
        kernels.append(block.reshape(*window, together * Ci, -1))
    return kernels


def _apart(form, geometry, a, kernels):
    geometry = geometry._replace(groups=1)
    parts = [
        form(part, k, geometry=geometry)
        for part, k in zip(_split(a, len(kernels)), kernels, strict=True)
    ]
    return jnp.concatenate(parts, axis=-1)


def _split(a, lots: int) -> list[jax.Array]:
    return jnp.split(a, lots, axis=-1)
