"""The loop over a program that counts steps: who takes them, who waits, and when it is interrupted."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from convax.training.config.schema import load_config
from convax.training.data import DataError, read_batches
from convax.training.distributed.sharding import ShardingPlan
from convax.training.experiment import prepare
from convax.training.loop import chunk_loop, chunks
from convax.training.loop.chunk_loop import ChunkLoop
from convax.training.loop.signals import InterruptedRun
from convax.training.run.directory import Run
from tests.training.loop.test_loop import Metronome


class CountingProgram:
    """Takes no step but counts it; leaves out those of `left_out`, (network, step from 1) each."""

    def __init__(self, steps, left_out=(), shares_batches=False):
        self.steps, self.left_out = list(steps), set(left_out)
        self.shares_batches, self.calls = shares_batches, []

    def dispatch(self, chunks, counts):
        assert len(chunks) == len(counts) == len(self.steps)
        self.calls.append(counts.tolist())
        for i, count in enumerate(counts):
            for _ in range(count):
                if (i, self.steps[i] + 1) in self.left_out:
                    break
                self.steps[i] += 1

    def collect(self):
        return [{"loss": np.full(7, float(i))} for i in range(len(self.steps))], list(self.steps)

    def state(self, index):
        return self.steps[index]

    def count_left_out(self, index):
        self.steps[index] += 1


class CountingRecorder:
    """Keeps the steps at which it was told to evaluate and to save."""

    failure = None

    def __init__(self, experiment, step=0):
        saver = SimpleNamespace(wait=lambda: None)
        self.context = SimpleNamespace(
            experiment=experiment, plan=ShardingPlan(None), run=Run(Path("run")), saver=saver
        )
        self.step, self.ended, self.evaluated, self.saved = step, False, [], []
        self.rate_scale = None

    @property
    def is_training(self):
        return not self.ended and self.step < self.context.experiment.total_steps

    @property
    def is_unfinished(self):
        return self.is_training

    def on_chunk(self, result):
        self.step += result.finite + (result.finite < result.steps)

    def maybe_evaluate(self, result):
        assert result.state() == self.step
        due = result.chunk.evaluated and self.step == result.chunk.stop
        self.evaluated += [self.step] * due
        return due

    def checkpoint(self, train_state):
        self.saved.append(train_state)

    def notify(self, event, metrics, train_state):
        assert event == "on_start" and train_state() == self.step


@pytest.fixture
def run_loop(tiny, monkeypatch):
    """``run_loop(program, size)``: the recorders behind it; chunks of at most `size` steps."""
    experiment = prepare(load_config(tiny))

    def run(program, size, *, signals=(), reports=None):
        monkeypatch.setattr(chunk_loop, "ChunkSizer", lambda: Metronome(size))
        recorders = [CountingRecorder(experiment, step) for step in program.steps]
        on_report = None if reports is None else (lambda *report: reports.append(report))
        loop = ChunkLoop(program, recorders, Run(Path("study")), on_report=on_report)
        run.recorders = recorders
        loop.run(list(signals))
        return recorders

    return run


@pytest.mark.parametrize("shares_batches", [False, True], ids=["own batches", "shared batches"])
def test_chunk_loop_lets_networks_further_on_wait(run_loop, shares_batches):
    program = CountingProgram([48, 53, 60], shares_batches=shares_batches)
    recorders = run_loop(program, 4)
    assert program.calls[:3] == [[4, 0, 0], [1, 0, 0], [1, 1, 0]]
    assert program.steps == [60, 60, 60]
    assert [r.evaluated for r in recorders] == [[60], [60], []]
    assert [r.saved for r in recorders] == [[60], [60], []]


def test_chunk_loop_lets_network_behind_left_out_step_catch_up(run_loop):
    program = CountingProgram([40, 40], left_out=[(1, 42)])
    recorders = run_loop(program, 5)
    assert program.calls[:3] == [[5, 5], [0, 3], [2, 2]]
    assert [r.evaluated for r in recorders] == [[60], [60]]


def test_chunk_loop_saves_and_interrupts_on_signal(run_loop):
    program = CountingProgram([48, 53])
    with pytest.raises(InterruptedRun, match=r"SIGTERM at step 52 of 60, .* study$"):
        run_loop(program, 4, signals=[15])
    assert program.calls == [[4, 0]]
    assert [r.saved for r in run_loop.recorders] == [[52], []]


@pytest.mark.parametrize(
    ("elsewhere", "reason"),
    [([], "x.png: damaged"), ([1], "process 0: stopped because process 1 could not read its data")],
    ids=["here", "in another process"],
)
def test_chunk_loop_saves_where_data_ahead_cannot_be_read(run_loop, monkeypatch, elsewhere, reason):
    def sync(pace, signals, *, failed):
        return pace, signals, elsewhere or [0] * failed

    def failing(split, *, start, stop, **keywords):
        yield from read_batches(split, start=start, stop=min(stop, 53), **keywords)
        raise DataError("x.png: damaged")

    monkeypatch.setattr(chunk_loop.processes, "sync", sync)
    monkeypatch.setattr(chunks, "read_batches", read_batches if elsewhere else failing)
    program = CountingProgram([48, 60])
    with pytest.raises(DataError, match=rf"^{reason}.*; stopped at step 52 of 60, .* study$") as it:
        run_loop(program, 4)
    assert it.value.in_all_processes
    assert [r.saved for r in run_loop.recorders] == [[52], []]


def test_chunk_loop_says_as_it_is_that_the_first_data_cannot_be_read(run_loop, monkeypatch):
    def failing(*_, **__):
        raise DataError("x.png: damaged")
        yield

    monkeypatch.setattr(chunks, "read_batches", failing)
    with pytest.raises(DataError, match=r"^x.png: damaged$"):
        run_loop(CountingProgram([48]), 4)


def test_chunk_loop_reports_losses_of_networks_that_took_chunk(run_loop):
    reports = []
    run_loop(CountingProgram([47, 54]), 7, reports=reports)
    (first, active, losses), (last, both, all_losses) = reports
    assert (first.stop, active, losses.tolist()) == (54, [0], [[0.0] * 7])
    assert (last.stop, both, all_losses.tolist()) == (60, [0, 1], [[0.0] * 6, [1.0] * 6])
