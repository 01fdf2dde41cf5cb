"""When the learning rate is lowered: as PyTorch does, and to the same bytes after a resume."""

import json

import numpy as np
import pytest

import convax
from convax.training.config.schema import ConfigError, load_config
from convax.training.loop.plateau import PlateauProgress, after_evaluation
from convax.training.loop.signals import InterruptedRun
from tests.training.loop.test_loop import Recorder, final_bytes, without_timings

NAN = float("nan")
# Nothing improves by as much, so that every evaluation after the first lowers the rate.
PLATEAU = ["plateau.factor=0.5", "plateau.patience=1", "plateau.min_delta=10.0"]
SAVING = ["optimizer.amsgrad=true", "optimizer.mu_dtype=bfloat16", "optimizer.maximize=false"]


def scales(metrics, **rules):
    """The scale behind each evaluation; the progress goes through JSON in between."""
    progress, found = PlateauProgress(), []
    for metric in metrics:
        progress = after_evaluation(progress, metric, **rules)
        progress = PlateauProgress(**json.loads(json.dumps(progress._asdict(), allow_nan=False)))
        found.append(progress.scale)
    return found


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize(
    ("patience", "min_delta", "cooldown", "min_scale"),
    [(1, 0.0, 0, 0.0), (3, 0.0, 2, 0.0), (2, 0.3, 1, 0.01), (1, 0.1, 4, 0.2)],
)
def test_scale_follows_torch(torch, rng, mode, patience, min_delta, cooldown, min_scale):
    metrics = [*(rng.normal(size=60) + np.linspace(0, 2, 60)).tolist(), NAN, NAN, 1.0, NAN]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        mode,
        factor=0.5,
        patience=patience - 1,
        threshold=min_delta,
        threshold_mode="abs",
        cooldown=cooldown,
        min_lr=0.5 * min_scale,
        eps=0,
    )
    expected = []
    for metric in metrics:
        scheduler.step(metric)
        expected.append(scheduler.get_last_lr()[0] / 0.5)
    rules = {"patience": patience, "min_delta": min_delta, "cooldown": cooldown}
    found = scales(metrics, factor=0.5, min_scale=min_scale, mode=mode, **rules)
    assert found == expected
    assert found[-1] < 1


def test_scale_follows_hand_arithmetic():
    rules = {"factor": 0.1, "patience": 2, "cooldown": 1, "min_scale": 0.05}
    metrics = [0.5, 0.4, 0.5, 0.4, 0.4, 0.4, 0.9, NAN, NAN]  # the second 0.4 behind 0.1 rests
    assert scales(metrics, **rules) == [1, 1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05]


def test_resume_on_plateau_is_bit_identical(tiny, tmp_path):
    """Also with a first moment in bfloat16, and AMSGrad's largest, in the checkpoint."""
    config = load_config(tiny, [*PLATEAU, *SAVING, 'schedule={name="constant"}'])
    display = Recorder()
    whole = convax.train(config, tmp_path / "whole", display=display)
    rates = {r["step"]: r["learning_rate"] for r in whole.metrics() if r["kind"] == "train"}
    expected = {**dict.fromkeys((7, 14, 20, 27, 34, 40), 0.01), 47: 0.005, 54: 0.005, 60: 0.005}
    assert rates == expected
    assert any(n.endswith("the schedule's times 0.5 from step 41 on") for n in display.notes)
    out = tmp_path / "interrupted"
    for at in (40, 47):  # behind the evaluation that lowers the rate, and later
        with pytest.raises(InterruptedRun):
            if at == 40:
                convax.train(config, out, display=Recorder(at))
            else:
                convax.resume(out, display=Recorder(at))
    resumed = convax.resume(out)
    assert final_bytes(resumed) == final_bytes(whole)
    assert without_timings(resumed) == without_timings(whole)


def test_lowered_rate_scales_the_updates(tiny, tmp_path):
    """With plain gradient descent an update is the rate times the gradient."""
    sgd = 'optimizer={name="sgd",learning_rate=0.1,momentum=0.0,nesterov=false,weight_decay=0.0}'
    overrides = [*PLATEAU, sgd, 'schedule={name="constant"}', "training.log_every=1"]
    run = convax.train(load_config(tiny, overrides), tmp_path / "run")
    steps = [r for r in run.metrics() if r["kind"] == "train"]
    ratios = [r["update_norm"] / r["grad_norm"] for r in steps]
    np.testing.assert_allclose(ratios, [0.1] * 40 + [0.05] * 20, 1e-5)
    np.testing.assert_allclose([r["learning_rate"] for r in steps], ratios, 1e-5)


def test_plateau_needs_validation_images(tiny, tmp_path):
    config = load_config(tiny, ["data.validation=0", *PLATEAU])
    with pytest.raises(ConfigError, match=r"^plateau: needs validation images; set data.validat"):
        convax.train(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("plateau.factor=1.0", "plateau.factor: should be less than 1"),
        ("plateau.patience=0", "plateau.patience: should be greater than"),
        ("plateau.cool_down=1", "plateau.cool_down: unknown key; did you mean 'cooldown'"),
        ("plateau.min_scale=1.0", "plateau.min_scale: should be less than 1"),
        ("optimizer.amsgrd=true", "optimizer.amsgrd: unknown key; did you mean 'amsgrad'"),
        ("optimizer.mu_dtype=int8", "optimizer.mu_dtype: should be 'float32' or 'bfloat16'"),
    ],
)
def test_config_of_plateau_and_options_is_checked(tiny, override, said):
    with pytest.raises(ConfigError, match=said):
        load_config(tiny, [*PLATEAU, override])


def test_plateau_without_patience_says_what_to_write(tiny):
    with pytest.raises(ConfigError, match=r"plateau.patience: missing; write .* = 10, say"):
        load_config(tiny, ["plateau.factor=0.1"])
