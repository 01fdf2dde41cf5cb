"""Durations: one function reads them, wherever they stand."""

import math

import numpy as np
import pytest

from convax.training.common.duration import RunLength, duration_in_steps, parse_duration
from convax.training.config.schema import ConfigError, load_config
from convax.training.experiment import count_steps, prepare

RUN = RunLength(examples=100, batch_size=8, total=200)


@pytest.mark.parametrize(
    ("duration", "steps"),
    [
        ("30 steps", 30),
        ("1 step", 1),
        ("1 epoch", 12.5),
        ("0.5 epochs", 6.25),
        ("400 examples", 50),
        ("1 example", 1 / 8),
        ("10%", 20),
        ("0.5 %", 1),
    ],
)
def test_duration_converts_to_steps(duration, steps):
    assert duration_in_steps(duration, RUN) == steps


@pytest.mark.parametrize("text", ["often", "3", "0 steps", "-1 step", "3 stepss", "% 3", "1 e", ""])
def test_parse_duration_rejects_other_text(text):
    with pytest.raises(ValueError, match=r'should be a duration such as "1 epoch", "500 steps"'):
        parse_duration(text)


@pytest.mark.parametrize("text", ["9" * 30 + " steps", "9" * 400 + " epochs", "9" * 309 + "%"])
def test_parse_duration_rejects_what_no_run_is_as_long_as(text):
    with pytest.raises(ValueError, match=r"should be a duration of at most 1e\+15 of a unit"):
        parse_duration(text)


def test_percent_needs_a_known_total():
    with pytest.raises(ValueError, match=r"'10%' of what\? write steps, epochs or examples"):
        duration_in_steps("10%", RUN._replace(total=None))


@pytest.mark.parametrize(
    ("length", "steps"), [("30 steps", 30), ("2 epochs", 14), ("100 examples", 7)]
)
def test_count_steps_takes_the_length_that_ends_first(tiny, length, steps):
    """Of several lengths what ends first; 110 images in batches of 16."""
    config = load_config(tiny, [f"training.length={length}"])
    assert (
        count_steps(config, 110)
        == steps
        == math.ceil(duration_in_steps(length, RunLength(110, 16)))
    )
    assert count_steps(load_config(tiny, ["training.length=9000 steps"]), 110) == 60


@pytest.mark.parametrize(
    ("warmup", "rise"), [("0.1", 6), ("10%", 6), ("6 steps", 6), ("96 examples", 6), ("1 epoch", 7)]
)
def test_schedule_takes_its_warmup_in_any_unit(tiny, warmup, rise):
    rates = [float(prepare(load_config(tiny, [f"schedule.warmup={warmup}"])).schedule(6))]
    expected = 0.01 if rise == 6 else 0.01 * 7 / 8
    np.testing.assert_allclose(rates[0], expected, 1e-6)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.length=10%", 'training.length: should be a length such as "4 epochs"'),
        ("training.evaluate_every=3 weeks", "training.evaluate_every: should be a duration such"),
        ("schedule.warmup=often", "schedule.warmup: should be a valid number or should be a dur"),
        ("schedule.warmup=70 steps", r"schedule: cosine: warmup .* got 1\.1\d*, .* of 60 steps"),
    ],
)
def test_config_with_a_wrong_duration_is_rejected(tiny, override, message):
    with pytest.raises(ConfigError, match=message):
        prepare(load_config(tiny, [override]))
