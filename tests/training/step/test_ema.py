"""Averages of the weights: the formula, the checkpoint, and who uses them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convax
from convax.training.common.train_state import Ema
from convax.training.config.errors import ConfigError
from convax.training.config.schema import load_config
from convax.training.experiment import prepare
from convax.training.loop.signals import InterruptedRun
from convax.training.run import checkpoint
from convax.training.run.load_model import load_model
from convax.training.step.ema import EmaSpec, decay_at, init_ema, update_ema
from convax.training.weights.safetensors_io import read_safetensors

NORMED = [
    'model={layers=[{type="conv", features=4, window=3}, {type="batch_norm"}, {type="relu"}, '
    '{type="flatten"}, {type="dense", features=3}]}'
]
AVERAGED = [*NORMED, "ema.decay=0.9"]


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    """A run with averages, and its config."""
    from tests.tiny import write_tiny

    folder = tmp_path_factory.mktemp("averaged")
    config = load_config(write_tiny(folder), AVERAGED)
    return convax.train(config, folder / "run"), config


def files_of(run, pointer="last"):
    place = run.checkpoints / (run.checkpoints / pointer).read_text().strip()
    return {file.name: file.read_bytes() for file in place.iterdir()}


def test_ema_follows_its_formula(rng):
    """0.9 of what it was and 0.1 of what is new, parameters and statistics alike; in float64."""
    weights = rng.normal(size=(6, 5))
    ema = init_ema({"w": jnp.array(weights[0], jnp.float32)}, {"n": jnp.array(0)})
    expected = weights[0]
    for t in range(1, 6):
        new = {"w": jnp.array(weights[t], jnp.float32)}
        ema = update_ema(ema, new, {"n": jnp.array(t)}, step=jnp.array(t), spec=EmaSpec(decay=0.9))
        expected = 0.9 * expected + 0.1 * weights[t]
    assert ema is not None
    np.testing.assert_allclose(ema.params["w"], expected, 1e-6, 1e-6)
    assert ema.state["n"] == 5  # a count is not averaged


def test_ema_warmup_is_that_of_tensorflow():
    decays = [
        float(decay_at(jnp.array(t), EmaSpec(decay=0.9, warmup=True))) for t in (1, 8, 80, 900)
    ]
    np.testing.assert_allclose(decays, [2 / 11, 9 / 18, 81 / 90, 0.9], 1e-6)
    assert decay_at(jnp.array(1), EmaSpec(decay=0.9)) == np.float32(0.9)


def test_ema_of_constant_parameters_is_bit_identical(rng):
    frozen = {"w": jnp.array(rng.normal(size=1000), jnp.float32)}
    ema, update = init_ema(frozen, {}), jax.jit(update_ema, static_argnames="spec")
    for t in range(1, 20):
        ema = update(ema, frozen, {}, step=jnp.array(t), spec=EmaSpec(decay=0.9, warmup=True))
    np.testing.assert_array_equal(ema.params["w"], frozen["w"])


@pytest.mark.slow
def test_ema_does_not_change_training(averaged, tmp_path, tiny):
    """The averages only look on."""
    run, _ = averaged
    without = convax.train(load_config(tiny, NORMED), tmp_path / "run")
    with_them, those = files_of(run), files_of(without)
    assert set(with_them) - set(those) == {"ema.safetensors"}
    for name in ("params.safetensors", "state.safetensors", "training.safetensors"):
        assert with_them[name] == those[name]


def test_checkpoint_has_parameters_and_averages_and_uses_the_averages(averaged, tmp_path):
    run, config = averaged
    template = prepare(config).template
    state = checkpoint.restore(run.checkpoints, "best", template).train_state
    assert isinstance(state.ema, Ema)
    mean, raw = load_model(run.path), load_model(run.path, use_ema=False)
    for trained, (params, statistics) in (
        (mean, state.ema),
        (raw, (state.params, state.state)),
    ):
        for one, other in zip(
            jax.tree.leaves((trained.params, trained.state)),
            jax.tree.leaves((params, statistics)),
            strict=True,
        ):
            np.testing.assert_array_equal(one, other)
    moved = mean.state["batch_norm1"]["mean"] - raw.state["batch_norm1"]["mean"]
    assert np.abs(moved).max() > 0  # the statistics are averaged, too

    images = np.arange(2 * 36, dtype=np.uint8).reshape(2, 6, 6)
    assert (convax.load(run.path)(images) != convax.load(run.path, use_ema=False)(images)).any()
    figures = [convax.evaluate(run.path, use_ema=use_ema).loss for use_ema in (True, False)]
    assert figures[0] != figures[1]
    assert figures[0] == run.info()["result"]["test"]["loss"]


def test_exported_weights_are_averages_or_raw(averaged, tmp_path, command):
    run, _ = averaged
    for options, use_ema in ((), True), (("--no-ema",), False):
        out = tmp_path / "w.safetensors"
        assert command("export-weights", run.path, out, *options)[0] == 0
        written = read_safetensors(out)["dense1/kernel"]
        np.testing.assert_array_equal(
            written, load_model(run.path, use_ema=use_ema).params["dense1"]["kernel"]
        )
    code, out, _ = command("evaluate", run.path, "--no-ema", "--json")
    assert code == 0 and f'"loss": {convax.evaluate(run.path, use_ema=False).loss}' in out


@pytest.mark.slow
def test_an_interrupted_run_resumes_to_the_same_bytes(averaged, tmp_path, tiny):
    from tests.training.loop.test_loop import Recorder

    run, _ = averaged
    with pytest.raises(InterruptedRun):
        convax.train(load_config(tiny, AVERAGED), tmp_path / "cut", display=Recorder(20))
    resumed = convax.resume(tmp_path / "cut")
    assert files_of(resumed)["ema.safetensors"] == files_of(run)["ema.safetensors"]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("ema.decay=1.0", r"ema.decay: should be less than 1; got 1.0"),
        ("ema.warmup=true", r"ema.decay: missing; write ema.decay = 0.999, say"),
        ("ema.dekay=0.9", r"ema.dekay: unknown key; did you mean 'decay'?"),
    ],
)
def test_ema_table_that_is_wrong_is_rejected(tiny, written, message):
    with pytest.raises(ConfigError, match=message):
        load_config(tiny, [written])
