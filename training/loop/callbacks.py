"""Code of one's own that looks on while a network trains, and may ask to stop.

A callback is any object with some of the methods of `EVENTS`, each of which is given a `View`:

    on_start       before the first step, or where the run goes on
    on_chunk       behind each chunk of steps; how long these are, the clock decides
    on_evaluate    behind each validation
    on_checkpoint  once a checkpoint was handed over to be written
    on_end         of a finished run, with what it was tested by

They read. What they return is None; or, of `on_chunk` and `on_evaluate`, a text: the reason to
stop, which the checkpoint keeps as it keeps that of early stopping. At an evaluation, where the
step is no matter of time, a run that is stopped by a pure function of the view ends with the same
bytes however often it was killed; behind a chunk it ends where the clock has it.
"""

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from ..common.errors import ConvaxError
from ..common.text import named_error, plain_line
from ..common.train_state import TrainState
from ..config.errors import ConfigError, did_you_mean
from ..config.schema import Config
from ..plugins.tables import CALLBACKS
from ..run.directory import Run

EVENTS = ("on_start", "on_chunk", "on_evaluate", "on_checkpoint", "on_end")
_STOPPING = ("on_chunk", "on_evaluate")


class CallbackError(ConvaxError):
    """A callback has raised something, or returned what it may not; names its file and line."""


@dataclass(frozen=True)
class View:
    """What a callback may look at; it can change none of it.

    Attributes:
        run: the run directory.
        step: how many steps were taken.
        total_steps: how many there are to be.
        metrics: of `on_chunk` the means over its steps, of `on_evaluate` the figures of the
            validation, of `on_end` those of the test; else nothing.
    """

    run: Path
    step: int
    total_steps: int
    metrics: Mapping[str, Any]
    _train_state: Callable[[], TrainState] = field(repr=False)

    @cached_property
    def params(self) -> Any:
        """Return a copy of the parameters in training, of NumPy."""
        return jax.tree.map(_copied, self._train_state().params)

    @cached_property
    def state(self) -> Any:
        """Return a copy of the network's state, as batch norm's statistics, of NumPy."""
        return jax.tree.map(_copied, self._train_state().state)


def _copied(leaf: Any) -> np.ndarray:
    array = np.array(leaf)  # the buffer is the next step's
    array.flags.writeable = False
    return array


def make_callbacks(config: Config, given: Sequence[Any] = ()) -> tuple[Any, ...]:
    """Return the callbacks that a config names, and behind them those that are given.

    Raises:
        ConfigError: an object has no method that is called, or cannot be made; or several processes
            train.
    """
    made = []
    for entry in config.callbacks or ():
        try:
            made.append(CALLBACKS[entry.name](**{k: v for k, v in entry if k != "name"}))
        except Exception as error:
            raise ConfigError(
                f"callbacks: {entry.name} cannot be made: {named_error(error)}"
            ) from error
    check_callbacks(callbacks := (*made, *given))
    return callbacks


def check_callbacks(callbacks: Sequence[Any]) -> None:
    """Raise a ConfigError unless objects are callbacks, and one process trains."""
    if callbacks and jax.process_count() > 1:
        raise ConfigError(
            f"callbacks: they are for one process, got {jax.process_count()}; leave them out"
        )
    for callback in callbacks:
        unknown = [n for n in dir(callback) if n.startswith("on_") and n not in EVENTS]
        if unknown:
            near = did_you_mean(unknown[0], EVENTS) or f"; known are {', '.join(EVENTS)}"
            raise ConfigError(f"callbacks: {_name(callback)}: {unknown[0]} is never called{near}")
        if not any(callable(getattr(callback, event, None)) for event in EVENTS):
            raise ConfigError(
                f"callbacks: {_name(callback)} has none of {', '.join(EVENTS)}; give an object "
                "that has"
            )


def names_of(callbacks: Sequence[Any]) -> list[str]:
    """Return the names of callbacks: those of their classes."""
    return [_name(callback) for callback in callbacks]


def call(callbacks: Sequence[Any], event: str, view: View) -> str | None:
    """Call each callback that has a method for an event.

    Returns:
        The reason to stop of the first that has one.

    Raises:
        CallbackError: one has raised something, or returned what it may not.
    """
    reasons = []
    for callback in callbacks:
        method = getattr(callback, event, None)
        if method is None:
            continue
        where = f"{event} of {_name(callback)}, at step {view.step} of {view.total_steps}"
        try:
            said = method(view)
        except Exception as error:  # whatever their code raises
            said = f"{_line_of(error, method)}: {named_error(error)}"
            raise CallbackError(f"{said}: in {where}") from error
        if said is None:
            continue
        if event not in _STOPPING or not isinstance(said, str):
            need = "None, or a text, the reason to stop" if event in _STOPPING else "None"
            raise CallbackError(f"{where}: returned {type(said).__name__}, need {need}")
        reasons.append(f"{_name(callback)}: {plain_line(said, 300)}")
    return reasons[0] if reasons else None


def _line_of(error: Exception, method: Any) -> str:
    """Return file and line in a callback's method; its first where it could not be called."""
    within = traceback.extract_tb(error.__traceback__)[1:]  # behind the call of it
    if within:
        return f"{within[0].filename}, line {within[0].lineno}"
    code = getattr(method, "__code__", None)
    return _name(method) if code is None else f"{code.co_filename}, line {code.co_firstlineno}"


def make_view(
    run: Run,
    step: int,
    total: int,
    metrics: Mapping[str, Any],
    train_state: Callable[[], TrainState],
) -> View:
    """Return what callbacks are shown; the metrics are read only."""
    return View(run.path, step, total, MappingProxyType(dict(metrics)), train_state)


def _name(callback: Any) -> str:
    return getattr(callback, "__name__", type(callback).__name__)
