"""Augmentation: what moves, where to, and that it is a function of the key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax.training.augment import augment, make_augmentation
from convax.training.config import Augment
from convax.training.data import IGNORED

KEY = jax.random.key(0)
N = 64


@pytest.fixture
def batch():
    """Images that hold their pixels' numbers, from 1, and masks that go with them."""
    image = 1 + np.arange(5 * 6, dtype=np.float32).reshape(5, 6)
    x = np.repeat(image[None, :, :, None], N, axis=0)
    return jnp.asarray(x), jnp.asarray(x[..., 0].astype(np.uint8))


def test_a_flip_turns_half_of_the_images_and_their_masks_with_them(batch):
    x, masks = batch
    flipped, flipped_masks = augment(KEY, x, masks, flip=True, shift=0)
    np.testing.assert_array_equal(flipped[..., 0], flipped_masks)
    turned = [bool((f == o[:, ::-1]).all()) for f, o in zip(flipped, x, strict=True)]
    kept = [bool((f == o).all()) for f, o in zip(flipped, x, strict=True)]
    assert all(a != b for a, b in zip(turned, kept, strict=True))
    assert N / 4 < sum(turned) < 3 * N / 4


def test_a_shift_moves_every_way_and_what_comes_in_does_not_count(batch):
    x, masks = batch
    moved, moved_masks = (np.asarray(a) for a in augment(KEY, x, masks, flip=False, shift=2))
    new = moved[..., 0] == 0
    np.testing.assert_array_equal(moved_masks == IGNORED, new)
    np.testing.assert_array_equal(moved_masks[~new], moved[..., 0][~new])
    padded = np.pad(np.asarray(x[0, :, :, 0]), 2)
    windows = {(i, j): padded[i : i + 5, j : j + 6].tobytes() for i in range(5) for j in range(5)}
    assert {m.tobytes() for m in moved[..., 0]} <= set(windows.values())
    assert len({m.tobytes() for m in moved[..., 0]}) > 15  # of the 25 places


def test_labels_stay_and_the_key_decides(batch):
    x, labels = batch[0], jnp.arange(N, dtype=jnp.int32)
    first, same = augment(KEY, x, labels, flip=True, shift=2)
    np.testing.assert_array_equal(same, labels)
    again = jax.jit(lambda k: augment(k, x, labels, flip=True, shift=2))(KEY)[0]
    np.testing.assert_array_equal(first, again)
    other = augment(jax.random.key(1), x, labels, flip=True, shift=2)[0]
    assert (np.asarray(first) != np.asarray(other)).any()


def test_from_a_config(batch):
    assert make_augmentation(None) is None
    nothing = make_augmentation(Augment(flip=False, shift=0))
    assert nothing is not None
    np.testing.assert_array_equal(nothing(KEY, *batch)[0], batch[0])
