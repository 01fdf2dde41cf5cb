"""Splits and batches: every example, exactly once, by the seed alone."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convax.training.data import (
    SPLITS,
    DataError,
    Dataset,
    ImageNote,
    Split,
    batch_indices,
    eval_batches,
    fingerprint,
    split,
)

SEEDS = st.integers(0, 2**64 - 1)


def numbered(count, *, validation=0, test=0):
    """A dataset whose labels number its images, and whose pixels repeat the label."""

    def part(start, n):
        labels = np.arange(start, start + n, dtype=np.int32)
        return Split(np.tile(labels[:, None, None, None], (1, 2, 3, 1)).astype(np.uint8), labels)

    parts = part(0, count), part(count, validation), part(count + validation, test)
    return Dataset(*parts, tuple(map(str, range(count + validation + test))))


def labels_of(dataset):
    return [getattr(dataset, name).labels.tolist() for name in SPLITS]


# split


@pytest.mark.parametrize(
    ("validation", "test", "expected"),
    [
        (2, 3, (15, 2, 3)),
        (0.1, 0.25, (13, 2, 5)),  # 20 * 0.1 = 2, 20 * 0.25 = 5
        (0, 0, (20, 0, 0)),
        (0.0, 4, (16, 0, 4)),
        (0.13, 0, (17, 3, 0)),  # 20 * 0.13 = 2.6, rounded to 3
        (19, 0, (1, 19, 0)),
    ],
)
def test_split_counts_and_partition(validation, test, expected):
    done = split(numbered(20), validation=validation, test=test, seed=0)
    found = labels_of(done)
    assert tuple(map(len, found)) == expected
    assert sorted(chain(*found)) == list(range(20))
    for name in SPLITS:
        images, labels, _ = getattr(done, name)
        assert (images.dtype, labels.dtype) == (np.uint8, np.int32)
        assert images.shape[1:] == (2, 3, 1)
        np.testing.assert_array_equal(images[:, 0, 0, 0], labels)


def test_split_is_a_pure_function_of_the_seed():
    once, again, other = (
        labels_of(split(numbered(50), validation=10, test=10, seed=seed)) for seed in (3, 3, 4)
    )
    assert once == again
    assert once != other


def test_split_draws_at_random_and_not_from_an_end():
    _, validation, test = labels_of(split(numbered(200), validation=50, test=50, seed=0))
    for part in (validation, test):
        assert part != sorted(part)
        assert min(part) < 20 and max(part) >= 180


@pytest.mark.parametrize("validation", [0, 1, 0.5])
def test_the_test_part_does_not_depend_on_the_validation_part(validation):
    expected = labels_of(split(numbered(40), validation=7, test=8, seed=1))[2]
    assert labels_of(split(numbered(40), validation=validation, test=8, seed=1))[2] == expected


def test_split_keeps_the_parts_that_are_there():
    done = split(numbered(10, test=4), validation=3, test=0, seed=0)
    assert tuple(map(len, labels_of(done))) == (7, 3, 4)
    assert labels_of(done)[2] == [10, 11, 12, 13]


def test_the_permutation_is_the_same_on_every_numpy():
    # Part of the contract: a later NumPy must not move images from training to validation.
    assert batch_indices(0, size=8, batch_size=8, seed=0).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]
    done = split(numbered(8), validation=2, test=2, seed=0)
    assert labels_of(done) == [[4, 3, 6, 1], [0, 2], [7, 5]]


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"validation": 10, "test": 0}, r"data\.validation, data\.test: 10 and 0 .* of 10.*fewer"),
        ({"validation": 0.6, "test": 0.4}, r"6 and 4 images are requested of 10.*none to train on"),
        ({"validation": -1, "test": 0}, r"data\.validation: got -1, need a count"),
        ({"validation": 0, "test": 1.0}, r"data\.test: got 1\.0, need a count .* test = 0\.1"),
        ({"validation": float("nan"), "test": 0}, r"data\.validation: got nan"),
        ({"validation": 0.01, "test": 0}, r"data\.validation: 0\.01 of 10 images is none"),
    ],
)
def test_split_rejects_parts_that_do_not_fit(shares, message):
    with pytest.raises(DataError, match=message):
        split(numbered(10), **shares, seed=0)


def test_split_rejects_drawing_a_part_twice():
    with pytest.raises(DataError, match=r"data\.test: .* own \(4 images\).*write test = 0"):
        split(numbered(10, test=4), validation=0, test=0.1, seed=0)
    with pytest.raises(DataError, match=r"data\.validation: .* own \(2 images\)"):
        split(numbered(10, validation=2), validation=1, test=0, seed=0)


# batch_indices


@settings(deadline=None, max_examples=60)
@given(size=st.integers(1, 40), batch_size=st.integers(1, 100), seed=SEEDS)
def test_each_epoch_is_a_permutation(size, batch_size, seed):
    steps = -(-3 * size // batch_size)  # three epochs
    batches = [batch_indices(t, size=size, batch_size=batch_size, seed=seed) for t in range(steps)]
    assert all(batch.shape == (batch_size,) and batch.dtype == np.int64 for batch in batches)
    stream = np.concatenate(batches)
    for epoch in range(3):
        seen = stream[epoch * size : (epoch + 1) * size]
        np.testing.assert_array_equal(np.sort(seen), np.arange(size))


@settings(deadline=None, max_examples=30)
@given(size=st.integers(1, 30), batch_size=st.integers(1, 70), seed=SEEDS, order=st.randoms())
def test_a_batch_does_not_depend_on_what_was_drawn_before(size, batch_size, seed, order):
    def draw(step):
        return batch_indices(step, size=size, batch_size=batch_size, seed=seed).tolist()

    steps = list(range(12))
    in_turn = [draw(step) for step in steps]
    order.shuffle(steps)
    assert {step: draw(step) for step in steps} == dict(enumerate(in_turn))


def test_epochs_and_seeds_have_their_own_permutations():
    drawn = {
        tuple(batch_indices(t, size=20, batch_size=20, seed=seed))
        for t in range(10)
        for seed in (0, 1, 2**64 - 1)
    }
    assert len(drawn) == 30


def test_batch_indices_of_a_far_step_are_fast_and_valid():
    # Step 10**9 of 128 from 60,000: positions 128e9 .. 128e9 + 127, of epoch 2,133,333.
    far = batch_indices(10**9, size=60_000, batch_size=128, seed=0)
    assert len(set(far.tolist())) == 128 and set(far.tolist()) <= set(range(60_000))


def test_a_caller_may_change_the_batch():
    first = batch_indices(0, size=5, batch_size=5, seed=0)
    expected = first.copy()
    first[:] = -1
    np.testing.assert_array_equal(batch_indices(0, size=5, batch_size=5, seed=0), expected)


@pytest.mark.parametrize(("step", "size", "batch_size"), [(-1, 5, 1), (0, 0, 1), (0, 5, 0)])
def test_batch_indices_rejects_wrong_arguments(step, size, batch_size):
    message = rf"batch_indices: .* step {step}, size {size}, batch_size {batch_size}, need"
    with pytest.raises(ValueError, match=message):
        batch_indices(step, size=size, batch_size=batch_size, seed=0)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seeds_out_of_range_are_rejected(seed):
    with pytest.raises(ValueError, match=rf"seed: out of range: got {seed}, need 0 <= seed"):
        batch_indices(0, size=5, batch_size=5, seed=seed)


# eval_batches


@pytest.mark.parametrize(
    ("count", "batch_size", "batches"), [(7, 3, 3), (6, 3, 2), (2, 5, 1), (1, 1, 1), (0, 4, 0)]
)
def test_eval_batches_show_every_example_once(count, batch_size, batches):
    part = numbered(count).train
    drawn = list(eval_batches(part, batch_size))
    assert len(drawn) == batches
    seen = []
    for images, labels, weights in drawn:
        assert images.shape == (batch_size, 2, 3, 1) and images.dtype == np.uint8
        assert labels.shape == weights.shape == (batch_size,)
        assert labels.dtype == np.int32 and weights.dtype == np.float32
        assert set(weights.tolist()) <= {0.0, 1.0}
        np.testing.assert_array_equal(images[:, 0, 0, 0], labels)
        seen += labels[weights == 1].tolist()
    assert seen == list(range(count))


def test_eval_batches_in_another_order():
    order = np.array([2, 0, 3, 1])
    drawn = [labels.tolist() for _, labels, _ in eval_batches(numbered(4).train, 2, order)]
    assert drawn == [[2, 0], [3, 1]]


def test_eval_batches_rejects_empty_batches():
    with pytest.raises(ValueError, match=r"eval_batches: .* got batch_size 0, need at least 1"):
        list(eval_batches(numbered(3).train, 0))


def noted(count):
    """A dataset whose training images have notes, which number them."""
    dataset = numbered(count, test=2)
    notes = tuple(ImageNote(f"{i}.png", i, (2, 3), (1.0, 1.0)) for i in range(count))
    return dataset._replace(train=dataset.train._replace(notes=notes))


def test_the_notes_of_images_go_with_them():
    done = split(noted(12), validation=3, test=0, seed=0)
    for part in (done.train, done.validation):
        assert [note.id for note in part.notes] == part.labels.tolist()
    assert done.test.notes == ()


# fingerprint


def _pixel(d):
    images = d.train.images.copy()
    images[0, 0, 0, 0] ^= 1
    return d._replace(train=d.train._replace(images=images))


CHANGES = {
    "a pixel": _pixel,
    "a label": lambda d: d._replace(train=d.train._replace(labels=d.train.labels[::-1])),
    "a class name": lambda d: d._replace(classes=("zero", *d.classes[1:])),
    "where a name ends": lambda d: d._replace(classes=("0,1", *d.classes[2:])),
    "the shape": lambda d: d._replace(
        train=d.train._replace(images=d.train.images.transpose(0, 2, 1, 3))
    ),
    "the part": lambda d: d._replace(validation=d.test, test=d.validation),
    "a note": lambda d: d._replace(train=noted(6).train),
    "the split": lambda d: split(d, validation=1, test=0, seed=0),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_fingerprint_changes_with(change):
    dataset = numbered(6, test=2)
    assert fingerprint(change(dataset)) != fingerprint(dataset)


def test_fingerprint_looks_at_the_values_alone():
    dataset = numbered(6, test=2)
    images = np.asfortranarray(dataset.train.images)
    same = dataset._replace(train=Split(images, dataset.train.labels.astype(np.int64)))
    assert fingerprint(same) == fingerprint(dataset)
    assert len(fingerprint(dataset)) == 64
