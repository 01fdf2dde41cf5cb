"""The search for a learning rate: what it reads out of a curve, and what it leaves behind."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from convax.training.config.schema import ConfigError, load_config
from convax.training.experiments.sweep_plot import draw_sweep
from convax.training.lr_finder import WARMUP, find_learning_rate, has_diverged, read_ramp, smooth
from convax.training.plots import figures, lr_finder

RATES = 1e-6 * 10 ** (7 * np.arange(200) / 199)


def curve(rates):
    """Flat, then falling around 1e-3, least at 0.1, then rising without end."""
    z = np.log10(rates)
    return 2 - np.tanh(2 * (z + 3)) + np.where(z > -1, 8 * (z + 1) ** 2, 0)


def test_smoothing_is_a_weighted_mean():
    losses = [3.0, 1.0, 2.0]
    weights = np.array([0.25, 0.5, 1.0])  # the newest weighs most
    np.testing.assert_allclose(smooth(losses, beta=0.5)[-1], np.dot(weights, losses) / 1.75)
    np.testing.assert_allclose(smooth([2.0] * 9), 2.0)


def test_read_ramp_finds_the_steepest_place(monkeypatch):
    monkeypatch.setattr("convax.training.lr_finder.smooth", np.array)  # which would shift it
    ramp = read_ramp(RATES, curve(RATES), 200)
    assert ramp.rule == "steepest"
    np.testing.assert_allclose(math.log10(ramp.suggestion), -3, atol=0.05)
    assert ramp.diverged


def test_a_loss_that_only_rises_suggests_nothing():
    ramp = read_ramp(RATES, np.linspace(1, 3, 200), 200)
    assert ramp.suggestion is None and not ramp.diverged
    assert "did not fall by more than" in ramp.rule and "write a --from below 1e-06" in ramp.rule
    diverging = read_ramp(RATES, np.linspace(1, 9, 200), 200)
    assert diverging.suggestion is None and diverging.diverged and "--from below" in diverging.rule
    broken = read_ramp(RATES[:2], [1.0, math.inf], 20)
    assert broken.suggestion is None and "--from below 1e-06" in broken.rule


def test_a_loss_that_only_scatters_suggests_nothing():
    """But one that falls by no more than single batches differ does."""
    rng = np.random.default_rng(0)
    fall = 1 / (1 + np.exp(-3 * (np.log10(RATES) + 2)))
    for scatter in (lambda: rng.normal(2, 0.5, 200), lambda: rng.exponential(0.5, 200) + 2):
        flat = [read_ramp(RATES, scatter(), 200) for _ in range(60)]
        assert sum(ramp.suggestion is None for ramp in flat) >= 56
        assert "write a --to above 10" in flat[0].rule
        falling = [read_ramp(RATES, scatter() - fall, 200) for _ in range(60)]
        assert all(ramp.suggestion is not None for ramp in falling)
    assert read_ramp(RATES, np.full(200, 2.0), 200).suggestion is None


def test_read_ramp_of_a_curve_that_falls_until_it_breaks(monkeypatch):
    """It is steepest at its very end: a tenth of that is safe."""
    monkeypatch.setattr("convax.training.lr_finder.smooth", np.array)
    losses = np.where(RATES < 0.1, 2 - RATES, 50)
    ramp = read_ramp(RATES, losses, 200)
    assert ramp.rule == "tenth of the lowest"
    np.testing.assert_allclose(ramp.suggestion, RATES[RATES < 0.1][-1] / 10)


@pytest.mark.parametrize(
    ("end", "diverged"),
    [
        ([1.0, 0.5, 1.9], False),
        ([1.0, 0.5, 2.1], True),
        ([1.0, 0.1, 0.9], False),  # not above where it began
        ([math.nan], True),
        ([1.0], False),
    ],
)
def test_has_diverged_at_four_times_the_smallest_loss(end, diverged):
    assert has_diverged(np.array(WARMUP * [1.0] + end)) == diverged


@pytest.mark.parametrize("losses", [[0.1, 0.9, 0.7], [0.001, 0.7, 0.7], [0.001] + 60 * [0.7]])
def test_easy_batches_at_first_are_no_divergence(losses):
    smoothed = [smooth(losses[:t]) for t in range(1, len(losses) + 1)]
    assert not any(map(has_diverged, smoothed))
    assert has_diverged(np.array([0.1, math.inf]))


def test_noise_does_not_bring_the_suggestion_down():
    """Losses of single images, from 0.05 to 2 times their mean: ten suggestions in the fall."""
    rng, z = np.random.default_rng(0), np.log10(RATES)
    mean = 2.3 - 1.8 / (1 + np.exp(-3 * (z + 2))) + np.where(z > -1, 8 * (z + 1) ** 2, 0)
    for _ in range(10):
        ramp = read_ramp(RATES, mean * rng.uniform(0.05, 2, 200), 200)
        assert ramp.suggestion is not None and 1e-3 < ramp.suggestion < 0.1


def test_axes_of_searches_and_sweeps_have_labels_of_plain_text(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(figures, "write", lambda figure, path: drawn.append(figure))
    losses = curve(RATES)
    lr_finder.draw(RATES, losses, losses, 1e-3, "steepest", tmp_path)
    labels = [label.get_text() for label in drawn[0].axes[0].get_xticklabels()]
    assert "0.001" in labels and not any("$" in label for label in labels)
    members = [{"keys": {"lr": v}, "test": {"accuracy": v}, "validation": None} for v in (0.01, 1)]
    swept = draw_sweep({"members": members}, "lr", "accuracy", title="a sweep")
    assert "0.1" in [label.get_text() for label in swept.axes[0].get_xticklabels()]


def test_a_search_ends_where_the_loss_breaks(tiny, tmp_path):
    overrides = [
        "model.activation=tanh",
        "optimizer={name='sgd', learning_rate=1.0, momentum=0.0, nesterov=false, weight_decay=0.1}",  # breaks beyond 2 / 0.1
    ]
    config = load_config(tiny, overrides)
    ramp = find_learning_rate(config, tmp_path / "lr", low=1e-4, high=1e3, steps=60)
    assert ramp.diverged and 10 < len(ramp.loss) < 60
    assert 1e-4 <= ramp.suggestion < ramp.learning_rate[-1]
    np.testing.assert_allclose(ramp.learning_rate[:2], [1e-4, 1e-4 * 10 ** (7 / 59)], 1e-6)
    values = json.loads((tmp_path / "lr" / "lr-find.json").read_text())
    assert values["suggestion"] == ramp.suggestion
    assert len(values["learning_rate"]) == len(values["loss"]) == len(ramp.loss)
    with Image.open(tmp_path / "lr" / "lr-find.png") as image:
        assert image.size[0] > 600
    again = find_learning_rate(config, tmp_path / "again", low=1e-4, high=1e3, steps=60)
    np.testing.assert_array_equal(again.loss, ramp.loss)


def test_suggested_learning_rate_trains(tiny, tmp_path):
    import convax

    ramp = find_learning_rate(load_config(tiny), tmp_path / "lr", low=1e-5, high=10, steps=80)
    rate = f"optimizer.learning_rate={ramp.suggestion}"
    run = convax.train(load_config(tiny, [rate]), tmp_path / "run")
    assert run.info()["result"]["test"]["accuracy"] > 0.8


def test_lr_find_command_says_what_to_set(tiny, tmp_path, command):
    code, out, _ = command(
        *("lr-find", tiny, "--out", tmp_path / "lr"),
        *("--from", "1e-4", "--to", "1", "--steps", "20"),
    )
    assert code == 0
    assert "--set optimizer.learning_rate=" in out
    assert sorted(p.name for p in (tmp_path / "lr").iterdir()) == ["lr-find.json", "lr-find.png"]


def test_lr_find_command_says_that_nothing_was_learned(tiny, tmp_path, command):
    code, out, _ = command(
        *("lr-find", tiny, "--out", tmp_path / "lr"),
        *("--from", "1e-12", "--to", "1e-9", "--steps", "30", "--json"),
    )
    assert code == 0
    found = json.loads(out)
    assert found["suggestion"] is None
    assert "the loss did not fall" in found["rule"] and "--to above 1e-09" in found["rule"]
    assert json.loads((tmp_path / "lr" / "lr-find.json").read_text())["suggestion"] is None
    assert (tmp_path / "lr" / "lr-find.png").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"low": 1.0, "high": 0.1}, r"lr-find: got a ramp from 1 to 0.1, need 0 < from < to"),
        ({"low": 0.0}, r"lr-find: got a ramp from 0 to 10, need"),
        ({"high": 1e39}, r"lr-find: got a ramp from 1e-06 to 1e\+39, need .* float32 holds: from"),
        ({"low": 1e-40}, r"lr-find: got a ramp from 1e-40 to 10, need .* float32 holds"),
        ({"steps": 3}, r"lr-find: got 3 steps, need 10 or more"),
    ],
)
def test_lr_find_rejects_wrong_ramps(tiny, tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        find_learning_rate(load_config(tiny), tmp_path / "lr", **options)
    assert not (tmp_path / "lr").exists()


def test_a_loss_that_is_broken_from_the_start_suggests_nothing():
    with pytest.raises(ConfigError, match=r"the loss is nan at the first learning rate, 0\.1"):
        read_ramp(np.array([0.1, 1.0]), [math.nan, math.nan], 20)
