"""Callbacks: what they see and when, that they change nothing, how they stop a run or fail."""

import jax
import numpy as np
import pytest

import convax
from convax.training.config.errors import ConfigError
from convax.training.loop.callbacks import EVENTS, CallbackError, View, call, make_callbacks
from convax.training.run.directory import Run
from tests.tiny import write_tiny
from tests.training.loop.test_loop import Recorder, final_bytes


class Log:
    """Remembers what it was shown; raises at an event, if asked to."""

    def __init__(self, fail=None, step=0, stop=None):
        self.seen, self.fail, self.step, self.stop = [], fail, step, stop

    def _note(self, event, view):
        self.seen.append((event, view.step, dict(view.metrics)))
        if event == self.fail and view.step >= self.step:
            raise ValueError("of its own")
        return self.stop if event == "on_evaluate" and view.step >= self.step else None

    def on_start(self, view):
        self.params, self.view = view.params, view
        return self._note("on_start", view)

    def on_chunk(self, view):
        return self._note("on_chunk", view)

    def on_evaluate(self, view):
        return self._note("on_evaluate", view)

    def on_checkpoint(self, view):
        return self._note("on_checkpoint", view)

    def on_end(self, view):
        return self._note("on_end", view)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return convax.config(write_tiny(tmp_path_factory.mktemp("watched")))


def test_callbacks_see_every_event_and_change_nothing(config, whole, tmp_path):
    config = convax.config(config, **{"data.path": whole.config().data.path})
    log = Log()
    run = convax.train(config, tmp_path / "run", callbacks=[log])
    assert final_bytes(run) == final_bytes(whole)
    steps = {event: [s for name, s, _ in log.seen if name == event] for event in EVENTS}
    assert steps["on_start"] == [0] and steps["on_end"] == [60]
    assert steps["on_evaluate"] == steps["on_checkpoint"] == [20, 40, 60]
    assert {20, 40, 60} <= set(steps["on_chunk"])
    chunk, evaluated, ended = (
        next(m for name, _, m in log.seen if name == event)
        for event in ("on_chunk", "on_evaluate", "on_end")
    )
    assert {"loss", "accuracy", "grad_norm"} <= chunk.keys()
    assert evaluated["split"] == "validation" and ended["split"] == "test"
    first = jax.tree.leaves(log.params)[0]
    assert isinstance(first, np.ndarray) and not first.flags.writeable
    with pytest.raises(TypeError):
        log.view.metrics["loss"] = 0
    assert run.info()["callbacks"] == ["Log"]


@pytest.mark.parametrize("event", ["on_chunk", "on_evaluate"])
def test_what_one_raises_stops_the_run_with_its_state_saved(event, config, whole, tmp_path):
    config = convax.config(config, **{"data.path": whole.config().data.path})
    said = rf"test_callbacks\.py, line \d+: ValueError: of its own: in {event} of Log, at step \d+ "
    with pytest.raises(CallbackError, match=said + "of 60; correct it, and continue with: convax"):
        convax.train(config, tmp_path / "run", callbacks=[Log(fail=event, step=21)])
    display = Recorder()
    run = convax.resume(tmp_path / "run", display=display)
    assert final_bytes(run) == final_bytes(whole)
    assert "note: callbacks: Log: not given this time" in display.notes


def test_one_may_ask_to_stop_and_fail_at_the_end(config, tmp_path):
    log = Log(stop="enough", step=20, fail="on_end")
    with pytest.raises(
        CallbackError, match="in on_end of Log, at step 20 of 60; the run is finished"
    ):
        convax.train(config, tmp_path / "run", callbacks=[log])
    result = Run(tmp_path / "run").info()["result"]
    assert (result["step"], result["stopped_early"]) == (20, "Log: enough")


def view_of(step=3):
    return View(None, step, 60, {}, lambda: None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("methods", "event", "said"),
    [
        ({"on_chunk": lambda self, view: 3}, "on_chunk", "returned int, need None, or a text, the"),
        (
            {"on_end": lambda self, view: "no"},
            "on_end",
            "on_end of Odd, .*: returned str, need None",
        ),
        (
            {"on_end": lambda self: None},
            "on_end",
            r"test_callbacks\.py, line \d+: TypeError: .*on_",
        ),
    ],
)
def test_what_a_callback_may_not_do(methods, event, said):
    with pytest.raises(CallbackError, match=said):
        call([type("Odd", (), methods)()], event, view_of())


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ({"on_evalute": 0}, "Odd: on_evalute is never called; did you mean 'on_evaluate'"),
        ({}, "callbacks: Odd has none of on_start, on_chunk, "),
    ],
)
def test_what_is_no_callback(config, methods, said):
    with pytest.raises(ConfigError, match=said):
        make_callbacks(config, [type("Odd", (), methods)()])


def test_several_processes_have_no_callbacks(config, monkeypatch):
    monkeypatch.setattr("jax.process_count", lambda: 2)
    with pytest.raises(ConfigError, match="callbacks: they are for one process, got 2"):
        make_callbacks(config, [Log()])
