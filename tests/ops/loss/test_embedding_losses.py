"""Losses of embeddings beyond the proof: by hand, ties, masks, batches that lack something, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from convax import ops

X = jnp.array([[0.1, 2.0], [1.2, -0.3], [0.4, 0.9], [-1.0, 0.2], [0.3, -1.5], [2.0, 1.0]])
LABELS = jnp.array([0, 1, 0, 1, 2, 2])
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
SAME = jnp.array([True, False, True, False, False, True])
W = jnp.array([[1.0, 0.3, -0.5], [-0.2, 2.0, 0.4]])
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
    "triplet": lambda x, **o: ops.triplet_loss(x, X[::-1], X[::-1] + 0.5, **o),
    "triplet, squared": lambda x, **o: ops.triplet_loss(
        x, X[::-1], X[::-1] + 0.5, squared=True, **o
    ),
}


def finite(tree):
    return all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(tree))


# --------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * n.endswith("squared")) for n in OF_A_BATCH],
)
def test_weight_zero_takes_an_example_out_of_all_roles(name):
    """Whatever it holds: its label may even be no class."""
    f = OF_A_BATCH[name]
    x, labels = X.at[1].set(jnp.array([jnp.nan, jnp.inf])), LABELS.at[1].set(99)
    others = jnp.array([0, 2, 3, 4, 5])
    alone = lambda x: f(x, LABELS[others])  # noqa: E731
    expected, wanted = jax.jit(jax.value_and_grad(alone))(X[others])
    for keep in (jnp.arange(6) != 1, (jnp.arange(6) != 1).astype(jnp.float32)):
        loss = lambda x, keep=keep: f(x, labels, weights=keep)  # noqa: E731
        value, gradient = jax.jit(jax.value_and_grad(loss))(x)
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        np.testing.assert_allclose(gradient[others], wanted, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(gradient[1], 0)
    assert finite(jax.jit(jax.hessian(loss))(x))
    assert finite(jax.jit(jax.grad(lambda w: f(x, labels, weights=w)))(keep))


@pytest.mark.parametrize("name", OF_PAIRS)
def test_weight_zero_takes_a_pair_out(name):
    f, x, keep = OF_PAIRS[name], X.at[1].set(jnp.nan), jnp.arange(6) != 1
    others = jnp.array([0, 2, 3, 4, 5])
    value, gradient = jax.value_and_grad(lambda x: f(x, weights=keep))(x)
    np.testing.assert_allclose(value, f(X, reduction="none")[others].mean(), rtol=1e-6)
    np.testing.assert_array_equal(gradient[1], 0)
    assert finite(gradient)
    assert finite(jax.jit(jax.hessian(lambda x: f(x, weights=keep)))(x))


@pytest.mark.parametrize("name", OF_A_BATCH | OF_PAIRS)
def test_what_is_not_masked_is_not_hidden(name):
    x = X.at[1].set(jnp.nan)
    assert np.isnan(OF_PAIRS[name](x) if name in OF_PAIRS else OF_A_BATCH[name](x, LABELS))


LACKING = {
    "negatives": (X, jnp.zeros(6, jnp.int32), None),
    "positives": (X[:3], jnp.array([0, 1, 2]), None),
    "others": (X[:1], jnp.array([0]), None),
    "examples": (X[:0], LABELS[:0], None),
    "weight": (X, LABELS, jnp.zeros(6)),
}


@pytest.mark.parametrize("name", OF_A_BATCH)
@pytest.mark.parametrize("what", LACKING)
def test_batches_without_pairs_or_triplets(name, what):
    """Loss and gradient are 0; LDA does without positives."""
    x, labels, weights = LACKING[what]
    f = lambda x: OF_A_BATCH[name](x, labels, weights=weights)  # noqa: E731
    value, gradient = jax.jit(jax.value_and_grad(f))(x)
    if name == "lda_loss" and what == "positives":
        assert value < 0 and finite(gradient)
    else:
        assert value == 0
        np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("name", OF_A_BATCH | OF_PAIRS)
def test_degenerate_embeddings(name):
    """Finite derivatives where distances, lengths and scatter vanish or are huge."""
    f = OF_PAIRS[name] if name in OF_PAIRS else lambda x: OF_A_BATCH[name](x, LABELS)
    all_of = jax.jit(lambda x: (f(x), jax.grad(f)(x), jax.hessian(f)(x)))
    pairs = X.at[0].set(X[2]).at[1].set(X[4])
    for x in (jnp.ones_like(X), jnp.zeros_like(X), 1e4 * X, pairs):
        assert finite(all_of(x))


@pytest.mark.parametrize("name", OF_A_BATCH | OF_PAIRS)
def test_losses_are_at_least_float32(name):
    f = OF_PAIRS.get(name) or (lambda x: OF_A_BATCH[name](x, LABELS))
    for dtype in (jnp.bfloat16, jnp.float16) if name in OF_A_BATCH else ():
        value, gradient = jax.jit(jax.value_and_grad(f))(X.astype(dtype))
        assert (value.dtype, gradient.dtype) == (jnp.float32, dtype)
    assert f(X).dtype == jnp.float32


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
    both = jax.jit(jax.value_and_grad(f))(X, value)
    for a, b in zip(both, jax.value_and_grad(f)(X, value), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert finite(jax.jit(jax.hessian(f))(X, value))
    assert finite(jax.jit(jax.grad(f, 1))(X, value))
    assert finite(jax.grad(jax.jit(f))(X, value))


@pytest.mark.parametrize("f, value", HYPER.values(), ids=HYPER)
def test_hyper_parameters_do_not_change_the_dtype(f, value):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        x = jnp.asarray(np.asarray(X))
        for scalar in (np.float32, np.float64, jnp.float64):
            given = scalar(value)
            for g in (f, jax.jit(f), lambda x, v: jax.jit(lambda x: f(x, v))(x)):
                assert g(x, given).dtype == jnp.float32


def test_counts_may_be_integers_of_numpy():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        x = jnp.asarray(np.asarray(X))
        histogram = ops.histogram_loss(x, LABELS, bins=np.int64(7))
        lda = ops.lda_loss(x, LABELS, np.int64(3))
    assert histogram.dtype == lda.dtype == jnp.float32
    np.testing.assert_allclose(histogram, ops.histogram_loss(X, LABELS, bins=7), rtol=1e-6)
    np.testing.assert_allclose(lda, ops.lda_loss(X, LABELS, 3), rtol=1e-6)


@pytest.mark.parametrize("name", OF_A_BATCH)
def test_embedding_losses_export_with_a_symbolic_batch(name):
    f = jax.value_and_grad(OF_A_BATCH[name])
    (n,) = export.symbolic_shape("n")
    types = jax.ShapeDtypeStruct((n, 2), jnp.float32), jax.ShapeDtypeStruct((n,), jnp.int32)
    exported = export.export(jax.jit(f))(*types)
    for a, b in zip(exported.call(X, LABELS), f(X, LABELS), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


# --------------------------------------------------------------------------- pairs and triplets


def test_contrastive_by_hand():
    a, b = jnp.zeros((4, 2)), jnp.array([[3.0, 4.0]] * 4)  # D = 5, d = 25
    same = jnp.array([True, False, True, False])
    f = lambda **o: ops.contrastive_loss(a, b, same, reduction="none", **o)  # noqa: E731
    np.testing.assert_allclose(f(margin=7.0), [12.5, 2, 12.5, 2])
    np.testing.assert_allclose(f(margin=4.0, positive_margin=3.0), [2, 0, 2, 0])
    np.testing.assert_allclose(f(margin=26.0, positive_margin=1.0, squared=True), [12, 0.5] * 2)
    gradient = jax.grad(lambda a: ops.contrastive_loss(a, b, same, margin=7.0, reduction="sum"))(a)
    np.testing.assert_allclose(gradient, [[-3, -4], [6 / 5, 8 / 5]] * 2, rtol=1e-6)


@pytest.mark.parametrize("squared", [False, True])
def test_contrastive_kinks(squared):
    """In the same place, and at a margin exactly: no derivative."""
    a, b = jnp.zeros((4, 2)), jnp.array([[0.0, 0.0], [0.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    same = jnp.array([True, False, True, False])
    f = lambda a: ops.contrastive_loss(  # noqa: E731
        a, b, same, margin=1.0, positive_margin=1.0, squared=squared, reduction="sum"
    )
    np.testing.assert_array_equal(jax.grad(f)(a), 0)
    np.testing.assert_array_equal(jax.jacfwd(f)(a), 0)


def test_contrastive_pull_is_smooth_at_zero():
    """Half the squared distance, the Hessian of which is 1, also in the same place."""
    f = lambda a: ops.contrastive_loss(a, jnp.zeros(2), jnp.array(True))  # noqa: E731
    np.testing.assert_array_equal(jax.hessian(f)(jnp.zeros(2)), np.eye(2))


def test_triplet_by_hand():
    a, p, n = jnp.zeros((2, 2)), jnp.array([[3.0, 4.0]] * 2), jnp.array([[0.0, 5.5], [0.0, 6.5]])
    np.testing.assert_allclose(ops.triplet_loss(a, p, n, reduction="none"), [1 + 5 - 5.5, 0])
    squared = ops.triplet_loss(a, p, n, margin=10.0, squared=True, reduction="none")
    np.testing.assert_allclose(squared, [10 + 25 - 30.25, 0])
    gradients = jax.grad(ops.triplet_loss, (0, 1, 2))(a[:1], p[:1], n[:1])
    np.testing.assert_allclose(gradients[1], [[0.6, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(gradients[2], [[0, -1]], rtol=1e-6)
    np.testing.assert_allclose(gradients[0], [[-0.6, 0.2]], rtol=1e-6)


def test_triplet_kinks():
    """Positive and anchor in one place; the margin reached exactly."""
    a, p, n = jnp.zeros(2), jnp.zeros(2), jnp.array([0.0, 0.5])
    gradients = jax.grad(ops.triplet_loss, (0, 1, 2))(a, p, n)
    np.testing.assert_allclose(gradients, [[0, 1], [0, 0], [0, -1]])
    for gradient in jax.grad(ops.triplet_loss, (0, 1, 2))(a, p, jnp.array([0.0, 1.0])):
        np.testing.assert_array_equal(gradient, 0)


# -------------------------------------------------------------------------------------- mining


def test_batch_hard_by_hand():
    """On a line; the last is the only one of its class, so it is no anchor."""
    x, labels = jnp.array([[0.0], [1.0], [3.0], [3.5]]), jnp.array([0, 0, 0, 1])
    each = ops.batch_hard_triplet_loss(x, labels, reduction="none")
    np.testing.assert_allclose(each, [1 + 3 - 3.5, 1 + 2 - 2.5, 1 + 3 - 0.5, 0])
    np.testing.assert_allclose(ops.batch_hard_triplet_loss(x, labels), (0.5 + 0.5 + 3.5) / 3)
    weights = jnp.array([1.0, 2.0, 1.0, 5.0])
    weighted = ops.batch_hard_triplet_loss(x, labels, weights=weights)
    np.testing.assert_allclose(weighted, (0.5 + 2 * 0.5 + 3.5) / 4)


def test_semi_hard_by_hand():
    x, labels = jnp.array([[0.0], [1.0], [0.5], [1.5]]), jnp.array([0, 0, 1, 1])
    each = ops.semi_hard_triplet_loss(x, labels, reduction="none")
    expected = np.zeros((4, 4))
    expected[0, 1] = 1 + 1 - 1.5  # beyond the positive at 1
    expected[1, 0] = 1 + 1 - 0.5  # none is beyond: the farthest, of two the first
    expected[2, 3] = 1 + 1 - 0.5
    expected[3, 2] = 1 + 1 - 1.5
    np.testing.assert_allclose(each, expected)
    np.testing.assert_allclose(ops.semi_hard_triplet_loss(x, labels), (0.5 + 1.5 + 1.5 + 0.5) / 4)
    weights = jnp.array([1.0, 2.0, 1.0, 3.0])
    weighted = ops.semi_hard_triplet_loss(x, labels, weights=weights)
    np.testing.assert_allclose(weighted, (2 * (0.5 + 1.5) + 3 * (1.5 + 0.5)) / (2 * 2 + 2 * 3))


def test_a_negative_as_far_as_the_positive_is_not_beyond():
    x, labels = jnp.array([[0.0], [1.0], [-1.0], [2.0]]), jnp.array([0, 0, 1, 1])
    assert ops.semi_hard_triplet_loss(x, labels, reduction="none")[0, 1] == 1 + 1 - 2


@pytest.mark.parametrize("f", [ops.batch_hard_triplet_loss, ops.semi_hard_triplet_loss])
def test_ties_go_to_the_first(f):
    """Two negatives at a distance of 1 each: the second feels nothing."""
    x, labels = jnp.array([[0.0], [0.5], [-1.0], [1.0]]), jnp.array([0, 0, 1, 2])
    pick = lambda x: f(x, labels, reduction="none").reshape(4, -1)[0].sum()  # noqa: E731
    np.testing.assert_allclose(jax.grad(pick)(x)[2:], [[1], [0]])
    swapped = jnp.array([0, 1, 3, 2])
    gradient = jax.grad(lambda x: f(x, labels[swapped], reduction="none").reshape(4, -1)[0].sum())
    np.testing.assert_allclose(gradient(x[swapped])[2:], [[-1], [0]])


def test_distances_of_close_embeddings_are_exact():
    """Far from the origin, where |a|^2 + |b|^2 - 2 ab would have no digit left."""
    x = jnp.array([[1000.0, 0.0], [1000.0, 0.001953125], [1001.0, 0.0]])
    each = ops.batch_hard_triplet_loss(x, jnp.array([0, 0, 1]), reduction="none")
    np.testing.assert_allclose(each[0], 0.001953125, rtol=1e-6)
    gradient = jax.grad(lambda x: ops.batch_hard_triplet_loss(x, jnp.array([0, 0, 1])))(x)
    # Twice away from the positive, once towards the negative, which is 512 times as far.
    np.testing.assert_allclose(gradient[1], [0.5, 1 - 0.5 / 512], rtol=1e-4)


# ----------------------------------------------------------------------------------- histogram


def test_histogram_by_hand():
    """Similarities cos of 0, 60 and 90 degrees with three nodes, -1, 0 and 1."""
    half = np.sqrt(3) / 2
    x = jnp.array([[2.0, 0.0], [0.5, half], [0.0, 1.0]])
    # Of one class: (0, 1), s = 1/2, half at 0, half at 1. Of two: (0, 2), s = 0, all at node 0;
    # (1, 2), s = sqrt(3) / 2, that much at node 1 and the rest at node 0.
    apart = np.array([0, (1 + 1 - half) / 2, half / 2])
    expected = apart @ np.cumsum([0, 0.5, 0.5])
    actual = ops.histogram_loss(x, jnp.array([0, 0, 1]), bins=3)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    weighted = ops.histogram_loss(x, jnp.array([0, 0, 1]), bins=3, weights=jnp.array([1.0, 3, 2]))
    apart = np.array([0, (2 * 1 + 6 * (1 - half)) / 8, 6 * half / 8])
    np.testing.assert_allclose(weighted, apart @ np.cumsum([0, 0.5, 0.5]), rtol=1e-6)


def test_histogram_is_flat_at_a_node():
    """Similarities of 0 and -1 are nodes of three: no derivative, as there is beside them."""
    labels = jnp.array([0, 0, 1])
    gradient = jax.jit(jax.grad(lambda x: ops.histogram_loss(x, labels, bins=3)))
    np.testing.assert_array_equal(gradient(jnp.array([[1.0, 0], [0, 1], [-1, 0]])), 0)
    assert np.any(gradient(jnp.array([[1.0, 0], [0.1, 1], [-1, 0]])) != 0)


@pytest.mark.parametrize("size", [1e20, 1e-23])
def test_histogram_of_any_length(size):
    f = jax.jit(jax.value_and_grad(lambda x: ops.histogram_loss(x, LABELS, bins=7)))
    value, gradient = f(jnp.float32(size) * X)
    expected, wanted = f(X)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient * size, wanted, rtol=1e-4, atol=1e-6)


# ------------------------------------------------------------------------------- angular margin

PLANE = jnp.array([[1.0, 0.0], [0.0, 2.0]])  # two classes, at a right angle


def at(degrees):
    """Return a vector at an angle from the direction of class 0."""
    angle = np.deg2rad(degrees)
    return 3 * jnp.array([[np.cos(angle), np.sin(angle)]], jnp.float32)


@pytest.mark.parametrize("degrees", [0, 30, 60, 110])
def test_the_margin_of_arcface_is_added_to_the_angle(degrees):
    """Of 60 degrees; the other class stays where it is."""
    loss = ops.arcface_loss(at(degrees), PLANE, jnp.array([0]), scale=2.0, margin=np.pi / 3)
    own, other = np.cos(np.deg2rad(degrees + 60)), np.sin(np.deg2rad(degrees))
    np.testing.assert_allclose(loss, np.log1p(np.exp(2 * (other - own))), rtol=1e-5)


def test_the_margin_of_cosface_is_taken_from_the_cosine():
    loss = ops.cosface_loss(at(60), PLANE, jnp.array([0]), scale=2.0, margin=0.25)
    np.testing.assert_allclose(loss, np.log1p(np.exp(2 * (np.sqrt(0.75) - 0.25))), rtol=1e-5)


def test_arcface_grows_with_the_angle_all_the_way():
    """The bare cosine of angle and margin falls again, past 180 degrees."""
    angles = jnp.linspace(0, np.pi, 50)
    x = jnp.stack([jnp.cos(angles), jnp.sin(angles), 0 * angles], axis=1)
    W, labels = jnp.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]), jnp.zeros(50, jnp.int32)
    loss = ops.arcface_loss(x, W, labels, scale=1.0, margin=1.0, reduction="none")
    assert np.all(np.diff(loss) > 0)


def test_a_label_that_is_no_class_of_the_kernel_is_nan():
    labels = jnp.array([0, 2])
    x = jnp.concatenate([at(10), at(20)])
    loss = ops.arcface_loss(x, PLANE, labels, reduction="none")
    assert np.isfinite(loss[0]) and np.isnan(loss[1])


# ----------------------------------------------------------------------------------------- LDA


def test_lda_by_hand():
    """Two classes on a line: S_b = 4, S_w = 1, so v = 4 / (1 + lambda)."""
    x, y = jnp.array([[-3.0], [-1.0], [1.0], [3.0]]), jnp.array([0, 0, 1, 1])
    f = lambda x: ops.lda_loss(x, y, 2, regularization=1.0)  # noqa: E731
    np.testing.assert_allclose(f(x), -2, rtol=1e-6)
    # e = 1 / sqrt(2): -dv/dx = -2 / 4 * [(m_c - m) - v (x - m_c)] / 2
    expected = -np.array([[-2 + 2], [-2 - 2], [2 + 2], [2 - 2]]) / 4
    np.testing.assert_allclose(jax.grad(f)(x), expected, atol=1e-6)


def test_lda_raises_only_the_smallest():
    """Separated by 4 along one axis and by 1 along the other."""
    x = jnp.array([[0.0, 0], [2, 0], [0, 4], [2, 4], [5, 2], [7, 2]])
    y = jnp.array([0, 0, 1, 1, 2, 2])
    both = ops.lda_loss(x, y, 3, regularization=1.0, epsilon=100.0)
    least = ops.lda_loss(x, y, 3, regularization=1.0, epsilon=0.1)
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
        x = jnp.asarray(np.pad(x, ((0, 0), (0, D - 2))))
        labels = jnp.asarray([0, 1, 2] * 4)
        f = jax.jit(lambda x: ops.lda_loss(x, labels, K, epsilon=100.0, regularization=0.5))
        dx = jnp.asarray(np.random.default_rng(0).standard_normal(x.shape))
        gradient = jax.jit(jax.grad(f))
        slope = (f(x + 1e-6 * dx) - f(x - 1e-6 * dx)) / 2e-6
        np.testing.assert_allclose(jnp.sum(gradient(x) * dx), slope, rtol=1e-6, atol=1e-8)
        change = (gradient(x + 1e-5 * dx) - gradient(x - 1e-5 * dx)) / 2e-5
        by_hessian = jnp.einsum("abcd,cd->ab", jax.jit(jax.hessian(f))(x), dx)
        np.testing.assert_allclose(by_hessian, change, rtol=1e-4, atol=1e-7)


def test_lda_labels_out_of_range():
    """NaN, which is loud; unless their weight is zero."""
    labels = LABELS.at[0].set(3)
    assert np.isnan(ops.lda_loss(X, labels, 3))
    assert np.isfinite(ops.lda_loss(X, labels, 3, weights=jnp.arange(6) > 0))


# -------------------------------------------------------------------------------------- errors

A, Y = jnp.zeros((4, 3)), jnp.zeros(4, jnp.int32)
YES = jnp.ones(4, bool)
ERRORS = {
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
        r"!= 0, or labels_a == labels_b",
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
