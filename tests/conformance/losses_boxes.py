"""Losses of boxes by their overlap; formulas in jax.numpy and PyTorch alike."""

from functools import partial
from math import pi

import jax.numpy as jnp
from jax import lax

from convax import ops
from tests.reference import detection as reference

from .detection import boxes, overlap_parts
from .entry import Entry
from .losses_common import Loss, entry, per_example


def _giou(xp, p, t):
    inside, union, around = overlap_parts(xp, p, t)
    return 2 - inside / union - union / around


def _diou(xp, p, t):
    inside, union, _ = overlap_parts(xp, p, t)
    x, y = ((p[..., i] + p[..., i + 2] - t[..., i] - t[..., i + 2]) / 2 for i in (0, 1))
    W, H = (
        xp.maximum(p[..., i + 2], t[..., i + 2]) - xp.minimum(p[..., i], t[..., i]) for i in (0, 1)
    )
    return 1 - inside / union + (x**2 + y**2) / (W**2 + H**2)


def _ciou(xp, p, t):
    inside, union, _ = overlap_parts(xp, p, t)
    angle = lambda b: xp.arctan((b[..., 2] - b[..., 0]) / (b[..., 3] - b[..., 1]))  # noqa: E731
    v = 4 / pi**2 * (angle(t) - angle(p)) ** 2
    alpha = v / (1 - inside / union + v)
    alpha = lax.stop_gradient(alpha) if xp is jnp else alpha.detach()
    return _diou(xp, p, t) + alpha * v


def _of_one(measure):
    def loss(p, t):
        value, (in_p, in_t) = measure(p, t)
        return 1 - value, (-in_p, -in_t)

    return loss


def _loss(function, formula, measure, n: int) -> Loss:
    return Loss(
        lambda p, t, **common: function(p, t, **common),
        lambda rng: (boxes(rng, n), boxes(rng, n)),
        lambda torch, p, t: formula(torch, p, t),
        lambda p, t: formula(jnp, p, t),
        **per_example(_of_one(measure), 1),
    )


LOSSES = {
    "giou_loss": partial(_loss, ops.giou_loss, _giou, reference.giou),
    "diou_loss": partial(_loss, ops.diou_loss, _diou, reference.diou),
    "ciou_loss": partial(_loss, ops.ciou_loss, _ciou, reference.ciou),
}
CONSTANT = {"finite differences": "alpha is a constant of the derivative"}


def _entry(name: str) -> Entry:
    made = entry(name, "", LOSSES[name](3))
    return made if name != "ciou_loss" else Entry(**vars(made) | {"explained": CONSTANT})


ENTRIES = [_entry(name) for name in LOSSES]
