"""When the native kernels (`ops.conv.native`) are taken: rules as in `dispatch`, before all others.

A number behind a predicate is its gain: the time of the rule that would be taken without the
kernels over theirs, as `python benchmarks/native.py` measures it, on one shared core of an AMD EPYC
(Zen 4, AVX-512) with jax 0.12.0.
"""

from collections.abc import Callable
from functools import partial
from math import prod

import jax
import jax.numpy as jnp

from ..native.call import native_conv, native_input_grad, native_kernel_grad
from .rule import Kind, Problem, Rule


def _native(p: Problem) -> bool:
    """Return whether the native kernels compute this, however fast."""
    axes = p.geometry.axes
    spans = (a.stride * a.output + a.dilation * a.window for a in axes)
    row = max(axes[-1].size, *spans) * max(p.Ci, p.Co)  # which is copied with its padding
    return (
        p.dtype == jnp.float32
        and len(axes) <= 2
        and min(p.Ci, p.Co, *p.geometry.size) > 0
        and row <= 2**24
    )


def _native_dense(p: Problem) -> bool:
    return _native(p) and p.geometry.groups == 1


def _winograd(p: Problem) -> bool:
    """Apply to 3x3 windows, where enough tiles of 4x4 outputs share a transformed kernel.

    16 channels: conv 2.5, input 2.9, kernel 2.6; 64: 2.6, 2.6, 2.7; 256 at 8x8: 2.5 each; 16 -> 24:
    2.2, 1.6, 2.6; 8: 2.2, 2.3, 1.7; 64 -> 8: 1.2, 1.7, 3.0. At 7x7 512: 2.7, 2.7, 2.0; of 32 tiles
    512 channels 1.6, 1.7, 1.6; of 16 tiles 128 channels 2.4, 2.3, 1.8; of 4 tiles 256 channels 0.9,
    0.6, 0.6. At 2x2 a tile is mostly empty: 0.97 to 1.3.
    """
    g = p.geometry
    plain = (g.window, g.stride, g.dilation) == ((3, 3), (1, 1), (1, 1))
    tiles = p.batch * prod(-(-o // 4) for o in g.output)
    enough = tiles >= (16 if p.Ci * p.Co <= 2**16 else 32)
    return _native_dense(p) and plain and min(p.Ci, p.Co) >= 8 and min(g.output) > 2 and enough


def _direct(p: Problem) -> bool:
    """Apply to few channels: 3x3, 3 -> 16: 1.8; 16: 1.3; 32: 1.1; 5x5, 6 -> 16: 2.0.

    7x7 stride 2, 3 -> 64: 1.1; 11x11 stride 4: 1.3. Not into less than a vector (64 -> 8: 0.5,
    1 -> 6: 0.9) nor 1x1 (0.8 to 0.9); of more channels it is as fast as XLA's (0.9 to 1.1).
    """
    return (
        _native_dense(p) and p.Ci <= 32 and min(16, max(8, p.Ci)) <= p.Co <= 64 and _has_window(p)
    )


def _direct_input_grad(p: Problem) -> bool:
    """Apply to few channels: 3x3, 8: 1.6; 16: 1.3; 32: 1.15; 64 -> 8: 1.06.

    16 -> 24: 0.85; into less than a vector (3 -> 64, 1 -> 6) 0.3. With stride 2, 16 -> 32: 1.1 to
    1.6; 48 -> 96: 1.2; 5x5, 16 -> 32: 1.1; but 8 -> 16 0.8, 16 -> 64 1.0, 64 -> 128 1.05.
    """
    few = p.Ci >= 8 and p.Co <= min(p.Ci, 32)
    overlapping = set(p.geometry.stride) == {2} and min(p.geometry.window) > 2
    strided = overlapping and 16 <= p.Ci <= 48 and p.Co <= 2 * p.Ci
    return _native_dense(p) and (few or strided) and _has_window(p)


def _direct_kernel_grad(p: Problem) -> bool:
    """Apply to kernels that are not large: 3x3, 16: 1.4; 64: 1.3; 3 -> 64: 1.3; 64 -> 8: 1.8.

    5x5, 1 -> 6 and 6 -> 16: 1.4; 48: 0.98; stride 2, 64 -> 128: 1.15; 1x1, 16 -> 64: 1.8. Above:
    256 -> 512 0.75, 1x1, 512 -> 128 0.75.
    """
    return _native_dense(p) and p.Ci * p.Co <= 2**13


def _depthwise_grad(p: Problem) -> bool:
    """Apply to depthwise, channels from a vector on: 3x3, 32 at 32x32: input 1.5, kernel 6.

    384 at 4x4: 2.0, 3.0; stride 2, 192 at 8x8: 1.7, 3.1; 7x7, 64 at 16x16: 3.9, 3.5; 256 at 4x4:
    17, 5.7. Of 8 channels 0.6, 1.4; of 2 0.4 each; 1x1: 0.7, 1.4.
    """
    last = p.geometry.axes[-1]
    computed = last.window <= 7 and last.stride <= 2 and last.dilation == 1
    return _native(p) and p.geometry.groups == p.Ci == p.Co >= 16 and _has_window(p) and computed


def _depthwise_conv(p: Problem) -> bool:
    """Apply to depthwise: 3x3, 32 at 32x32: 1.4 to 1.9; 384 at 4x4: 1.8; stride 2, 192: 1.9.

    7x7, 64 at 16x16: 3.7; 256 at 4x4: 9.6; of 8 channels 0.6. Without padding, which XLA writes out
    at a price, 3x3: 0.7 to 1.2; 7x7: 1.5 to 2.6.
    """
    padded = any(max(sides) > 0 for sides in p.geometry.padding)
    return _depthwise_grad(p) and (padded or prod(p.geometry.window) >= 49)


def _has_window(p: Problem) -> bool:
    return prod(p.geometry.window) > 1


def _native_rules(
    impl: Callable[..., jax.Array],
    direct: Callable[[Problem], bool],
    depthwise: Callable[[Problem], bool],
):
    """Return the rules of one of the three functions, for each implementation that has some.

    Args:
        impl: takes an `algorithm`.
        direct: when that algorithm is the fastest but for Winograd's.
        depthwise: when that one is.
    """
    rules = (
        Rule("winograd", _winograd, partial(impl, algorithm="winograd")),
        Rule("direct", direct, partial(impl, algorithm="direct")),
        Rule("depthwise", depthwise, partial(impl, algorithm="depthwise")),
    )
    return {"native": rules, "native-direct": rules[1:]}


NATIVE_RULES: dict[Kind, dict[str, tuple[Rule, ...]]] = {
    "conv": _native_rules(native_conv, _direct, _depthwise_conv),
    "input_grad": _native_rules(native_input_grad, _direct_input_grad, _depthwise_grad),
    "kernel_grad": _native_rules(native_kernel_grad, _direct_kernel_grad, _depthwise_grad),
}
