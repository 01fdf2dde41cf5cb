"""Labels, targets, outputs and what an evaluation keeps may be pytrees: a toy task of two."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convax
from convax.training import experiment
from convax.training.config.schema import load_config
from convax.training.data import Split, batch_indices, eval_batches, fingerprint, split
from convax.training.data.dataset import undivided
from convax.training.evaluation import evaluate
from convax.training.experiment import prepare
from convax.training.experiments import traced_hparams
from convax.training.loop.signals import InterruptedRun
from convax.training.tasks.registry import make_task
from tests.tiny import write_tiny
from tests.training.loop.test_loop import Recorder, final_bytes


def both(examples):
    """The class of an image, and beside it how bright the image is."""
    images, labels, _ = examples
    brightness = images.mean(axis=(1, 2, 3)).astype(np.float32)[:, None] / 255
    return Split(images, {"class": labels, "brightness": brightness})


def toy_task(config, classes):
    """Tells the class, and in the same logits' mean the brightness."""
    plain = make_task(config, classes)

    def apart(logits, targets):
        error = jnp.square(logits.mean(axis=-1) - targets["brightness"][:, 0])
        return plain.loss(logits, targets["class"]), error

    def metric_sums(logits, targets, counted, loss):
        del loss
        _, error = apart(logits, targets)
        sums = plain.metric_sums(logits, targets["class"], counted, loss=plain.loss)
        return sums | {"error": jnp.where(counted, error, 0).sum()}

    def metrics(sums, collected, examples):
        labels = examples.labels
        assert collected["mean"].shape == labels["brightness"][:, 0].shape
        return plain.metrics(
            sums, collected["logits"], examples._replace(labels=labels["class"])
        ) | {
            "mse": float(sums["error"]) / int(sums["count"]),
            "again": float(np.square(collected["mean"] - labels["brightness"][:, 0]).mean()),
        }

    return plain._replace(
        loss=lambda logits, targets: sum(apart(logits, targets)),
        batch_metrics=lambda logits, targets: plain.batch_metrics(logits, targets["class"]),
        metric_sums=metric_sums,
        collect=lambda logits, spec: {"logits": logits, "mean": logits.mean(axis=-1)},
        metrics=metrics,
        draw=lambda findings: [],
        per_class=None,
    )


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """The config, while experiments are of the toy task."""
    config, load = write_tiny(tmp_path_factory.mktemp("toy")), experiment.load_data

    def load_data(config):
        dataset = load(config)
        parts = {name: both(getattr(dataset, name)) for name in ("train", "validation", "test")}
        return dataset._replace(**parts)

    with pytest.MonkeyPatch.context() as patch:
        for module in (experiment, traced_hparams):
            patch.setattr(module, "make_task", toy_task)
        patch.setattr(experiment, "load_data", load_data)
        yield config


@pytest.fixture(scope="module")
def trained(toy):
    return convax.train(load_config(toy), toy.parent / "run")


def test_a_run_with_two_labels_an_image_trains_and_evaluates(trained):
    result = trained.info()["result"]["test"]
    assert result["accuracy"] > 0.9 and result["mse"] < 0.05
    assert result["mse"] == pytest.approx(result["again"], rel=1e-4)
    found = evaluate(trained.path, "validation")
    assert found.collected["logits"].shape == (20, 3)


def test_a_run_with_two_labels_an_image_resumes_to_the_same_bytes(trained, toy, tmp_path):
    with pytest.raises(InterruptedRun):
        convax.train(load_config(toy), tmp_path / "run", display=Recorder(34))
    assert final_bytes(convax.resume(tmp_path / "run")) == final_bytes(trained)


def test_many_networks_in_one_program_take_two_labels_an_image(toy, tmp_path):
    from convax.training.experiments.batched_program import make_batched_steps
    from convax.training.experiments.traced_hparams import hparams_of

    found = prepare(load_config(toy))
    images, labels, _ = found.dataset.train
    batch = batch_indices(0, size=len(images), batch_size=16, seed=3)
    batches = jax.tree.map(lambda leaf: jnp.asarray(leaf[batch])[None], (images, labels))
    stack = partial(jax.tree.map, lambda *leaves: jnp.stack(leaves))
    states, numbers = stack(found.init(), found.init()), hparams_of(found, [])
    steps = make_batched_steps(found, "map", True)
    counts = jnp.array([1, 0], jnp.int32)
    new, _ = steps(states, stack(numbers, numbers), *batches, counts)
    assert new.step.tolist() == [1, 0]


def test_labels_of_a_tree_are_split_and_batched_together():
    images = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1)
    labels = {"a": np.arange(10), "b": [np.arange(20.0, dtype=np.float32).reshape(10, 2)]}
    whole = undivided(Split(images, labels), ("x", "y"))
    parts = split(whole, validation=3, test=2, seed=0)
    assert [part.count for part in parts[:3]] == [5, 3, 2]
    for part in parts[:3]:
        np.testing.assert_array_equal(part.labels["a"], part.images.ravel())
        np.testing.assert_array_equal(part.labels["b"][0][:, 0], 2 * part.labels["a"])
    *_, (last, tree, weights) = eval_batches(parts.train, 3)
    assert weights.tolist() == [1, 1, 0] and tree["b"][0].shape == (3, 2)
    assert tree["a"].tolist() == last.ravel().tolist()


def test_the_fingerprint_sees_every_leaf_and_every_digit():
    images = np.zeros((2, 1, 1, 1), np.uint8)

    def of(**labels):
        return fingerprint(undivided(Split(images, labels), ("x",)))

    a, b = np.array([0, 1]), np.array([0.25, 0.5], np.float32)
    prints = [of(a=a, b=b), of(a=a, c=b), of(a=b, b=a), of(a=a, b=b + 0.125), of(a=a)]
    assert len(set(prints)) == len(prints)
