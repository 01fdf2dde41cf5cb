"""Check how long a prediction is said to take: what is timed, and what is not."""

from types import SimpleNamespace

import numpy as np
import pytest

from convax.inference import speed
from convax.inference.speed import Speed, measure_speed
from convax.training.data import DataError


class Clock:
    """A clock that goes on when somebody works."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def work(self, seconds):
        self.now += seconds


class Fake:
    """A predictor whose first call takes 9 s, and others 10 ms an image."""

    params = state = None
    sizes = (1, 8, 64, 512)

    def __init__(self, clock, more=None):
        self.clock, self.calls, self.task = clock, [], SimpleNamespace(more_inputs=more)

    def __call__(self, images):
        if self.task.more_inputs is not None:
            self.task.more_inputs(images)
        return self.function(None, None, images)

    def function(self, params, state, images, *more):
        self.calls.append((len(images), *(len(array) for array in more)))
        self.clock.work(0.01 * len(images) if len(self.calls) > 1 else 9)
        return images


@pytest.mark.parametrize(
    ("count", "batch", "calls"),
    [(3, 1, 6), (20, 8, 6), (100, 64, 5), (1000, 64, 5)],  # after 4 x 0.64 s it is enough
)
def test_the_median_of_calls_behind_a_first_one(monkeypatch, count, batch, calls):
    predictor = Fake(Clock(monkeypatch))
    found = measure_speed(predictor, np.zeros((count, 2, 2, 1), np.uint8))
    assert found[:3] == (pytest.approx(10), batch, None)
    assert predictor.calls == calls * [(batch,)]
    assert found.text.startswith(f"10.00 ms/image ({batch} at once, ")
    assert found.as_record().keys() == {"milliseconds", "batch", "device"}


def test_proposals_are_counted_by_themselves(monkeypatch):
    clock = Clock(monkeypatch)

    def propose(images):
        clock.work(0.3 * len(images))
        return {"proposals": images}

    found = measure_speed(Fake(clock, propose), np.zeros((9, 2, 2, 1), np.uint8))
    assert found[:3] == (pytest.approx(310), 8, pytest.approx(300))
    assert "310.00 ms/image, 300.00 of them before the network (8 at" in found.text


def test_where_there_are_no_proposals_the_network_is_timed_with_some_that_are_made_up(monkeypatch):
    def propose(images, made_up=False):
        if not made_up:
            raise DataError("nothing is proposed here")
        return {"proposals": images}

    predictor = Fake(Clock(monkeypatch), propose)
    found = measure_speed(predictor, np.zeros((9, 2, 2, 1), np.uint8))
    assert found[:3] == (pytest.approx(10), 8, None)
    assert predictor.calls == 6 * [(8, 8)]


def test_a_network_is_timed(whole, command, monkeypatch):
    """The command and the report are given a stand-in in other tests, which time nothing."""
    monkeypatch.setattr(speed, "measure_speed", measure_speed)
    code, said, _ = command("evaluate", whole.path)
    first, second = said.splitlines()
    assert code == 0 and first.startswith("test: loss") and " ms/image (8 at once, " in second
    assert float(second.split()[1]) > 0


def test_it_is_a_line_for_people():
    assert Speed(1234.5, 8, None, "cpu").text == "1,234.50 ms/image (8 at once, cpu)"
