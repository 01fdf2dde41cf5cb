"""Many networks in one program: a loop like that of `training.loop.loop`, over all of them at once.

The networks are members of one program (`training.experiments.traced_hparams`): each has its own
seed or hyper-parameters, its own images, and a run directory of its own. There are two forms of
that program, and a study keeps to one, as they round otherwise:

    map    `lax.map`: the members take turns, each for as many steps as a call has
    vmap   `jax.vmap`: one step of all, with one more axis on every array

On an accelerator small networks leave most of the device idle, and "vmap" fills it. On CPU they do
not: see docs/experiments.md for what was measured. A network that has stopped, or diverged, keeps
its state while the others go on.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..common.duration import interval_in_steps
from ..common.memory import format_bytes, memory_usage
from ..common.train_state import TrainState
from ..distributed.sharding import ShardingPlan
from ..evaluation import make_eval_step_of
from ..experiment import Experiment, make_step_spec, run_length
from ..initialize import InitReport, init_from_source
from ..loop import resume
from ..loop.checkpointing import LoopState, Saver, disk_watched
from ..loop.chunks import BatchChunk, ChunkLoader, ChunkSizer, most_steps
from ..loop.loop import InterruptedRun, finish
from ..loop.nonfinite import NonFiniteError
from ..loop.progress import Display, Silent
from ..loop.recorder import TrainingRecorder
from ..loop.signals import signals_noted
from ..loop.tensorboard import followed
from ..run import lock
from ..run.directory import Run
from ..step.train_step import Metrics, make_train_steps
from .results import spread_of
from .traced_hparams import HParams, bind, differing, hparams_of

Batching = Literal["map", "vmap"]


def default_batching() -> Batching:
    """The form that was measured to be the faster one on this kind of device."""
    return "map" if jax.default_backend() == "cpu" else "vmap"


class Member(NamedTuple):
    """One network of many."""

    name: str
    run: Run
    experiment: Experiment


def make_steps_together(
    experiment: Experiment, batching: Batching, shared: bool
) -> jax.stages.Wrapped:
    """``steps(train_states, numbers, images, labels, counts) -> (train_states, metrics)``, jitted.

    `make_train_steps` for M members at once: every argument and every metric has an axis M in
    front. A member whose count is 0 keeps its state, bit for bit.

    Args:
        experiment: of one of the members.
        batching: see above.
        shared: all members have one seed, so their images are the same, and have no axis M.
    """

    def of_one(train_state: TrainState, numbers: HParams, images, labels, count):
        train_steps = make_train_steps(make_step_spec(bind(experiment, numbers)))
        return train_steps(train_state, images, labels, count)

    def vmapped(old: TrainState, numbers: HParams, images: Array, labels: Array, counts: Array):
        data = None if shared else 0
        every = jax.vmap(of_one, in_axes=(0, 0, data, data, 0))
        return every(old, numbers, images, labels, counts)

    def mapped(old: TrainState, numbers: HParams, images: Array, labels: Array, counts: Array):
        def turn(member) -> tuple[TrainState, Metrics]:
            train_state, numbers, count, *own = member
            batches, classes = own or (images, labels)
            return of_one(train_state, numbers, batches, classes, count)

        own = () if shared else (images, labels)
        return jax.lax.map(turn, (old, numbers, counts, *own))

    return jax.jit({"map": mapped, "vmap": vmapped}[batching], donate_argnums=0)


class MemberState(NamedTuple):
    """Where a member is."""

    train_state: TrainState
    memory: LoopState
    taken: InitReport | None  # from elsewhere, and not yet saved
    ended: bool


def fit_together(
    members: Sequence[Member],
    batching: Batching,
    whole: Run,
    display: Display,
    *,
    force: bool = False,
) -> list[int]:
    """Train members of one program to their ends; those that are finished or diverged stay so.

    Where some are further on than others, as after a kill between two checkpoints, those wait.

    Args:
        members: the networks.
        batching: of the program.
        whole: the directory that they belong to, for messages.
        display: where progress goes.
        force: see `loop.resume`.

    Returns:
        Signals that came too late to interrupt this.

    Raises:
        RunError: a member is in use, has changed or is damaged; or the disk refuses to take
            something.
        InterruptedRun: Ctrl-C or SIGTERM; all states were saved.
    """
    with ExitStack() as stack:
        for member in members:
            stack.enter_context(lock.held(member.run.path))
        standing = [_member_state(member, display, force) for member in members]
        with disk_watched(whole):
            return _BatchedLoop(members, standing, batching, whole, display, stack).run_to_end()


def _member_state(member: Member, display: Display, force: bool) -> MemberState:
    """Its newest whole checkpoint, or the very beginning; what has ended is not looked at."""
    run, experiment = member.run, member.experiment
    if run.info()["status"] in ("finished", "diverged"):
        return MemberState(experiment.init(), LoopState(), None, ended=True)
    same = resume.check_unchanged(run, experiment, force=force)
    found = resume.latest_valid(run, experiment.template, display, force=force, repeats=same)
    resume.keep_metrics(run, found, force=force)
    run.update_info(status="running")
    if found is None:
        train_state, taken = init_from_source(experiment)
        return MemberState(train_state, LoopState(), taken, ended=False)
    return MemberState(found.train_state, found.memory, None, ended=False)


class _BatchedLoop:
    """The loop, with what it knows of each member by its index."""

    def __init__(
        self,
        members: Sequence[Member],
        standing: Sequence[MemberState],
        batching: Batching,
        whole: Run,
        display: Display,
        stack: ExitStack,
    ):
        self.members, self.whole, self.display = members, whole, display
        self.batching: Batching = batching
        self.experiment = first = members[0].experiment
        self.total, config = first.total_steps, first.config
        self.every = interval_in_steps(
            config.training.evaluate_every,
            run_length(config, first.card.counts["train"], self.total),
        )
        self.shared = len({m.experiment.config.seed for m in members}) == 1
        keys = differing([m.experiment.config for m in members])
        self.numbers = [hparams_of(m.experiment, keys) for m in members]
        self.eval_step = jax.jit(self._evaluate)
        # Also those that have ended are part of the program, so that it stays the same program.
        self.states = _stacked([one.train_state for one in standing])
        self.ended = [one.ended for one in standing]
        self.books: list[TrainingRecorder] = []
        for member, numbers, one in zip(members, self.numbers, standing, strict=True):
            run, experiment = member.run, member.experiment
            quiet = stack.enter_context(followed(run, experiment.config, Silent()))
            saver = stack.enter_context(Saver(run, experiment, every=self.every))
            eval_step = partial(self.eval_step, numbers)
            about = (run, experiment, ShardingPlan(None), eval_step, saver, quiet)
            recorder = TrainingRecorder(*about, step=int(one.train_state.step), memory=one.memory)
            if one.taken is not None:
                display.note(str(one.taken))
                recorder.on_start(one.taken, one.train_state)
            self.books.append(recorder)

    @property
    def training(self) -> list[int]:
        """The members that have steps before them."""
        return [
            i
            for i, recorder in enumerate(self.books)
            if not self.ended[i] and recorder.step < self.total and recorder.memory.reason is None
        ]

    def run_to_end(self) -> list[int]:
        """Steps, evaluations and checkpoints until all have ended; then the tests."""
        with signals_noted() as signals, ExitStack() as saved:
            for recorder in self.books:  # a second signal kills no save
                saved.callback(recorder.saver.wait)
            if self.training:
                self._train(signals)
        for i, recorder in enumerate(self.books):
            if not self.ended[i]:
                about = (recorder.run, recorder.experiment, recorder.plan, recorder.eval_step)
                with disk_watched(recorder.run):
                    finish(
                        *about, self._state(i), recorder.memory.reason, recorder.display, draw=False
                    )
        return signals

    def _train(self, signals: list[int]) -> None:
        self.display.note(
            f"{self.whole.path}: {len(self.training)} networks in one program ({self.batching}), "
            f"from "
            f"step {min(self.books[i].step for i in self.training)} to {self.total}; "
            f"{jax.default_backend()}"
        )
        program, numbers = self._compile(), _stacked(self.numbers)
        with ExitStack() as stack:
            feeds = self._feeds(pace := ChunkSizer(), stack)
            ahead: list[BatchChunk | None] = []
            while training := self.training:
                began, start = time.perf_counter(), min(self.books[i].step for i in training)
                chunk = _at(start, ahead) or _at(start, [feed.start(start) for feed in feeds])
                taking = [i for i in training if self.books[i].step == start]
                # Those further on wait; no step is taken beyond the first of them.
                wait = min(
                    (self.books[i].step for i in training if i not in taking), default=self.total
                )
                count = min(int(chunk[0].steps), wait - start)
                counts = np.zeros(len(self.members), np.int32)
                counts[taking] = count
                images, labels = self._batches(chunk)
                self.states, metrics = program(self.states, numbers, images, labels, counts)
                whole = count == chunk[0].steps
                ahead = [feed.next() for feed in feeds] if whole else []
                metrics, steps = jax.device_get((metrics, self.states.step))
                pace.update(count, time.perf_counter() - began)
                stop = bool(signals)
                for i in taking:
                    own = {name: values[i] for name, values in metrics.items()}
                    done, fine = chunk[0 if self.shared else i], int(steps[i]) - start
                    with disk_watched(self.members[i].run):
                        self._after_chunk(i, done, count, fine, own, save=stop)
                if whole and chunk[0].reported:
                    going = [i for i in taking if not self.ended[i]]
                    self._report(chunk[0], going, metrics["loss"][going, :count])
                if stop and self.training:
                    at = max(self.books[i].step for i in taking)
                    raise InterruptedRun(self.whole, at, self.total, signals[0])

    def _after_chunk(
        self,
        i: int,
        done: BatchChunk,
        count: int,
        fine: int,
        metrics: dict[str, np.ndarray],
        *,
        save: bool,
    ) -> None:
        """What `training.loop.loop` does behind a chunk, for member `i`; see `TrainingRecorder`."""
        recorder, state = self.books[i], partial(self._state, i)
        try:
            recorder.on_chunk(done, count, fine, metrics, state)
        except NonFiniteError as error:
            self.ended[i] = True
            self.display.note(str(error))
            return
        if fine < count:  # one was left out
            self.states = self.states._replace(step=self.states.step.at[i].set(recorder.step))
        if recorder.maybe_evaluate(done, state) or save:
            recorder.save(state())
        if recorder.memory.reason:
            self.display.note(f"{self.members[i].name} stopped early: {recorder.memory.reason}")

    def _report(self, done: BatchChunk, members: list[int], losses: np.ndarray) -> None:
        """The mean over the networks that took these steps, and how far they are apart."""
        if not members:
            return
        self.display.step(done.stop, self.total, {"loss": float(losses.mean())})
        metrics = [m for m in (self.books[i].metric for i in members) if m is not None]
        if done.evaluated and metrics:
            name = self.experiment.config.early_stopping.metric
            self.display.note(f"validation at step {done.stop}:  {name} {spread_of(metrics)}")

    def _evaluate(self, numbers: HParams, params, state, images, labels, weights):
        step = make_eval_step_of(bind(self.experiment, numbers))
        return step(params, state, images, labels, weights)

    def _state(self, i: int) -> TrainState:
        return jax.tree.map(lambda leaf: leaf[i], self.states)

    def _feeds(self, pace: ChunkSizer, stack: ExitStack) -> list[ChunkLoader]:
        """The batches of each member, or one feed for all where they are the same."""
        feeds = []
        for member in self.members[:1] if self.shared else self.members:
            split, config = member.experiment.dataset.train, member.experiment.config
            feeds.append(ChunkLoader(split, config, pace, total=self.total, every=self.every))
            stack.callback(feeds[-1].close)
        return feeds

    def _batches(self, chunk: Sequence[BatchChunk]) -> tuple[np.ndarray, np.ndarray]:
        if self.shared:
            return chunk[0].images, chunk[0].labels
        labels = jax.tree.map(lambda *each: np.stack(each), *(c.labels for c in chunk))
        return np.stack([c.images for c in chunk]), labels

    def _compile(self) -> jax.stages.Compiled:
        began = time.perf_counter()
        steps = make_steps_together(self.experiment, self.batching, self.shared)
        split, config = self.experiment.dataset.train, self.experiment.config
        M = () if self.shared else (len(self.members),)
        batches = (*M, most_steps(split, config), config.training.batch_size)
        program = steps.lower(
            self.states,
            _stacked(self.numbers),
            jax.ShapeDtypeStruct((*batches, *split.images.shape[1:]), split.images.dtype),
            jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct((*batches, *leaf.shape[1:]), leaf.dtype),
                split.labels,
            ),
            jax.ShapeDtypeStruct((len(self.members),), np.int32),
        ).compile()
        seconds, size = time.perf_counter() - began, memory_usage(program)
        for member in self.members:
            member.run.update_info(compile_seconds=round(seconds, 2), step_bytes=size)
        memory = "" if size is None else f"; a step of all works in {format_bytes(size)}"
        self.display.note(f"compiled in {seconds:.1f} s{memory}")
        return program


def _at(step: int, chunks: Sequence[BatchChunk | None]) -> list[BatchChunk]:
    """The chunks, which are of the same steps, if they begin at this one; else nothing."""
    return [c for c in chunks if c is not None and c.stop - int(c.steps) == step]


def _stacked(trees: Sequence[Any]) -> Any:
    """One tree whose leaves have the trees as a new first axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
