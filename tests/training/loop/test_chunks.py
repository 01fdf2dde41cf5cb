"""Chunks: the same steps however they are divided into calls, cut where the loop has to look."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import model, ops
from convax.training.config.schema import load_config
from convax.training.data import Split, batch_indices
from convax.training.loop.chunks import BYTES, SECONDS, ChunkSizer, chunks, most_steps, windows
from convax.training.optim.optimizer import adam
from convax.training.step.train_step import (
    StepSpec,
    init_train_state,
    make_train_step,
    make_train_steps,
)

K, N = 4, 8
CONV = {"type": "conv", "features": 8, "window": 3}
DENSE = [{"type": "flatten"}, {"type": "dense", "features": 3}]
NETS = {
    "LeNet-5": ((32, 32, 1), lambda: model.lenet5(3, activation="relu", pool="max")),
    "batch norm": (
        (12, 12, 3),
        lambda: model.from_layers(
            [
                CONV,
                {"type": "batch_norm"},
                {"type": "relu"},
                {"type": "max_pool", "window": 2},
                *DENSE,
            ]
        ),
    ),
    "dropout": (
        (12, 12, 3),
        lambda: model.from_layers(
            [
                CONV,
                {"type": "relu"},
                {"type": "flatten"},
                {"type": "dropout", "rate": 0.5},
                DENSE[1],
            ]
        ),
    ),
    "group norm": (
        (12, 12, 3),
        lambda: model.from_layers(
            [CONV | {"stride": 2}, {"type": "group_norm", "groups": 4}, {"type": "gelu"}, *DENSE]
        ),
    ),
}


def bytes_of(tree):
    """Every leaf, keys too."""
    leaves = jax.tree.leaves(tree)
    is_key = [jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    plain = [jax.random.key_data(x) if key else x for x, key in zip(leaves, is_key, strict=True)]
    return [np.asarray(leaf).tobytes() for leaf in plain]


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_train_steps_are_bit_identical_for_any_division_into_calls(name, rng):
    """One program for four steps in a call, three and one, or one at a time; and K as it likes."""
    shape, make = NETS[name]
    net, optimizer = make(), adam(1e-2)
    loss = partial(ops.softmax_cross_entropy, label_smoothing=0.1, reduction="none")
    recipe = StepSpec(net, loss, optimizer, lambda x: x.astype(jnp.float32) / 255)
    train_step, train_steps = make_train_step(recipe), make_train_steps(recipe)
    params, state = model.init_classifier(net, jax.random.key(0), (1, *shape), 3)
    images = rng.integers(0, 256, (K, N, *shape)).astype(np.uint8)
    labels = rng.integers(0, 3, (K, N)).astype(np.int32)

    def start():
        own = jax.tree.map(jnp.array, (params, state))
        return init_train_state(*own, optimizer, jax.random.key(1))

    def go(counts, room=K):
        train_state, rows, first = start(), [], 0
        for count in counts:
            batches = [np.zeros((room, *part.shape[1:]), part.dtype) for part in (images, labels)]
            for batch, part in zip(batches, (images, labels), strict=True):
                batch[:count] = part[first : first + count]
            train_state, metrics = train_steps(train_state, *batches, np.int32(count))
            rows += [[m[i] for m in metrics.values()] for i in range(count)]
            assert not any(m[count:].any() for m in metrics.values())
            first += count
        return train_state, rows

    together, rows = go([4])
    for counts, room in (([3, 1], K), ([1, 1, 1, 1], K), ([2, 2], 2), ([4], 9)):
        again = go(counts, room)
        assert bytes_of(again) == bytes_of((together, rows)), (counts, room)
    assert train_steps._cache_size() == 3  # one for each K

    single = start()
    for t in range(K):
        single, metrics = train_step(single, images[t], labels[t])
        np.testing.assert_allclose([*metrics.values()], rows[t], rtol=1e-4, atol=1e-6)
    for one, other in zip(*map(jax.tree.leaves, (single.params, together.params)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_chunk_sizer_follows_clock():
    sizer = ChunkSizer()
    assert sizer.steps == 1
    seen = []
    for _ in range(6):
        sizer.update(sizer.steps, sizer.steps * SECONDS / 10)  # ten steps fit
        seen.append(sizer.steps)
    assert seen == [2, 4, 8, 10, 10, 10]
    sizer.update(10, 20 * SECONDS)  # the machine is busy
    assert sizer.steps == 1
    sizer.update(1, 5.0)  # one step is the least
    assert sizer.steps == 1


@pytest.mark.parametrize(
    ("start", "total", "every", "most", "expected"),
    [
        (0, 8, 4, 100, [(4, True), (8, True)]),
        (0, 9, 4, 3, [(3, False), (4, True), (7, False), (8, True), (9, True)]),
        (5, 9, 4, 3, [(7, False), (8, True), (9, True)]),
        (0, 6, 2.5, 100, [(3, True), (5, True), (6, True)]),
        (6, 6, 4, 3, []),
    ],
    ids=["evaluations", "reports between", "resumed", "short epochs", "nothing left"],
)
def test_windows_end_at_reports_and_evaluations(start, total, every, most, expected):
    assert list(windows(start, total, every=every, most=most)) == expected


@pytest.mark.parametrize("steps", [1, 2, 5, 1000])
def test_chunks_hold_the_batches_of_every_step_once(tiny, steps, rng):
    config = load_config(tiny)
    split = Split(
        rng.integers(0, 256, (110, 6, 6, 1)).astype(np.uint8), np.arange(110, dtype=np.int32)
    )
    sizer = ChunkSizer()
    sizer.steps = steps
    made = list(chunks(split, config, sizer, start=4, total=60, every=20.0))
    position = 4
    for chunk in made:
        assert len(chunk.images) == len(chunk.labels) == config.training.log_every
        for i in range(chunk.steps):
            batch = batch_indices(position, size=110, batch_size=16, seed=config.seed)
            np.testing.assert_array_equal(chunk.images[i], split.images[batch])
            np.testing.assert_array_equal(chunk.labels[i], split.labels[batch])
            position += 1
        assert position == chunk.stop
        assert chunk.steps <= steps
    assert position == 60
    assert [c.stop for c in made if c.evaluated] == [20, 40, 60]
    assert [c.stop for c in made if c.reported] == [7, 14, 20, 27, 34, 40, 47, 54, 60]
    assert all(before.stop < after.stop for before, after in pairwise(made))


def test_chunk_length_is_that_of_sizer_when_gathered(tiny):
    split = Split(np.zeros((110, 6, 6, 1), np.uint8), np.zeros(110, np.int32))
    sizer, counts = ChunkSizer(), []
    for chunk in chunks(split, load_config(tiny), sizer, start=0, total=20, every=20.0):
        counts.append(int(chunk.steps))
        sizer.steps *= 2
    assert counts == [1, 2, 4, 7, 6]


def test_chunks_hold_one_step_with_min_update(tiny):
    config = load_config(tiny, ["early_stopping.min_update=0.1"])
    split = Split(np.zeros((110, 6, 6, 1), np.uint8), np.zeros(110, np.int32))
    sizer = ChunkSizer()
    sizer.steps = 1000
    made = list(chunks(split, config, sizer, start=0, total=20, every=20.0))
    assert [c.stop for c in made] == list(range(1, 21))


def test_most_steps_is_limited_by_log_every_and_bytes(tiny):
    split = Split(np.zeros((1, 64, 64, 3), np.uint8), np.zeros(1, np.int32))
    batch = 16 * 64 * 64 * 3
    assert most_steps(split, load_config(tiny)) == 7  # log_every
    assert most_steps(split, load_config(tiny, ["training.log_every=500"])) == BYTES // batch
    assert most_steps(split, load_config(tiny, ["training.batch_size=100_000"])) == 2
    assert most_steps(split, load_config(tiny, ["training.log_every=1"])) == 2
