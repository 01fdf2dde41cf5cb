"""Which form each convolution takes on CPU: a table of rules, read from top to bottom.

The first rule that applies is taken; "plain" stands below them all. A number behind a predicate is
what it won: the time of the plain form over that of the chosen one, when the rule was made, on one
shared core of an AMD EPYC (Zen 3, AVX2; for groups an Intel Xeon, AVX-512) with jax 0.12.0.
`phases` and `_few_places` were timed on 0.10.2 as well, and a range has both. Where a newer core
(Zen 5, AVX-512) says otherwise, its number follows. `python benchmarks/ops.py` times such
convolutions, and names the form that each took; benchmarks/results has its tables.
"""

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Literal, NamedTuple

import jax

from ...common.implementation import uses_xla
from ...common.padding import is_int
from ..geometry import Geometry
from ..xla import is_shared_out, plain_conv, plain_input_grad, plain_kernel_grad
from .depthwise import taps_conv, taps_fit, taps_kernel_grad
from .grouped import groups_conv, groups_input_grad, groups_kernel_grad
from .im2col import patches_conv, patches_kernel_grad, tiles_conv, tiles_fit, tiles_input_grad
from .microbatch import lots_kernel_grad
from .polyphase import phases_input_grad
from .toeplitz_block import band_conv, band_fits
from .toeplitz_row import rows_fit, rows_input_grad

Kind = Literal["conv", "input_grad", "kernel_grad"]


class Problem(NamedTuple):
    """A convolution's geometry and channels, those of all groups together."""

    geometry: Geometry
    Ci: int
    Co: int


class Rule(NamedTuple):
    """A form, and when it is the fastest."""

    name: str
    pays: Callable[[Problem], bool]
    form: Callable[..., jax.Array]


def cpu_conv(x: jax.Array, k: jax.Array, *, geometry: Geometry) -> jax.Array:
    """y = dT/dg in its fastest form."""
    geometry = _simplest(geometry)
    rule = _chosen("conv", geometry, x.shape[-1], k.shape[-1], plain=_is_whole(x, k))
    return rule.form(x, k, geometry=geometry)


def cpu_input_grad(g: jax.Array, k: jax.Array, *, geometry: Geometry) -> jax.Array:
    """gx = dT/dx in its fastest form."""
    Ci, geometry = k.shape[-2] * geometry.groups, _simplest(geometry)
    rule = _chosen("input_grad", geometry, Ci, k.shape[-1], plain=_is_whole(g, k))
    return rule.form(g, k, geometry=geometry)


def cpu_kernel_grad(x: jax.Array, g: jax.Array, *, geometry: Geometry) -> jax.Array:
    """gk = dT/dk in its fastest form, all of which but the plain one take a few examples a time."""
    geometry, whole = _simplest(geometry), _is_whole(x, g) or not is_int(x.shape[0])
    rule = _chosen("kernel_grad", geometry, x.shape[-1], g.shape[-1], plain=whole)
    return rule.form(x, g, geometry=geometry)


def rule_name(kind: Kind, geometry: Geometry, Ci: int, Co: int) -> str:
    """The name of the form that a convolution of this kind takes on CPU."""
    return _chosen(kind, _simplest(geometry), Ci, Co, plain=uses_xla()).name


def _chosen(kind: Kind, geometry: Geometry, Ci: int, Co: int, *, plain: bool) -> Rule:
    rules = _RULES[kind][-1:] if plain else _RULES[kind]
    return next(rule for rule in rules if rule.pays(Problem(geometry, Ci, Co)))


def _simplest(geometry: Geometry) -> Geometry:
    """With one output along an axis any stride will do: one that keeps windows from overlapping."""
    reach = (d * (w - 1) + 1 for w, d in zip(geometry.window, geometry.dilation, strict=True))
    axes = zip(geometry.stride, geometry.output, reach, strict=True)
    return geometry._replace(stride=tuple(max(s, r) if o == 1 else s for s, o, r in axes))


def _is_whole(*arrays) -> bool:
    """Whether the batch cannot be cut: it is empty, or shared out by explicit sharding."""
    empty = is_int(arrays[0].shape[0]) and arrays[0].shape[0] == 0
    return empty or any(is_shared_out(a) for a in arrays)


# ------------------------------------------------------------------------------------ the table


def _depthwise(p: Problem) -> bool:
    """MobileNetV2's 3x3: forward 17 to 23, input gradient 13 to 118, kernel gradient 6 to 10."""
    return p.geometry.groups == min(p.Ci, p.Co) > 1 and _few_taps(p)


def _depthwise_sums(p: Problem) -> bool:
    return _depthwise(p) and taps_fit(p.geometry, max(p.Ci, p.Co))


def _grouped(p: Problem) -> bool:
    """3x3, 8 of 8: 1.9 each; 5x5, 2 of 48 -> 128: 2.8, 2.9, 3.3."""
    return 1 < p.geometry.groups <= 64


def _side_by_side(p: Problem) -> bool:
    """1x1, 64 to 64: 1.4; 2x2 stride 2, 16 -> 32: 1.5. Of fewer channels the sums are too short."""
    return tiles_fit(p.geometry) and p.Ci >= 8


def _side_by_side_back(p: Problem) -> bool:
    """The same: 1.4; 1.5. Into fewer than 24 channels 0.75."""
    return tiles_fit(p.geometry) and p.Co >= 8 and p.Ci >= 24


def _few_places(p: Problem) -> bool:
    """3x3, 512: 45 to 81 at 2x2, off a cliff of XLA's; 1.2 to 1.9 at 4x4, 1.1 to 2.2 at 7x7."""
    window, size = p.geometry.window, p.geometry.size
    larger = all(w > i for w, i in zip(window, size, strict=True))
    few = prod(p.geometry.output) <= 49 and min(p.Ci, p.Co) >= 256
    return p.geometry.groups == 1 and _few_taps(p) and (few or larger)


def _few_channels(p: Problem) -> bool:
    """5x5, 1 -> 6: 3.7; 3x3, 3 -> 16: 1.9."""
    small = p.Ci * prod(p.geometry.window) * prod(p.geometry.output) <= 2**24
    return band_fits(p.geometry) and p.Ci <= 4 and 0 < p.Co <= 16 and _few_taps(p) and small


def _few_channels_back(p: Problem) -> bool:
    """5x5, 6 -> 16: 2.5."""
    return rows_fit(p.geometry) and p.Co <= 16 and p.Ci * p.geometry.size[1] <= 128


def _by_phases(p: Problem) -> bool:
    """4x4 stride 2: 1.4 to 2.2. 3x3 stride 2 is no faster (0.8 to 1.2), and 11x11 stride 4 slower.

    In three dimensions 30; of few places, one `patches_conv` for each phase: 19 for 256 -> 512.
    """
    window, stride = p.geometry.window, p.geometry.stride
    overlap = any(k > s for k, s in zip(window, stride, strict=True))
    half = set(stride) == {2} and min(window) >= 4
    volume = len(window) == 3 and overlap and 1 < max(stride) <= 4
    return half or volume or _few_places(p)


def _many_channels(p: Problem) -> bool:
    """3x3, 64: 2.1, newer 1.0; 128: 2.2, newer 1.4; stride 2: 1.9; 1x1: 1.5 to 4.9.

    Not of 32 channels (1.3, newer 0.7), nor of 11x11 windows (newer 0.6); 7x7, 3 -> 64: 0.8 to 1.7.
    """
    few, strided, taps = min(p.Ci, p.Co), max(p.geometry.stride) > 1, prod(p.geometry.window)
    enough = tiles_fit(p.geometry) or few >= 64 or p.Co >= 64 or (few >= 8 and strided)
    row = p.Ci * taps * prod(p.geometry.output[1:])
    return p.geometry.groups == 1 and taps <= 64 and row <= 2**24 and enough


def _few_taps(p: Problem) -> bool:
    """Each is written out in the program: with hundreds it takes seconds to compile."""
    return prod(p.geometry.window) <= 128


def _one_group(p: Problem) -> bool:
    """5x5, 1 -> 6: 2 for 128 examples, 5 for 1024; 3x3, 16: 1.5 for 64, 1 for 16."""
    return p.geometry.groups == 1


def _always(p: Problem) -> bool:
    return True


_RULES: dict[Kind, tuple[Rule, ...]] = {
    "conv": (
        Rule("taps", _depthwise, taps_conv),
        Rule("groups", _grouped, partial(groups_conv, form=cpu_conv)),
        Rule("tiles", _side_by_side, tiles_conv),
        Rule("patches", _few_places, patches_conv),
        Rule("band", _few_channels, band_conv),
        Rule("plain", _always, plain_conv),
    ),
    "input_grad": (
        Rule("phases", _depthwise, partial(phases_input_grad, form=cpu_conv)),
        Rule("groups", _grouped, partial(groups_input_grad, form=cpu_input_grad)),
        Rule("tiles", _side_by_side_back, tiles_input_grad),
        Rule("phases", _by_phases, partial(phases_input_grad, form=cpu_conv)),
        Rule("rows", _few_channels_back, rows_input_grad),
        Rule("plain", _always, plain_input_grad),
    ),
    "kernel_grad": (
        Rule("taps", _depthwise_sums, taps_kernel_grad),
        Rule("groups", _grouped, partial(groups_kernel_grad, form=cpu_kernel_grad)),
        Rule("patches", _many_channels, patches_kernel_grad),
        Rule("lots", _one_group, lots_kernel_grad),
        Rule("plain", _always, plain_kernel_grad),
    ),
}
