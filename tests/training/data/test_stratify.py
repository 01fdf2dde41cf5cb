"""Stratified splits: each class has its share in each part, and an example to train on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedShuffleSplit

from convax.training.config.schema import load_config
from convax.training.data import SPLITS, Dataset, Split, load, split
from convax.training.data.dataset import _SPLIT_STREAM, _permutation, undivided
from convax.training.data.labels import examples_of_each
from convax.training.experiment import prepare, reopen
from convax.training.experiments.traced_hparams import prepare_members
from convax.training.loop.resume import check_unchanged
from convax.training.run.directory import RunError
from tests.tiny import untrained


def labeled(labels, classes) -> Dataset:
    """A dataset of images that number themselves."""
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None, None]
    return undivided(Split(images, np.asarray(labels)), tuple(map(str, range(classes))))


def counts_of(done):
    parts = (getattr(done, name).labels for name in SPLITS)
    return [np.array(examples_of_each(labels, len(done.classes))) for labels in parts]


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    shares=st.tuples(st.floats(0, 0.4), st.floats(0, 0.4)),
    seed=st.integers(0, 2**32),
)
def test_each_class_has_its_share_and_an_example_to_train_on(sizes, shares, seed):
    labels = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    total = len(labels)
    test, validation = (int(share * total) for share in shares)
    done = split(labeled(labels, len(sizes)), validation=validation, test=test, seed=seed)
    train, held, tested = counts_of(done)
    assert (held.sum(), tested.sum()) == (validation, test)
    numbers = np.concatenate([getattr(done, name).images.ravel() for name in SPLITS])
    assert sorted(numbers) == list(range(total))
    if total - test - validation >= len(sizes):
        assert train.all()
        if min(sizes) >= 4:
            assert (abs(tested - np.array(sizes) * test / total) <= 1).all()


def test_shares_are_those_of_scikit_learn():
    labels = np.repeat(np.arange(4), (100, 61, 30, 9))
    _, theirs = next(StratifiedShuffleSplit(1, test_size=40).split(labels, labels))
    ours = counts_of(split(labeled(labels, 4), validation=0, test=40, seed=0))[2]
    np.testing.assert_array_equal(ours, np.bincount(labels[theirs]))


def test_a_rare_class_stays_in_training():
    labels = np.repeat(np.arange(3), (40, 40, 1))
    for seed in range(5):
        for parts in ((0.3, 0.3), (0, 0.9), (0.9, 0)):
            done = split(labeled(labels, 3), validation=parts[0], test=parts[1], seed=seed)
            assert counts_of(done)[0][2] == 1


def test_the_test_part_does_not_depend_on_the_validation_part():
    data = labeled(np.random.default_rng(0).integers(0, 3, 60), 3)
    first, other = (split(data, validation=v, test=20, seed=1).test for v in (0, 17))
    np.testing.assert_array_equal(first.images, other.images)


def test_without_stratify_the_first_of_the_permutation_are_taken():
    data, order = labeled(np.zeros(50, np.int32), 1), _permutation(3, _SPLIT_STREAM, 50)
    done = split(data, validation=7, test=9, seed=3, stratify=False)
    expected = (order[16:], order[9:16], order[:9])
    for name, numbers in zip(SPLITS, expected, strict=True):
        np.testing.assert_array_equal(getattr(done, name).images.ravel(), numbers)
    same = split(data, validation=7, test=9, seed=3)  # of one class there is nothing to stratify
    np.testing.assert_array_equal(same.test.images, done.test.images)


def test_values_and_trees_are_split_at_random():
    for labels in (np.zeros((20, 2), np.float32), {"a": np.zeros(20, np.int32)}):
        images = np.arange(20, dtype=np.uint8)[:, None, None, None]
        plain, default = (
            split(undivided(Split(images, labels), ("a", "b")), validation=3, test=5, seed=0, **k)
            for k in ({"stratify": False}, {})
        )
        np.testing.assert_array_equal(plain.test.images, default.test.images)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["classes", "mask"])
def test_images_of_several_classes_are_split_by_their_rarest(kind, seed):
    rng = np.random.default_rng(seed)
    of = rng.random((200, 5)) < [0.9, 0.5, 0.2, 0.05, 0.02]
    of[0] = True  # of each class one at least
    labels = of.astype(np.uint8)
    if kind == "mask":  # a pixel for each class; where an image is not of one, it is ignored
        labels = np.where(of, np.arange(5), 255).astype(np.uint8)[:, None]
    done = split(labeled(labels, 5), validation=30, test=50, seed=seed)
    train, _, tested = counts_of(done)
    assert [getattr(done, name).count for name in SPLITS] == [120, 30, 50]
    assert train.all()
    sizes = of.sum(axis=0)
    assert (abs(tested - sizes / 4) <= np.maximum(0.12 * sizes, 1.5)).all(), (tested, sizes / 4)


def test_images_that_are_all_of_the_same_classes_are_split_at_random():
    masks = np.tile(np.array([[0, 1]], np.uint8), (30, 1, 1))
    plain, default = (
        split(labeled(masks, 2), validation=3, test=6, seed=2, stratify=s) for s in (False, True)
    )
    for name in SPLITS:
        np.testing.assert_array_equal(*(getattr(d, name).images for d in (plain, default)))


@pytest.mark.parametrize("stratify", [True, False])
def test_a_study_splits_as_its_runs_would_alone(stratify):
    model = 'model={name="mlp",hidden=[2],activation="relu"}'
    config = load_config("lenet5-digits", [model, f"data.stratify={str(stratify).lower()}"])
    configs = [config.model_copy(update={"seed": seed}) for seed in (0, 1)]
    together = [member.card for member in prepare_members(configs)]
    assert together == [prepare(config).card for config in configs]
    assert together[0].fingerprint != together[1].fingerprint


def test_shipped_data_can_be_split_as_before():
    plain = load("digits", validation=0.1, test=0.2, seed=0, stratify=False)
    default = load("digits", validation=0.1, test=0.2, seed=0)
    assert np.ptp(examples_of_each(default.test.labels, 10)) < 3  # 35 to 37 of 174 to 183
    assert np.ptp(examples_of_each(plain.test.labels, 10)) > 3


@pytest.fixture
def of_before(tmp_path):
    """A run of a convax that had no data.stratify: neither config.toml nor run.json names it."""
    model = 'model={name="mlp",hidden=[2],activation="relu"}'
    config = load_config("lenet5-digits", [model, "data.stratify=false"])
    run, _ = untrained(config, tmp_path / "run")
    file = run.path / "config.toml"
    file.write_text(file.read_text().replace("stratify = false\n", ""))
    provenance = run.info()["provenance"]
    del provenance["config"]["data"]["stratify"]
    run.update_info(provenance=provenance)
    return run


def test_a_run_of_an_unstratified_split_says_what_to_write(of_before):
    remedy = "write stratify = false under [data] in its config.toml"
    with pytest.raises(RunError) as caught:
        reopen(of_before.path)
    assert str(caught.value).startswith(f"{of_before.path}: its data was split without regard")
    assert remedy in str(caught.value)
    experiment = prepare(of_before.config())
    with pytest.raises(RunError) as caught:
        check_unchanged(of_before, experiment, force=False)
    _, first, line, *_ = str(caught.value).splitlines()
    assert remedy in line and first.startswith("  data: ")
    file = of_before.path / "config.toml"
    file.write_text(file.read_text().replace("[data]", "[data]\nstratify = false"))
    _, experiment = reopen(of_before.path)
    assert check_unchanged(of_before, experiment, force=False)


def test_a_run_of_other_data_says_nothing_of_splits(of_before):
    card = of_before.dataset()._replace(fingerprint="of other data")
    of_before.write_dataset(card)
    with pytest.raises(RunError, match="the data has changed since this run began; restore it"):
        reopen(of_before.path)
