"""Training in 16 bits: what is short and what is not, loss scaling, and that it learns."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convax
from convax import model, ops
from convax.model import ARCHITECTURES
from convax.training.config.schema import ConfigError, load_config
from convax.training.experiment import prepare
from convax.training.loop.nonfinite import NonFiniteError
from convax.training.optim.optimizer import adam, sgd
from convax.training.step.gradient import make_gradient
from convax.training.step.loss_scaling import MOST, LossScaling, init_loss_scale, update_loss_scale
from convax.training.step.mixed_precision import computing_in
from convax.training.step.train_step import StepSpec, init_train_state, make_train_step
from convax.training.tasks.classification.task import accuracy

LOSS = partial(ops.softmax_cross_entropy, label_smoothing=0.0, reduction="none")
LAYERS = [
    {"type": "conv", "features": 4, "window": 3},
    {"type": "batch_norm"},
    {"type": "relu"},
    {"type": "flatten"},
    {"type": "dense", "features": 3},
]
SHORT = ("bfloat16", "float16")
SCALED = LossScaling(initial=1024.0, growth_interval=2)
HALF_STEP = {"compute": "float16", "loss_scaling": SCALED}
HALF = ["precision.compute=float16", "precision.loss_scale=1024.0"]


def setting(rng, layers=LAYERS):
    net = model.from_layers(layers)
    params, state = model.init_classifier(net, jax.random.key(0), (1, 6, 6, 1), 3)
    x = jnp.asarray(rng.normal(size=(32, 6, 6, 1)), jnp.float32)
    return net, params, state, x, jnp.asarray(rng.integers(0, 3, 32), jnp.int32)


def dtypes_of(tree):
    return {leaf.dtype.name for leaf in jax.tree.leaves(tree)}


def test_float32_is_the_network_itself():
    net = model.from_layers(LAYERS)
    assert computing_in(net, "float32") is net


@pytest.mark.parametrize("compute", SHORT)
def test_gradients_are_those_of_float32_but_for_rounding(compute, rng):
    """And float32 themselves, as are the loss and the running statistics."""
    net, params, state, x, labels = setting(rng)
    key = jax.random.key(0)
    exact = jax.jit(make_gradient(net, LOSS, accuracy))(params, state, x, labels, key)
    short = make_gradient(computing_in(net, compute), LOSS, accuracy)
    scale = jnp.float32(1024)
    found = jax.jit(short)(params, state, x, labels, key, scale if compute == "float16" else None)
    assert dtypes_of(found) == {"float32"}
    tolerance = 0.03 if compute == "bfloat16" else 0.004
    largest = max(np.abs(g).max() for g in jax.tree.leaves(exact.grads))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
        np.testing.assert_allclose(one, other, tolerance, tolerance * largest)
    assert any(
        np.any(one != other)
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True)
    )


@pytest.mark.parametrize("compute", SHORT)
def test_outputs_are_float32_with_low_precision_digits(compute, rng):
    net, params, state, x, _ = setting(rng)
    y, after = computing_in(net, compute).apply(params, state, x, train=True)
    assert dtypes_of((y, after)) == {"float32"}
    np.testing.assert_array_equal(y, y.astype(compute).astype(jnp.float32))
    mean = after["batch_norm1"]["mean"]  # which is taken in float32
    assert np.any(mean != mean.astype(compute).astype(jnp.float32))


@pytest.mark.parametrize("compute", SHORT)
@pytest.mark.parametrize("name", ["lenet5", "resnet_cifar", "mobilenet_v2", "convnext", "unet"])
def test_architectures_keep_precision_and_statistics(name, compute):
    """Shapes and types alone: nothing is computed."""
    keywords = {
        "lenet5": {"activation": "relu", "pool": "max"},
        "resnet_cifar": {"depth": 20},
        "unet": {"features": [4, 8], "batch_norm": True, "upsampling": "transposed"},
    }.get(name, {})
    net = ARCHITECTURES[name](10, **keywords)
    shape = (2, 64, 64, 1)
    _, params, state = model.init_shapes(net, shape)
    short = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, compute), params)
    x, key = jax.ShapeDtypeStruct(shape, compute), jax.random.key(0)
    y, after = jax.eval_shape(lambda *a: net.apply(*a, train=True, key=key), short, state, x)
    assert y.dtype == compute
    assert dtypes_of(after) <= {"float32"}


def tiny_loss(outputs, targets):
    """Its derivatives are far below what float16 can hold."""
    del targets
    return 1e-9 * outputs.sum(axis=-1)


def test_scaling_saves_gradients_that_underflow(rng):
    net, params, state, x, labels = setting(rng, LAYERS[3:])
    gradient = jax.jit(make_gradient(computing_in(net, "float16"), tiny_loss, accuracy))
    key = jax.random.key(0)
    lost = gradient(params, state, x, labels, key).grads["dense1"]["kernel"]
    assert not lost.any()
    found = gradient(params, state, x, labels, key, jnp.float32(2**20)).grads["dense1"]["kernel"]
    expected = 1e-9 * np.asarray(x).reshape(32, -1).mean(axis=0)
    # Of 32 terms each of half a unit of 2**-11, over numbers around a hundredth of x's size.
    np.testing.assert_allclose(found, np.repeat(expected[:, None], 3, 1), 0.01, 2e-12)


def test_a_step_that_overflows_is_left_out(rng):
    """It counts, halves the scale, and moves nothing else; calm steps double it."""
    net, params, state, x, labels = setting(rng)
    optimizer = adam(1e-2, weight_decay=0.1)
    step = make_train_step(StepSpec(net, LOSS, optimizer, lambda x: x, **HALF_STEP))
    start = init_train_state(params, state, optimizer, jax.random.key(0), loss_scaling=SCALED)
    scale = init_loss_scale(SCALED)
    assert scale is not None
    start = start._replace(loss_scale=scale._replace(scale=jnp.float32(2.0**30)))
    before = jax.tree.map(np.array, (start.params, start.state, start.opt_state))
    after, metrics = step(start, x, labels)
    assert (metrics["overflow"], metrics["loss_scale"]) == (1, 2.0**30)
    assert metrics["grad_norm"] == metrics["update_norm"] == 0
    assert np.isfinite(metrics["loss"]) and np.isfinite(metrics["param_norm"])
    assert after.loss_scale is not None
    assert (int(after.step), after.loss_scale.scale) == (1, 2.0**29)
    for one, other in zip(
        jax.tree.leaves((after.params, after.state, after.opt_state)),
        jax.tree.leaves(before),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)

    calm = after._replace(loss_scale=init_loss_scale(SCALED))
    scales = []
    for _ in range(5):
        calm, metrics = step(calm, x, labels)
        scales.append(float(metrics["loss_scale"]))
        assert (metrics["overflow"], metrics["grad_norm"] > 0) == (0, True)
    assert scales == [1024, 1024, 2048, 2048, 4096]  # growth_interval is 2
    assert int(calm.opt_state.count) == 5


def test_constant_loss_scale_stays(rng):
    spec = LossScaling(initial=8.0, growth_interval=0)
    scale = init_loss_scale(spec)
    for taken in (True, False, True, True):
        scale = update_loss_scale(scale, jnp.array(taken), spec)
        assert scale is not None and scale.scale == 8
    assert init_loss_scale(None) is None


def test_endless_overflow_is_a_divergence(tiny, tmp_path):
    """The scale is not to blame after so many in a row: the run stops with its message."""
    overrides = [*HALF, "precision.loss_scale=1e30", "precision.growth_interval=0"]
    with pytest.raises(NonFiniteError, match=rf"grad_norm is \S+ at step {MOST + 1};"):
        convax.train(load_config(tiny, overrides), tmp_path / "run")


def test_a_step_that_is_left_out_is_no_small_update(tiny, tmp_path):
    overrides = [*HALF, "precision.loss_scale=1e9", "precision.growth_interval=2000"]
    overrides += ["early_stopping.min_update=1e-9", "training.steps=30", "training.log_every=10"]
    run = convax.train(load_config(tiny, overrides), tmp_path / "run")
    assert run.info()["result"]["stopped_early"] is None
    train = [r for r in run.metrics() if r["kind"] == "train"]
    assert train[0]["overflow"] > 0 == train[-1]["overflow"]


@pytest.mark.parametrize("compute", SHORT)
def test_mixed_precision_run_learns_and_reports(compute, tiny, tmp_path):
    overrides = [f"precision.compute={compute}"]
    overrides += [*HALF, "precision.growth_interval=20"] if compute == "float16" else []
    run = convax.train(load_config(tiny, overrides), tmp_path / "run")
    assert run.info()["result"]["test"]["accuracy"] > 0.9
    last = [r for r in run.metrics() if r["kind"] == "train"][-1]
    if compute == "float16":
        assert (last["overflow"], last["loss_scale"]) == (0, 4096)
    else:
        assert "overflow" not in last
    template = prepare(run.config()).template
    assert dtypes_of((template.params, template.opt_state)) == {"float32", "int32"}


@pytest.mark.slow
def test_lenet_reaches_the_same_accuracy(tmp_path):
    found = {}
    for compute in ("float32", *SHORT):
        overrides = [] if compute == "float32" else [f"precision.compute={compute}"]
        overrides += [*HALF, "precision.growth_interval=100"] if compute == "float16" else []
        config = load_config("lenet5-digits", [*overrides, "training.epochs=10"])
        run = convax.train(config, tmp_path / compute)
        found[compute] = run.info()["result"]["test"]["accuracy"]
    assert found["float32"] > 0.97
    for compute in SHORT:
        assert abs(found[compute] - found["float32"]) < 0.012, found


def test_mixed_precision_works_with_accumulation_and_momentum(rng):
    net, params, state, x, labels = setting(rng)
    optimizer = sgd(0.1)
    step = make_train_step(StepSpec(net, LOSS, optimizer, lambda x: x, accumulate=4, **HALF_STEP))
    start = init_train_state(params, state, optimizer, jax.random.key(0), loss_scaling=SCALED)
    after, metrics = step(start, x, labels)
    assert metrics["overflow"] == 0 and dtypes_of(after.params) == {"float32"}


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (["compute=float8"], r"precision.compute: should be 'float32', 'bfloat16' or 'float16'; g"),
        (["loss_scale=8.0"], r"precision.compute: missing"),
        (
            ["compute=float16"],
            r"precision.compute: compute = .float16. needs loss_scale, e.g. 65536.0, and growth_int",
        ),
        (
            ["compute=bfloat16", "loss_scale=8.0"],
            r"precision.loss_scale: loss_scale is for compute = .float16. only: bfloat16 has",
        ),
        (["compute=bfloat16", "growth_interval=8"], r"growth_interval is for compute"),
        (
            ["compute=float16", "loss_scale=8.0", "growth_interval=8", "growth_factor=1.0"],
            r"precision.growth_factor: should be greater than 1",
        ),
    ],
)
def test_precision_table_that_is_wrong_is_rejected(tiny, written, message):
    with pytest.raises(ConfigError, match=message):
        load_config(tiny, [f"precision.{one}" for one in written])
