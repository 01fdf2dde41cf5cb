"""Losses of predictions beyond the proof: by hand, masks, kinks, large logits, and errors."""

from functools import partial
from itertools import batched

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import ops
from tests.reference import loss as reference

CE = ops.softmax_cross_entropy
PER_EXAMPLE = {
    "cross-entropy, indices": lambda z, **o: CE(z, LABELS, **o),
    "cross-entropy, probabilities": lambda z, **o: CE(z, TARGETS, **o),
    "cross-entropy, smoothed": lambda z, **o: CE(z, LABELS, label_smoothing=0.1, **o),
    "kl_divergence": lambda z, **o: ops.kl_divergence(z, TARGETS, **o),
    "nll": lambda z, **o: ops.nll_loss(z, jnp.array([1, 2, 1, 1]), **o),
    "multiclass_hinge, L1": lambda z, **o: ops.multiclass_hinge_loss(z, LABELS, **o),
    "multiclass_hinge, L2": lambda z, **o: ops.multiclass_hinge_loss(z, LABELS, power=2, **o),
    "multi_margin, L1": lambda z, **o: ops.multi_margin_loss(z, LABELS, **o),
    "multi_margin, L2": lambda z, **o: ops.multi_margin_loss(z, LABELS, power=2, **o),
}
PER_ELEMENT = {
    "mse": lambda z, **o: ops.mse_loss(z, TARGETS, **o),
    "kl_div": lambda z, **o: ops.kl_div_loss(z, TARGETS + 0.1, **o),
    "margin_ranking": lambda z, **o: ops.margin_ranking_loss(
        z, TARGETS.astype(z.dtype), TARGETS > 0.4, margin=0.3, **o
    ),
    "huber": lambda z, **o: ops.huber_loss(z, TARGETS, **o),
    "smooth L1": lambda z, **o: ops.smooth_l1_loss(z, TARGETS, beta=0.4, **o),
    "L1": lambda z, **o: ops.l1_loss(z, TARGETS, **o),
    "binary_cross_entropy": lambda z, **o: ops.binary_cross_entropy(z, TARGETS, **o),
    "focal": lambda z, **o: ops.focal_loss(z, TARGETS, **o),
    "focal, square root": lambda z, **o: ops.focal_loss(z, TARGETS, gamma=0.5, **o),
    "dice": lambda z, **o: ops.dice_loss(z[:, None], TARGETS[:, None], **o),
    "dice, squared": lambda z, **o: ops.dice_loss(z[:, None], TARGETS[:, None], squared=True, **o),
}
LOSSES = PER_EXAMPLE | PER_ELEMENT
LABELS = jnp.array([0, 2, 1, 1])
TARGETS = jnp.array([[1.0, 0, 0], [0, 0.25, 0.75], [0, 1, 0], [0.5, 0.5, 0]])
LOGITS = jnp.array([[0.5, 1.0, -2.0], [0.3, 0.1, 0.2], [-1.0, 3.0, 0.7], [1.5, -0.2, 0.4]])


BAD = LOGITS.at[0].set(jnp.array([jnp.inf, jnp.nan, -jnp.inf]))


# ------------------------------------------------------------------------ weights and reduction


@pytest.mark.parametrize("name", LOSSES)
def test_weight_zero_takes_out_whatever_an_example_holds(name):
    """Value, gradient and Hessian are those of the others alone; for truth values as weights too."""
    f = LOSSES[name]
    z, keep = BAD, jnp.array([False, True, True, True])
    alone = lambda z: f(jnp.concatenate([LOGITS[:1], z]), reduction="none")[1:].mean()  # noqa: E731
    loss = lambda z, w: f(z, weights=w)  # noqa: E731

    @jax.jit
    def program(z, keep, weights):
        with_either = [jax.value_and_grad(loss)(z, w) for w in (keep, weights)]
        further = jax.hessian(loss)(z, weights), jax.grad(loss, 1)(z, weights)
        each = f(z, weights=keep, reduction="none")
        return jax.value_and_grad(alone)(z[1:]), with_either, further, each

    (expected, wanted), with_either, further, each = program(z, keep, keep.astype(jnp.float32))
    for actual, gradient in with_either:
        np.testing.assert_allclose(actual, expected, rtol=1e-6)
        np.testing.assert_array_equal(gradient[0], 0)
        np.testing.assert_allclose(gradient[1:], wanted, rtol=1e-5, atol=1e-7)
    assert all(np.all(np.isfinite(derivative)) for derivative in further)
    np.testing.assert_array_equal(each[0], 0)


@pytest.mark.parametrize(
    "f",
    [
        lambda t, w: ops.mse_loss(LOGITS, t, weights=w),
        lambda t, w: ops.huber_loss(LOGITS, t, weights=w),
        lambda t, w: CE(LOGITS, t, weights=w),
        lambda t, w: ops.kl_divergence(LOGITS, t, weights=w),
        lambda t, w: ops.binary_cross_entropy(LOGITS, t, weights=w),
        lambda t, w: ops.focal_loss(LOGITS, t, weights=w),
        lambda t, w: ops.dice_loss(LOGITS[:, None], t[:, None], weights=w),
    ],
)
def test_weight_zero_takes_out_the_target_too(f):
    w = jnp.array([0.0, 1, 1, 1])
    value, gradient = jax.jit(jax.value_and_grad(f))(TARGETS.at[0].set(jnp.nan), w)
    np.testing.assert_allclose(value, f(TARGETS, w), rtol=1e-6)
    np.testing.assert_array_equal(gradient[0], 0)
    assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_not_masked_is_not_hidden(name):
    loss = jax.jit(partial(LOSSES[name], reduction="none"))(BAD)
    assert np.isnan(loss[0]).any()
    assert np.isfinite(loss[1:]).all()


@pytest.mark.parametrize("name", LOSSES)
def test_reductions_mean_sum_and_none(name):
    """Weights of the examples, though some losses have one number per element."""
    f, w = LOSSES[name], jnp.array([1.0, 0.5, 0.0, 2.0])
    ways = [(weights, how) for weights in (None, w) for how in ("none", "sum", "mean")]
    found = jax.jit(lambda z: [f(z, weights=weights, reduction=how) for weights, how in ways])(
        LOGITS
    )
    each = np.asarray(found[0])
    full = np.broadcast_to(np.asarray(w).reshape(-1, *[1] * (each.ndim - 1)), each.shape)
    for (none, total, average), expected in zip(
        batched(found, 3), (np.ones(each.shape), full), strict=True
    ):
        np.testing.assert_allclose(none, expected * each, rtol=1e-6)
        np.testing.assert_allclose(total, (expected * each).sum(), rtol=1e-6)
        mean = (expected * each).sum() / expected.sum()
        np.testing.assert_allclose(average, mean, rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_mean_where_all_weights_are_zero(name):
    both = lambda w: [LOSSES[name](LOGITS, weights=w, reduction=how) for how in ("mean", "sum")]  # noqa: E731
    mean, total = jax.jit(both)(jnp.zeros(4))
    assert np.isnan(mean) and total == 0


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_at_least_float32(name, dtype):
    for reduction in ("none", "mean"):
        f = lambda z, r=reduction: jnp.sum(LOSSES[name](z, reduction=r))  # noqa: E731
        value, gradient = jax.eval_shape(jax.value_and_grad(f), LOGITS.astype(dtype))
        assert value.dtype == jnp.float32
        assert gradient.dtype == dtype


def test_losses_of_empty_batches():
    """The sum of nothing is 0, the mean NaN."""
    z, t, labels = jnp.zeros((0, 3)), jnp.zeros((0, 3)), jnp.zeros(0, jnp.int32)
    calls = [
        lambda **o: CE(z, labels, **o),
        lambda **o: ops.kl_divergence(z, t, **o),
        lambda **o: ops.multiclass_hinge_loss(z, labels, **o),
        lambda **o: ops.multi_margin_loss(z, labels, **o),
        lambda **o: ops.mse_loss(z, t, **o),
        lambda **o: ops.huber_loss(z, t, **o),
        lambda **o: ops.binary_cross_entropy(z, t, **o),
        lambda **o: ops.focal_loss(z, t, **o),
        lambda **o: ops.dice_loss(z[:, None], t[:, None], **o),
    ]
    for call in calls:
        assert call(reduction="none").shape[0] == 0
        total, mean = jax.jit(lambda: (call(reduction="sum"), call()))()  # noqa: B023
        assert total == 0 and np.isnan(mean)


# ---------------------------------------------------------------------------- hyper-parameters

T = jnp.clip(TARGETS, 0, 1)
HYPER = {
    "label_smoothing": (lambda z, e: CE(z, LABELS, label_smoothing=e), 0.1),
    "rate": (lambda z, e: ops.smooth_labels(z, rate=e), 0.1),
    "multiclass_hinge": (lambda z, m: ops.multiclass_hinge_loss(z, LABELS, margin=m), 0.7),
    "multi_margin": (lambda z, m: ops.multi_margin_loss(z, LABELS, power=2, margin=m), 0.7),
    "delta": (lambda z, d: ops.huber_loss(z, T.astype(z.dtype), delta=d), 0.7),
    "beta": (lambda z, b: ops.smooth_l1_loss(z, T.astype(z.dtype), beta=b), 0.7),
    "gamma": (lambda z, g: ops.focal_loss(z, T.astype(z.dtype), gamma=g), 1.7),
    "alpha": (lambda z, a: ops.focal_loss(z, T.astype(z.dtype), alpha=a), 0.3),
    "pos_weight": (lambda z, c: ops.binary_cross_entropy(z, T.astype(z.dtype), pos_weight=c), 3.0),
    "smooth": (lambda z, s: ops.dice_loss(z[:, None], T[:, None].astype(z.dtype), smooth=s), 0.7),
}


@pytest.mark.parametrize("f, value", HYPER.values(), ids=HYPER)
def test_hyper_parameters_may_be_traced(f, value):
    """Under jit, and with a derivative, which is the slope."""
    expected = f(LOGITS, value)
    np.testing.assert_allclose(jax.jit(f)(LOGITS, value), expected, rtol=1e-5, atol=1e-7)
    gradient = jax.jit(jax.grad(lambda z, v: f(z, v).sum()))
    wanted = jax.jit(jax.grad(lambda z: f(z, value).sum()))(LOGITS)
    np.testing.assert_allclose(gradient(LOGITS, value), wanted, rtol=1e-5, atol=1e-6)
    with jax.enable_x64(True):
        z, total = (
            LOGITS.astype(jnp.float64),
            jax.jit(lambda v: f(LOGITS.astype(jnp.float64), v).sum()),
        )
        slope = (total(value + 1e-6) - total(value - 1e-6)) / 2e-6
        actual = jax.jit(jax.grad(lambda v, z: f(z, v).sum()))(jnp.float64(value), z)
        np.testing.assert_allclose(actual, slope, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("f, value", HYPER.values(), ids=HYPER)
def test_hyper_parameters_do_not_change_the_dtype(f, value):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        z = jnp.asarray(np.asarray(LOGITS))
        for scalar in (np.float32, np.float64, jnp.float64, jnp.bfloat16):
            given = scalar(value)
            assert f(z, given).dtype == jnp.float32
            for g in (f, lambda z, v: f(z, given)):  # noqa: B023
                assert jax.eval_shape(g, z, given).dtype == jnp.float32


def test_huber_at_infinity_with_a_traced_delta():
    f = jax.jit(jax.grad(lambda e, d: ops.huber_loss(e, jnp.zeros(2), delta=d, reduction="sum")))
    np.testing.assert_array_equal(f(jnp.array([jnp.inf, 0.5]), 2.0), [2, 0.5])


# ------------------------------------------------------------------------------- cross-entropy


def test_cross_entropy_by_hand():
    logits = jnp.log(jnp.array([[1.0, 3.0], [2.0, 2.0]]))  # p = (1/4, 3/4), (1/2, 1/2)
    labels = jnp.array([0, 1])
    each = np.array([np.log(4), np.log(2)])
    np.testing.assert_allclose(CE(logits, labels, reduction="none"), each, rtol=1e-6)
    weighted = CE(logits, labels, weights=jnp.array([3.0, 1.0]))
    np.testing.assert_allclose(weighted, (3 * each[0] + 1 * each[1]) / 4, rtol=1e-6)
    gradient = jax.grad(CE)(logits, labels)
    np.testing.assert_allclose(gradient, [[-3 / 8, 3 / 8], [1 / 4, -1 / 4]], rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int32])
def test_any_integers_and_floats_as_labels(dtype):
    expected = CE(LOGITS, LABELS)
    np.testing.assert_array_equal(CE(LOGITS, LABELS.astype(dtype)), expected)
    one_hot = jax.nn.one_hot(LABELS, 3, dtype=jnp.bfloat16)
    np.testing.assert_allclose(CE(LOGITS, one_hot), expected, rtol=1e-6)


def test_class_weights_match_torch(torch, rng):
    logits, labels = rng.standard_normal((6, 3)), rng.integers(0, 3, 6)
    class_weights = np.array([0.5, 2.0, 1.0])
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(logits), torch.tensor(labels), weight=torch.tensor(class_weights)
    )
    actual = CE(jnp.asarray(logits), jnp.asarray(labels), weights=class_weights[labels])
    np.testing.assert_allclose(actual, expected.numpy(), rtol=1e-5)


@pytest.mark.parametrize("form", ["indices", "one-hot"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_cross_entropy_is_exact_for_large_logits(label_smoothing, form):
    """Loss and gradient, where the softmax has long rounded to zero or one."""
    logits = jnp.array([[1e4, -1e4], [-1e4, 1e4], [1e4, 1e4 - 1]])
    labels = jnp.array([1, 1, 0])
    given = labels if form == "indices" else jax.nn.one_hot(labels, 2)
    f = lambda z: CE(z, given, label_smoothing=label_smoothing, reduction="none")  # noqa: E731
    y, vjp = jax.vjp(jax.jit(f), logits)
    for n, (z, label) in enumerate(zip(np.asarray(logits, float), labels, strict=True)):
        q = reference.smooth(reference.one_hot(label, 2), label_smoothing)
        expected, (gradient, _) = reference.softmax_cross_entropy(z, q)
        np.testing.assert_allclose(y[n], expected, rtol=1e-6)
        np.testing.assert_allclose(vjp(jnp.ones(3))[0][n], gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("label", [jnp.array([0]), jnp.array([[1.0, 0.0, 0.0]])], ids=str)
def test_cross_entropy_of_masked_logits(label):
    """A logit of -inf is a class that cannot be."""
    logits = jnp.array([[0.0, -jnp.inf, 0.0]])
    value, gradient = jax.value_and_grad(CE)(logits, label)
    np.testing.assert_allclose(value, np.log(2), rtol=1e-6)
    np.testing.assert_allclose(gradient, [[-0.5, 0, 0.5]], rtol=1e-6)


@pytest.mark.parametrize("f", [CE, ops.multiclass_hinge_loss, ops.multi_margin_loss])
def test_labels_out_of_range_give_nan(f):
    """NaN, which is loud; unless their weight is zero, which leaves them out, gradient too."""
    logits, labels = jnp.array([[0.0, 0.0], [1.0, 2.0], [1.0, 2.0]]), jnp.array([0, -1, 255])
    each = f(logits, labels, reduction="none")
    np.testing.assert_array_equal(np.isnan(each), [False, True, True])
    slope = jax.jit(jax.value_and_grad(lambda z, w: f(z, labels, weights=w)))
    value, gradient = slope(logits, labels == 0)
    np.testing.assert_allclose(value, f(logits[:1], labels[:1]), rtol=1e-6)
    np.testing.assert_allclose(gradient[0], jax.grad(f)(logits[:1], labels[:1])[0], rtol=1e-6)
    np.testing.assert_array_equal(gradient[1:], 0)


@pytest.mark.parametrize("f", [CE, ops.multiclass_hinge_loss, ops.multi_margin_loss])
def test_labels_do_not_wrap(f):
    """Of any integer dtype: 2^32 is not class 0, and 300 classes do not fit 8 bits."""
    with jax.enable_x64(True):
        labels = jnp.array([0, 2**32])
        each = f(jnp.zeros((2, 3), jnp.float32), labels, reduction="none")
    np.testing.assert_array_equal(np.isnan(each), [False, True])
    logits, label = jnp.zeros((1, 300)).at[0, 256:].set(1), jnp.zeros(1, jnp.uint8)
    np.testing.assert_array_equal(f(logits, label), f(logits, label.astype(jnp.int32)))


def test_smooth_labels_is_label_smoothing():
    q = ops.smooth_labels(jax.nn.one_hot(LABELS, 3), rate=0.3)
    np.testing.assert_allclose(q[0], [0.7 + 0.1, 0.1, 0.1], rtol=1e-6)
    np.testing.assert_allclose(CE(LOGITS, q), CE(LOGITS, LABELS, label_smoothing=0.3), rtol=1e-6)
    assert ops.smooth_labels(q.astype(jnp.bfloat16), rate=0.3).dtype == jnp.bfloat16


def test_kl_divergence_by_hand():
    q, p = jnp.array([0.5, 0.25, 0.25]), jnp.array([0.25, 0.75, 0.0])
    value, (gz, gp) = jax.value_and_grad(ops.kl_divergence, (0, 1))(jnp.log(q), p)
    np.testing.assert_allclose(value, 0.25 * np.log(0.5) + 0.75 * np.log(3), rtol=1e-6)
    np.testing.assert_allclose(gz, q - p, rtol=1e-6)
    np.testing.assert_allclose(gp, [1 + np.log(0.5), 1 + np.log(3), 0], rtol=1e-6)


def test_kl_divergence_where_nothing_is():
    """Zeros of p, also against classes that cannot be: finite to the second derivative."""
    z, p = jnp.array([0.0, 1e4, -1e4, -jnp.inf]), jnp.array([0.5, 0.5, 0.0, 0.0])
    for derivative in (jax.grad, jax.hessian):
        leaves = jax.tree.leaves(jax.jit(derivative(ops.kl_divergence, (0, 1)))(z, p))
        assert all(np.all(np.isfinite(leaf)) for leaf in leaves)
    np.testing.assert_allclose(ops.kl_divergence(z, p), 5e3 + np.log(0.5), rtol=1e-6)


# -------------------------------------------------------------------------------------- hinges


def test_hinges_by_hand():
    z, y = jnp.array([[2.0, 0.5, -3.0], [0.25, -2.0, 1.0]]), jnp.array([0, 0])
    each = lambda f, **o: f(z, y, reduction="none", **o)  # noqa: E731
    np.testing.assert_allclose(each(ops.multiclass_hinge_loss), [0 + 1.5 + 0, 0.75 + 0 + 2])
    squares = [1.5**2, 0.75**2 + 2**2]
    np.testing.assert_allclose(each(ops.multiclass_hinge_loss, power=2), squares)
    np.testing.assert_allclose(each(ops.multi_margin_loss), [0, (1 + 1 - 0.25) / 3], rtol=1e-6)
    wide = [(2 - 2 + 0.5) / 3, (2 + 1 - 0.25) / 3]
    np.testing.assert_allclose(each(ops.multi_margin_loss, margin=2.0), wide, rtol=1e-6)


@pytest.mark.parametrize("power", [1, 2])
def test_no_derivative_at_the_hinge(power, torch):
    """A margin reached exactly; as in PyTorch."""
    at = jnp.array([[1.0, -1.0]])
    f = lambda z: ops.multiclass_hinge_loss(z, jnp.array([0]), power=power)  # noqa: E731
    np.testing.assert_array_equal(jax.grad(f)(at), 0)
    np.testing.assert_array_equal(jax.jacfwd(f)(at), 0)

    at = jnp.array([[1.0, 0.0]])
    f = lambda z: ops.multi_margin_loss(z, jnp.array([0]), power=power)  # noqa: E731
    np.testing.assert_array_equal(jax.grad(f)(at), 0)
    z = torch.tensor([[1.0, 0.0]], requires_grad=True)
    torch.nn.functional.multi_margin_loss(z, torch.tensor([0]), power).backward()
    np.testing.assert_array_equal(z.grad, 0)


# ------------------------------------------------------------------------------------ elements


def test_mse_by_hand():
    prediction, target = jnp.array([[1.0, 2.0], [3.0, 5.0]]), jnp.array([[0.0, 2.0], [5.0, 1.0]])
    squares = np.array([[1, 0], [4, 16]])
    np.testing.assert_allclose(ops.mse_loss(prediction, target, reduction="none"), squares)
    np.testing.assert_allclose(ops.mse_loss(prediction, target), (1 + 0 + 4 + 16) / 4)
    weighted = ops.mse_loss(prediction, target, weights=jnp.array([3.0, 1.0]))
    np.testing.assert_allclose(weighted, (3 * (1 + 0) + 1 * (4 + 16)) / (3 + 3 + 1 + 1))
    gradient = jax.grad(ops.mse_loss)(prediction, target)
    np.testing.assert_allclose(gradient, 2 / 4 * np.array([[1, 0], [-2, 4]]))


def test_huber_by_hand():
    """Within delta, on it, beyond, and at infinity."""
    e = jnp.array([0.0, -0.5, 2.0, -2.0, 5.0, jnp.inf])
    f = lambda e: ops.huber_loss(e, jnp.zeros(6), delta=2.0, reduction="none")  # noqa: E731
    np.testing.assert_allclose(f(e), [0, 0.125, 2, 2, 8, np.inf])
    total = lambda e: f(e).sum()  # noqa: E731
    gradient, slope, second = jax.jit(
        lambda e: (jax.grad(total)(e), jax.jvp(f, (e,), (jnp.ones(6),))[1], jax.hessian(total)(e))
    )(e)
    np.testing.assert_allclose(gradient, [0, -0.5, 2, -2, 2, 2])
    np.testing.assert_allclose(slope, gradient)
    second = np.diagonal(second)
    np.testing.assert_allclose(second, [1, 1, 0.5, 0.5, 0, 0])


def test_smooth_l1_by_hand():
    """Within beta, on it, beyond; with beta = 0 the absolute error, whose slope at 0 is 0."""
    e = jnp.array([0.0, -0.5, 2.0, -2.0, 5.0])
    f = lambda e, b: ops.smooth_l1_loss(e, jnp.zeros(5), beta=b, reduction="none")  # noqa: E731
    np.testing.assert_allclose(f(e, 2.0), [0, 0.0625, 1, 1, 4])
    np.testing.assert_allclose(f(e, 0.0), [0, 0.5, 2, 2, 5])
    slope = jax.grad(lambda e, b: f(e, b).sum())
    np.testing.assert_allclose(slope(e, 2.0), [0, -0.25, 1, -1, 1])
    np.testing.assert_allclose(slope(e, 0.0), [0, -1, 1, -1, 1])


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
@pytest.mark.parametrize("log_target", [False, True])
def test_kl_div_has_the_reductions_of_torch(torch, log_target):
    x, t = np.log(TARGETS + 0.5), np.asarray(TARGETS[:, ::-1])
    t = np.log(t + 0.1) if log_target else t  # with zeros
    f = torch.nn.functional.kl_div
    for reduction in ("none", "mean", "sum", "batchmean"):
        pair = torch.tensor(np.array(x)), torch.tensor(np.array(t))
        expected = f(*pair, reduction=reduction, log_target=log_target)
        found = ops.kl_div_loss(x, t, reduction=reduction, log_target=log_target)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_kl_div_where_nothing_is():
    """Zeros of the target, also against classes that cannot be: finite to the second derivative."""
    x = jnp.array([[np.log(0.5), -jnp.inf]])
    for t, log_target in (([[1.0, 0.0]], False), ([[0.0, -jnp.inf]], True)):
        f = lambda x, t: ops.kl_div_loss(x, t, log_target=log_target, reduction="batchmean")  # noqa: E731, B023
        np.testing.assert_allclose(f(x, jnp.array(t)), np.log(2), rtol=1e-6)
        for derivative in (jax.grad, jax.hessian):
            leaves = jax.tree.leaves(jax.jit(derivative(f, (0, 1)))(x, jnp.array(t)))
            assert all(np.all(np.isfinite(leaf)) for leaf in leaves)


def test_nll_by_hand():
    p = jnp.log(jnp.array([[0.25, 0.5, 0.25], [0.1, 0.1, 0.8]]))
    labels = jnp.array([1, 3])
    np.testing.assert_allclose(
        ops.nll_loss(p, labels, reduction="none"), [np.log(2), np.nan], rtol=1e-6
    )
    z = LOGITS
    np.testing.assert_allclose(
        ops.nll_loss(jax.nn.log_softmax(z), LABELS), CE(jax.nn.log_softmax(z), LABELS), rtol=1e-6
    )


def test_no_derivative_where_a_margin_of_scores_is_reached():
    scores = jnp.array([2.0, 1.0])
    f = lambda s: ops.margin_ranking_loss(s[:1], s[1:], jnp.array([True]), margin=1.0)  # noqa: E731
    value, slope = jax.value_and_grad(f)(scores)
    assert value == 0
    np.testing.assert_array_equal(slope, 0)
    np.testing.assert_array_equal(jax.grad(f)(scores[::-1]), [-1, 1])


def test_l1_by_hand():
    e = jnp.array([0.0, -0.5, 3.0])
    value, slope = jax.value_and_grad(lambda e: ops.l1_loss(e, jnp.zeros(3), reduction="sum"))(e)
    assert value == 3.5
    np.testing.assert_array_equal(slope, [0, -1, 1])


def test_binary_cross_entropy_by_hand():
    z, t = jnp.log(jnp.array([3.0, 3.0, 3.0])), jnp.array([1.0, 0.0, 0.5])  # p = 3/4
    p = np.log([3 / 4, 1 / 4])
    each = ops.binary_cross_entropy(z, t, reduction="none")
    np.testing.assert_allclose(each, [-p[0], -p[1], -(p[0] + p[1]) / 2], rtol=1e-6)
    heavy = ops.binary_cross_entropy(z, t, pos_weight=4.0, reduction="none")
    np.testing.assert_allclose(heavy, [-4 * p[0], -p[1], -(4 * p[0] + p[1]) / 2], rtol=1e-6)


@pytest.mark.parametrize("pos_weight", [None, 3.0])
def test_binary_cross_entropy_does_not_cancel_in_the_derivative_by_the_target(pos_weight):
    """It is -z, or (c - 1) log(1 + exp(-z)) - z, however small z is."""
    z = jnp.array([4e-5, -3e-6, 0.0, 7.0, -90.0])
    loss = partial(ops.binary_cross_entropy, z, pos_weight=pos_weight, reduction="sum")
    c, exact = pos_weight or 1.0, np.asarray(z, np.float64)
    expected = (c - 1) * np.log1p(np.exp(-exact)) - exact
    np.testing.assert_allclose(jax.grad(loss)(jnp.full(5, 0.3)), expected, rtol=1e-6)


def test_binary_cross_entropy_keeps_its_small_values():
    """exp(-20), where softplus(z) - t z would be a difference of twenties."""
    z, t = jnp.array([20.0, -20.0]), jnp.array([1.0, 0.0])
    each = ops.binary_cross_entropy(z, t, reduction="none")
    np.testing.assert_allclose(each, np.log1p(np.exp([-20.0, -20.0])), rtol=1e-6)


def test_focal_by_hand():
    """p = 3/4: of a positive (1/4)^2, of a negative (3/4)^2 of the cross-entropy is left."""
    z, t = jnp.log(jnp.array([3.0, 3.0])), jnp.array([1.0, 0.0])
    each = ops.focal_loss(z, t, reduction="none")
    expected = [0.25 / 16 * -np.log(3 / 4), 0.75 * 9 / 16 * -np.log(1 / 4)]
    np.testing.assert_allclose(each, expected, rtol=1e-6)
    plain = ops.focal_loss(LOGITS, TARGETS, gamma=0.0, alpha=None)
    np.testing.assert_allclose(plain, ops.binary_cross_entropy(LOGITS, TARGETS), rtol=1e-6)


LARGE = jnp.array([1e4, -1e4, 1e4, -1e4, 0.0])
OF = jnp.array([1.0, 1.0, 0.0, 0.0, 1.0])


@pytest.mark.parametrize(
    "f, values, slopes",
    [
        (ops.binary_cross_entropy, [0, 1e4, 1e4, 0, np.log(2)], [0, -1, 1, 0, -0.5]),
        (
            ops.focal_loss,
            [0, 2.5e3, 7.5e3, 0, 0.25 * np.log(2) / 4],
            [0, -0.25, 0.75, 0, -0.0625 * (np.log(2) + 0.5)],
        ),
    ],
)
def test_losses_of_large_logits_are_exact(f, values, slopes):
    np.testing.assert_allclose(f(LARGE, OF, reduction="none"), values, rtol=1e-6)
    gradient = jax.grad(lambda z: f(z, OF, reduction="sum"))(LARGE)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_large_logits_are_finite(name):
    """Nothing but finite numbers, to the third derivative."""
    f = LOSSES[name]
    derivatives = [f, jax.grad(f), jax.hessian(f), jax.jacfwd(jax.hessian(f))]
    all_of = jax.jit(lambda z: [g(z) for g in derivatives])
    signs = np.array([[1, -1, 1], [-1, 1, 1], [-1, -1, -1], [0, 0, 1]])
    for size in (1e4, -1e4, 80.0, 0.0):
        for derivative in all_of(jnp.asarray(size * signs, jnp.float32)):
            assert np.all(np.isfinite(derivative))


# --------------------------------------------------------------------------------------- masks


def test_dice_by_hand():
    p = jnp.array([[0.5, 1.0], [0.25, 0.0]]).reshape(1, 2, 2, 1)
    t = jnp.array([[1.0, 1.0], [0.0, 0.0]]).reshape(1, 2, 2, 1)
    np.testing.assert_allclose(ops.dice_loss(p, t), 1 - (2 * 1.5 + 1) / (1.75 + 2 + 1))
    np.testing.assert_allclose(ops.dice_loss(p, t, smooth=0.0), 1 - 2 * 1.5 / (1.75 + 2))
    squared = 1 - 2 * 1.5 / (0.25 + 1 + 0.0625 + 2)
    np.testing.assert_allclose(ops.dice_loss(p, t, smooth=0.0, squared=True), squared, rtol=1e-6)


def test_dice_of_masked_pixels():
    """Whatever they hold."""
    p, t = jnp.array([[[0.5], [jnp.nan]]]), jnp.array([[[1.0], [jnp.inf]]])
    f = lambda p, t: ops.dice_loss(p, t, mask=jnp.array([[True, False]]))  # noqa: E731
    value, gradients = jax.value_and_grad(f, (0, 1))(p, t)
    np.testing.assert_allclose(value, 1 - 2 / 2.5)
    for gradient in gradients:
        assert gradient[0, 1, 0] == 0 and np.isfinite(gradient[0, 0, 0])


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_dice_of_nothing(smooth, squared):
    """Neither a target nor a prediction: a perfect match, with finite derivatives."""
    nothing = jnp.zeros((1, 3, 1))
    f = lambda p: ops.dice_loss(p, nothing, smooth=smooth, squared=squared)  # noqa: E731
    assert f(nothing) == 0
    assert np.all(np.isfinite(jax.grad(f)(nothing)))
    assert np.all(np.isfinite(jax.jit(jax.hessian(f))(nothing)))


def test_dice_of_single_channels():
    """Weights (N, C) take a channel out."""
    p, t = jnp.full((1, 4, 2), 0.5), jnp.ones((1, 4, 2))
    w = jnp.array([[1.0, 0.0]])
    value, gradient = jax.value_and_grad(ops.dice_loss)(p.at[..., 1].set(jnp.nan), t, weights=w)
    np.testing.assert_allclose(value, ops.dice_loss(p, t))
    np.testing.assert_array_equal(gradient[..., 1], 0)


# -------------------------------------------------------------------------------------- errors

Z, Y = jnp.zeros((4, 3)), jnp.zeros(4, jnp.int32)
MAP = jnp.zeros((2, 4, 3))
ERRORS = {
    "nll_loss: floats": (
        lambda: ops.nll_loss(LOGITS, TARGETS),
        TypeError,
        r"nll_loss: labels are not class indices: got labels float32 \(4, 3\)",
    ),
    "kl_div_loss: labels": (
        lambda: ops.kl_div_loss(LOGITS, LABELS),
        TypeError,
        r"kl_div_loss: target",
    ),
    "kl_div_loss: a scalar": (
        lambda: ops.kl_div_loss(jnp.zeros(()), jnp.ones(())),
        ValueError,
        r"kl_div_loss: no axis of the batch: got \(\), need \(N, ...\)",
    ),
    "kl_div_loss: reduction": (
        lambda: ops.kl_div_loss(LOGITS, TARGETS, reduction="batch"),
        ValueError,
        r"kl_div_loss: unknown reduction: got 'batch'",
    ),
    "margin_ranking_loss: target": (
        lambda: ops.margin_ranking_loss(LOGITS, LOGITS, TARGETS),
        TypeError,
        r"margin_ranking_loss: a_first is not boolean: got float32 .* write a_first > 0",
    ),
    "margin_ranking_loss: shapes": (
        lambda: ops.margin_ranking_loss(LOGITS, LOGITS, LABELS > 0),
        ValueError,
        r"margin_ranking_loss: shapes differ: got a \(4, 3\) and a_first \(4,\)",
    ),
    "margin_ranking_loss: margin": (
        lambda: ops.margin_ranking_loss(LOGITS, LOGITS, TARGETS > 0, margin=-1.0),
        ValueError,
        r"margin_ranking_loss: .*margin >= 0",
    ),
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
    "one-hot truth values": (
        lambda: CE(Z, jnp.zeros((4, 3), bool)),
        TypeError,
        r"labels are neither integers nor floats: .*write labels\.astype\(logits\.dtype\)",
    ),
    "channels first": (
        lambda: CE(jnp.zeros((2, 3, 4, 5)), jnp.zeros((2, 4, 5), jnp.int32)),
        ValueError,
        r"softmax_cross_entropy: shapes do not match: .*need labels \(2, 3, 4\); logits look "
        r"channels first, write jnp\.moveaxis\(logits, 1, -1\)",
    ),
    "channels first hinge": (
        lambda: ops.multi_margin_loss(jnp.zeros((2, 3, 4, 5)), jnp.zeros((2, 4, 5), jnp.int32)),
        ValueError,
        r"multi_margin_loss: shapes do not match: .*write jnp\.moveaxis\(logits, 1, -1\)",
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
        lambda: CE(jnp.zeros((4, 3), jnp.int32), Y),
        TypeError,
        r"softmax_cross_entropy: logits is not floating point: got int32",
    ),
    "scalar logits": (
        lambda: CE(jnp.zeros(()), jnp.zeros((), jnp.int32)),
        ValueError,
        r"no class axis: .*need logits \(\.\.\., K\)",
    ),
    "label_smoothing": (
        lambda: CE(Z, Y, label_smoothing=1.0),
        ValueError,
        r"bad label_smoothing: got 1\.0, need 0 <= e < 1; write label_smoothing=0\.1",
    ),
    "weights": (
        lambda: CE(Z, Y, weights=jnp.ones(3)),
        ValueError,
        r"wrong weights: got shape \(3,\), need \(4,\) or its leading axes",
    ),
    "reduction": (
        lambda: CE(Z, Y, reduction="average"),  # pyright: ignore
        ValueError,
        r"unknown reduction: got 'average', need 'mean', 'sum' or 'none'",
    ),
    "smooth_labels of indices": (
        lambda: ops.smooth_labels(Y, rate=0.1),
        TypeError,
        r"smooth_labels: probabilities are not floating point: got int32 \(4,\), need floats "
        r"\(\.\.\., K\); write jax\.nn\.one_hot\(probabilities, K\)",
    ),
    "smooth_labels of an integer one-hot": (
        lambda: ops.smooth_labels(jnp.zeros((4, 3), jnp.int32), rate=0.1),
        TypeError,
        r"smooth_labels: .*write .*probabilities\.astype\(jnp\.float32\) if they are one-hot",
    ),
    "smooth_labels of truth values": (
        lambda: ops.smooth_labels(jnp.zeros((4, 3), bool), rate=0.1),
        TypeError,
        r"smooth_labels: .*\(\.\.\., K\); write probabilities\.astype\(jnp\.float32\) if they are",
    ),
    "smooth_labels of a scalar": (
        lambda: ops.smooth_labels(jnp.ones(()), rate=0.1),
        ValueError,
        r"smooth_labels: no class axis: got \(\), need \(\.\.\., K\); add an axis",
    ),
    "rate": (
        lambda: ops.smooth_labels(Z, rate=1.0),
        ValueError,
        r"smooth_labels: bad rate: got 1\.0, need 0 <= rate < 1; write rate=0\.1",
    ),
    "kl_divergence of indices": (
        lambda: ops.kl_divergence(Z, Y),
        TypeError,
        r"kl_divergence: target_probabilities is not floating point: got target_probabilities "
        r"int32 \(4,\) with logits \(4, 3\), need floats of shape \(4, 3\); write "
        r"jax\.nn\.one_hot\(target_probabilities, 3\) if they are class indices",
    ),
    "kl_divergence of scalars": (
        lambda: ops.kl_divergence(jnp.zeros(()), jnp.zeros(())),
        ValueError,
        r"kl_divergence: no class axis: got logits \(\)",
    ),
    "kl_divergence shapes": (
        lambda: ops.kl_divergence(Z, jnp.zeros((3, 4))),
        ValueError,
        r"kl_divergence: shapes differ: got logits \(4, 3\) and target_probabilities \(3, 4\)",
    ),
    "one-hot hinge": (
        lambda: ops.multiclass_hinge_loss(Z, jax.nn.one_hot(Y, 3)),
        TypeError,
        r"multiclass_hinge_loss: labels are not class indices: got labels float32 \(4, 3\) with logits "
        r"\(4, 3\), need integers \(4,\); write jnp\.argmax\(labels, axis=-1\) if they are one-hot",
    ),
    "integer one-hot hinge": (
        lambda: ops.multi_margin_loss(Z, jnp.zeros((4, 1), jnp.int32)),
        TypeError,
        r"multi_margin_loss: labels are not class indices: .*labels\[\.\.\., 0\] if the last axis",
    ),
    "float hinge": (
        lambda: ops.multi_margin_loss(Z, jnp.zeros(4)),
        TypeError,
        r"multi_margin_loss: labels are not class indices: .*write labels\.astype\(jnp\.int32\)",
    ),
    "hinge labels": (
        lambda: ops.multiclass_hinge_loss(Z, jnp.zeros(5, jnp.int32)),
        ValueError,
        r"multiclass_hinge_loss: shapes do not match: .*need labels \(4,\); give one class index",
    ),
    "hinge scalar": (
        lambda: ops.multiclass_hinge_loss(jnp.zeros(()), jnp.zeros((), jnp.int32)),
        ValueError,
        r"multiclass_hinge_loss: no class axis",
    ),
    "power": (
        lambda: ops.multiclass_hinge_loss(Z, Y, power=3),
        ValueError,
        r"multiclass_hinge_loss: bad power: got 3, need 1 or 2; write power=2",
    ),
    "margin": (
        lambda: ops.multiclass_hinge_loss(Z, Y, margin=-1.0),
        ValueError,
        r"multiclass_hinge_loss: bad margin: got -1\.0, need margin >= 0; write margin=1\.0",
    ),
    "NaN margin": (
        lambda: ops.multi_margin_loss(Z, Y, margin=float("nan")),
        ValueError,
        r"multi_margin_loss: bad margin: got nan",
    ),
    "mse shapes": (
        lambda: ops.mse_loss(jnp.zeros((4, 1)), jnp.zeros(4)),
        ValueError,
        r"mse_loss: shapes differ: got prediction \(4, 1\) and target \(4,\).*target\.reshape",
    ),
    "mse prediction": (
        lambda: ops.mse_loss(jnp.zeros(4, jnp.int32), jnp.zeros(4)),
        TypeError,
        r"mse_loss: prediction is not floating point",
    ),
    "mse target": (
        lambda: ops.mse_loss(jnp.zeros(4), jnp.zeros(4, jnp.int32)),
        TypeError,
        r"mse_loss: target is not floating point: got int32.*target\.astype\(jnp\.float32\)",
    ),
    "mse weights": (
        lambda: ops.mse_loss(jnp.zeros((4, 2)), jnp.zeros((4, 2)), weights=jnp.ones(2)),
        ValueError,
        r"mse_loss: wrong weights: got shape \(2,\), need \(4, 2\).*one weight per example, \(4,\)",
    ),
    "huber delta": (
        lambda: ops.huber_loss(Z, Z, delta=0.0),
        ValueError,
        r"huber_loss: bad delta: got 0\.0, need delta > 0; write delta=1\.0",
    ),
    "smooth L1 beta": (
        lambda: ops.smooth_l1_loss(Z, Z, beta=-0.1),
        ValueError,
        r"smooth_l1_loss: bad beta: got -0\.1, need beta >= 0; write beta=1\.0",
    ),
    "binary of truth values": (
        lambda: ops.binary_cross_entropy(jnp.zeros(4), jnp.zeros(4, bool)),
        TypeError,
        r"binary_cross_entropy: targets is not floating point: got targets bool \(4,\) with logits "
        r"\(4,\).*write targets\.astype\(logits\.dtype\) if they are zeros and ones",
    ),
    "binary of indices": (
        lambda: ops.binary_cross_entropy(Z, Y),
        TypeError,
        r"binary_cross_entropy: .*write jax\.nn\.one_hot\(targets, 3\) if they are class indices",
    ),
    "binary without the last axis": (
        lambda: ops.binary_cross_entropy(jnp.zeros((4, 1)), Y),
        TypeError,
        r"need floats of shape \(4, 1\); write targets\[\.\.\., None\]\.astype\(logits\.dtype\) if",
    ),
    "dice without the last axis": (
        lambda: ops.dice_loss(jnp.zeros((2, 4, 1)), jnp.zeros((2, 4), bool)),
        TypeError,
        r"dice_loss: .*write target\[\.\.\., None\]\.astype\(probabilities\.dtype\) if they are zeros",
    ),
    "binary logits": (
        lambda: ops.binary_cross_entropy(Y, jnp.zeros(4)),
        TypeError,
        r"binary_cross_entropy: logits is not floating point: got int32",
    ),
    "binary shapes": (
        lambda: ops.binary_cross_entropy(Z, jnp.zeros(4)),
        ValueError,
        r"binary_cross_entropy: shapes differ: got logits \(4, 3\) and targets \(4,\)",
    ),
    "pos_weight": (
        lambda: ops.binary_cross_entropy(Z, Z, pos_weight=-1.0),
        ValueError,
        r"binary_cross_entropy: bad pos_weight: got -1\.0, need pos_weight >= 0",
    ),
    "pos_weight of NumPy": (
        lambda: ops.binary_cross_entropy(Z, Z, pos_weight=np.float32(-1)),
        ValueError,
        r"binary_cross_entropy: bad pos_weight: got .*-1\.0.*, need pos_weight >= 0",
    ),
    "pos_weight of a class": (
        lambda: ops.binary_cross_entropy(Z, Z, pos_weight=[1.0, -1.0, 2.0]),
        ValueError,
        r"binary_cross_entropy: bad pos_weight: got \[1\.0, -1\.0, 2\.0\], need pos_weight >= 0",
    ),
    "pos_weight shape": (
        lambda: ops.binary_cross_entropy(Z, Z, pos_weight=jnp.ones(4)),
        ValueError,
        r"wrong pos_weight: got shape \(4,\) with logits \(4, 3\), need \(\) or \(3,\)",
    ),
    "gamma": (
        lambda: ops.focal_loss(Z, Z, gamma=-0.5),
        ValueError,
        r"focal_loss: bad gamma: got -0\.5, need gamma >= 0; write gamma=2\.0",
    ),
    "alpha": (
        lambda: ops.focal_loss(Z, Z, alpha=1.5),
        ValueError,
        r"focal_loss: bad alpha: got 1\.5, need 0 <= alpha <= 1 or None; write alpha=0\.25",
    ),
    "focal of integers": (
        lambda: ops.focal_loss(Z, jnp.zeros((4, 3), jnp.int32)),
        TypeError,
        r"focal_loss: targets is not floating point: .*targets\.astype\(logits\.dtype\)",
    ),
    "dice of indices": (
        lambda: ops.dice_loss(MAP, jnp.zeros((2, 4), jnp.int32)),
        TypeError,
        r"dice_loss: target is not floating point: .*write jax\.nn\.one_hot\(target, 3\) if they are",
    ),
    "dice rank": (
        lambda: ops.dice_loss(Z, Z),
        ValueError,
        r"dice_loss: no spatial axis: got probabilities \(4, 3\), need \(N, \*spatial, C\)",
    ),
    "dice smooth": (
        lambda: ops.dice_loss(MAP, MAP, smooth=-1.0),
        ValueError,
        r"dice_loss: bad smooth: got -1\.0, need smooth >= 0; write smooth=1\.0",
    ),
    "dice mask dtype": (
        lambda: ops.dice_loss(MAP, MAP, mask=jnp.ones((2, 4))),
        TypeError,
        r"dice_loss: mask is not boolean: got float32 \(2, 4\), need truth values \(2, 4\); write mask",
    ),
    "dice mask shape": (
        lambda: ops.dice_loss(MAP, MAP, mask=jnp.ones((2, 4, 3), bool)),
        ValueError,
        r"dice_loss: wrong mask: got shape \(2, 4, 3\) with probabilities \(2, 4, 3\), need \(2, 4\)",
    ),
    "dice weights": (
        lambda: ops.dice_loss(MAP, MAP, weights=jnp.ones((2, 4))),
        ValueError,
        r"dice_loss: wrong weights: got shape \(2, 4\), need \(2, 3\) or its leading axes",
    ),
}


@pytest.mark.parametrize("call, kind, message", ERRORS.values(), ids=ERRORS.keys())
def test_losses_say_what_to_write_instead(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
