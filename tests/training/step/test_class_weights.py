"""Weights of classes: `training.step.class_weights`, and the key that asks for them."""

import jax.numpy as jnp
import numpy as np
import pytest

from convax.ops import softmax_cross_entropy
from convax.training.config.schema import ConfigError, load_config
from convax.training.experiment import make_step_spec, prepare
from convax.training.experiments.traced_hparams import bind, hparams_of, prepare_members
from convax.training.step.class_weights import balanced_weights, weighted
from tests.tiny import write_tiny


def each(logits, labels):
    return softmax_cross_entropy(logits, labels, reduction="none")


def test_balanced_weights_are_those_of_scikit_learn():
    compute = pytest.importorskip("sklearn.utils.class_weight").compute_class_weight
    labels = np.repeat([0, 1, 2], [7, 1, 4])
    expected = compute("balanced", classes=np.arange(3), y=labels)
    weights = balanced_weights(np.bincount(labels))
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    np.testing.assert_allclose(weights[labels].mean(), 1, rtol=1e-6)


def test_the_loss_of_an_example_is_multiplied_by_the_weight_of_its_class(rng):
    logits = jnp.asarray(rng.normal(size=(3, 2)), jnp.float32)
    labels, weights = jnp.array([0, 1, 0]), np.array([0.5, 4.0], np.float32)
    plain = each(logits, labels)
    found = weighted(each, weights)(logits, labels)
    np.testing.assert_allclose(found, plain * jnp.array([0.5, 4, 0.5]), rtol=1e-6)
    mixed = jnp.array([[1, 0], [0.25, 0.75], [0, 1]], jnp.float32)
    found = weighted(each, weights)(logits, mixed)
    np.testing.assert_allclose(found, each(logits, mixed) * jnp.array([0.5, 3.125, 4]), rtol=1e-6)


def test_each_member_of_a_study_has_the_weights_of_its_own_images(tmp_path):
    config = write_tiny(tmp_path)
    asked = ["training.class_weights=balanced", "data.stratify=false"]
    members = prepare_members([load_config(config, [*asked, f"seed={s}"]) for s in (1, 2)])
    first, second = (member.class_weights for member in members)
    assert (first != second).any()
    own = bind(members[0], hparams_of(members[1], []))
    logits, labels = jnp.zeros((3, 3)), jnp.arange(3)
    np.testing.assert_allclose(
        make_step_spec(own).loss(logits, labels), second * np.log(3), rtol=1e-5
    )


def test_weights_are_a_number_for_each_class_of_a_classification(tmp_path):
    config = write_tiny(tmp_path)
    given = prepare(load_config(config, ["training.class_weights=[1.0, 0.0, 2.5]"]))
    assert given.class_weights.tolist() == [1, 0, 2.5]
    for weights in ("[1.0, 2.0]", "[0.0, 0.0, 0.0]"):
        with pytest.raises(ConfigError, match=r"class_weights: got . numbers, need 3 that are not"):
            prepare(load_config(config, [f"training.class_weights={weights}"]))
    with pytest.raises(ConfigError, match="make up for the same twice; leave one of them out"):
        load_config(config, ["training.class_weights=balanced", "training.sampling=balanced"])
    with pytest.raises(ConfigError, match="class_weights are for one class an image"):
        load_config("unet-pennfudan", ["training.class_weights=balanced"])
