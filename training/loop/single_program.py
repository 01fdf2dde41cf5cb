"""The training steps of one network as a program, on one device or spread over a mesh."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from ..common.memory import format_bytes, memory_usage
from ..common.train_state import TrainState
from ..common.waiting import working
from ..experiment import make_step_spec
from ..run.directory import Run
from ..step.train_step import make_train_steps
from .chunks import BatchChunk, most_steps
from .context import LoopContext
from .progress import Display


class SingleProgram:
    """A `chunk_loop.StepProgram` of one network: no array has a leading axis for networks.

    Args:
        context: of the network; its display is told how long compiling took.
        train_state: where it is; every process has all of it.
    """

    shares_batches = False

    def __init__(self, context: LoopContext, train_state: TrainState):
        self._plan = context.plan
        self._batch_size = context.experiment.config.training.batch_size
        self._rows = self._plan.local_rows(self._batch_size)
        self._train_state = self._plan.device_put(train_state)
        self._program = _compile(context, self._train_state)
        self._metrics: dict[str, jax.Array] = {}

    def dispatch(self, chunks: Sequence[BatchChunk], counts: np.ndarray) -> None:
        """See `StepProgram`; M is 1."""
        (chunk,), (count,) = chunks, counts
        batches = self._plan.feed_batches(chunk.images, chunk.labels, self._batch_size, self._rows)
        self._train_state, self._metrics = self._program(self._train_state, *batches, count)

    def collect(self) -> tuple[list[dict[str, np.ndarray]], list[int]]:
        """See `StepProgram`."""
        step = int(self._train_state.step)
        return [jax.device_get(self._metrics)], [step]

    def state(self, index: int = 0) -> TrainState:
        """See `StepProgram`."""
        del index
        return self._train_state

    def count_left_out(self, index: int = 0) -> None:
        """See `StepProgram`."""
        del index
        self._train_state = self._train_state._replace(step=self._train_state.step + 1)

    def scale_rate(self, index: int, scale: float) -> None:
        """See `StepProgram`."""
        del index
        before: Any = self._train_state.rate_scale
        self._train_state = self._train_state._replace(
            rate_scale=jax.device_put(np.float32(scale), before.sharding)
        )


def _compile(context: LoopContext, train_state: TrainState) -> jax.stages.Compiled:
    experiment, plan = context.experiment, context.plan
    config, split = experiment.config, experiment.dataset.train
    batches = (most_steps(split, config), config.training.batch_size)
    spec = make_step_spec(plan.constrain(experiment))
    train_steps = make_train_steps(spec, out_shardings=plan.out_shardings)

    def type_of(array: Any) -> jax.ShapeDtypeStruct:
        sharding = plan.batches(len(array.shape) + 1, lead=1)
        return jax.ShapeDtypeStruct((*batches, *array.shape[1:]), array.dtype, sharding=sharding)

    types = (type_of(split.images), jax.tree.map(type_of, split.labels))
    count = jax.ShapeDtypeStruct((), np.int32)

    def lower() -> jax.stages.Lowered:
        return train_steps.lower(train_state, *types, count)

    with plan.scope():
        return compile_steps(lower, [context.run], context.display, "a training step")


def compile_steps(
    lower: Callable[[], jax.stages.Lowered], runs: Sequence[Run], display: Display, steps: str
) -> jax.stages.Compiled:
    """Compile training steps; record and say how long that took, and the memory they work in.

    Args:
        lower: traces the steps and lowers them.
        runs: whose ``run.json`` is told.
        display: likewise.
        steps: what works in that memory, in a sentence.
    """
    began = time.perf_counter()
    with working("compiling the training step"):
        program = lower().compile()
    seconds, size = time.perf_counter() - began, memory_usage(program)
    for run in runs:
        run.update_info(compile_seconds=round(seconds, 2), step_bytes=size)
    memory = "" if size is None else f"; {steps} works in {format_bytes(size)}"
    display.note(f"compiled in {seconds:.1f} s{memory}")
    return program
