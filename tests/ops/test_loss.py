"""Losses against loops, PyTorch and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import ops
from tests.reference import loss as reference

CE = ops.softmax_cross_entropy


def draw(rng, *shape, dtype=jnp.float32):
    return jnp.asarray(rng.standard_normal(shape), dtype)


# ------------------------------------------------------------------------------- cross-entropy


def test_cross_entropy_by_hand():
    logits = jnp.log(jnp.array([[1.0, 3.0], [2.0, 2.0]]))  # p = (1/4, 3/4), (1/2, 1/2)
    labels = jnp.array([0, 1])
    each = np.array([np.log(4), np.log(2)])
    np.testing.assert_allclose(CE(logits, labels, reduction="none"), each, rtol=1e-6)
    np.testing.assert_allclose(CE(logits, labels, reduction="sum"), each.sum(), rtol=1e-6)
    np.testing.assert_allclose(CE(logits, labels), each.sum() / 2, rtol=1e-6)
    weighted = CE(logits, labels, weights=jnp.array([3.0, 1.0]))
    np.testing.assert_allclose(weighted, (3 * each[0] + 1 * each[1]) / 4, rtol=1e-6)
    gradient = jax.grad(CE)(logits, labels)
    np.testing.assert_allclose(gradient, [[-3 / 8, 3 / 8], [1 / 4, -1 / 4]], rtol=1e-6)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("shape", [(5,), (2, 3), ()], ids=str)
def test_cross_entropy_matches_loops(shape, label_smoothing, rng):
    K = 4
    logits, labels = 3 * draw(rng, *shape, K), jnp.asarray(rng.integers(0, K, shape))
    q = reference.one_hot(labels, K, label_smoothing)
    expected, gradient = reference.softmax_cross_entropy(logits, q)
    one_hot = jax.nn.one_hot(labels, K)

    for given in (labels, labels.astype(jnp.uint8), one_hot, one_hot.astype(jnp.bfloat16)):
        f = lambda z, given=given: CE(  # noqa: E731
            z, given, label_smoothing=label_smoothing, reduction="none"
        )
        y, vjp = jax.vjp(jax.jit(f), logits)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(vjp(jnp.ones(shape))[0], gradient, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(f(logits), y, rtol=1e-2, err_msg="eager differs from jit")


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("form", ["indices", "probabilities"])
def test_cross_entropy_matches_torch(form, label_smoothing, reduction, torch, rng):
    N, K, S = 3, 5, 4
    logits = draw(rng, N, S, K)
    tz = torch.tensor(np.moveaxis(np.asarray(logits), -1, 1), requires_grad=True)
    if form == "indices":
        labels = jnp.asarray(rng.integers(0, K, (N, S)), jnp.int32)
        tlabels = torch.tensor(np.asarray(labels, np.int64))
    else:
        labels = jax.nn.softmax(draw(rng, N, S, K))
        tlabels = torch.tensor(np.moveaxis(np.asarray(labels), -1, 1))
    expected = torch.nn.functional.cross_entropy(
        tz, tlabels, reduction=reduction, label_smoothing=label_smoothing
    )
    expected.sum().backward()
    f = lambda z: CE(z, labels, label_smoothing=label_smoothing, reduction=reduction)  # noqa: E731
    y, vjp = jax.vjp(jax.jit(f), logits)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-5, atol=1e-6)
    (gradient,) = vjp(jnp.ones_like(y))
    np.testing.assert_allclose(gradient, np.moveaxis(tz.grad.numpy(), 1, -1), rtol=1e-4, atol=1e-6)


def test_class_weights_match_torch(torch, rng):
    logits, labels = draw(rng, 6, 3), jnp.asarray(rng.integers(0, 3, 6))
    class_weights = jnp.array([0.5, 2.0, 1.0])
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(np.asarray(logits)),
        torch.tensor(np.asarray(labels, np.int64)),
        weight=torch.tensor(np.asarray(class_weights)),
    )
    actual = CE(logits, labels, weights=class_weights[labels])
    np.testing.assert_allclose(actual, expected.numpy(), rtol=1e-5)


@pytest.mark.parametrize("form", ["indices", "one-hot"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_cross_entropy_is_stable(label_smoothing, form):
    """Loss and gradient stay exact where the softmax has long rounded to zero or one."""
    logits = jnp.array([[1e4, -1e4], [-1e4, 1e4], [1e4, 1e4 - 1]])
    labels = jnp.array([1, 1, 0])
    q = reference.one_hot(labels, 2, label_smoothing)
    expected, gradient = reference.softmax_cross_entropy(np.asarray(logits), q)
    given = labels if form == "indices" else jax.nn.one_hot(labels, 2)
    f = lambda z: CE(z, given, label_smoothing=label_smoothing, reduction="none")  # noqa: E731
    y, vjp = jax.vjp(jax.jit(f), logits)
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    np.testing.assert_allclose(vjp(jnp.ones(3))[0], gradient, rtol=1e-5, atol=1e-7)


def test_masked_logits():
    """A logit of -inf is a class that cannot be."""
    logits = jnp.array([[0.0, -jnp.inf, 0.0]])
    value, gradient = jax.value_and_grad(CE)(logits, jnp.array([0]))
    np.testing.assert_allclose(value, np.log(2), rtol=1e-6)
    np.testing.assert_allclose(gradient, [[-0.5, 0, 0.5]], rtol=1e-6)


def test_labels_out_of_range():
    """NaN, which is loud; unless their weight is zero, which leaves them out, gradient too."""
    logits, labels = jnp.array([[0.0, 0.0], [1.0, 2.0], [1.0, 2.0]]), jnp.array([0, -1, 255])
    each = CE(logits, labels, reduction="none")
    np.testing.assert_array_equal(np.isnan(each), [False, True, True])
    value, gradient = jax.value_and_grad(CE)(logits, labels, weights=labels == 0)
    np.testing.assert_allclose(value, np.log(2), rtol=1e-6)
    np.testing.assert_allclose(gradient, [[-0.5, 0.5], [0, 0], [0, 0]], rtol=1e-6)


@pytest.mark.parametrize("form", ["indices", "probabilities"])
def test_cross_entropy_gradient_matches_finite_differences(form, rng):
    with jax.enable_x64(True):
        z, dz = (draw(rng, 4, 3, dtype=jnp.float64) for _ in range(2))
        labels = jnp.array([0, 2, 1, 1]) if form == "indices" else jax.nn.softmax(z + dz)
        weights = jnp.asarray(rng.uniform(0, 1, 4))
        f = jax.jit(lambda z: CE(z, labels, weights=weights, label_smoothing=0.1))
        assert f(z).dtype == jnp.float64
        slope = (f(z + 1e-6 * dz) - f(z - 1e-6 * dz)) / 2e-6
        np.testing.assert_allclose(jnp.sum(jax.grad(f)(z) * dz), slope, rtol=1e-6)
        gradient = jax.jit(jax.grad(f))
        change = (gradient(z + 1e-6 * dz) - gradient(z - 1e-6 * dz)) / 2e-6
        np.testing.assert_allclose(jax.jvp(gradient, (z,), (dz,))[1], change, rtol=1e-6, atol=1e-8)


# ----------------------------------------------------------------------------------------- mse


def test_mse_by_hand():
    prediction, target = jnp.array([[1.0, 2.0], [3.0, 5.0]]), jnp.array([[0.0, 2.0], [5.0, 1.0]])
    squares = np.array([[1, 0], [4, 16]])
    np.testing.assert_allclose(ops.mse(prediction, target, reduction="none"), squares)
    np.testing.assert_allclose(ops.mse(prediction, target, reduction="sum"), 1 + 0 + 4 + 16)
    np.testing.assert_allclose(ops.mse(prediction, target), (1 + 0 + 4 + 16) / 4)
    weighted = ops.mse(prediction, target, weights=jnp.array([3.0, 1.0]))
    np.testing.assert_allclose(weighted, (3 * (1 + 0) + 1 * (4 + 16)) / (3 + 3 + 1 + 1))
    gradient = jax.grad(ops.mse)(prediction, target)
    np.testing.assert_allclose(gradient, 2 / 4 * np.array([[1, 0], [-2, 4]]))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_mse_matches_torch(reduction, torch, rng):
    p, t = draw(rng, 3, 4), draw(rng, 3, 4)
    tp = torch.tensor(np.asarray(p), requires_grad=True)
    expected = torch.nn.functional.mse_loss(tp, torch.tensor(np.asarray(t)), reduction=reduction)
    expected.sum().backward()
    f = lambda p: ops.mse(p, t, reduction=reduction)  # noqa: E731
    for y in (f(p), jax.jit(f)(p)):
        np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-5)
    np.testing.assert_allclose(jax.grad(lambda p: jnp.sum(f(p)))(p), tp.grad.numpy(), rtol=1e-5)


# ---------------------------------------------------------------------------------------- both


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_losses_are_at_least_float32(dtype):
    x = jnp.ones((4, 3), dtype)
    assert CE(x, jnp.zeros(4, jnp.int32)).dtype == jnp.float32
    assert ops.mse(x, 2 * x).dtype == jnp.float32
    assert jax.grad(CE)(x, jnp.zeros(4, jnp.int32)).dtype == dtype


def test_vmap(rng):
    z, labels = draw(rng, 3, 4, 5), jnp.asarray(rng.integers(0, 5, (3, 4)))
    each = jax.vmap(CE)(z, labels)
    np.testing.assert_allclose(each[1], CE(z[1], labels[1]), rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(ops.mse)(z, -z)[2], ops.mse(z[2], -z[2]), rtol=1e-6)


def test_all_weights_zero():
    z, labels, none = jnp.ones((2, 3)), jnp.array([0, 1]), jnp.zeros(2)
    assert np.isnan(CE(z, labels, weights=none))
    assert CE(z, labels, weights=none, reduction="sum") == 0


Z = jnp.zeros((4, 3))
ERRORS = {
    "integer one-hot": (
        lambda: CE(Z, jnp.zeros((4, 3), jnp.int32)),
        TypeError,
        r"integer labels with a class axis: got labels int32 \(4, 3\) with logits \(4, 3\), need "
        r"class indices \(4,\) or float probabilities \(4, 3\); write labels\.astype\(logits",
    ),
    "a column of indices": (
        lambda: CE(Z, jnp.zeros((4, 1), jnp.int32)),
        TypeError,
        r"integer labels with a class axis: .*labels\[\.\.\., 0\] if the last axis has one index",
    ),
    "float indices": (
        lambda: CE(Z, jnp.zeros(4)),
        TypeError,
        r"float labels without a class axis: .*write labels\.astype\(jnp\.int32\)",
    ),
    "truth values": (
        lambda: CE(Z, jnp.zeros(4, bool)),
        TypeError,
        r"labels are neither integers nor floats: got labels bool \(4,\)",
    ),
    "number of labels": (
        lambda: CE(Z, jnp.zeros(5, jnp.int32)),
        ValueError,
        r"shapes do not match: got labels int32 \(5,\) with logits \(4, 3\), need labels \(4,\); "
        r"give one class index per example",
    ),
    "number of classes": (
        lambda: CE(Z, jnp.zeros((4, 2))),
        ValueError,
        r"shapes do not match: .*need labels \(4, 3\); give one probability per class",
    ),
    "integer logits": (
        lambda: CE(jnp.zeros((4, 3), jnp.int32), jnp.zeros(4, jnp.int32)),
        TypeError,
        r"softmax_cross_entropy: logits is not floating point: got int32",
    ),
    "scalar logits": (
        lambda: CE(jnp.zeros(()), jnp.zeros((), jnp.int32)),
        ValueError,
        r"no class axis: .*need logits \(\.\.\., K\)",
    ),
    "label_smoothing": (
        lambda: CE(Z, jnp.zeros(4, jnp.int32), label_smoothing=1.0),
        ValueError,
        r"bad label_smoothing: got 1\.0, need 0 <= e < 1",
    ),
    "weights": (
        lambda: CE(Z, jnp.zeros(4, jnp.int32), weights=jnp.ones(3)),
        ValueError,
        r"wrong weights: got shape \(3,\), need \(4,\) or its leading axes",
    ),
    "reduction": (
        lambda: CE(Z, jnp.zeros(4, jnp.int32), reduction="average"),  # pyright: ignore
        ValueError,
        r"unknown reduction: got 'average', need 'mean', 'sum' or 'none'",
    ),
    "mse shapes": (
        lambda: ops.mse(jnp.zeros((4, 1)), jnp.zeros(4)),
        ValueError,
        r"mse: shapes differ: got prediction \(4, 1\) and target \(4,\).*target\.reshape",
    ),
    "mse prediction": (
        lambda: ops.mse(jnp.zeros(4, jnp.int32), jnp.zeros(4)),
        TypeError,
        r"mse: prediction is not floating point",
    ),
    "mse target": (
        lambda: ops.mse(jnp.zeros(4), jnp.zeros(4, jnp.int32)),
        TypeError,
        r"mse: target is not floating point: got int32.*target\.astype\(jnp\.float32\)",
    ),
    "mse weights": (
        lambda: ops.mse(jnp.zeros((4, 2)), jnp.zeros((4, 2)), weights=jnp.ones(2)),
        ValueError,
        r"mse: wrong weights: got shape \(2,\), need \(4, 2\).*one weight per example, \(4,\)",
    ),
}


@pytest.mark.parametrize("call, kind, message", ERRORS.values(), ids=ERRORS.keys())
def test_errors(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
