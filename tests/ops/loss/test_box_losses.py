"""Losses of boxes: by hand, degenerate boxes, weights, torchvision, messages."""

from math import atan, pi

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import ops
from tests.golden.detection import golden

LOSSES = {"giou": ops.giou_loss, "diou": ops.diou_loss, "ciou": ops.ciou_loss}
PREDICTED = jnp.array([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0], [1.0, 2.0, 5.0, 6.0]])
TARGETS = jnp.array([[1.0, 0.0, 3.0, 2.0], [3.0, 0.0, 5.0, 1.0], [1.0, 2.0, 5.0, 6.0]])


def test_losses_of_boxes_equal_hand_arithmetic():
    each = {name: f(PREDICTED, TARGETS, reduction="none") for name, f in LOSSES.items()}
    # IoU 2/6, around 3 x 2, centers 1 apart; IoU 0, around 5 x 1, centers 3.5 apart, other shapes
    np.testing.assert_allclose(each["giou"], [4 / 6, 1 + 2 / 5, 0], atol=1e-6)
    diou = [4 / 6 + 1 / 13, 1 + 3.5**2 / 26, 0]
    np.testing.assert_allclose(each["diou"], diou, atol=1e-6)
    v = 4 / pi**2 * (atan(2) - atan(1)) ** 2
    diou[1] += v / (1 + v) * v
    np.testing.assert_allclose(each["ciou"], diou, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_boxes_equal_torchvision(name):
    """Which adds 1e-7 to divisors."""
    long = {"giou": "generalized", "diou": "distance", "ciou": "complete"}[name]
    f = lambda p, t: LOSSES[name](p, t, reduction="sum")  # noqa: E731
    with golden() as g:
        each = LOSSES[name](g["boxes1"], g["anchors"], reduction="none")
        np.testing.assert_allclose(each, g[f"{long}_box_iou"], rtol=1e-4, atol=1e-5)
        gradient = jax.grad(f)(g["boxes1"], g["anchors"])
        np.testing.assert_allclose(gradient, g[f"{long}_box_iou_grad"], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("prediction", "target"),
    [
        ([0.0, 0, 0, 0], [0.0, 0, 0, 0]),
        ([0.0, 0, 0, 0], [1.0, 2, 3, 4]),
        ([5.0, 0, 5, 9], [5.0, 2, 5, 7]),
        ([3.0, 3, 1, 1], [1.0, 1, 3, 3]),
        ([0.0, 0, 1e-7, 1e-7], [0.0, 0, 1e-7, 1e-7]),
        ([1.0, 2, 3, 4], [1.0, 2, 3, 4]),
    ],
    ids=["padding", "padded", "lines", "swapped", "tiny", "equal"],
)
def test_losses_of_degenerate_boxes_are_finite_with_their_gradients(name, prediction, target):
    p, t = jnp.array([prediction]), jnp.array([target])
    value, gradients = jax.value_and_grad(LOSSES[name], (0, 1))(p, t)
    assert jnp.isfinite(value)
    assert all(jnp.all(jnp.isfinite(g)) for g in gradients)


@pytest.mark.parametrize("name", LOSSES)
def test_boxes_apart_are_pulled_together(name):
    """Where the IoU has no gradient any more."""
    p, t = jnp.array([[0.0, 0.0, 1.0, 1.0]]), jnp.array([[5.0, 0.0, 6.0, 1.0]])
    x1, _, x2, _ = jax.grad(LOSSES[name])(p, t)[0]
    assert x1 + x2 < 0  # a step against it moves the box to the right


@pytest.mark.parametrize("name", LOSSES)
def test_weights_take_boxes_out_and_reduce(name):
    f, keep = LOSSES[name], jnp.array([True, True, False])
    bad = PREDICTED.at[2].set(jnp.nan)
    value, gradient = jax.value_and_grad(lambda p: f(p, TARGETS, weights=keep))(bad)
    np.testing.assert_allclose(value, f(PREDICTED[:2], TARGETS[:2]), rtol=1e-6)
    np.testing.assert_array_equal(gradient[2], 0)
    each = f(PREDICTED, TARGETS, reduction="none")
    w = jnp.array([1.0, 0.5, 2.0])
    np.testing.assert_allclose(
        f(PREDICTED, TARGETS, weights=w, reduction="sum"), (w * each).sum(), rtol=1e-6
    )
    np.testing.assert_allclose(f(PREDICTED, TARGETS, weights=w), (w * each).sum() / 3.5, rtol=1e-6)
    assert f(PREDICTED[None], TARGETS[None], reduction="none").shape == (1, 3)
    assert f(PREDICTED.astype(jnp.bfloat16), TARGETS).dtype == jnp.float32


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("prediction", "target", "options", "error", "message"),
    [
        (PREDICTED[:2], TARGETS, {}, ValueError, "_loss: shapes differ: got prediction"),
        (PREDICTED[:, :2], TARGETS[:, :2], {}, ValueError, r"_loss: no boxes: got .*\(3, 2\)"),
        (PREDICTED.astype(int), TARGETS, {}, TypeError, "_loss: prediction is not floating"),
        (PREDICTED, TARGETS.astype(int), {}, TypeError, "_loss: target is not floating"),
        (PREDICTED, TARGETS, {"weights": jnp.ones(4)}, ValueError, "_loss: wrong weights"),
        (PREDICTED, TARGETS, {"reduction": "max"}, ValueError, "_loss: unknown reduction"),
    ],
)
def test_errors_name_the_argument_and_the_remedy(name, prediction, target, options, error, message):
    with pytest.raises(error, match=name + message):
        LOSSES[name](prediction, target, **options)
