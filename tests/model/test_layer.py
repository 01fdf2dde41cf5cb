"""The layer contract and the combinators."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import model, ops
from convax.model import LayerError

KEY = jax.random.key(0)


def scale(factor: float) -> model.Layer:
    """A user's own layer: init and apply are all it takes."""

    def init(key, in_shape):
        return in_shape, {"factor": jnp.float32(factor)}, {"calls": jnp.int32(0)}

    def apply(params, state, x, *, train=False, key=None):
        return x * params["factor"], {"calls": state["calls"] + 1}

    return model.Layer(init, apply)


def noise() -> model.Layer:
    def apply(params, state, x, *, train=False, key=None):
        return (x + jax.random.normal(key, x.shape) if train else x), state

    return model.Layer(lambda key, in_shape: (in_shape, {}, {}), apply)


def test_serial_composes_in_order_and_names_by_kind():
    net = model.serial(model.dense(3), model.relu(), model.dense(2), last=model.dense(1))
    out_shape, params, _ = net.init(KEY, (5, 4))
    assert out_shape == (5, 1)
    assert list(params) == ["dense1", "dense2", "last"]
    x = jax.random.normal(KEY, (5, 4))
    y, _ = net.apply(params, {}, x)
    h = ops.relu(ops.dense(x, params["dense1"]["kernel"], params["dense1"]["bias"]))
    h = ops.dense(h, params["dense2"]["kernel"], params["dense2"]["bias"])
    expected = ops.dense(h, params["last"]["kernel"], params["last"]["bias"])
    np.testing.assert_array_equal(y, expected)


def test_out_shape_is_the_shape_of_the_output():
    net = model.serial(
        model.conv(4, 3, padding=1),
        model.residual(model.serial(model.conv(4, 3, padding="SAME"), model.tanh())),
        model.parallel(a=model.conv(2, 1), b=model.conv(3, 3, padding=1)),
        model.max_pool(2),
        model.flatten(),
        model.dense(7),
    )
    out_shape, params, state = net.init(KEY, (2, 8, 8, 3))
    y, _ = net.apply(params, state, jnp.ones((2, 8, 8, 3)))
    assert y.shape == out_shape == (2, 7)


def test_init_shapes_agrees_with_init():
    net = model.lenet5(10, activation="relu", pool="max")
    out_shape, params, state = net.init(KEY, (1, 32, 32, 1))
    assert model.init_shapes(net, (1, 32, 32, 1))[0] == out_shape
    shapes = jax.tree.map(lambda a: (a.shape, a.dtype), params)
    assert jax.tree.map(
        lambda a: (a.shape, a.dtype), model.init_shapes(net, (1, 32, 32, 1))[1]
    ) == (shapes)
    assert state == {}


def test_parallel_joins_channels():
    net = model.parallel(scale(2.0), scale(3.0))
    _, params, state = net.init(KEY, (1, 2, 2, 1))
    y, _ = net.apply(params, state, jnp.ones((1, 2, 2, 1)))
    np.testing.assert_array_equal(y[0, 0, 0], [2.0, 3.0])


def test_fork_gives_each_output_by_its_name():
    net = model.fork(a=model.dense(5), b=model.dense(2))
    shapes, params, _ = net.init(KEY, (3, 4))
    assert shapes == {"a": (3, 5), "b": (3, 2)} and sorted(params) == ["a", "b"]
    x = jax.random.normal(KEY, (3, 4))
    y, _ = net.apply(params, {}, x)
    np.testing.assert_array_equal(y["b"], model.dense(2).apply(params["b"], {}, x)[0])


def test_each_applies_one_layer_to_several_arrays():
    layer = model.serial(conv=model.conv(2, 3), bn=model.batch_norm())
    net = model.each(layer)
    shapes, params, state = net.init(KEY, {"fine": (1, 8, 8, 3), "coarse": (1, 4, 4, 3)})
    assert shapes == {"fine": (1, 6, 6, 2), "coarse": (1, 2, 2, 2)}
    maps = {name: jax.random.normal(KEY, (2, n, n, 3)) for name, n in (("fine", 8), ("coarse", 4))}
    y, after = net.apply(params, state, maps, train=True)
    fine, between = layer.apply(params, state, maps["fine"], train=True)
    coarse, expected = layer.apply(params, between, maps["coarse"], train=True)
    np.testing.assert_array_equal(y["fine"], fine)
    np.testing.assert_array_equal(y["coarse"], coarse)
    np.testing.assert_array_equal(after["bn"]["mean"], expected["bn"]["mean"])
    with pytest.raises(ValueError, match="each: arrays differ in their channels"):
        net.init(KEY, {"fine": (1, 8, 8, 3), "coarse": (1, 4, 4, 4)})


def test_residual_adds_its_shortcut():
    net = model.residual(scale(2.0), scale(10.0))
    _, params, state = net.init(KEY, (1, 1))
    assert net.apply(params, state, jnp.ones((1, 1)))[0] == 12.0
    identity = model.residual(scale(2.0))
    _, params, state = identity.init(KEY, (1, 1))
    assert identity.apply(params, state, jnp.ones((1, 1)))[0] == 3.0


def test_state_is_returned_new_and_never_changed_in_place():
    net = model.serial(scale(1.0), model.serial(inner=scale(1.0)))
    _, params, state = net.init(KEY, (1, 1))
    _, after = net.apply(params, state, jnp.ones((1, 1)))
    assert state == {"layer1": {"calls": 0}, "serial1": {"inner": {"calls": 0}}}
    assert after == {"layer1": {"calls": 1}, "serial1": {"inner": {"calls": 1}}}


def test_initial_parameters_depend_on_the_path_alone():
    short = model.serial(head=model.dense(3))
    longer = model.serial(model.relu(), model.tanh(), head=model.dense(3))
    _, one, _ = short.init(KEY, (1, 4))
    _, other, _ = longer.init(KEY, (1, 4))
    np.testing.assert_array_equal(one["head"]["kernel"], other["head"]["kernel"])
    _, twins, _ = model.serial(a=model.dense(4), b=model.dense(4)).init(KEY, (1, 4))
    assert (np.asarray(twins["a"]["kernel"]) != np.asarray(twins["b"]["kernel"])).all()


def test_each_layer_draws_its_own_random_numbers():
    net = model.parallel(noise(), noise())
    _, params, state = net.init(KEY, (1, 3))
    y, _ = net.apply(params, state, jnp.zeros((1, 3)), train=True, key=KEY)
    assert not np.array_equal(y[0, :3], y[0, 3:])
    again, _ = net.apply(params, state, jnp.zeros((1, 3)), train=True, key=KEY)
    np.testing.assert_array_equal(y, again)


def test_layer_names_are_in_the_compiled_program():
    net = model.serial(block=model.serial(head=model.dense(3)))
    _, params, state = net.init(KEY, (1, 4))
    lowered = jax.jit(lambda x: net.apply(params, state, x)[0]).lower(jnp.ones((1, 4)))
    assert "block/head" in lowered.as_text(debug_info=True)


@pytest.mark.parametrize(
    ("net", "in_shape", "message"),
    [
        (
            model.serial(stage=model.serial(model.conv(4, 3), model.conv(4, 9))),
            (1, 8, 8, 3),
            r"^stage/conv2: conv: the window is larger than the padded input",
        ),
        (
            model.serial(model.flatten(), model.conv(4, 3)),
            (1, 8, 8, 3),
            r"^conv1: conv: a batch of 1-D, 2-D or 3-D images is needed: got shape \(1, 192\)",
        ),
        (
            model.serial(model.residual(model.conv(4, 3))),
            (1, 8, 8, 3),
            r"^residual1: residual: branch and shortcut must agree: got \(1, 6, 6, 4\) and",
        ),
        (
            model.serial(model.parallel(a=model.conv(4, 3), b=model.conv(4, 5))),
            (1, 8, 8, 3),
            r"^parallel1: parallel: branches differ in more than their channels: got a \(1, 6, 6",
        ),
        (
            model.serial(model.gated(pool=model.global_avg_pool())),
            (1, 8, 8, 3),
            r"^gated1: gated: the gate does not fit the input: got \(1, 3\) for x \(1, 8, 8, 3\)",
        ),
    ],
    ids=["window", "flat input", "residual", "parallel", "gated"],
)
def test_an_error_names_the_path_of_its_layer(net, in_shape, message):
    with pytest.raises(LayerError, match=message):
        net.init(KEY, in_shape)


def test_an_error_in_apply_names_the_path_too():
    net = model.serial(outer=model.serial(model.conv(4, 3)))
    _, params, state = net.init(KEY, (1, 8, 8, 3))
    with pytest.raises(LayerError, match=r"^outer/conv1: conv: channels do not match"):
        net.apply(params, state, jnp.ones((1, 8, 8, 5)))


@pytest.mark.parametrize("cause", [ValueError, TypeError])
def test_a_layer_error_keeps_the_class_of_its_cause_at_every_depth(cause):
    def fail(x):
        raise cause("wrong")

    broken = model.stateless("broken", fail, model.Window(1, 1, 0))
    with pytest.raises(LayerError, match=r"^outer/inner: wrong$") as caught:
        model.serial(outer=model.serial(inner=broken)).init(KEY, (1, 4))
    assert isinstance(caught.value, cause)
    assert not isinstance(caught.value, {ValueError: TypeError, TypeError: ValueError}[cause])
    assert type(caught.value.__cause__) is cause


def test_two_layers_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two layers are named 'dense1'; rename one"):
        model.serial(model.dense(3), dense1=model.dense(3))


def test_a_network_can_be_vmapped_over_its_parameters():
    net = model.lenet5(10, activation="tanh", pool="avg")
    keys = jax.random.split(KEY, 3)
    params = jax.vmap(lambda key: net.init(key, (1, 32, 32, 1))[1])(keys)
    x = jax.random.normal(KEY, (2, 32, 32, 1))
    together = jax.vmap(lambda p: net.apply(p, {}, x)[0])(params)
    for i in range(3):
        alone, _ = net.apply(jax.tree.map(lambda a, i=i: a[i], params), {}, x)
        np.testing.assert_allclose(together[i], alone, rtol=1e-4, atol=1e-5)


def test_the_layers_of_a_block_stand_under_its_own_name():
    net = model.serial(
        block=model.residual_block(
            a=scale(2.0), b=scale(3.0), shortcut=model.serial(c=scale(10.0)), activation=scale(0.5)
        )
    )
    _, params, state = net.init(KEY, (1, 1))
    assert params == {
        "block": {"a": {"factor": 2}, "b": {"factor": 3}, "shortcut": {"c": {"factor": 10}}, "then": {"factor": 0.5}}
    }  # fmt: skip
    y, after = net.apply(params, state, jnp.ones((1, 1)))
    assert y == (2 * 3 + 10) / 2
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert jax.tree.leaves(after) == [1, 1, 1, 1]
    paths = [row.path for row in model.summarize(net, (1,)).rows]
    assert paths == ["block/a", "block/b", "block/shortcut/c", "block/then"]
    with pytest.raises(LayerError, match=r"^block/a: conv: a batch of"):
        model.serial(block=model.residual_block(a=model.conv(2, 1))).init(KEY, (1, 4))
    twice = model.residual_block(
        **{model.INLINE: model.serial(shortcut=scale(1.0))}, shortcut=scale(1.0)
    )
    with pytest.raises(ValueError, match="two layers are named 'shortcut'; rename one"):
        twice.init(KEY, (1, 1))
