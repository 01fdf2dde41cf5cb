"""Schedules against their formulas, PyTorch's schedulers, and what a run needs of them."""

import inspect
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from convax.training.common.duration import RunLength
from convax.training.config.schema import ConfigError, load_config
from convax.training.experiment import prepare
from convax.training.optim.optimizer import adam, sgd
from convax.training.optim.schedules.common import values_of
from convax.training.optim.schedules.join import schedule_of
from convax.training.optim.schedules.schedules import SCHEDULES

T = 40
PEAK = 0.4


def values(schedule, steps=T + 1):
    """The schedule at 0, 1, 2 ... (at a traced count)."""
    rate = jax.jit(jax.vmap(lambda t: jnp.asarray(schedule(t), float)))
    return np.asarray(rate(jnp.arange(steps)))


def half_cosine(start, end, part):
    return end + (start - end) * (1 + np.cos(np.pi * part)) / 2


t = np.arange(T + 1)
FORMULAS = {
    "constant": ({}, np.full(T + 1, PEAK)),
    "linear": ({}, PEAK * (1 - t / T)),
    "linear_end": ({"end": 0.25}, PEAK * (1 - 0.75 * t / T)),
    "cosine": ({}, half_cosine(PEAK, 0, t / T)),
    "cosine_end": ({"end": 0.25}, half_cosine(PEAK, 0.25 * PEAK, t / T)),
    "cosine_warmup": (
        {"warmup": 0.25},
        np.where(t < 10, PEAK * (t + 1) / 11, half_cosine(PEAK, 0, (t - 10) / 30)),
    ),
    "onecycle": (
        {"warmup": 0.2, "div_factor": 20.0, "final_div_factor": 5.0},
        np.where(
            t < 8,
            half_cosine(PEAK / 20, PEAK, t / 8),
            half_cosine(PEAK, PEAK / 100, (t - 8) / 32),
        ),
    ),
    "onecycle_no_warmup": (
        {"warmup": 0.0, "div_factor": 2.0, "final_div_factor": 2.0},
        half_cosine(PEAK, PEAK / 4, t / T),
    ),
    "exponential": ({"rate": 0.5, "decay_steps": 0.25}, PEAK * 0.5 ** (t / 10)),
    "exponential_staircase": (
        {"rate": 0.5, "decay_steps": 0.25, "staircase": True},
        PEAK * 0.5 ** (t // 10),
    ),
    "step": ({}, PEAK * np.where(t < 20, 1, np.where(t < 30, 0.1, 0.01))),
    "polynomial": ({}, PEAK * (1 - t / T) ** 2),
    "polynomial_end": ({"power": 0.5, "end": 0.25}, PEAK * (0.25 + 0.75 * (1 - t / T) ** 0.5)),
    "cosine-restarts": (
        {"cycles": 2, "t_mult": 3.0},
        np.where(t < 10, half_cosine(PEAK, 0, t / 10), half_cosine(PEAK, 0, (t - 10) / 30)),
    ),
    "cosine-restarts_one": ({"cycles": 1, "end": 0.25}, half_cosine(PEAK, 0.25 * PEAK, t / T)),
    "linear-onecycle": (
        {"warmup": 0.25, "pct_final": 0.5, "div_factor": 4.0, "final_div_factor": 5.0},
        PEAK * np.interp(t, [0, 10, 20, 40], [0.25, 1, 0.25, 0.05]),
    ),
    "piecewise": (
        {"at": [0.25, 0.5, 1.0], "factors": [0.5, 1.0, 0.25]},
        PEAK * np.interp(t, [10, 20, 40], [0.5, 1.0, 0.25]),
    ),
    "step_at": (
        {"milestones": [0.9, 0.1], "gamma": 0.5},
        PEAK * 0.5 ** (1.0 * (t >= 4) + (t >= 36)),
    ),
}


def build(case, peak=PEAK, steps=T):
    keywords, _ = FORMULAS[case]
    name = case.split("_")[0].replace("-", "_")
    return SCHEDULES[name](peak, steps, **keywords)


@pytest.mark.parametrize("case", FORMULAS)
def test_schedule_follows_its_formula(case):
    _, expected = FORMULAS[case]
    np.testing.assert_allclose(values(build(case)), expected, 1e-5, 1e-7)
    with jax.enable_x64(True):
        np.testing.assert_allclose(values(build(case)), expected, 1e-12, 1e-15)


@pytest.mark.parametrize("case", FORMULAS)
def test_schedule_takes_python_numbers(case):
    schedule, expected = build(case), FORMULAS[case][1]
    np.testing.assert_allclose([schedule(0), schedule(T)], expected[[0, -1]], 1e-5, 1e-7)


@pytest.mark.parametrize("case", FORMULAS)
def test_schedule_wastes_no_update(case):
    """A learning rate of 0 would be a step that does nothing, and end a run that watches for it."""
    assert np.all(values(build(case), T) > 0)


@pytest.mark.parametrize("case", [c for c in FORMULAS if c != "cosine_warmup"])
def test_schedule_over_twice_the_updates_is_the_same_curve(case):
    twice = values(build(case, steps=2 * T), 2 * T + 1)
    if "staircase" not in case and "step" not in case:
        np.testing.assert_allclose(twice[::2], FORMULAS[case][1], 1e-5, 1e-7)
    else:
        np.testing.assert_allclose(twice[:-1], np.repeat(FORMULAS[case][1][:-1], 2), 1e-5)


def test_onecycle_is_that_of_optax():
    theirs = optax.cosine_onecycle_schedule(T, PEAK)
    with jax.numpy_dtype_promotion("standard"):
        expected = values(theirs)
    np.testing.assert_allclose(values(SCHEDULES["onecycle"](PEAK, T)), expected, 1e-6)


def test_linear_onecycle_is_that_of_optax():
    with jax.numpy_dtype_promotion("standard"):
        expected = values(optax.linear_onecycle_schedule(T, PEAK))
    np.testing.assert_allclose(values(SCHEDULES["linear_onecycle"](PEAK, T)), expected, 1e-6)


def test_restarts_are_those_of_optax():
    each = {"init_value": PEAK, "peak_value": PEAK, "warmup_steps": 0, "end_value": 0.0}
    with jax.numpy_dtype_promotion("standard"):
        expected = values(optax.sgdr_schedule([each | {"decay_steps": n} for n in (8, 32)]))
    ours = SCHEDULES["cosine_restarts"](PEAK, T, cycles=2, t_mult=4.0)
    np.testing.assert_allclose(values(ours), expected, 1e-6, 1e-9)


# The same in PyTorch's torch.optim.lr_scheduler.
TORCH = {
    "linear_end": ("LinearLR", {"start_factor": 1.0, "end_factor": 0.25, "total_iters": T}),
    "cosine_end": ("CosineAnnealingLR", {"T_max": T, "eta_min": 0.25 * PEAK}),
    "polynomial": ("PolynomialLR", {"total_iters": T, "power": 2.0}),
    "exponential": ("ExponentialLR", {"gamma": 0.5 ** (1 / 10)}),
    "exponential_staircase": ("StepLR", {"step_size": 10, "gamma": 0.5}),
    "step": ("MultiStepLR", {"milestones": [20, 30], "gamma": 0.1}),
}


def torch_values(name, keywords, steps):
    torch = pytest.importorskip("torch", reason="the oracle needs PyTorch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = getattr(torch.optim.lr_scheduler, name)(optimizer, **keywords)
    rates = []
    for _ in range(steps):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("case", TORCH)
def test_schedule_equals_torch(case):
    name, keywords = TORCH[case]
    np.testing.assert_allclose(values(build(case), T), torch_values(name, keywords, T), 1e-5)


def test_onecycle_of_torch_is_one_update_shorter():
    keywords = {"max_lr": PEAK, "total_steps": T, "pct_start": 0.3, "cycle_momentum": False}
    expected = torch_values("OneCycleLR", keywords, T - 1)
    ours = SCHEDULES["onecycle"](PEAK, T - 1, warmup=(0.3 * T - 1) / (T - 1))
    np.testing.assert_allclose(values(ours, T - 1), expected, 1e-4)
    assert np.argmax(expected) == 11 and np.argmax(values(SCHEDULES["onecycle"](PEAK, T))) == 12


def test_schedules_of_short_runs_reach_the_peak():
    for name in ("constant", "linear", "cosine", "onecycle", "exponential"):
        assert SCHEDULES[name](1.0, 1)(0) == 1.0
    for name in ("cosine", "onecycle"):  # something is left to fall
        schedule = values(SCHEDULES[name](1.0, 10, warmup=0.99))
        assert np.argmax(schedule) == 9 and schedule[10] < 0.01
    both = SCHEDULES["step"](1.0, 3, milestones=[0.6, 0.7], gamma=0.5)  # both fall on update 2
    np.testing.assert_allclose(values(both, 4), [1, 1, 0.25, 0.25])


def test_schedule_drives_an_optimizer_under_jit():
    optimizer = sgd(SCHEDULES["cosine"](0.1, 10, warmup=0.2), momentum=0.0)
    state, update = optimizer.init(jnp.ones(1)), jax.jit(optimizer.update)
    for rate in values(SCHEDULES["cosine"](0.1, 10, warmup=0.2), 5):
        updates, state = update(jnp.ones(1), state)
        np.testing.assert_allclose(updates, [-rate], 1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_maps_over_many_peaks(name):
    def update(peak):
        optimizer = adam(SCHEDULES[name](peak, 10))
        return optimizer.update(jnp.ones(()), optimizer.init(jnp.ones(())))[0]

    peaks = jnp.array([0.1, 0.2])
    np.testing.assert_allclose(jax.jit(jax.vmap(update))(peaks), [update(0.1), update(0.2)], 1e-5)


@pytest.mark.parametrize(
    ("name", "arguments", "keywords", "message"),
    [
        ("constant", (-0.1, 10), {}, r"peak is out of range: got -0.1, need a finite learning"),
        ("cosine", (float("nan"), 10), {}, r"peak is out of range: got nan"),
        ("linear", (0.1, 0), {}, r"steps is out of range: got 0, need a whole number of updates"),
        ("linear", (0.1, 2.5), {}, r"steps is out of range: got 2.5"),
        ("linear", (0.1, 10), {"end": 1.5}, r"end .*: got 1.5, need a fraction of peak in \[0"),
        ("cosine", (0.1, 10), {"end": -1.0}, r"end is out of range: got -1.0"),
        ("cosine", (0.1, 10), {"warmup": 1.0}, r"warmup .*: got 1.0, need .* the run in \[0, 1\)"),
        ("onecycle", (0.1, 10), {"warmup": -0.1}, r"warmup is out of range: got -0.1"),
        ("onecycle", (0.1, 10), {"div_factor": 0.5}, r"div_factor .*: got 0.5, need a number >"),
        (
            "onecycle",
            (0.1, 10),
            {"final_div_factor": 0.0},
            r"final_div_factor is out of range: got 0.0",
        ),
        ("exponential", (0.1, 10), {"rate": 0.0}, r"rate .*: got 0.0, need a factor > 0"),
        (
            "exponential",
            (0.1, 10),
            {"decay_steps": 0.0},
            r"decay_steps .*: got 0.0, need .* in \(0, 1\]",
        ),
        ("polynomial", (0.1, 10), {"power": 0.0}, r"power .*: got 0.0, need a number > 0"),
        (
            "cosine_restarts",
            (0.1, 10),
            {"cycles": 0},
            r"cycles .*: got 0, need a whole number >= 1",
        ),
        (
            "cosine_restarts",
            (0.1, 3),
            {"cycles": 9},
            r"cycles .*: got 9, need as many as 3 updates have",
        ),
        ("cosine_restarts", (0.1, 10), {"t_mult": 0.5}, r"t_mult .*: got 0.5, need a number >= 1"),
        (
            "linear_onecycle",
            (0.1, 10),
            {"pct_final": 0.2},
            r"pct_final .*: got 0.2, need .* above warmup",
        ),
        ("piecewise", (0.1, 10), {"at": [0.5, 0.1]}, r"at .*: got \[0.5, 0.1\], need rising fra"),
        ("piecewise", (0.1, 10), {"factors": [1.0]}, r"factors .*: got \[1.0\], need 3 numbers"),
        (
            "step",
            (0.1, 10),
            {"milestones": [0.5, 30]},
            r"milestones .*: got \[0.5, 30\], need fractions of the",
        ),
        ("step", (0.1, 10), {"gamma": -0.5}, r"gamma is out of range: got -0.5, need a fac"),
    ],
)
def test_schedule_rejects_arguments_out_of_range(name, arguments, keywords, message):
    with pytest.raises(ValueError, match=f"^{name}: {message}"):
        SCHEDULES[name](*arguments, **keywords)


def test_schedule_signatures_give_config_tables():
    for build in SCHEDULES.values():
        peak, steps, *keywords = inspect.signature(build).parameters.values()
        assert (peak.name, peak.annotation, steps.name, steps.annotation) == (
            "peak",
            float,
            "steps",
            int,
        )
        assert peak.default is steps.default is peak.empty
        assert all(k.kind is k.KEYWORD_ONLY and k.default is not k.empty for k in keywords)


def test_schedules_import_optax_only_to_build():
    code = """
import sys
from convax.training.optim.schedules.schedules import SCHEDULES
SCHEDULES["constant"](0.1, 10)
assert "optax" not in sys.modules
SCHEDULES["linear"](0.1, 10)
assert "optax" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", [n for n in SCHEDULES if n not in ("onecycle", "linear_onecycle")])
def test_warmup_goes_in_front_of_any_schedule(name):
    """Ten updates of a straight rise, then the schedule over the other thirty."""
    table = {"name": name, "warmup": "25%"}
    found = values(schedule_of(SCHEDULES, table, PEAK, RunLength(1, 1, T)))
    alone = values(SCHEDULES[name](PEAK, 30), 31)
    rounding = np.spacing(np.float32(PEAK))  # which a zero at the end may have of the sum before it
    np.testing.assert_allclose(found[10:], alone, 1e-6, rounding)
    np.testing.assert_allclose(found[:10], alone[0] * np.arange(1, 11) / 11, 1e-6, 1e-9)


def test_schedule_without_warmup_is_itself():
    table = {"name": "constant", "warmup": 0.0}
    assert schedule_of(SCHEDULES, table, PEAK, RunLength(1, 1, T))(3) is PEAK


JOINED = """
[schedule]
name = "sequence"

[[schedule.parts]]
name = "constant"
warmup = "5 steps"
until = "160 examples"

[[schedule.parts]]
name = "linear"
end = 0.5
until = 0.5

[[schedule.parts]]
name = "step"
milestones = ["50%"]
gamma = 0.1
scale = 0.2
"""


def with_schedule(tiny, text):
    rest = tiny.read_text()
    start, end = rest.index("[schedule]"), rest.index("[training]")
    tiny.write_text(rest[:start] + rest[end:] + text)
    return load_config(tiny)


def test_sequence_runs_schedules_one_after_the_other(tiny):
    """60 steps of 16 images: to step 10, to step 30, to the end."""
    schedule = prepare(with_schedule(tiny, JOINED)).schedule
    expected = np.concatenate(
        [np.arange(1, 6) / 6, np.ones(5), 1 - 0.5 * np.arange(20) / 20, [0.2] * 15, [0.02] * 15]
    )
    np.testing.assert_allclose(values(schedule, 60), 0.01 * expected, 1e-5)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "until = 0.5",
            "",
            r"schedule.parts: parts need until, e.g. until = .10%., except the last",
        ),
        (
            "until = 0.5",
            "until = 0.1",
            r"schedule: sequence: until .* got \['160 examples', 0.1\], need",
        ),
        ("until = 0.5", "untl = 0.5", r"schedule.parts.1.untl: unknown key; did you mean 'until'"),
        ('"linear"', '"lniear"', r"schedule.parts.1.name: should be .*did you mean 'linear'"),
        ('"5 steps"', '"2 epochs"', r"schedule: constant: warmup is out of range: got 1.375"),
    ],
)
def test_sequence_that_does_not_fit_the_run_is_rejected(tiny, old, new, message):
    with pytest.raises(ConfigError, match=message):
        prepare(with_schedule(tiny, JOINED.replace(old, new)))


def test_learning_rates_of_a_run_are_those_of_its_steps():
    counts, rates = values_of(build("cosine"), T)
    np.testing.assert_array_equal(counts, np.arange(T))
    np.testing.assert_allclose(rates, FORMULAS["cosine"][1][:T], 1e-12)
    counts, rates = values_of(SCHEDULES["linear"](1.0, 2**31 - 1), 2**31 - 1)
    assert len(set(counts)) == len(rates) == 2**20
    assert counts[0] == 0 and counts[-1] < 2**31 and 0 < rates[-1] < 1e-5


SPIKE = """
[schedule]
name = "sequence"

[[schedule.parts]]
name = "constant"
until = 0.5

[[schedule.parts]]
name = "exponential"
rate = 1e-30
decay_steps = 0.6
staircase = true
scale = 1e-30
until = 0.9

[[schedule.parts]]
name = "constant"
"""


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (SPIKE, "step 45 of 60 is 1e-62, need a number that float32 holds: 0, or from 1e-38 to"),
        (SPIKE.replace("e-30", "e30"), "step 45 of 60 is inf, need"),
    ],
)
def test_learning_rate_that_float32_does_not_hold_midway_is_rejected(tiny, schedule, message):
    with pytest.raises(ConfigError) as caught:
        prepare(with_schedule(tiny, schedule))
    assert str(caught.value).startswith(f"schedule: the learning rate of {message}")


@pytest.mark.parametrize(
    ("override", "step"),
    [
        ('schedule={name="step", milestones=[0.2, 0.3], gamma=1e-20}', "19"),
        ('schedule={name="cosine_restarts", cycles=3, t_mult=1.0, end=0.0}', None),
        ('schedule={name="polynomial", power=30.0, end=0.0}', "58"),
        ('schedule={name="piecewise", at=[0.0, 0.5, 1.0], factors=[1.0, 0.0, 1.0]}', None),
        ('schedule={name="piecewise", at=[0.0, 0.5, 1.0], factors=[1.0, 1e38, 1.0]}', None),
        ('schedule={name="step", milestones=[0.5], gamma=0.0}', None),
    ],
)
def test_learning_rates_of_all_steps_are_checked(tiny, override, step):
    """What the schedule has at 0 by intention stays."""
    config = load_config(tiny, [override, "optimizer.learning_rate=0.5"])
    if step is None:
        prepare(config)
        return
    with pytest.raises(ConfigError, match=f"^schedule: the learning rate of step {step} of 60 is"):
        prepare(config)
