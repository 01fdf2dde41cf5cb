"""Which form each convolution takes on CPU: a table of rules, read from top to bottom.

The first rule that applies is taken. All are read off `benchmarks/ops.py`, which measures plain /
chosen for each; "plain" stands below them all.
"""

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Literal, NamedTuple

import jax

from .conv_dot import (
    patches_kernel_grad,
    pointwise_conv,
    pointwise_fits,
    pointwise_input_grad,
)
from .conv_geometry import Geometry
from .conv_groups import groups_conv, groups_input_grad, groups_kernel_grad
from .conv_phases import phases_input_grad
from .conv_plain import plain_conv, plain_input_grad, plain_kernel_grad
from .conv_rows import rows_fit, rows_input_grad
from .conv_taps import taps_conv, taps_kernel_grad
from .lowering import is_plain
from .window import is_int

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
    return _chosen("conv", geometry, x.shape[-1], k.shape[-1]).form(x, k, geometry=geometry)


def cpu_input_grad(g: jax.Array, k: jax.Array, *, geometry: Geometry) -> jax.Array:
    """gx = dT/dx in its fastest form."""
    Ci = k.shape[-2] * geometry.groups
    return _chosen("input_grad", geometry, Ci, k.shape[-1]).form(g, k, geometry=geometry)


def cpu_kernel_grad(x: jax.Array, g: jax.Array, *, geometry: Geometry) -> jax.Array:
    """gk = dT/dk in its fastest form."""
    if not is_int(x.shape[0]) or x.shape[0] == 0:  # a symbolic batch cannot be cut into chunks
        return plain_kernel_grad(x, g, geometry=geometry)
    return _chosen("kernel_grad", geometry, x.shape[-1], g.shape[-1]).form(x, g, geometry=geometry)


def rule_name(kind: Kind, geometry: Geometry, Ci: int, Co: int) -> str:
    """The name of the form that a convolution of this kind takes on CPU."""
    return _chosen(kind, geometry, Ci, Co).name


def _chosen(kind: Kind, geometry: Geometry, Ci: int, Co: int) -> Rule:
    rules = _RULES[kind][-1:] if is_plain() else _RULES[kind]
    return next(rule for rule in rules if rule.pays(Problem(geometry, Ci, Co)))


# ------------------------------------------------------------------------------------ the table


def _depthwise(p: Problem) -> bool:
    few_taps = prod(p.geometry.window) <= 64
    return p.geometry.groups == min(p.Ci, p.Co) > 1 and few_taps


def _depthwise_or_first(p: Problem) -> bool:
    one_channel = p.geometry.groups == p.Ci == 1 and p.Co <= 16
    return _depthwise(p) or (one_channel and prod(p.geometry.window) <= 64)


def _grouped(p: Problem) -> bool:
    return 1 < p.geometry.groups <= 64


def _pointwise(p: Problem) -> bool:
    return pointwise_fits(p.geometry)


def _few_channels_back(p: Problem) -> bool:
    return rows_fit(p.geometry) and p.Co <= 16 and p.Ci * p.geometry.size[1] <= 128


def _by_phases(p: Problem) -> bool:
    geometry = p.geometry
    overlap = any(k > s for k, s in zip(geometry.window, geometry.stride, strict=True))
    return _depthwise(p) or (overlap and 1 < max(geometry.stride) <= 4)


def _many_channels(p: Problem) -> bool:
    return p.geometry.groups == 1 and (min(p.Ci, p.Co) >= 8 or p.Co >= 64)


def _always(p: Problem) -> bool:
    return True


_RULES: dict[Kind, tuple[Rule, ...]] = {
    "conv": (
        Rule("taps", _depthwise_or_first, taps_conv),
        Rule("groups", _grouped, partial(groups_conv, form=cpu_conv)),
        Rule("pointwise", _pointwise, pointwise_conv),
        Rule("plain", _always, plain_conv),
    ),
    "input_grad": (
        Rule("phases", _by_phases, partial(phases_input_grad, form=cpu_conv)),
        Rule("groups", _grouped, partial(groups_input_grad, form=cpu_input_grad)),
        Rule("pointwise", _pointwise, pointwise_input_grad),
        Rule("rows", _few_channels_back, rows_input_grad),
        Rule("plain", _always, plain_input_grad),
    ),
    "kernel_grad": (
        Rule("taps", _depthwise, taps_kernel_grad),
        Rule("groups", _grouped, partial(groups_kernel_grad, form=cpu_kernel_grad)),
        Rule("patches", _many_channels, patches_kernel_grad),
        Rule("plain", _always, plain_kernel_grad),
    ),
}
