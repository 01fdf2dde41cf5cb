"""What hides or mixes: where, how much, and what becomes of the targets."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import beta

from convax import ops
from convax.training.config.augment import Cutmix, Mixup
from convax.training.data import IGNORED
from convax.training.data.augment.cutout import cutout
from convax.training.data.augment.mixup import mix, mixed_targets, symmetric_beta
from convax.training.tasks.classification.losses import one_hot_mse
from convax.training.tasks.classification.task import accuracy

KEY = jax.random.key(0)
N, H, W = 400, 8, 10


@pytest.fixture
def numbered():
    """Each image is its own number everywhere, from 1."""
    return jnp.ones((N, H, W, 1)) * jnp.arange(1.0, N + 1)[:, None, None, None]


def test_cutout_erases_a_square_anywhere(numbered):
    masks = jnp.ones((N, H, W), jnp.uint8)
    cut, cut_masks = cutout(KEY, numbered, masks, size=4)
    hidden = np.asarray(cut)[..., 0] == 0
    np.testing.assert_array_equal(np.asarray(cut_masks) == IGNORED, hidden)
    np.testing.assert_array_equal(np.asarray(cut)[~hidden], np.asarray(numbered)[~hidden])
    corners = set()
    for h in hidden:
        rows, columns = np.flatnonzero(h.any(axis=1)), np.flatnonzero(h.any(axis=0))
        assert h[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert 2 <= len(rows) <= 4 and 2 <= len(columns) <= 4
        # Whole, or at an edge of the image.
        assert len(rows) == 4 or rows[0] == 0 or rows[-1] == H - 1
        assert len(columns) == 4 or columns[0] == 0 or columns[-1] == W - 1
        corners.add((rows[0], rows[-1], columns[0], columns[-1]))
    assert len(corners) > 0.9 * H * W  # each pixel is the middle of one


def test_mixup_is_a_weighted_mean_with_the_image_before(numbered):
    mixed, _, share = mix(KEY, numbered, None, mixup=Mixup(alpha=0.4), cutmix=None)
    share, own = np.asarray(share, np.float64), np.arange(1.0, N + 1)
    expected = share * own + (1 - share) * np.roll(own, 1)
    np.testing.assert_allclose(mixed[:, 3, 4, 0], expected, rtol=1e-5)
    np.testing.assert_array_equal(mixed, mixed[:, :1, :1].repeat(H, 1).repeat(W, 2))
    assert abs(share.mean() - 0.5) < 0.08
    # The variance of Beta(a, a) is 1 / (8 a + 4).
    assert abs(share.var() - 1 / (8 * 0.4 + 4)) < 0.02


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.5, 1.0, 8.0])
def test_mixup_shares_follow_a_beta_distribution(alpha):
    drawn = np.asarray(symmetric_beta(KEY, alpha, 20_000), np.float64)
    assert (drawn >= 0).all() and (drawn <= 1).all()
    assert abs(drawn.mean() - 0.5) < 0.02
    for quantile in np.quantile(drawn, [0.3, 0.4, 0.45, 0.6, 0.75]):
        # Near 0 and 1, where float32 is coarse, the distribution of a small alpha is steep.
        share = beta.cdf(quantile, alpha, alpha)
        assert abs((drawn <= quantile).mean() - share) < 0.02 or quantile in (0.0, 1.0)


def test_cutmix_takes_a_box_of_the_image_before(numbered):
    masks = (jnp.arange(N) % 200).astype(jnp.uint8)[:, None, None].repeat(H, 1).repeat(W, 2)
    cut, cut_masks, share = mix(
        KEY, numbered, masks, mixup=None, cutmix=Cutmix(alpha=1.0, probability=0.75)
    )
    values, own = np.asarray(cut)[..., 0], np.arange(1.0, N + 1)
    other = np.roll(own, 1)
    inside = values == other[:, None, None]
    assert (inside | (values == own[:, None, None])).all()
    np.testing.assert_allclose(share, 1 - inside.mean(axis=(1, 2)), atol=1e-6)
    np.testing.assert_array_equal(cut_masks, (values - 1) % 200)
    for box in inside:
        rows, columns = np.flatnonzero(box.any(axis=1)), np.flatnonzero(box.any(axis=0))
        assert box.sum() == len(rows) * len(columns)
    share = np.asarray(share)
    # A quarter was passed over; of some of the others the box has no pixel.
    assert 0.2 < (share == 1).mean() < 0.5 and share.min() < 0.4


def test_images_that_cutmix_passes_over_are_mixed_up(numbered):
    mixed, _, share = mix(
        KEY, numbered, None, mixup=Mixup(alpha=1.0), cutmix=Cutmix(alpha=1.0, probability=0.5)
    )
    values, own = np.asarray(mixed)[..., 0], np.arange(1.0, N + 1)
    even = (values == values[:, :1, :1]).all(axis=(1, 2))
    whole = values[:, 0, 0] == own
    mixed_up = even & ~whole
    assert 0.35 < mixed_up.mean() < 0.65
    expected = np.asarray(share) * own + (1 - np.asarray(share)) * np.roll(own, 1)
    np.testing.assert_allclose(values.mean(axis=(1, 2)), expected, rtol=1e-4)


def test_mixed_targets_are_shares_that_losses_and_accuracy_take():
    labels, share = jnp.array([0, 1, 1]), jnp.array([0.75, 1.0, 0.25])
    q = mixed_targets(labels, share, 3)
    by_hand = [[0.75, 0.25, 0], [0, 1, 0], [0, 1, 0]]
    np.testing.assert_allclose(q, by_hand)
    logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.5, 1.0], [-1.0, 3.0, 0.0]])
    log_p = np.asarray(jax.nn.log_softmax(logits))
    smooth = 0.9 * np.array(by_hand) + 0.1 / 3
    entropy = partial(ops.softmax_cross_entropy, label_smoothing=0.1, reduction="none")
    np.testing.assert_allclose(entropy(logits, q), -(smooth * log_p).sum(axis=1), rtol=1e-5)
    squares = one_hot_mse
    np.testing.assert_allclose(squares(logits, q), ((logits - q) ** 2).mean(axis=1), rtol=1e-5)
    hard = jnp.array([0, 1, 1])
    np.testing.assert_allclose(squares(logits, hard), squares(logits, jax.nn.one_hot(hard, 3)))
    # Right where the largest logit is of the most probable class: the first and the last.
    assert float(accuracy(logits, q)["accuracy"]) == pytest.approx(2 / 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda key, x: cutout(key, x, None, size=3)[0],
        lambda key, x: mix(
            key, x, None, mixup=Mixup(alpha=0.3), cutmix=Cutmix(alpha=2.0, probability=0.5)
        )[0],
    ],
    ids=["cutout", "mix"],
)
def test_mix_is_a_function_of_its_key_and_keeps_the_dtype(change, numbered):
    x = numbered[:5]
    first = change(KEY, x)
    np.testing.assert_allclose(jax.jit(change)(KEY, x), first, rtol=1e-6)
    keys = jax.random.split(KEY, 3)
    for one, key in zip(jax.vmap(lambda k: change(k, x))(keys), keys, strict=True):
        np.testing.assert_allclose(one, change(key, x), rtol=1e-5)
    assert (np.asarray(change(jax.random.key(1), x)) != np.asarray(first)).any()
    assert change(KEY, x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
