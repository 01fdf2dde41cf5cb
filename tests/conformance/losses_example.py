"""Losses of predictions: classification, elements of arrays, masks."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from convax import ops
from tests.reference import loss as reference

from .entry import Entry, normal
from .losses_common import Loss, per_example

# ------------------------------------------------------------------------------ classification


def _probabilities(*shape: int) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda rng: rng.dirichlet(np.ones(shape[-1]), shape[:-1])


def _pick(z, labels):
    """z_y of NumPy, JAX or PyTorch."""
    rows = z.reshape(-1, z.shape[-1])
    return rows[np.arange(rows.shape[0]), labels.reshape(-1)].reshape(z.shape[:-1])


def _log_softmax(z):
    return z - jnp.log(jnp.sum(jnp.exp(z), axis=-1, keepdims=True))


def cross_entropy(shape, labels, smoothing) -> Loss:
    """Class indices, or for None probabilities, in which there is a derivative too."""

    def torch_loss(torch, z, q=None):
        q = torch.tensor(labels).long().reshape(-1) if q is None else q.reshape(-1, shape[-1])
        f = torch.nn.functional.cross_entropy
        each = f(z.reshape(-1, shape[-1]), q, reduction="none", label_smoothing=smoothing)
        return each.reshape(shape[:-1])

    def plain(z, q=None):
        log_p = _log_softmax(z)
        given = _pick(log_p, labels) if q is None else jnp.sum(q * log_p, -1)
        return -(1 - smoothing) * given - smoothing * jnp.mean(log_p, -1)

    def of_indices(z, y):
        q = reference.smooth(reference.one_hot(y, len(z)), smoothing)
        return reference.softmax_cross_entropy(z, q)

    def of_probabilities(z, q):
        loss, (gz, gq) = reference.softmax_cross_entropy(z, reference.smooth(q, smoothing))
        return loss, (gz, (1 - smoothing) * gq)

    f = ops.softmax_cross_entropy
    options = {"label_smoothing": smoothing}
    if labels is None:
        return Loss(
            lambda z, q, **common: f(z, q, **options, **common),
            lambda rng: (*normal(shape)(rng), _probabilities(*shape)(rng)),
            torch_loss,
            plain,
            **per_example(of_probabilities, len(shape) - 1),
        )
    return Loss(
        lambda z, **common: f(z, labels, **options, **common),
        normal(shape),
        torch_loss,
        plain,
        **per_example(of_indices, len(shape) - 1, labels),
    )


def kl(shape) -> Loss:
    def torch_loss(torch, z, p):
        log_q = torch.nn.functional.log_softmax(z, -1)
        return torch.nn.functional.kl_div(log_q, p, reduction="none").sum(-1)

    return Loss(
        ops.kl_divergence,
        lambda rng: (*normal(shape)(rng), rng.dirichlet(3 * np.ones(shape[-1]), shape[:-1])),
        torch_loss,
        lambda z, p: jnp.sum(p * jnp.log(p / jnp.exp(_log_softmax(z))), -1),
        **per_example(reference.kl_divergence, len(shape) - 1),
    )


def nll(shape, labels) -> Loss:
    def torch_loss(torch, x):
        y = torch.tensor(labels.reshape(-1)).long()
        each = torch.nn.functional.nll_loss(x.reshape(-1, shape[-1]), y, reduction="none")
        return each.reshape(shape[:-1])

    return Loss(
        lambda x, **common: ops.nll_loss(x, labels, **common),
        normal(shape),
        torch_loss,
        lambda x: -_pick(x, labels),
        **per_example(reference.nll, len(shape) - 1, labels),
    )


def kl_div(shape, log_target) -> Loss:
    def torch_loss(torch, x, t):
        f = torch.nn.functional.kl_div
        return f(x, t, reduction="none", log_target=log_target)

    def draw(rng):
        x, t = rng.standard_normal(shape), rng.uniform(0.1, 1, shape)
        return x, np.log(t) if log_target else t

    def plain(x, t):
        return jnp.exp(t) * t - jnp.exp(t) * x if log_target else t * jnp.log(t) - t * x

    return Loss(
        lambda x, t, **common: ops.kl_div_loss(x, t, log_target=log_target, **common),
        draw,
        torch_loss,
        plain,
        **per_example(lambda x, t: reference.kl_div(x, t, log_target), len(shape)),
    )


def margin_ranking(first, margin) -> Loss:
    y = 2 * first - 1

    def torch_loss(torch, a, b):
        f = torch.nn.functional.margin_ranking_loss
        return f(a, b, torch.tensor(y), margin=margin, reduction="none")

    return Loss(
        lambda a, b, **common: ops.margin_ranking_loss(a, b, first, margin=margin, **common),
        normal(first.shape, first.shape),
        torch_loss,
        lambda a, b: jnp.maximum(0, margin - jnp.asarray(y, a.dtype) * (a - b)),
        **per_example(lambda a, b, f: reference.margin_ranking(a, b, f, margin), first.ndim, first),
    )


def smooth(shape, rate) -> Entry:
    return Entry(
        "smooth_labels",
        "",
        lambda q: ops.smooth_labels(q, rate=rate),
        lambda rng: (_probabilities(*shape)(rng),),
        plain=lambda q: q + rate * (1 / shape[-1] - q),
        loops=lambda q: np.array([reference.smooth(row, rate) for row in q]),
        loops_grad=lambda g, q: ((1 - rate) * g,),
        torch=lambda torch, q: torch.lerp(q, torch.full_like(q, 1 / shape[-1]), rate),
    )


def hinge(shape, labels, power, margin) -> Loss:
    sign = 2 * (labels[..., None] == np.arange(shape[-1])) - 1

    def torch_loss(torch, z):
        return (torch.relu(margin - torch.tensor(sign) * z) ** power).sum(-1)

    return Loss(
        lambda z, **common: ops.multiclass_hinge_loss(
            z, labels, power=power, margin=margin, **common
        ),
        normal(shape),
        torch_loss,
        lambda z: jnp.sum(jnp.maximum(0, margin - jnp.asarray(sign, z.dtype) * z) ** power, -1),
        **per_example(
            lambda z, y: reference.multiclass_hinge(z, y, power, margin), len(shape) - 1, labels
        ),
    )


def multi_margin(shape, labels, power, margin) -> Loss:
    def torch_loss(torch, z):
        y = torch.tensor(labels.reshape(-1)).long()
        f = torch.nn.functional.multi_margin_loss
        each = f(z.reshape(-1, shape[-1]), y, power, margin, reduction="none")
        return each.reshape(shape[:-1])

    def plain(z):
        each = jnp.maximum(0, margin + z - _pick(z, labels)[..., None]) ** power
        return (jnp.sum(each, -1) - margin**power) / shape[-1]  # less that of the class itself

    return Loss(
        lambda z, **common: ops.multi_margin_loss(z, labels, power=power, margin=margin, **common),
        normal(shape),
        torch_loss,
        plain,
        **per_example(
            lambda z, y: reference.multi_margin(z, y, power, margin), len(shape) - 1, labels
        ),
    )


# ------------------------------------------------------------------------------------ elements


def mse(shape) -> Loss:
    return Loss(
        ops.mse_loss,
        normal(shape, shape),
        lambda torch, p, t: torch.nn.functional.mse_loss(p, t, reduction="none"),
        lambda p, t: p**2 - 2 * p * t + t**2,
        **per_example(reference.squared_error, len(shape)),
    )


def l1(shape) -> Loss:
    return Loss(
        ops.l1_loss,
        normal(shape, shape),
        lambda torch, p, t: torch.nn.functional.l1_loss(p, t, reduction="none"),
        lambda p, t: jnp.maximum(p, t) - jnp.minimum(p, t),
        **per_example(reference.absolute_error, len(shape)),
    )


def huber(shape, delta) -> Loss:
    def plain(p, t):
        e = jnp.abs(p - t)
        return jnp.where(e < delta, 0.5 * e**2, delta * (e - 0.5 * delta))

    return Loss(
        lambda p, t, **common: ops.huber_loss(p, t, delta=delta, **common),
        normal(shape, shape),
        lambda torch, p, t: torch.nn.functional.huber_loss(p, t, reduction="none", delta=delta),
        plain,
        **per_example(lambda p, t: reference.huber(p, t, delta), len(shape)),
    )


def smooth_l1(shape, beta) -> Loss:
    def plain(p, t):
        e = jnp.abs(p - t)
        return jnp.where(e < beta, 0.5 * e**2 / beta, e - 0.5 * beta)

    return Loss(
        lambda p, t, **common: ops.smooth_l1_loss(p, t, beta=beta, **common),
        normal(shape, shape),
        lambda torch, p, t: torch.nn.functional.smooth_l1_loss(p, t, reduction="none", beta=beta),
        plain,
        **per_example(lambda p, t: reference.smooth_l1(p, t, beta), len(shape)),
    )


def _with_targets(shape, hard=False):
    def draw(rng):
        t = rng.integers(0, 2, shape).astype(float) if hard else rng.uniform(0, 1, shape)
        return 2 * rng.standard_normal(shape), t

    return draw


def binary(shape, pos_weight=None, hard=False) -> Loss:
    c = np.ones(shape[-1:]) if pos_weight is None else np.broadcast_to(pos_weight, shape[-1:])
    everywhere = np.broadcast_to(c, shape)

    def torch_loss(torch, z, t):
        f = torch.nn.functional.binary_cross_entropy_with_logits
        own = None if pos_weight is None else torch.tensor(c.copy())
        return f(z, t, pos_weight=own, reduction="none")

    def plain(z, t):
        p, factor = 1 / (1 + jnp.exp(-z)), jnp.asarray(everywhere, z.dtype)
        return -factor * t * jnp.log(p) - (1 - t) * jnp.log(1 - p)

    f = ops.binary_cross_entropy
    return Loss(
        lambda z, t, **common: f(z, t, pos_weight=pos_weight, **common),
        _with_targets(shape, hard),
        torch_loss,
        plain,
        **per_example(reference.binary_cross_entropy, len(shape), everywhere),
    )


def focal(shape, gamma, alpha, hard=False) -> Loss:
    positive, negative = (1, 1) if alpha is None else (alpha, 1 - alpha)

    def one(torch, z, t):
        """torchvision's formula, for a target of 0 or 1."""
        ce = torch.nn.functional.binary_cross_entropy_with_logits(z, t, reduction="none")
        p = torch.sigmoid(z)
        p_t = p * t + (1 - p) * (1 - t)
        return (positive * t + negative * (1 - t)) * ce * (1 - p_t) ** gamma

    def torch_loss(torch, z, t):
        ones = torch.ones_like(z)
        return t * one(torch, z, ones) + (1 - t) * one(torch, z, 0 * ones)

    def plain(z, t):
        p = 1 / (1 + jnp.exp(-z))
        of_one, of_zero = (1 - p) ** gamma * jnp.log(p), p**gamma * jnp.log(1 - p)
        return -positive * t * of_one - negative * (1 - t) * of_zero

    return Loss(
        lambda z, t, **common: ops.focal_loss(z, t, gamma=gamma, alpha=alpha, **common),
        _with_targets(shape, hard),
        torch_loss,
        plain,
        **per_example(lambda z, t: reference.focal(z, t, gamma, positive, negative), len(shape)),
    )


# --------------------------------------------------------------------------------------- masks


def dice(shape, smooth, squared, mask=None) -> Loss:
    N, *spatial, C = shape
    inside = np.ones(shape[:-1], bool) if mask is None else mask

    def sums(p, t, m):
        """Of NumPy's notation, for JAX and PyTorch."""
        axes = tuple(range(1, len(shape) - 1))
        p, t = p * m, t * m
        total = p * p + t * t if squared else p + t
        return 1 - (2 * (p * t).sum(axes) + smooth) / (total.sum(axes) + smooth)

    as_rows = lambda a: np.moveaxis(a, -1, 1)  # noqa: E731 -- an example and channel first
    everywhere = np.broadcast_to(as_rows(inside[..., None]), (N, C, *spatial))
    loops = per_example(lambda p, t, m: reference.dice(p, t, m, smooth, squared), 2, everywhere)
    return Loss(
        lambda p, t, **common: ops.dice_loss(
            p, t, smooth=smooth, squared=squared, mask=mask, **common
        ),
        lambda rng: (rng.uniform(0, 1, shape), rng.uniform(0, 1, shape)),
        lambda torch, p, t: sums(p, t, torch.tensor(inside[..., None])),
        lambda p, t: sums(p, t, jnp.asarray(inside[..., None], p.dtype)),
        loops=lambda *arrays: loops["loops"](*map(as_rows, arrays)),
        loops_grad=lambda g, *arrays: tuple(
            np.moveaxis(a, 1, -1) for a in loops["loops_grad"](g, *map(as_rows, arrays))
        ),
    )
