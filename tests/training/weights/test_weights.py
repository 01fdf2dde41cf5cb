"""Weights in one file: what is saved is loaded, and what does not fit is listed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from convax import model
from convax.training.weights.safetensors_io import WeightsError
from convax.training.weights.weights import load_weights, save_weights


@pytest.fixture
def network():
    net = model.serial(model.conv(2, 3), model.batch_norm(), model.flatten(), model.dense(3))
    _, params, state = net.init(jax.random.key(0), (1, 5, 5, 1))
    return params, state


def test_save_weights_and_load_weights_are_exact(network, tmp_path):
    file = tmp_path / "weights.safetensors"
    save_weights(file, *network)
    assert sorted(safetensors.numpy.load_file(file)) == [
        "batch_norm1/bias",
        "batch_norm1/mean",
        "batch_norm1/scale",
        "batch_norm1/var",
        "conv1/bias",
        "conv1/kernel",
        "dense1/bias",
        "dense1/kernel",
    ]
    found = load_weights(file, jax.eval_shape(lambda: network))
    assert jax.tree.structure(found) == jax.tree.structure(network)
    jax.tree.map(np.testing.assert_array_equal, found, network)
    assert sorted(tmp_path.iterdir()) == [file]


def test_floating_point_takes_the_networks_dtype(network, tmp_path):
    file = tmp_path / "weights.safetensors"
    save_weights(file, *jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), network))
    params, state = load_weights(file, network)
    assert {leaf.dtype for leaf in jax.tree.leaves((params, state))} == {jnp.dtype("float32")}
    np.testing.assert_allclose(params["conv1"]["kernel"], network[0]["conv1"]["kernel"], 2**-8)


def test_load_weights_lists_all_that_does_not_fit(network, tmp_path):
    file = tmp_path / "weights.safetensors"
    params, state = network
    odd = {
        "conv1": params["conv1"],
        "dense1": {"kernel": jnp.zeros((18, 4))},
        "dense2": jnp.ones(1),
    }
    save_weights(file, odd, state)
    with pytest.raises(WeightsError) as caught:
        load_weights(file, network)
    assert str(caught.value).splitlines() == [
        f"{file}: batch_norm1/bias: missing",
        f"{file}: batch_norm1/scale: missing",
        f"{file}: dense1/bias: missing",
        f"{file}: dense2: not in the network",
        f"{file}: dense1/kernel: of shape (18, 4), but the network has (18, 3)",
    ]


def test_integers_are_not_taken_for_floating_point(network, tmp_path):
    file = tmp_path / "weights.safetensors"
    params, state = network
    save_weights(file, params | {"conv1": {**params["conv1"], "bias": jnp.zeros(2, int)}}, state)
    with pytest.raises(
        WeightsError, match=r"conv1/bias: of dtype int32, but the network has float"
    ):
        load_weights(file, network)


def test_one_path_for_two_arrays_is_an_error(tmp_path):
    with pytest.raises(WeightsError, match=r"a/b: both a parameter and state; rename one of them"):
        save_weights(
            tmp_path / "x.safetensors", {"a": {"b": jnp.ones(1)}}, {"a": {"b": jnp.ones(1)}}
        )


def test_unwritable_and_unreadable_files_are_named(network, tmp_path):
    with pytest.raises(WeightsError, match=r"x\.safetensors: cannot be written: No such file"):
        save_weights(tmp_path / "none" / "x.safetensors", *network)
    with pytest.raises(WeightsError, match=r"x\.safetensors: cannot be read: No such file"):
        load_weights(tmp_path / "x.safetensors", network)
    (tmp_path / "folder").mkdir()
    with pytest.raises(WeightsError, match=r"folder: cannot be written: Is a directory"):
        save_weights(tmp_path / "folder", *network)
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]
