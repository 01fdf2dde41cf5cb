"""Losses of embeddings beyond the proof: by hand, ties, masks, batches that lack something, errors."""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from convax import ops

# Arrays of NumPy: outside of `jax.jit`, each operation of JAX on each shape would be a program.
X = np.array([[0.1, 2], [1.2, -0.3], [0.4, 0.9], [-1, 0.2], [0.3, -1.5], [2, 1]], np.float32)
LABELS = np.array([0, 1, 0, 1, 2, 2], np.int32)
OF_A_BATCH = {
    "triplet_batch_hard": ops.batch_hard_triplet_loss,
    "triplet_batch_hard, squared": lambda *a, **o: ops.batch_hard_triplet_loss(
        *a, squared=True, **o
    ),
    "triplet_semi_hard": ops.semi_hard_triplet_loss,
    "triplet_semi_hard, squared": lambda *a, **o: ops.semi_hard_triplet_loss(*a, squared=True, **o),
    "histogram_loss": lambda *a, **o: ops.histogram_loss(*a, bins=7, **o),
    "lda_loss": lambda *a, **o: ops.lda_loss(*a, 3, epsilon=100.0, **o),
}
SAME = np.array([True, False, True, False, False, True])
W = np.array([[1.0, 0.3, -0.5], [-0.2, 2.0, 0.4]], np.float32)
OF_PAIRS = {
    "arcface": lambda x, **o: ops.arcface_loss(x, W.astype(x.dtype), LABELS, **o),
    "cosface": lambda x, **o: ops.cosface_loss(x, W.astype(x.dtype), LABELS, **o),
    "contrastive": lambda x, **o: ops.contrastive_loss(x, X[::-1], SAME, margin=3.0, **o),
    "contrastive, double margin": lambda x, **o: ops.contrastive_loss(
        x, X[::-1], SAME, positive_margin=0.1, **o
    ),
    "contrastive, squared": lambda x, **o: ops.contrastive_loss(
        x, X[::-1], SAME, squared=True, **o
    ),
    "cosine": lambda x, **o: ops.cosine_embedding_loss(x, X[::-1].astype(x.dtype), SAME, **o),
    "triplet": lambda x, **o: ops.triplet_loss(x, X[::-1], X[::-1] + 0.5, **o),
    "triplet, squared": lambda x, **o: ops.triplet_loss(
        x, X[::-1], X[::-1] + 0.5, squared=True, **o
    ),
}


def finite(tree):
    return all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(tree))


def with_row(x, row, values):
    """Return a copy of an array in which one row is other values."""
    x = x.copy()
    x[row] = values
    return x


@lru_cache
def value_and_gradient(name):
    """Compile a loss of (x, labels, weights or None), once for each set of shapes."""
    f = OF_A_BATCH[name]
    return jax.jit(jax.value_and_grad(lambda x, labels, weights: f(x, labels, weights=weights)))


@lru_cache
def derivatives(name):
    """Compile value, gradient and Hessian of a loss of x, with `LABELS` and without weights."""
    f = OF_PAIRS[name] if name in OF_PAIRS else lambda x: OF_A_BATCH[name](x, LABELS)
    return jax.jit(lambda x: (f(x), jax.grad(f)(x), jax.hessian(f)(x)))


# --------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * n.endswith("squared")) for n in OF_A_BATCH],
)
def test_weight_zero_takes_an_example_out_of_all_roles(name):
    """Whatever it holds: its label may even be no class."""
    x, labels = with_row(X, 1, [np.nan, np.inf]), with_row(LABELS, 1, 99)
    others = np.array([0, 2, 3, 4, 5])
    expected, wanted = value_and_gradient(name)(X[others], LABELS[others], None)
    for keep in (np.arange(6) != 1, (np.arange(6) != 1).astype(np.float32)):
        value, gradient = value_and_gradient(name)(x, labels, keep)
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        np.testing.assert_allclose(np.asarray(gradient)[others], wanted, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(gradient[1], 0)
    f = lambda x, keep: OF_A_BATCH[name](x, labels, weights=keep)  # noqa: E731
    assert finite(jax.jit(lambda *a: (jax.hessian(f)(*a), jax.grad(f, 1)(*a)))(x, keep))


@pytest.mark.parametrize("name", OF_PAIRS)
def test_weight_zero_takes_a_pair_out(name):
    x, keep = with_row(X, 1, np.nan), np.arange(6) != 1
    others = np.array([0, 2, 3, 4, 5])

    @jax.jit
    def results(x):
        f = lambda x: OF_PAIRS[name](x, weights=keep)  # noqa: E731
        each = OF_PAIRS[name](X, reduction="none")
        return each, jax.value_and_grad(f)(x), jax.hessian(f)(x)

    each, (value, gradient), hessian = results(x)
    np.testing.assert_allclose(value, np.asarray(each)[others].mean(), rtol=1e-6)
    np.testing.assert_array_equal(gradient[1], 0)
    assert finite(gradient)
    assert finite(hessian)


@pytest.mark.parametrize("name", OF_A_BATCH | OF_PAIRS)
def test_what_is_not_masked_is_not_hidden(name):
    x = with_row(X, 1, np.nan)
    of_pairs = name in OF_PAIRS
    value, *_ = derivatives(name)(x) if of_pairs else value_and_gradient(name)(x, LABELS, None)
    assert np.isnan(value)


LACKING = {
    "negatives": (X, np.zeros(6, np.int32), None),
    "positives": (X[:3], np.array([0, 1, 2], np.int32), None),
    "others": (X[:1], np.array([0], np.int32), None),
    "examples": (X[:0], LABELS[:0], None),
    "weight": (X, LABELS, np.zeros(6, np.float32)),
}


@pytest.mark.parametrize("name", OF_A_BATCH)
@pytest.mark.parametrize("what", LACKING)
def test_batches_without_pairs_or_triplets(name, what):
    """Loss and gradient are 0; LDA does without positives."""
    value, gradient = value_and_gradient(name)(*LACKING[what])
    if name == "lda_loss" and what == "positives":
        assert value < 0 and finite(gradient)
    else:
        assert value == 0
        np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("name", OF_A_BATCH | OF_PAIRS)
def test_degenerate_embeddings(name):
    """Finite derivatives where distances, lengths and scatter vanish or are huge."""
    pairs = with_row(with_row(X, 0, X[2]), 1, X[4])
    for x in (np.ones_like(X), np.zeros_like(X), np.float32(1e4) * X, pairs):
        assert finite(derivatives(name)(x))


@pytest.mark.parametrize("name", OF_A_BATCH | OF_PAIRS)
def test_losses_are_at_least_float32(name):
    f = OF_PAIRS.get(name) or (lambda x: OF_A_BATCH[name](x, LABELS))
    for dtype in (jnp.bfloat16, jnp.float16) if name in OF_A_BATCH else ():
        value, gradient = jax.eval_shape(jax.value_and_grad(f), X.astype(dtype))
        assert (value.dtype, gradient.dtype) == (jnp.float32, dtype)
    assert jax.eval_shape(f, X).dtype == jnp.float32


HYPER = {
    "contrastive": (lambda x, m: ops.contrastive_loss(x, x[::-1], SAME, margin=m), 3.0),
    "positive_margin": (
        lambda x, m: ops.contrastive_loss(x, x[::-1], SAME, positive_margin=m),
        0.1,
    ),
    "contrastive, squared": (
        lambda x, m: ops.contrastive_loss(
            x, x[::-1], SAME, margin=m, positive_margin=m, squared=True
        ),
        0.5,
    ),
    "triplet": (lambda x, m: ops.triplet_loss(x, x[::-1], x[::-1] / 2, margin=m), 0.7),
    "triplet_batch_hard": (lambda x, m: ops.batch_hard_triplet_loss(x, LABELS, margin=m), 0.7),
    "triplet_semi_hard": (lambda x, m: ops.semi_hard_triplet_loss(x, LABELS, margin=m), 0.7),
    "arcface": (lambda x, m: ops.arcface_loss(x, W, LABELS, scale=10 * m, margin=m), 0.5),
    "cosface": (lambda x, m: ops.cosface_loss(x, W, LABELS, scale=10 * m, margin=m), 0.5),
    "regularization": (lambda x, r: ops.lda_loss(x, LABELS, 3, regularization=r), 0.1),
    "epsilon": (lambda x, e: ops.lda_loss(x, LABELS, 3, epsilon=e), 0.7),
}


@pytest.mark.slow
@pytest.mark.parametrize("f, value", HYPER.values(), ids=HYPER)
def test_hyper_parameters_may_be_traced(f, value):
    @jax.jit
    def traced(x, value):
        others = jax.hessian(f), jax.grad(f, 1), jax.grad(jax.jit(f))
        return jax.value_and_grad(f)(x, value), [g(x, value) for g in others]

    both, others = traced(X, value)
    known = jax.jit(lambda x: jax.value_and_grad(f)(x, value))(X)
    for a, b in zip(both, known, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert finite(others)


@pytest.mark.parametrize("f, value", HYPER.values(), ids=HYPER)
def test_hyper_parameters_do_not_change_the_dtype(f, value):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        x = jnp.asarray(X)
        for scalar in (np.float32, np.float64, jnp.float64):
            given = scalar(value)
            known = lambda x, given=given: f(x, given)  # noqa: E731
            for g, arguments in ((partial(f, x, given), ()), (known, (x,)), (f, (x, given))):
                assert jax.eval_shape(g, *arguments).dtype == jnp.float32


def test_counts_may_be_integers_of_numpy():
    def both(x, bins, num_classes):
        lda = ops.lda_loss(x, LABELS, num_classes)
        return ops.histogram_loss(x, LABELS, bins=bins), lda

    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        histogram, lda = jax.jit(lambda x: both(x, np.int64(7), np.int64(3)))(X)
    assert histogram.dtype == lda.dtype == jnp.float32
    np.testing.assert_allclose((histogram, lda), jax.jit(lambda x: both(x, 7, 3))(X), rtol=1e-6)


@pytest.mark.parametrize("name", OF_A_BATCH)
def test_embedding_losses_export_with_a_symbolic_batch(name):
    f = jax.value_and_grad(OF_A_BATCH[name])
    (n,) = export.symbolic_shape("n")
    types = jax.ShapeDtypeStruct((n, 2), jnp.float32), jax.ShapeDtypeStruct((n,), jnp.int32)
    exported = export.export(jax.jit(f))(*types)
    expected = value_and_gradient(name)(X, LABELS, None)
    for a, b in zip(exported.call(X, LABELS), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


# --------------------------------------------------------------------------- pairs and triplets


def test_contrastive_by_hand():
    a, b = np.zeros((4, 2), np.float32), np.array([[3, 4]] * 4, np.float32)  # D = 5, d = 25
    same = np.array([True, False, True, False])
    f = lambda a, **o: ops.contrastive_loss(a, b, same, reduction="none", **o)  # noqa: E731

    @jax.jit
    def results(a):
        total = lambda a: ops.contrastive_loss(a, b, same, margin=7.0, reduction="sum")  # noqa: E731
        squared = f(a, margin=26.0, positive_margin=1.0, squared=True)
        return f(a, margin=7.0), f(a, margin=4.0, positive_margin=3.0), squared, jax.grad(total)(a)

    one, two, squared, gradient = results(a)
    np.testing.assert_allclose(one, [12.5, 2, 12.5, 2])
    np.testing.assert_allclose(two, [2, 0, 2, 0])
    np.testing.assert_allclose(squared, [12, 0.5] * 2)
    np.testing.assert_allclose(gradient, [[-3, -4], [6 / 5, 8 / 5]] * 2, rtol=1e-6)


@pytest.mark.parametrize("squared", [False, True])
def test_contrastive_kinks(squared):
    """In the same place, and at a margin exactly: no derivative."""
    a, b = np.zeros((4, 2), np.float32), np.array([[0, 0], [0, 0], [0, 1], [0, 1]], np.float32)
    same = np.array([True, False, True, False])
    f = lambda a: ops.contrastive_loss(  # noqa: E731
        a, b, same, margin=1.0, positive_margin=1.0, squared=squared, reduction="sum"
    )
    for gradient in jax.jit(lambda a: (jax.grad(f)(a), jax.jacfwd(f)(a)))(a):
        np.testing.assert_array_equal(gradient, 0)


def test_contrastive_pull_is_smooth_at_zero():
    """Half the squared distance, the Hessian of which is 1, also in the same place."""
    f = lambda a: ops.contrastive_loss(a, jnp.zeros(2), jnp.array(True))  # noqa: E731
    np.testing.assert_array_equal(jax.jit(jax.hessian(f))(np.zeros(2, np.float32)), np.eye(2))


def test_triplet_by_hand():
    a, p = np.zeros((2, 2), np.float32), np.array([[3, 4]] * 2, np.float32)
    n = np.array([[0.0, 5.5], [0.0, 6.5]], np.float32)

    @jax.jit
    def results(a, p, n):
        squared = ops.triplet_loss(a, p, n, margin=10.0, squared=True, reduction="none")
        gradients = jax.grad(ops.triplet_loss, (0, 1, 2))(a[:1], p[:1], n[:1])
        return ops.triplet_loss(a, p, n, reduction="none"), squared, gradients

    each, squared, gradients = results(a, p, n)
    np.testing.assert_allclose(each, [1 + 5 - 5.5, 0])
    np.testing.assert_allclose(squared, [10 + 25 - 30.25, 0])
    np.testing.assert_allclose(gradients[1], [[0.6, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(gradients[2], [[0, -1]], rtol=1e-6)
    np.testing.assert_allclose(gradients[0], [[-0.6, 0.2]], rtol=1e-6)


def test_triplet_kinks():
    """Positive and anchor in one place; the margin reached exactly."""
    a, p, n = np.zeros(2, np.float32), np.zeros(2, np.float32), np.array([0.0, 0.5], np.float32)
    gradients = jax.jit(jax.grad(ops.triplet_loss, (0, 1, 2)))
    np.testing.assert_allclose(gradients(a, p, n), [[0, 1], [0, 0], [0, -1]])
    for gradient in gradients(a, p, np.array([0.0, 1.0], np.float32)):
        np.testing.assert_array_equal(gradient, 0)


# -------------------------------------------------------------------------------------- mining


def reductions(f, *given):
    """Return the loss of each, their mean, and that with weights."""

    @jax.jit
    def results(x, labels, weights):
        return f(x, labels, reduction="none"), f(x, labels), f(x, labels, weights=weights)

    return results(*given)


def test_batch_hard_by_hand():
    """On a line; the last is the only one of its class, so it is no anchor."""
    x, labels = np.array([[0], [1], [3], [3.5]], np.float32), np.array([0, 0, 0, 1], np.int32)
    weights = np.array([1, 2, 1, 5], np.float32)
    each, mean, weighted = reductions(ops.batch_hard_triplet_loss, x, labels, weights)
    np.testing.assert_allclose(each, [1 + 3 - 3.5, 1 + 2 - 2.5, 1 + 3 - 0.5, 0])
    np.testing.assert_allclose(mean, (0.5 + 0.5 + 3.5) / 3)
    np.testing.assert_allclose(weighted, (0.5 + 2 * 0.5 + 3.5) / 4)


def test_semi_hard_by_hand():
    x, labels = np.array([[0], [1], [0.5], [1.5]], np.float32), np.array([0, 0, 1, 1], np.int32)
    weights = np.array([1, 2, 1, 3], np.float32)
    each, mean, weighted = reductions(ops.semi_hard_triplet_loss, x, labels, weights)
    expected = np.zeros((4, 4))
    expected[0, 1] = 1 + 1 - 1.5  # beyond the positive at 1
    expected[1, 0] = 1 + 1 - 0.5  # none is beyond: the farthest, of two the first
    expected[2, 3] = 1 + 1 - 0.5
    expected[3, 2] = 1 + 1 - 1.5
    np.testing.assert_allclose(each, expected)
    np.testing.assert_allclose(mean, (0.5 + 1.5 + 1.5 + 0.5) / 4)
    np.testing.assert_allclose(weighted, (2 * (0.5 + 1.5) + 3 * (1.5 + 0.5)) / (2 * 2 + 2 * 3))


def test_a_negative_as_far_as_the_positive_is_not_beyond():
    x, labels = np.array([[0], [1], [-1], [2]], np.float32), np.array([0, 0, 1, 1], np.int32)
    each = jax.jit(lambda x: ops.semi_hard_triplet_loss(x, labels, reduction="none"))(x)
    assert np.asarray(each)[0, 1] == 1 + 1 - 2


@pytest.mark.parametrize("f", [ops.batch_hard_triplet_loss, ops.semi_hard_triplet_loss])
def test_ties_go_to_the_first(f):
    """Two negatives at a distance of 1 each: the second feels nothing."""
    x = np.array([[0.0], [0.5], [-1.0], [1.0]], np.float32)
    labels, swapped = np.array([0, 0, 1, 2], np.int32), np.array([0, 1, 3, 2])
    pick = lambda x, labels: f(x, labels, reduction="none").reshape(4, -1)[0].sum()  # noqa: E731
    gradient = jax.jit(jax.grad(pick))
    np.testing.assert_allclose(gradient(x, labels)[2:], [[1], [0]])
    np.testing.assert_allclose(gradient(x[swapped], labels[swapped])[2:], [[-1], [0]])


def test_distances_of_close_embeddings_are_exact():
    """Far from the origin, where |a|^2 + |b|^2 - 2 ab would have no digit left."""
    x = np.array([[1000.0, 0.0], [1000.0, 0.001953125], [1001.0, 0.0]], np.float32)
    f = lambda x, **o: ops.batch_hard_triplet_loss(x, np.array([0, 0, 1], np.int32), **o)  # noqa: E731
    each, gradient = jax.jit(lambda x: (f(x, reduction="none"), jax.grad(f)(x)))(x)
    np.testing.assert_allclose(each[0], 0.001953125, rtol=1e-6)
    # Twice away from the positive, once towards the negative, which is 512 times as far.
    np.testing.assert_allclose(gradient[1], [0.5, 1 - 0.5 / 512], rtol=1e-4)


# ----------------------------------------------------------------------------------- histogram


def test_histogram_by_hand():
    """Similarities cos of 0, 60 and 90 degrees with three nodes, -1, 0 and 1."""
    half = np.sqrt(3) / 2
    x, labels = np.array([[2, 0], [0.5, half], [0, 1]], np.float32), np.array([0, 0, 1], np.int32)
    f = lambda x, **o: ops.histogram_loss(x, labels, bins=3, **o)  # noqa: E731
    weights = np.array([1, 3, 2], np.float32)
    alone, weighted = jax.jit(lambda x: (f(x), f(x, weights=weights)))(x)
    # Of one class: (0, 1), s = 1/2, half at 0, half at 1. Of two: (0, 2), s = 0, all at node 0;
    # (1, 2), s = sqrt(3) / 2, that much at node 1 and the rest at node 0.
    apart = np.array([0, (1 + 1 - half) / 2, half / 2])
    expected = apart @ np.cumsum([0, 0.5, 0.5])
    np.testing.assert_allclose(alone, expected, rtol=1e-6)
    apart = np.array([0, (2 * 1 + 6 * (1 - half)) / 8, 6 * half / 8])
    np.testing.assert_allclose(weighted, apart @ np.cumsum([0, 0.5, 0.5]), rtol=1e-6)


def test_histogram_is_flat_at_a_node():
    """Similarities of 0 and -1 are nodes of three: no derivative, as there is beside them."""
    labels = np.array([0, 0, 1], np.int32)
    gradient = jax.jit(jax.grad(lambda x: ops.histogram_loss(x, labels, bins=3)))
    np.testing.assert_array_equal(gradient(np.array([[1, 0], [0, 1], [-1, 0]], np.float32)), 0)
    assert np.any(np.asarray(gradient(np.array([[1, 0], [0.1, 1], [-1, 0]], np.float32))) != 0)


@pytest.mark.parametrize("size", [1e20, 1e-23])
def test_histogram_of_any_length(size):
    f = value_and_gradient("histogram_loss")
    value, gradient = f(np.float32(size) * X, LABELS, None)
    expected, wanted = f(X, LABELS, None)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(gradient) * size, wanted, rtol=1e-4, atol=1e-6)


# ------------------------------------------------------------------------------- angular margin

PLANE = np.array([[1.0, 0.0], [0.0, 2.0]], np.float32)  # two classes, at a right angle


def at(degrees):
    """Return a vector at an angle from the direction of class 0."""
    angle = np.deg2rad(degrees)
    return np.array([[3 * np.cos(angle), 3 * np.sin(angle)]], np.float32)


@lru_cache
def of_60_degrees():
    """Compile ArcFace with a margin of 60 degrees, once for all angles."""
    return jax.jit(
        lambda x: ops.arcface_loss(x, PLANE, np.zeros(1, np.int32), scale=2.0, margin=np.pi / 3)
    )


@pytest.mark.parametrize("degrees", [0, 30, 60, 110])
def test_the_margin_of_arcface_is_added_to_the_angle(degrees):
    """Of 60 degrees; the other class stays where it is."""
    loss = of_60_degrees()(at(degrees))
    own, other = np.cos(np.deg2rad(degrees + 60)), np.sin(np.deg2rad(degrees))
    np.testing.assert_allclose(loss, np.log1p(np.exp(2 * (other - own))), rtol=1e-5)


def test_the_margin_of_cosface_is_taken_from_the_cosine():
    f = lambda x: ops.cosface_loss(x, PLANE, np.zeros(1, np.int32), scale=2.0, margin=0.25)  # noqa: E731
    loss = jax.jit(f)(at(60))
    np.testing.assert_allclose(loss, np.log1p(np.exp(2 * (np.sqrt(0.75) - 0.25))), rtol=1e-5)


def test_arcface_grows_with_the_angle_all_the_way():
    """The bare cosine of angle and margin falls again, past 180 degrees."""
    angles = np.linspace(0, np.pi, 50, dtype=np.float32)
    x = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    W = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]], np.float32)
    options = {"scale": 1.0, "margin": 1.0, "reduction": "none"}
    f = lambda x: ops.arcface_loss(x, W, np.zeros(50, np.int32), **options)  # noqa: E731
    loss = jax.jit(f)(x)
    assert np.all(np.diff(loss) > 0)


def test_a_label_that_is_no_class_of_the_kernel_is_nan():
    labels = np.array([0, 2], np.int32)
    x = np.concatenate([at(10), at(20)])
    loss = jax.jit(lambda x: ops.arcface_loss(x, PLANE, labels, reduction="none"))(x)
    assert np.isfinite(loss[0]) and np.isnan(loss[1])


# ----------------------------------------------------------------------------------------- LDA


def test_lda_by_hand():
    """Two classes on a line: S_b = 4, S_w = 1, so v = 4 / (1 + lambda)."""
    x, y = np.array([[-3], [-1], [1], [3]], np.float32), np.array([0, 0, 1, 1], np.int32)
    f = lambda x: ops.lda_loss(x, y, 2, regularization=1.0)  # noqa: E731
    value, gradient = jax.jit(jax.value_and_grad(f))(x)
    np.testing.assert_allclose(value, -2, rtol=1e-6)
    # e = 1 / sqrt(2): -dv/dx = -2 / 4 * [(m_c - m) - v (x - m_c)] / 2
    expected = -np.array([[-2 + 2], [-2 - 2], [2 + 2], [2 - 2]]) / 4
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_lda_raises_only_the_smallest():
    """Separated by 4 along one axis and by 1 along the other."""
    x = np.array([[0, 0], [2, 0], [0, 4], [2, 4], [5, 2], [7, 2]], np.float32)
    y = np.array([0, 0, 1, 1, 2, 2], np.int32)
    of = lambda x, epsilon: ops.lda_loss(x, y, 3, regularization=1.0, epsilon=epsilon)  # noqa: E731
    both, least = jax.jit(lambda x: (of(x, 100.0), of(x, 0.1)))(x)
    S_b = [np.var([0, 0, 5]), np.var([0, 4, 2])]
    v = np.array(S_b) / (np.array([1, 0]) + 1)
    np.testing.assert_allclose([-both, -least], [v.mean(), v.min()], rtol=1e-5)


@pytest.mark.parametrize("D", [2, 3, 5])
@pytest.mark.parametrize("K", [3, pytest.param(7, marks=pytest.mark.slow)])
def test_lda_with_equal_eigenvalues(K, D):
    """Three classes at the corners of a triangle; its Hessian is the slope of the gradient."""
    with jax.enable_x64(True):
        angle = 2 * np.pi * np.arange(3) / 3
        corners = np.stack([np.cos(angle), np.sin(angle)], 1)
        x = np.concatenate([2 * corners + np.array([a, b]) for a in (1, -1) for b in (1, -1)])
        x = np.pad(x, ((0, 0), (0, D - 2)))
        labels = np.array([0, 1, 2] * 4)
        f = lambda x: ops.lda_loss(x, labels, K, epsilon=100.0, regularization=0.5)  # noqa: E731
        compiled = jax.jit(lambda x: (f(x), jax.grad(f)(x), jax.hessian(f)(x)))
        results = lambda x: [np.asarray(a) for a in compiled(x)]  # noqa: E731
        dx = np.random.default_rng(0).standard_normal(x.shape)
        _, gradient, hessian = results(x)
        slope = (results(x + 1e-6 * dx)[0] - results(x - 1e-6 * dx)[0]) / 2e-6
        np.testing.assert_allclose(np.sum(gradient * dx), slope, rtol=1e-6, atol=1e-8)
        change = (results(x + 1e-5 * dx)[1] - results(x - 1e-5 * dx)[1]) / 2e-5
        by_hessian = np.einsum("abcd,cd->ab", hessian, dx)
        np.testing.assert_allclose(by_hessian, change, rtol=1e-4, atol=1e-7)


def test_lda_labels_out_of_range():
    """NaN, which is loud; unless their weight is zero."""
    labels = with_row(LABELS, 0, 3)
    f = lambda x, **o: ops.lda_loss(x, labels, 3, **o)  # noqa: E731
    alone, masked = jax.jit(lambda x: (f(x), f(x, weights=np.arange(6) > 0)))(X)
    assert np.isnan(alone)
    assert np.isfinite(masked)


# -------------------------------------------------------------------------------------- errors

A, Y = jnp.zeros((4, 3)), jnp.zeros(4, jnp.int32)
YES = jnp.ones(4, bool)
ERRORS = {
    "cosine_embedding, margin": (
        lambda: ops.cosine_embedding_loss(X, X, SAME, margin=1.5),
        ValueError,
        r"cosine_embedding_loss: .*-1 <= margin <= 1",
    ),
    "cosine_embedding, same": (
        lambda: ops.cosine_embedding_loss(X, X, LABELS),
        TypeError,
        r"cosine_embedding_loss: same is not boolean: got int32 \(6,\), .* same > 0 for targets of 1",
    ),
    "arcface kernel of rows": (
        lambda: ops.arcface_loss(A, jnp.zeros((10, 3)), Y),
        ValueError,
        r"arcface_loss: shapes do not match: got embeddings \(4, 3\) and kernel \(10, 3\), need "
        r"\(N, D\) and \(D, K\); write kernel\.T if",
    ),
    "arcface dtypes": (
        lambda: ops.arcface_loss(A, jnp.zeros((3, 2), jnp.bfloat16), Y),
        TypeError,
        r"arcface_loss: dtypes differ: got embeddings float32 and kernel bfloat16",
    ),
    "arcface margin": (
        lambda: ops.arcface_loss(A, A[:3], Y, margin=28.6),
        ValueError,
        r"arcface_loss: bad margin: got 28\.6, need 0 <= margin < pi; write margin=0\.5",
    ),
    "arcface scale": (
        lambda: ops.arcface_loss(A, A[:3], Y, scale=0.0),
        ValueError,
        r"arcface_loss: bad scale: got 0\.0, need scale > 0; write scale=64\.0",
    ),
    "cosface labels": (
        lambda: ops.cosface_loss(A, A[:3], Y[:3]),
        ValueError,
        r"cosface_loss: shapes do not match: got embeddings \(4, 3\) and labels int32 \(3,\)",
    ),
    "cosface one-hot labels": (
        lambda: ops.cosface_loss(A, A[:3], A),
        ValueError,
        r"cosface_loss: shapes do not match: .* write .* jnp\.argmax\(labels, axis=-1\) if they are",
    ),
    "cosface margin": (
        lambda: ops.cosface_loss(A, A[:3], Y, margin=-0.1),
        ValueError,
        r"cosface_loss: bad margin: got -0\.1, need margin >= 0; write margin=0\.35",
    ),
    "contrastive dtypes": (
        lambda: ops.contrastive_loss(A, A.astype(jnp.bfloat16), YES),
        TypeError,
        r"contrastive_loss: dtypes differ: got a float32 and b bfloat16, need one dtype",
    ),
    "contrastive shapes": (
        lambda: ops.contrastive_loss(A, jnp.zeros((4, 2)), YES),
        ValueError,
        r"contrastive_loss: shapes differ: got a \(4, 3\) and b \(4, 2\), need the same shape",
    ),
    "contrastive integers": (
        lambda: ops.contrastive_loss(Y, Y, YES),
        TypeError,
        r"contrastive_loss: a is not floating point: got int32",
    ),
    "contrastive scalars": (
        lambda: ops.contrastive_loss(jnp.zeros(()), jnp.zeros(()), YES[0]),
        ValueError,
        r"contrastive_loss: no axis of the embedding: got a \(\), need \(N, \.\.\., D\); add an axis",
    ),
    "same": (
        lambda: ops.contrastive_loss(A, A, Y),
        TypeError,
        r"contrastive_loss: same is not boolean: got int32 \(4,\), need truth values \(4,\); write same "
        r"> 0 for targets of 1 and -1 or 0, or labels_a == labels_b",
    ),
    "same shape": (
        lambda: ops.contrastive_loss(A, A, jnp.ones((4, 1), bool)),
        ValueError,
        r"contrastive_loss: shapes do not match: got same \(4, 1\) with a and b \(4, 3\), need \(4,\)",
    ),
    "contrastive margin": (
        lambda: ops.contrastive_loss(A, A, YES, margin=-1.0),
        ValueError,
        r"contrastive_loss: bad margin: got -1\.0, need margin >= 0; write margin=1\.0",
    ),
    "positive_margin": (
        lambda: ops.contrastive_loss(A, A, YES, positive_margin=-1.0),
        ValueError,
        r"contrastive_loss: bad positive_margin: got -1\.0, need positive_margin >= 0; write "
        r"positive_margin=0\.0",
    ),
    "contrastive weights": (
        lambda: ops.contrastive_loss(A, A, YES, weights=jnp.ones(3)),
        ValueError,
        r"contrastive_loss: wrong weights: got shape \(3,\), need \(4,\)",
    ),
    "triplet shapes": (
        lambda: ops.triplet_loss(A, A, jnp.zeros((3, 3))),
        ValueError,
        r"triplet_loss: shapes differ: got anchor \(4, 3\) and negative \(3, 3\)",
    ),
    "triplet margin": (
        lambda: ops.triplet_loss(A, A, A, margin=-0.1),
        ValueError,
        r"triplet_loss: bad margin: got -0\.1",
    ),
    "triplet reduction": (
        lambda: ops.triplet_loss(A, A, A, reduction="average"),
        ValueError,
        r"triplet_loss: unknown reduction: got 'average'",
    ),
    "batch hard margin": (
        lambda: ops.batch_hard_triplet_loss(A, Y, margin=-0.1),
        ValueError,
        r"batch_hard_triplet_loss: bad margin: got -0\.1",
    ),
    "one-hot labels": (
        lambda: ops.batch_hard_triplet_loss(A, jax.nn.one_hot(Y, 3)),
        ValueError,
        r"batch_hard_triplet_loss: shapes do not match: got embeddings \(4, 3\) and labels float32 "
        r"\(4, 3\), need embeddings \(N, D\) and labels \(N,\); write .*jnp\.argmax\(labels",
    ),
    "float labels": (
        lambda: ops.semi_hard_triplet_loss(A, jnp.zeros(4)),
        TypeError,
        r"semi_hard_triplet_loss: labels are not integers: got .* labels float32 \(4,\), need class "
        r"indices or any other integer per class; write labels\.astype\(jnp\.int32\)",
    ),
    "rank of embeddings": (
        lambda: ops.histogram_loss(jnp.zeros((4, 2, 3)), Y),
        ValueError,
        r"histogram_loss: shapes do not match: .*embeddings\.reshape\(len\(embeddings\), -1\)",
    ),
    "integer embeddings": (
        lambda: ops.histogram_loss(jnp.zeros((4, 3), jnp.int32), Y),
        TypeError,
        r"histogram_loss: embeddings is not floating point: got int32",
    ),
    "bins": (
        lambda: ops.histogram_loss(A, Y, bins=1),
        ValueError,
        r"histogram_loss: bad bins: got 1, need an integer >= 2; write bins=101",
    ),
    "truth value for bins": (
        lambda: ops.histogram_loss(A, Y, bins=True),
        ValueError,
        r"histogram_loss: bad bins: got True, need an integer >= 2; write bins=101",
    ),
    "truth value for num_classes": (
        lambda: ops.lda_loss(A, Y, True),
        ValueError,
        r"lda_loss: bad num_classes: got True, need an integer >= 1",
    ),
    "num_classes": (
        lambda: ops.lda_loss(A, Y, 0),
        ValueError,
        r"lda_loss: bad num_classes: got 0, need an integer >= 1; write num_classes=10",
    ),
    "regularization": (
        lambda: ops.lda_loss(A, Y, 2, regularization=0.0),
        ValueError,
        r"lda_loss: bad regularization: got 0\.0, need regularization > 0; write regularization=0",
    ),
    "epsilon": (
        lambda: ops.lda_loss(A, Y, 2, epsilon=0.0),
        ValueError,
        r"lda_loss: bad epsilon: got 0\.0, need epsilon > 0; write epsilon=1\.0",
    ),
    "no dimension": (
        lambda: ops.lda_loss(jnp.zeros((4, 0)), Y, 2),
        ValueError,
        r"lda_loss: no axis of the embedding: got \(4, 0\), need D >= 1; add one",
    ),
}


@pytest.mark.parametrize("call, kind, message", ERRORS.values(), ids=ERRORS.keys())
def test_embedding_losses_say_what_to_write_instead(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
