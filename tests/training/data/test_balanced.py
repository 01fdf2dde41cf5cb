"""Balanced batches: as many examples of each class, every example of a class as often."""

from collections import Counter

import numpy as np
import pytest

import convax
from convax.training.config.errors import ConfigError
from convax.training.config.schema import load_config
from convax.training.data import Dataset, Split, balanced, batch_indices, unsplit
from convax.training.loop.signals import InterruptedRun
from tests.tiny import write_tiny
from tests.training.loop.test_loop import Recorder, final_bytes

RARE = np.repeat([0, 2, 3], [200, 30, 1])  # of class 1 there are none


def drawn(steps, seed=0, batch_size=8):
    keywords = {"size": len(RARE), "batch_size": batch_size, "seed": seed, "classes": RARE}
    return [batch_indices(step, **keywords) for step in range(steps)]


def test_every_class_comes_as_often_and_so_do_its_examples():
    batches = drawn(75)  # 600 examples, 200 of each class
    assert Counter(RARE[np.concatenate(batches)].tolist()) == {0: 200, 2: 200, 3: 200}
    for batch in batches:
        assert min(Counter(RARE[batch].tolist()).values()) >= 2
    times = Counter(np.concatenate(batches).tolist())
    assert {times[i] for i in range(200)} == {1}
    assert {times[i] for i in range(200, 230)} == {6, 7}
    assert times[230] == 200


def test_it_is_a_function_of_seed_and_step():
    first, again, other = drawn(20), drawn(20), drawn(20, seed=1)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    sizes = [np.concatenate(drawn(steps, batch_size=size)) for steps, size in ((20, 8), (8, 20))]
    np.testing.assert_array_equal(*sizes)  # batches are cut from one stream


def test_a_far_step_is_fast():
    assert (
        RARE[batch_indices(10**8, size=231, batch_size=6, seed=0, classes=RARE)].tolist().count(3)
        == 2
    )


def test_labels_that_nobody_can_change_are_hashed_once(monkeypatch):
    fixed = RARE.copy()
    fixed.setflags(write=False)
    how = {"size": len(RARE), "batch_size": 6, "seed": 0}
    expected = [batch_indices(t, **how, classes=RARE).tolist() for t in range(3)]
    calls, members = [], balanced._members
    monkeypatch.setattr(balanced, "_members", lambda *of: calls.append(of) or members(*of))
    assert [batch_indices(t, **how, classes=fixed).tolist() for t in range(3)] == expected
    assert len(calls) == 1


def imbalanced():
    """200 squares that are dark, and of 1 in 20 that is not as dark."""
    rng = np.random.default_rng(0)
    labels = (np.arange(420) % 21 == 0).astype(int)
    images = rng.integers(0, 90, (420, 6, 6, 1)) + 40 * labels[:, None, None, None]
    held = slice(300, None)
    made = unsplit(images[:300].astype(np.uint8), labels[:300], ("common", "rare"))
    return Dataset(
        made.train,
        made.validation,
        Split(images[held].astype(np.uint8), labels[held].astype(np.int32)),
        made.classes,
    )


@pytest.mark.slow
def test_a_rare_class_is_learned_and_a_killed_run_ends_with_the_same_bytes(tmp_path):
    short = ["training.steps=25", "data.validation=0", "optimizer.learning_rate=0.003"]
    balanced = load_config(write_tiny(tmp_path), [*short, "training.sampling=balanced"])
    data = imbalanced()
    whole = convax.train(balanced, tmp_path / "whole", data=data)
    with pytest.raises(InterruptedRun):
        convax.train(balanced, tmp_path / "run", data=data, display=Recorder(12))
    assert final_bytes(convax.resume(tmp_path / "run", data=data)) == final_bytes(whole)
    plain = convax.train(load_config(tmp_path / "tiny.toml", short), tmp_path / "plain", data=data)
    weighty = load_config(tmp_path / "tiny.toml", [*short, "training.class_weights=balanced"])
    weighty = convax.train(weighty, tmp_path / "weighty", data=data)
    figures = [run.info()["result"]["test"]["balanced_accuracy"] for run in (whole, plain, weighty)]
    assert figures[0] > figures[1] + 0.2
    assert figures[2] > figures[1] + 0.2


def test_it_is_for_one_class_an_image():
    with pytest.raises(ConfigError, match=r'sampling = "balanced" is for one class an image, got'):
        load_config("unet-pennfudan", ["training.sampling=balanced"])
    with pytest.raises(ConfigError, match=r'"alternating" counts epochs, which training\.sampling'):
        load_config("lenet5-digits", ["training.sampling=balanced", "augment.flip=alternating"])
