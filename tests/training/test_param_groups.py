"""`[[optimizer.groups]]`: what a config says of some parameters, and that training heeds it."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convax
from convax import model, ops
from convax.training.config.errors import ConfigError
from convax.training.config.groups import Group
from convax.training.config.schema import load_config
from convax.training.experiment import make_optimizer, prepare
from convax.training.experiments.traced_hparams import prepare_members
from convax.training.loop.signals import InterruptedRun
from convax.training.optim.optimizer import adam
from convax.training.optim.partition import partition
from convax.training.param_groups import settings_of
from convax.training.run import checkpoint
from convax.training.step import freeze
from convax.training.step.train_step import StepSpec, init_train_state, make_train_step
from tests.training.loop.test_loop import Recorder, final_bytes

LAYERS = """[[model.layers]]
type = "conv"
features = 4
window = 3
[[model.layers]]
type = "batch_norm"
[[model.layers]]
type = "relu"
[[model.layers]]
type = "flatten"
[[model.layers]]
type = "dense"
features = 3
[loss]"""


@pytest.fixture
def normed(tiny):
    """The tiny experiment with a convolution and batch norm."""
    text = re.sub(r"\[model\].*\[loss\]", LAYERS, tiny.read_text(), flags=re.DOTALL)
    tiny.write_text(text)
    return tiny


def groups(*tables):
    return "optimizer.groups=[" + ", ".join("{" + table + "}" for table in tables) + "]"


def arrays(run, pointer="last"):
    config = run.config()
    train_state = prepare(config).template
    restored = checkpoint.restore(run.checkpoints, pointer, train_state)
    return restored.train_state


def test_each_key_is_decided_by_the_first_group_that_states_it():
    spare = Group(match=".*/(bias|scale)", weight_decay=0.0)
    stem = Group(match="stem/.*", frozen=True)
    head = Group(match="stem/last/.*", frozen=False, learning_rate_scale=0.5)
    slow = Group(match=".*", learning_rate_scale=0.1, weight_decay=1.0)
    of = lambda path: settings_of([spare, head, stem, slow], path)  # noqa: E731
    assert of("stem/conv/bias") == of("stem/conv/kernel") == (None, None, True)
    assert of("stem/last/bias") == (0.5, 0.0, False)
    assert of("head/bias") == (0.1, 0.0, False)
    assert of("head/kernel") == (0.1, 1.0, False)
    assert settings_of([spare], "head/kernel") == (None, None, False)


def test_groups_decide_the_first_update(normed):
    """Under Adam the first update has the length of the learning rate, decay aside."""
    config = load_config(
        normed,
        [
            'optimizer.name="adamw"',
            "optimizer.weight_decay=0.5",
            groups(
                'match=".*/(bias|scale)", weight_decay=0.0',
                'match="conv1/.*", frozen=true',
                'match="dense1/.*", learning_rate_scale=0.25',
            ),
        ],
    )
    params = prepare(config).init().params
    optimizer = make_optimizer(config, lambda count: jnp.float32(0.1))
    grads = jax.tree.map(jnp.ones_like, params)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    assert not np.any(updates["conv1"]["kernel"]) and not np.any(updates["conv1"]["bias"])
    np.testing.assert_allclose(updates["batch_norm1"]["scale"], -0.1, 1e-5)
    np.testing.assert_allclose(updates["dense1"]["bias"], -0.25 * 0.1, 1e-5)
    decayed = -0.25 * 0.1 * (1 + 0.5 * params["dense1"]["kernel"])
    np.testing.assert_allclose(updates["dense1"]["kernel"], decayed, 1e-5)


FROZEN = groups('match="(conv1|batch_norm1)/.*", frozen=true', 'match=".*/bias", weight_decay=0.1')


def test_frozen_parameters_stay_to_the_bit_and_the_rest_learns(normed, tmp_path):
    display = Recorder()
    run = convax.train(load_config(normed, [FROZEN]), tmp_path / "run", display=display)
    before, after = prepare(run.config()).init(), arrays(run)
    for name in ("conv1", "batch_norm1"):
        for key, leaf in before.params[name].items():
            np.testing.assert_array_equal(leaf, after.params[name][key])
    for key, leaf in before.state["batch_norm1"].items():
        np.testing.assert_array_equal(leaf, after.state["batch_norm1"][key])
    assert np.any(before.params["dense1"]["kernel"] != after.params["dense1"]["kernel"])
    sizes = sum(leaf.size for leaf in jax.tree.leaves(before.params))
    still = 9 * 4 + 4 + 8
    assert f"{sizes:,} parameters, {still:,} of them frozen" in display.notes[0]
    # What is remembered: two moments of what is trained, and a count for each optimizer.
    remembered = sum(leaf.size for leaf in jax.tree.leaves(after.opt_state))
    assert remembered == 2 * (sizes - still) + 2


@pytest.mark.slow
def test_a_run_with_groups_resumes_to_the_same_bytes(normed, tmp_path):
    config = load_config(normed, [FROZEN])
    whole = convax.train(config, tmp_path / "whole")
    with pytest.raises(InterruptedRun):
        convax.train(config, tmp_path / "run", display=Recorder(23))
    assert final_bytes(convax.resume(tmp_path / "run")) == final_bytes(whole)


@pytest.mark.slow
def test_groups_that_change_nothing_change_no_update(tiny, tmp_path, whole):
    same = groups('match=".*/bias", learning_rate_scale=1.0, weight_decay=0.0')
    run = convax.train(load_config(tiny, [same]), tmp_path / "run")
    for a, e in zip(
        jax.tree.leaves(arrays(run).params), jax.tree.leaves(arrays(whole).params), strict=True
    ):
        np.testing.assert_allclose(a, e, 1e-4, 1e-5)


@pytest.mark.slow
def test_frozen_layers_work_as_in_evaluation(rng):
    """The step is the one of a network whose first part is applied with train=False."""
    first = model.serial(model.conv(4, 3), model.batch_norm(), model.relu())
    last = model.serial(model.batch_norm(), model.flatten(), model.dense(3))
    net = model.serial(first=first, last=last)
    _, params, state = net.init(jax.random.key(0), (1, 6, 6, 1))
    state["first"]["batch_norm1"]["mean"] += 0.3
    images = jnp.asarray(rng.normal(size=(8, 6, 6, 1)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 3, 8))
    loss = partial(ops.softmax_cross_entropy, label_smoothing=0.0, reduction="none")
    frozen = lambda path: path.startswith("first/")  # noqa: E731
    optimizer = partition({"first/.*": None}, adam(0.1))
    start = init_train_state(params, state, optimizer, jax.random.key(1))
    step = make_train_step(StepSpec(net, loss, optimizer, lambda x: x, frozen=frozen))

    def objective(p):
        x, _ = first.apply(params["first"], state["first"], images, train=False)
        logits, new = last.apply(p, state["last"], x, train=True)
        return loss(logits, labels).mean(), new

    (value, new), grads = jax.value_and_grad(objective, has_aux=True)(params["last"])
    norm = np.sqrt(sum(float(jnp.vdot(g, g)) for g in jax.tree.leaves(grads)))
    old = jax.tree.map(np.asarray, state)
    after, metrics = step(jax.tree.map(jnp.copy, start), images, labels)
    np.testing.assert_allclose(metrics["loss"], value, 1e-6)
    np.testing.assert_allclose(metrics["grad_norm"], norm, 1e-5)  # of what is trained
    assert jax.tree.structure(after.state) == jax.tree.structure(old)
    for key, leaf in old["first"]["batch_norm1"].items():
        np.testing.assert_array_equal(after.state["first"]["batch_norm1"][key], leaf)
    for key, leaf in new["batch_norm1"].items():
        np.testing.assert_allclose(after.state["last"]["batch_norm1"][key], leaf, 1e-6)


def test_a_frozen_stem_costs_no_gradient(rng):
    """By XLA's count: of three convolutions' work for each trained layer, one is left."""
    stem = {f"conv{i}": model.conv(16, 3, padding=1) for i in range(3)}
    net = model.serial(stem=model.serial(**stem), flatten=model.flatten(), head=model.dense(3))
    _, params, state = net.init(jax.random.key(0), (1, 12, 12, 16))
    loss = partial(ops.softmax_cross_entropy, label_smoothing=0.0, reduction="none")
    images, labels = jnp.zeros((8, 12, 12, 16)), jnp.zeros(8, int)

    @ops.implementation("cpu")  # whose operations the compiler counts, and not those of kernels
    def flops(optimizer, frozen):
        start = init_train_state(params, state, optimizer, jax.random.key(1))
        step = make_train_step(StepSpec(net, loss, optimizer, lambda x: x, frozen=frozen))
        return step.lower(start, images, labels).compile().cost_analysis()["flops"]

    frozen = flops(partition({"stem/.*": None}, adam(0.1)), lambda path: path.startswith("stem/"))
    assert frozen < 0.5 * flops(adam(0.1), None)


def test_statistics_are_frozen_where_all_arrays_of_the_layer_are():
    mode = model.FrozenStatistics(lambda path: path.startswith("a/") or path == "b/mean")
    statistics = {"mean": 0, "var": 1}
    assert mode.within("a").within("norm").freezes(statistics)
    assert mode.within("b").freezes({"mean": 0, "other": {"var": 0}})  # "other" is another layer
    assert not mode.within("b").freezes(statistics)
    assert not mode.within("a").freezes({"norm": statistics})  # it has no array of its own
    assert mode.within("").path == "" and mode.within("a").within("").path == "a/"


def test_frozen_statistics_train_all_layers_but_those():
    net = model.serial(a=model.batch_norm(), drop=model.dropout(0.5), b=model.batch_norm())
    _, params, state = net.init(jax.random.key(0), (4, 3))
    x, key = jnp.arange(12.0).reshape(4, 3), jax.random.key(1)
    mode = model.FrozenStatistics(lambda path: path.startswith("a/"))
    y, new = net.apply(params, state, x, train=mode, key=key)
    np.testing.assert_array_equal(new["a"]["mean"], state["a"]["mean"])
    assert not np.array_equal(new["b"]["mean"], state["b"]["mean"])
    assert jax.tree.structure(new) == jax.tree.structure(state)
    y_too, _ = net.apply(params, state, x, train=True, key=key)
    assert not np.allclose(y, y_too)


def test_frozen_state_is_kept_leaf_by_leaf():
    old = {"norm": {"mean": jnp.zeros(2), "var": jnp.ones(2)}}
    new = {"norm": {"mean": jnp.ones(2), "var": jnp.zeros(2)}}
    both = freeze.freeze_statistics(new, old, lambda path: path.endswith("var"))
    assert both["norm"].keys() == {"mean", "var"}
    assert both["norm"]["mean"][0] == both["norm"]["var"][0] == 1.0


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            ['match="dense1"'],
            r"groups\.0\.match: needs learning_rate_scale, weight_decay or frozen beside match",
        ),
        (
            ['match="(", frozen=true'],
            r"optimizer\.groups\.0\.match: should be a regular expression .*; got '\('",
        ),
        (
            ['match="", frozen=true'],
            r"optimizer\.groups\.0\.match: should be a regular expression such as .*; got ''",
        ),
        (
            ['match=".*", weight_decay=-1.0'],
            r"optimizer\.groups\.0\.weight_decay: should be greater than or equal to 0; got -1\.0",
        ),
        (["frozen=true"], r"optimizer\.groups\.0\.match: missing; write .* = text in quotes"),
        (
            ['match=".*", freeze=true'],
            r"optimizer\.groups\.0\.freeze: unknown key; did you mean 'frozen'",
        ),
    ],
)
def test_group_that_is_wrong_is_rejected(tiny, tables, message):
    with pytest.raises(ConfigError, match=message):
        load_config(tiny, [groups(*tables)])


def test_a_group_that_matches_nothing_is_an_error_that_names_paths_near(tiny):
    wrong = groups(
        'match="dens1/kernel", frozen=true',
        'match=".*/kernel", weight_decay=0.1',
        'match="x", frozen=true',
    )
    with pytest.raises(ConfigError) as caught:
        prepare(load_config(tiny, [wrong]))
    first, second = str(caught.value).splitlines()
    assert first.startswith(
        "optimizer.groups.0.match: matches nothing: got 'dens1/kernel', need the whole path of a "
        "parameter such as dense1/kernel, dense2/kernel"
    )
    assert second.startswith("optimizer.groups.2.match: matches nothing: got 'x'")


def test_freezing_all_parameters_is_an_error(tiny):
    with pytest.raises(ConfigError, match=r"groups: all parameters are frozen: nothing is left"):
        prepare(load_config(tiny, [groups('match=".*", frozen=true')]))


@pytest.mark.parametrize(
    ("scale", "rate", "value"), [("1e-20", "1e-20", "1.43e-41"), ("1e20", "1e20", "1.43e+39")]
)
def test_multiplier_that_takes_the_learning_rate_out_of_float32_is_an_error(
    tiny, scale, rate, value
):
    wrong = groups('match=".*/bias", weight_decay=0.0', f'match=".*", learning_rate_scale={scale}')
    config = load_config(tiny, [wrong, f"optimizer.learning_rate={rate}"])
    with pytest.raises(ConfigError) as caught:
        prepare(config)
    assert str(caught.value).startswith(
        "optimizer.groups.1.learning_rate_scale: the learning rate of step 1 of 60 is "
        f"{value}, need a number that float32 holds: 0, or from 1e-38 to 3e+38; write a factor"
    )


def test_learning_rate_of_each_network_of_a_sweep_is_checked(tiny):
    wrong = groups('match=".*", learning_rate_scale=1e-20')
    rates = ("1e-2", "1e-19", "1e-3")
    configs = [load_config(tiny, [wrong, f"optimizer.learning_rate={rate}"]) for rate in rates]
    with pytest.raises(ConfigError, match=r"learning_rate_scale: the learning rate .* 1\.43e-40, "):
        prepare_members(configs)
