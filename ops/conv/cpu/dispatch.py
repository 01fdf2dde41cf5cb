"""The implementation that each convolution takes on CPU: a table of rules, read from the top.

The first rule that applies is taken; XLA's own stands below them all. A number behind a predicate
is its gain: the time of XLA's own over that of the chosen implementation, when the rule was made,
on one shared core of an AMD EPYC (Zen 3, AVX2; for groups an Intel Xeon, AVX-512) with jax 0.12.0.
Before them all stand `native_rules`, where there are native kernels and they are to be taken. Taps
that meet padding alone are left out before (`geometry.crop_window`): the 3x3 convolutions of a
ResNet-18 on 32x32 end on 1x1 images; one is predicted in 0.60 of the CPU time, 64 in 0.74 (`python
benchmarks/folding.py --side 32`).
`polyphase` and `_few_positions` were timed on 0.10.2 as well, and a range has both. Where a newer
core (Zen 5, AVX-512) says otherwise, its number follows. `python benchmarks/ops.py` times such
convolutions, and names the implementation that each took; benchmarks/results has its tables.
"""

from functools import partial
from math import prod

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ...common.implementation import Implementation, current_implementation, uses_xla
from ...common.padding import is_int
from ..geometry import Geometry, crop_window
from ..native.library import resolve_implementation
from ..xla import is_sharded, xla_conv, xla_input_grad, xla_kernel_grad
from .depthwise import shift_and_add_conv, shift_and_add_fits, shift_and_add_kernel_grad
from .grouped import grouped_conv, grouped_input_grad, grouped_kernel_grad
from .im2col import (
    im2col_conv,
    im2col_kernel_grad,
    space_to_depth_conv,
    space_to_depth_fits,
    space_to_depth_input_grad,
)
from .microbatch import microbatched_kernel_grad
from .native_rules import NATIVE_RULES
from .polyphase import polyphase_input_grad
from .rule import Kind, Problem, Rule
from .toeplitz_block import block_toeplitz_conv, block_toeplitz_fits
from .toeplitz_row import toeplitz_row_fits, toeplitz_row_input_grad

_MANY = 1024  # examples, where their number is not known


def cpu_conv(
    x: jax.Array, k: jax.Array, *, geometry: Geometry, implementation: Implementation = "cpu"
) -> jax.Array:
    """Compute y = dT/dg by the first rule that applies.

    Args:
        x: input, ``(N, *size, Ci)``.
        k: kernel, ``(*window, Ci // groups, Co)``, dtype of `x`.
        geometry: of the convolution.
        implementation: "cpu", or one that may take native kernels.

    Returns:
        ``(N, *output, Co)``, dtype of `x`; added up in float32 at least.
    """
    cropped = crop_window(geometry)
    problem = _problem(cropped.geometry, x.shape[-1], k.shape[-1], x)
    rule = _choose_rule("conv", problem, _available(implementation, x, k))
    return rule.impl(x, k[cropped.kept], geometry=problem.geometry)


def cpu_input_grad(
    g: jax.Array, k: jax.Array, *, geometry: Geometry, implementation: Implementation = "cpu"
) -> jax.Array:
    """Compute gx = dT/dx by the first rule that applies.

    Args:
        g: gradient of the output, ``(N, *output, Co)``.
        k: kernel, ``(*window, Ci // groups, Co)``, dtype of `g`.
        geometry: of the convolution.
        implementation: "cpu", or one that may take native kernels.

    Returns:
        ``(N, *size, Ci)``, dtype of `g`; added up in float32 at least.
    """
    cropped = crop_window(geometry)
    problem = _problem(cropped.geometry, k.shape[-2] * geometry.groups, k.shape[-1], g)
    rule = _choose_rule("input_grad", problem, _available(implementation, g, k))
    return rule.impl(g, k[cropped.kept], geometry=problem.geometry)


def cpu_kernel_grad(
    x: jax.Array, g: jax.Array, *, geometry: Geometry, implementation: Implementation = "cpu"
) -> jax.Array:
    """Compute gk = dT/dk by the first rule that applies; all but XLA's own split the batch.

    Args:
        x: input, ``(N, *size, Ci)``.
        g: gradient of the output, ``(N, *output, Co)``, dtype of `x`.
        geometry: of the convolution.
        implementation: "cpu", or one that may take native kernels.

    Returns:
        ``(*window, Ci // groups, Co)``, dtype of `x`; added up in float32 at least.
    """
    cropped = crop_window(geometry)
    problem = _problem(cropped.geometry, x.shape[-1], g.shape[-1], x)
    available = _available(implementation, x, g) if is_int(x.shape[0]) else "xla"
    rule = _choose_rule("kernel_grad", problem, available)
    gk = rule.impl(x, g, geometry=problem.geometry)
    missing = any(map(any, cropped.left_out))
    return jnp.pad(gk, (*cropped.left_out, (0, 0), (0, 0))) if missing else gk


def rule_name(
    kind: Kind,
    geometry: Geometry,
    Ci: int,
    Co: int,
    dtype: DTypeLike = jnp.float32,
    batch: int = _MANY,
) -> str:
    """Return the name of the implementation that a convolution takes on CPU.

    Args:
        kind: the convolution itself, or one of its two gradients.
        geometry: of the convolution.
        Ci: channels of its input, of all groups together.
        Co: channels of its output, of all groups together.
        dtype: of its arrays.
        batch: the number of examples; without it, many.
    """
    implementation = "xla" if uses_xla() else current_implementation()
    problem = Problem(_canonicalize(crop_window(geometry).geometry), Ci, Co, batch, dtype)
    return _choose_rule(kind, problem, implementation).name


def _problem(geometry: Geometry, Ci: int, Co: int, a: jax.Array) -> Problem:
    """Return the problem of which `a`, with the batch in front, is the first operand."""
    batch = a.shape[0] if is_int(a.shape[0]) else _MANY
    return Problem(_canonicalize(geometry), Ci, Co, batch, a.dtype)


def _choose_rule(kind: Kind, problem: Problem, implementation: Implementation) -> Rule:
    if implementation == "xla":
        return _RULES[kind][-1]
    native = NATIVE_RULES[kind].get(resolve_implementation(implementation), ())
    return next(rule for rule in native + _RULES[kind] if rule.applies(problem))


def _available(implementation: Implementation, *arrays) -> Implementation:
    """Return what implementation such arrays can take.

    The batch cannot be split if it is empty, or explicitly sharded.
    """
    N = arrays[0].shape[0]
    empty = is_int(N) and N == 0
    return "xla" if empty or any(is_sharded(a) for a in arrays) else implementation


def _canonicalize(geometry: Geometry) -> Geometry:
    """Return the geometry with a stride that keeps windows apart where there is one output.

    Along an axis with one output any stride gives the same.
    """
    reach = (d * (w - 1) + 1 for w, d in zip(geometry.window, geometry.dilation, strict=True))
    axes = zip(geometry.stride, geometry.output, reach, strict=True)
    return geometry._replace(stride=tuple(max(s, r) if o == 1 else s for s, o, r in axes))


# ------------------------------------------------------------------------------------ the table


def _depthwise(p: Problem) -> bool:
    """Apply to depthwise: 3x3 of MobileNetV2: conv 17 to 23, input 13 to 118, kernel 6 to 10."""
    return p.geometry.groups == min(p.Ci, p.Co) > 1 and _few_taps(p)


def _depthwise_sums(p: Problem) -> bool:
    """Apply to depthwise whose sums stay small."""
    return _depthwise(p) and shift_and_add_fits(p.geometry, max(p.Ci, p.Co))


def _grouped(p: Problem) -> bool:
    """Apply to groups: 3x3, 8 of 8: 1.9 each; 5x5, 2 of 48 -> 128: 2.8, 2.9, 3.3."""
    return 1 < p.geometry.groups <= 64


def _tiles(p: Problem) -> bool:
    """Apply to windows side by side: 1x1, 64 to 64: 1.4; 2x2 stride 2, 16 -> 32: 1.5.

    Of fewer channels the sums are too short.
    """
    return space_to_depth_fits(p.geometry) and p.Ci >= 8


def _tiles_input_grad(p: Problem) -> bool:
    """Apply to windows side by side: as `_tiles`; into fewer than 24 channels 0.75."""
    return space_to_depth_fits(p.geometry) and p.Co >= 8 and p.Ci >= 24


def _few_positions(p: Problem) -> bool:
    """Apply to few positions and many channels: 3x3, 512: 1.2 to 1.9 at 4x4, 1.1 to 2.2 at 7x7.

    At 2x2 45 to 81, off a cliff of XLA's.
    """
    window, size = p.geometry.window, p.geometry.size
    larger = all(w > i for w, i in zip(window, size, strict=True))
    few = prod(p.geometry.output) <= 49 and min(p.Ci, p.Co) >= 256
    return p.geometry.groups == 1 and _few_taps(p) and (few or larger)


def _few_channels(p: Problem) -> bool:
    """Apply to few channels: 5x5, 1 -> 6: 3.7; 3x3, 3 -> 16: 1.9."""
    small = p.Ci * prod(p.geometry.window) * prod(p.geometry.output) <= 2**24
    return (
        block_toeplitz_fits(p.geometry) and p.Ci <= 4 and 0 < p.Co <= 16 and _few_taps(p) and small
    )


def _few_channels_input_grad(p: Problem) -> bool:
    """Apply to few channels: 5x5, 6 -> 16: 2.5."""
    return toeplitz_row_fits(p.geometry) and p.Co <= 16 and p.Ci * p.geometry.size[1] <= 128


def _strided(p: Problem) -> bool:
    """Apply to strides: 4x4 stride 2: 1.4 to 2.2.

    3x3 stride 2 is no faster (0.8 to 1.2), and 11x11 stride 4 slower. In three dimensions 30; of
    few positions, one `im2col_conv` for each phase: 19 for 256 -> 512.
    """
    window, stride = p.geometry.window, p.geometry.stride
    overlap = any(k > s for k, s in zip(window, stride, strict=True))
    half = set(stride) == {2} and min(window) >= 4
    volume = len(window) == 3 and overlap and 1 < max(stride) <= 4
    return half or volume or _few_positions(p)


def _many_channels(p: Problem) -> bool:
    """Apply to many channels: 3x3, 64: 2.1, newer 1.0; 128: 2.2, newer 1.4; 1x1: 1.5 to 4.9.

    With stride 2 1.9. Not of 32 channels (1.3, newer 0.7), nor of 11x11 windows (newer 0.6); 7x7,
    3 -> 64: 0.8 to 1.7.
    """
    few, strided, taps = min(p.Ci, p.Co), max(p.geometry.stride) > 1, prod(p.geometry.window)
    enough = space_to_depth_fits(p.geometry) or few >= 64 or p.Co >= 64 or (few >= 8 and strided)
    row = p.Ci * taps * prod(p.geometry.output[1:])
    return p.geometry.groups == 1 and taps <= 64 and row <= 2**24 and enough


def _few_taps(p: Problem) -> bool:
    """Return whether few taps are written out: hundreds take seconds to compile."""
    return prod(p.geometry.window) <= 128


def _one_group(p: Problem) -> bool:
    """Apply to one group: 5x5, 1 -> 6: 2 for 128 examples, 5 for 1024; 3x3, 16: 1.5 for 64."""
    return p.geometry.groups == 1


def _always(p: Problem) -> bool:
    """Apply to all that is left."""
    return True


_RULES: dict[Kind, tuple[Rule, ...]] = {
    "conv": (
        Rule("shift_and_add", _depthwise, shift_and_add_conv),
        Rule("grouped", _grouped, partial(grouped_conv, impl=cpu_conv)),
        Rule("space_to_depth", _tiles, space_to_depth_conv),
        Rule("im2col", _few_positions, im2col_conv),
        Rule("block_toeplitz", _few_channels, block_toeplitz_conv),
        Rule("xla", _always, xla_conv),
    ),
    "input_grad": (
        Rule("polyphase", _depthwise, partial(polyphase_input_grad, impl=cpu_conv)),
        Rule("grouped", _grouped, partial(grouped_input_grad, impl=cpu_input_grad)),
        Rule("space_to_depth", _tiles_input_grad, space_to_depth_input_grad),
        Rule("polyphase", _strided, partial(polyphase_input_grad, impl=cpu_conv)),
        Rule("toeplitz_row", _few_channels_input_grad, toeplitz_row_input_grad),
        Rule("xla", _always, xla_input_grad),
    ),
    "kernel_grad": (
        Rule("shift_and_add", _depthwise_sums, shift_and_add_kernel_grad),
        Rule("grouped", _grouped, partial(grouped_kernel_grad, impl=cpu_kernel_grad)),
        Rule("im2col", _many_channels, im2col_kernel_grad),
        Rule("microbatch", _one_group, microbatched_kernel_grad),
        Rule("xla", _always, xla_kernel_grad),
    ),
}
