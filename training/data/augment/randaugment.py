"""Operations drawn anew for each image, all of one magnitude: RandAugment and TrivialAugment."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from ...config.augment import GREATEST_MAGNITUDE
from . import pixelwise
from .affine import warp
from .color import brightened, contrasted, saturated
from .flip import fair_coin

# ``change(x, m)`` of images (N, H, W, C) in [0, 1] by magnitudes (N, 1, 1, 1) in [-1, 1], of which
# some know no sign: -m is m to them.
Change: TypeAlias = Callable[[Array, Array], Array]


def randaugment(
    key: Array,
    x: Array,
    masks: Array | None,
    fill: Array,
    *,
    num_ops: int,
    magnitude: int | Literal["random"],
    operations: Sequence[str],
) -> tuple[Array, Array | None]:
    """Apply `num_ops` operations to each image, each drawn uniformly from a list.

    Args:
        key: a PRNG key.
        x: ``(N, H, W, C)`` in [0, 1].
        masks: ``(N, H, W)``, or None; they go with what moves.
        fill: ``(1, 1, 1, C)``, what comes in from outside.
        num_ops: how many operations.
        magnitude: how strong, of 30; "random": drawn uniformly from 0 to 30 for each image and
            operation.
        operations: the list; with "random" and one operation of it this is TrivialAugment.

    Note:
        Ranges are those of torchvision's `RandAugment`: 0.3 of shear, 150/331 of the side, 30
        degrees, factors of 0.1 to 1.9, 8 to 4 bits, thresholds of 1 to 0; what has a sign has
        either in half of the cases. torchvision reads the nearest pixel, and lets black in.

    References:
        Cubuk et al., arXiv:1909.13719; Müller & Hutter, arXiv:2103.10158, in the former's space.
    """
    N = len(x)
    for key_of_one in jax.random.split(key, num_ops):
        for_choice, for_sign, for_magnitude = jax.random.split(key_of_one, 3)
        chosen = jax.random.randint(for_choice, (N,), 0, len(operations), jnp.int32)
        strength = jnp.full(N, 0 if magnitude == "random" else magnitude, jnp.int32)
        if magnitude == "random":
            strength = jax.random.randint(for_magnitude, (N,), 0, GREATEST_MAGNITUDE + 1, jnp.int32)
        sign = jnp.where(fair_coin(for_sign, N), jnp.float32(1), jnp.float32(-1))
        m = sign * strength.astype(jnp.float32) / GREATEST_MAGNITUDE
        x, masks = one_each(x, masks, fill, chosen, m, operations)
    return x, masks


def one_each(
    x: Array, masks: Array | None, fill: Array, chosen: Array, m: Array, operations: Sequence[str]
) -> tuple[Array, Array | None]:
    """Apply ``operations[chosen]`` ``(N,)`` of magnitude `m` ``(N,)``, one to each image."""
    is_chosen: dict[str, Array] = {}
    for i, name in enumerate(operations):  # one that is named twice is drawn twice as often
        is_chosen[name] = is_chosen.get(name, False) | (chosen == i)
    if is_chosen.keys() & _MOVES.keys():
        x, masks = _moved(x, masks, fill, is_chosen, m)
    # Each of what there was before: one after the other, XLA computes them anew for each next one.
    changed = x
    for name, change in _CHANGES.items():
        if name in is_chosen:
            pick = is_chosen[name][:, None, None, None]
            changed = jnp.where(pick, change(x, m[:, None, None, None]), changed)
    return changed, masks


def _moved(
    x: Array, masks: Array | None, fill: Array, is_chosen: dict[str, Array], m: Array
) -> tuple[Array, Array | None]:
    """Apply all that move in one warp; the others stay where they are, to the bit."""
    H, W = x.shape[1:3]
    by = {name: jnp.where(is_chosen.get(name, False), m * most, 0) for name, most in _MOVES.items()}
    angle = jnp.deg2rad(by["rotate"])
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    rows = [[cos, by["shear_x"] - sin], [by["shear_y"] + sin, cos]]
    forward = jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
    move = jnp.stack([by["translate_x"] * W, by["translate_y"] * H], axis=-1)
    return warp(x, masks, forward, move, fill)


def _enhanced(enhance: Callable[[Array, Array], Array], x: Array, m: Array) -> Array:
    return enhance(x, 1 + 0.9 * m)


# The geometric ones, each with its greatest magnitude: slopes, shares of the side, degrees.
_MOVES = {
    **{"shear_x": 0.3, "shear_y": 0.3, "rotate": 30.0},
    **{"translate_x": 150 / 331, "translate_y": 150 / 331},
}
_CHANGES: dict[str, Change] = {
    "brightness": partial(_enhanced, brightened),
    "color": partial(_enhanced, saturated),
    "contrast": partial(_enhanced, contrasted),
    "sharpness": partial(_enhanced, pixelwise.sharpened),
    "posterize": lambda x, m: pixelwise.posterized(x, 8 - jnp.round(4 * jnp.abs(m))),
    "solarize": lambda x, m: pixelwise.solarized(x, 1 - jnp.abs(m)),
    "auto_contrast": lambda x, m: pixelwise.stretched(x),
    "equalize": lambda x, m: pixelwise.equalized(x),
}
