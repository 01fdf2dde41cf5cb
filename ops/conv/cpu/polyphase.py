"""The input gradient of a strided convolution on CPU by polyphase decomposition.

Written as one convolution, it is a correlation with a g that has s - 1 zeros between its elements,
which are multiplied all the same. But which taps meet an element of g, and not a zero, depends only
on where j lies between two steps of the stride: along one axis, with j = s q + r and the phase r,

    gx[s q + r] = sum_m  g[q + c - d' m]  k[u + t m]

over the taps u, u + t, u + 2 t, ... with d u = r + p (mod s), where t = s / gcd(s, d),
d' = d / gcd(s, d) and c = (r + p - d u) / s. So each phase is a convolution of g itself, of stride
1 and dilation d', with every t-th tap of the kernel, flipped; no product with a zero is left.

XLA passes over some of those zeros itself. Phases gain much in three dimensions, where its own
implementation is not vectorized, and for depthwise kernels; little or nothing where a phase has few
taps.
"""

from collections.abc import Callable
from itertools import product
from math import gcd
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ..geometry import Geometry
from ..xla import swap_in_and_out


class _Phase(NamedTuple):
    """One phase along one axis."""

    taps: slice  # of the kernel
    dilation: int
    padding: tuple[int, int]  # of g
    output: int  # how many elements of gx it has


def polyphase_input_grad(
    g: jax.Array, k: jax.Array, *, geometry: Geometry, impl: Callable[..., jax.Array]
) -> jax.Array:
    """Compute gx = dT/dx, each phase by `impl`.

    Args:
        g: gradient of the output, ``(N, *output, Co)``.
        k: kernel, ``(*window, Ci // groups, Co)``, dtype of `g`.
        geometry: of the convolution.
        impl: computes each of the smaller convolutions.

    Returns:
        ``(N, *size, Ci)``, dtype of `g`; added up in float32 at least.
    """
    k = swap_in_and_out(k, geometry.groups)
    N, Ci = g.shape[0], k.shape[-1]
    phases = [_phases(*axis) for axis in geometry.axes]
    parts = [_one_phase(g, k, axes, geometry.groups, impl) for axes in product(*phases)]
    # (N, Q, Q', Ci) of each phase (r, r') to (N, Q s, Q' s', Ci): the phases of an axis interleave.
    blocks = tuple(axis[0].output for axis in phases)
    gx = jnp.stack(parts).reshape(*geometry.stride, N, *blocks, Ci)
    rank = len(blocks)
    order = [rank, *(n for a in range(rank) for n in (rank + 1 + a, a)), 2 * rank + 1]
    whole = [q * s for q, s in zip(blocks, geometry.stride, strict=True)]
    gx = gx.transpose(order).reshape(N, *whole, Ci)
    return gx[:, *(slice(i) for i in geometry.size)]


def _phases(size, window, output, stride, dilation, padding) -> list[_Phase]:
    """Return the phases r = 0 ... s - 1 along one axis, rounded up to one number of elements."""
    common = gcd(stride, dilation)
    t, d, blocks = stride // common, dilation // common, -(-size // stride)
    phases = []
    for r in range(stride):
        start = (u for u in range(min(t, window)) if (r + padding[0] - dilation * u) % stride == 0)
        u = next(start, window)
        taps = len(range(u, window, t))
        c = (r + padding[0] - dilation * u) // stride
        reach = d * (taps - 1)
        phases.append(_Phase(slice(u, None, t), d, (reach - c, blocks + c - output), blocks))
    return phases


def _one_phase(g, k, axes: tuple[_Phase, ...], groups: int, impl) -> jax.Array:
    k = k[tuple(axis.taps for axis in axes)]
    k = jnp.flip(k, tuple(range(len(axes))))
    window = k.shape[:-2]
    output = tuple(axis.output for axis in axes)
    if 0 in window:  # no tap of the window lands on this phase
        return jnp.zeros((g.shape[0], *output, k.shape[-1]), g.dtype)
    geometry = Geometry(
        size=g.shape[1:-1],
        window=window,
        output=output,
        stride=(1,) * len(axes),
        dilation=tuple(axis.dilation for axis in axes),
        padding=tuple(axis.padding for axis in axes),
        groups=groups,
    )
    return impl(g, k, geometry=geometry)
