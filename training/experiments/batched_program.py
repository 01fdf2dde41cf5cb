"""M networks as one program, which `training.loop.chunk_loop` runs as it runs that of one network.

Each network has its own seed or hyper-parameters (`training.experiments.traced_hparams`) and its
own images. There are two forms of the program, and a study keeps to one, as they round otherwise:

    map    `lax.map`: the members take turns, each for as many steps as a call has
    vmap   `jax.vmap`: one step of all, with one more axis on every array

On an accelerator small networks leave most of the device idle, and "vmap" fills it. On CPU they do
not: see docs/experiments.md for what was measured.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..common.train_state import TrainState
from ..evaluation import make_eval_step_of
from ..experiment import Experiment, make_step_spec
from ..loop.chunks import BatchChunk, most_steps
from ..loop.progress import Display
from ..loop.single_program import compile_steps
from ..run.directory import Run
from ..step.train_step import Metrics, make_train_steps
from .traced_hparams import HParams, bind, differing, hparams_of

Batching = Literal["map", "vmap"]


def default_batching() -> Batching:
    """Return the form that was measured to be the faster one on this kind of device."""
    return "map" if jax.default_backend() == "cpu" else "vmap"


def make_batched_steps(
    experiment: Experiment, batching: Batching, shared: bool
) -> jax.stages.Wrapped:
    """``steps(train_states, hparams, images, labels, counts) -> (train_states, metrics)``, jitted.

    `make_train_steps` for M members at once: every argument and every metric has an axis M in
    front. A member whose count is 0 keeps its state, bit for bit.

    Args:
        experiment: of one of the members.
        batching: see above.
        shared: all members have one seed, so their images are the same, and have no axis M.

    Returns:
        The jitted function; the buffers of the old states are donated to the new ones.
    """

    def of_one(train_state: TrainState, hparams: HParams, images, labels, count):
        train_steps = make_train_steps(make_step_spec(bind(experiment, hparams)))
        return train_steps(train_state, images, labels, count)

    def vmapped(old: TrainState, hparams: HParams, images: Array, labels: Array, counts: Array):
        data = None if shared else 0
        every = jax.vmap(of_one, in_axes=(0, 0, data, data, 0))
        return every(old, hparams, images, labels, counts)

    def mapped(old: TrainState, hparams: HParams, images: Array, labels: Array, counts: Array):
        def turn(member) -> tuple[TrainState, Metrics]:
            train_state, numbers, count, *own = member
            batches, classes = own or (images, labels)
            return of_one(train_state, numbers, batches, classes, count)

        own = () if shared else (images, labels)
        return jax.lax.map(turn, (old, hparams, counts, *own))

    return jax.jit({"map": mapped, "vmap": vmapped}[batching], donate_argnums=0)


def make_eval_steps(experiments: Sequence[Experiment]) -> list[Callable[..., Any]]:
    """Return the evaluation step of each member (`training.evaluation`), of one program for all."""
    first = experiments[0]

    @jax.jit
    def eval_step(hparams: HParams, params, state, images, labels, weights):
        step = make_eval_step_of(bind(first, hparams))
        return step(params, state, images, labels, weights)

    return [partial(eval_step, hparams) for hparams in member_hparams(experiments)]


def member_hparams(experiments: Sequence[Experiment]) -> list[HParams]:
    """Return of each member the values that not all have in common."""
    keys = differing([experiment.config for experiment in experiments])
    return [hparams_of(experiment, keys) for experiment in experiments]


class BatchedProgram:
    """A `chunk_loop.StepProgram` of M networks, with an axis M in front of states and metrics.

    Args:
        experiments: of the members, which `prepare_members` made.
        train_states: where they are; also those that have ended are part of it, so that it stays
            the same program.
        batching: its form.
        runs: are told how long compiling took.
        display: likewise.
    """

    def __init__(
        self,
        experiments: Sequence[Experiment],
        train_states: Sequence[TrainState],
        batching: Batching,
        *,
        runs: Sequence[Run],
        display: Display,
    ):
        self.shares_batches = len({e.config.seed for e in experiments}) == 1
        self._hparams = _stacked(member_hparams(experiments))
        self._states = _stacked(train_states)
        self._metrics: dict[str, jax.Array] = {}
        self._program = self._compile(experiments[0], batching, runs, display)

    def dispatch(self, chunks: Sequence[BatchChunk], counts: np.ndarray) -> None:
        """See `StepProgram`."""
        batches = (chunks[0].images, chunks[0].labels)
        if not self.shares_batches:
            own = [(chunk.images, chunk.labels) for chunk in chunks]
            batches = jax.tree.map(lambda *arrays: np.stack(arrays), *own)
        arguments = (self._hparams, *batches, counts)
        self._states, self._metrics = self._program(self._states, *arguments)

    def collect(self) -> tuple[list[dict[str, np.ndarray]], list[int]]:
        """See `StepProgram`."""
        metrics, steps = jax.device_get((self._metrics, self._states.step))
        rows = [{name: m[i] for name, m in metrics.items()} for i in range(len(steps))]
        return rows, [int(step) for step in steps]

    def state(self, index: int) -> TrainState:
        """See `StepProgram`."""
        return jax.tree.map(lambda leaf: leaf[index], self._states)

    def count_left_out(self, index: int) -> None:
        """See `StepProgram`."""
        self._states = self._states._replace(step=self._states.step.at[index].add(1))

    def scale_rate(self, index: int, scale: float) -> None:
        """See `StepProgram`."""
        before: Any = self._states.rate_scale
        self._states = self._states._replace(rate_scale=before.at[index].set(scale))

    def _compile(
        self, experiment: Experiment, batching: Batching, runs: Sequence[Run], display: Display
    ) -> jax.stages.Compiled:
        steps = make_batched_steps(experiment, batching, self.shares_batches)
        split, config = experiment.dataset.train, experiment.config
        M = len(runs)
        batches = (most_steps(split, config), config.training.batch_size)
        batches = batches if self.shares_batches else (M, *batches)

        def type_of(array: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((*batches, *array.shape[1:]), array.dtype)

        types = (type_of(split.images), jax.tree.map(type_of, split.labels))
        counts = jax.ShapeDtypeStruct((M,), np.int32)

        def lower() -> jax.stages.Lowered:
            return steps.lower(self._states, self._hparams, *types, counts)

        return compile_steps(lower, runs, display, "a step of all")


def _stacked(trees: Sequence[Any]) -> Any:
    """Return one tree whose leaves have the trees as a new first axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
