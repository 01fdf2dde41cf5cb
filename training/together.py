"""Many networks in one program: a loop like that of `training.loop`, over all of them at once.

The networks are members of one program (`training.members`): each has its own seed or
hyper-parameters, its own images, and a run directory of its own. There are two forms of that
program, and a study keeps to one, as they round otherwise:

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

from . import lock, restoring
from .chunk import Chunk, Feed, Pace, most_steps
from .duration import interval
from .evaluation import make_eval_step_of
from .experiment import Experiment, clock_of, step_keywords
from .footprint import as_text, step_bytes
from .init_from import Taken, start_of
from .loop import (
    InterruptedRun,
    after_update,
    after_validation,
    finish,
    here,
    leave_out,
    note_start,
    stopping_rules,
    validate,
)
from .members import Numbers, differing, numbers_of, with_numbers
from .mesh import Layout
from .meter import Meter
from .nonfinite import give_up, odd_step
from .progress import Display, Silent
from .results import spread_of
from .run import Run
from .saver import Memory, Saver
from .signals import signals_noted
from .step import Metrics, TrainState, make_train_steps
from .tensorboard import followed

Form = Literal["map", "vmap"]


def default_form() -> Form:
    """The form that was measured to be the faster one on this kind of device."""
    return "map" if jax.default_backend() == "cpu" else "vmap"


class Member(NamedTuple):
    """One network of many."""

    name: str
    run: Run
    experiment: Experiment


def make_steps_together(experiment: Experiment, form: Form, shared: bool) -> jax.stages.Wrapped:
    """``steps(train_states, numbers, images, labels, counts) -> (train_states, metrics)``, jitted.

    `make_train_steps` for M members at once: every argument and every metric has an axis M in
    front. A member whose count is 0 keeps its state, bit for bit.

    Args:
        experiment: of one of the members.
        form: see above.
        shared: all members have one seed, so their images are the same, and have no axis M.
    """

    def of_one(train_state: TrainState, numbers: Numbers, images, labels, count):
        train_steps = make_train_steps(**step_keywords(with_numbers(experiment, numbers)))
        return train_steps(train_state, images, labels, count)

    def vmapped(old: TrainState, numbers: Numbers, images: Array, labels: Array, counts: Array):
        data = None if shared else 0
        every = jax.vmap(of_one, in_axes=(0, 0, data, data, 0))
        return every(old, numbers, images, labels, counts)

    def mapped(old: TrainState, numbers: Numbers, images: Array, labels: Array, counts: Array):
        def turn(member) -> tuple[TrainState, Metrics]:
            train_state, numbers, count, *own = member
            batches, classes = own or (images, labels)
            return of_one(train_state, numbers, batches, classes, count)

        own = () if shared else (images, labels)
        return jax.lax.map(turn, (old, numbers, counts, *own))

    return jax.jit({"map": mapped, "vmap": vmapped}[form], donate_argnums=0)


class _Standing(NamedTuple):
    """Where a member is."""

    train_state: TrainState
    memory: Memory
    taken: Taken | None  # from elsewhere, and not yet saved
    ended: bool


def fit_together(
    members: Sequence[Member], form: Form, whole: Run, display: Display, *, force: bool = False
) -> list[int]:
    """Train members of one program to their ends; those that are finished or diverged stay so.

    Where some are further on than others, as after a kill between two checkpoints, those wait.

    Args:
        members: the networks.
        form: of the program.
        whole: the directory that they belong to, for messages.
        display: where progress goes.
        force: see `loop.resume`.

    Returns:
        Signals that came too late to interrupt this.

    Raises:
        RunError: a member is in use, has changed or is damaged.
        InterruptedRun: Ctrl-C or SIGTERM; all states were saved.
    """
    with ExitStack() as stack:
        for member in members:
            stack.enter_context(lock.held(member.run.path))
        standing = [_standing(member, display, force) for member in members]
        return _Fit(members, standing, form, whole, display, stack).go()


def _standing(member: Member, display: Display, force: bool) -> _Standing:
    """Its newest whole checkpoint, or the very beginning; what has ended is not looked at."""
    run, experiment = member.run, member.experiment
    if run.info()["status"] in ("finished", "diverged"):
        return _Standing(experiment.init(), Memory(), None, ended=True)
    restoring.check_unchanged(run, experiment, force=force)
    found = restoring.newest_whole(run, experiment.template, display, force=force)
    restoring.keep_metrics(run, found, force=force)
    run.update_info(status="running")
    if found is None:
        train_state, taken = start_of(experiment)
        return _Standing(train_state, Memory(), taken, ended=False)
    return _Standing(found.train_state, found.memory, None, ended=False)


class _Fit:
    """The loop, with what it knows of each member by its index."""

    def __init__(
        self,
        members: Sequence[Member],
        standing: Sequence[_Standing],
        form: Form,
        whole: Run,
        display: Display,
        stack: ExitStack,
    ):
        self.members, self.whole, self.display = members, whole, display
        self.form: Form = form
        self.experiment = first = members[0].experiment
        self.total, config = first.total_steps, first.config
        self.every = interval(
            config.training.evaluate_every,
            clock_of(config, first.card.counts["train"], self.total),
        )
        self.shared = len({m.experiment.config.seed for m in members}) == 1
        keys = differing([m.experiment.config for m in members])
        self.numbers = [numbers_of(m.experiment, keys) for m in members]
        self.eval_step = jax.jit(self._evaluate)
        # Also those that have ended are part of the program, so that it stays the same program.
        self.states = _stacked([one.train_state for one in standing])
        self.steps = [int(one.train_state.step) for one in standing]
        self.memories = [one.memory for one in standing]
        self.ended = [one.ended for one in standing]
        self.metrics: list[float | None] = [None] * len(members)
        self.rules = [stopping_rules(m.experiment.config) for m in members]
        self.quiet: list[Display] = [
            stack.enter_context(followed(m.run, m.experiment.config, Silent())) for m in members
        ]
        self.savers = [
            stack.enter_context(Saver(m.run, m.experiment, every=self.every)) for m in members
        ]
        self.meters = [
            Meter(m.run, m.experiment, quiet, memory.window)
            for m, quiet, memory in zip(members, self.quiet, self.memories, strict=True)
        ]
        for member, one, saver in zip(members, standing, self.savers, strict=True):
            if one.taken is not None:
                note_start(member.run, saver, one.train_state, one.taken, display)

    @property
    def training(self) -> list[int]:
        """The members that have steps before them."""
        return [
            i
            for i, memory in enumerate(self.memories)
            if not self.ended[i] and self.steps[i] < self.total and memory.reason is None
        ]

    def go(self) -> list[int]:
        """Steps, evaluations and checkpoints until all have ended; then the tests."""
        with signals_noted() as signals:
            if self.training:
                self._train(signals)
        for i, member in enumerate(self.members):
            if not self.ended[i]:
                self.savers[i].wait()
                step, reason = partial(self.eval_step, self.numbers[i]), self.memories[i].reason
                about = (member.run, member.experiment, Layout(None), step, self._state(i), reason)
                finish(*about, self.quiet[i], draw=False)
        return signals

    def _train(self, signals: list[int]) -> None:
        self.display.note(
            f"{self.whole.path}: {len(self.training)} networks in one program ({self.form}), from "
            f"step {min(self.steps[i] for i in self.training)} to {self.total}; "
            f"{jax.default_backend()}"
        )
        program, numbers = self._compile(), _stacked(self.numbers)
        with ExitStack() as stack:
            feeds = self._feeds(pace := Pace(), stack)
            ahead: list[Chunk | None] = []
            while training := self.training:
                began, start = time.perf_counter(), min(self.steps[i] for i in training)
                chunk = _at(start, ahead) or _at(start, [feed.start(start) for feed in feeds])
                taking = [i for i in training if self.steps[i] == start]
                # Those further on wait; no step is taken beyond the first of them.
                wait = min((self.steps[i] for i in training if i not in taking), default=self.total)
                count = min(int(chunk[0].steps), wait - start)
                counts = np.zeros(len(self.members), np.int32)
                counts[taking] = count
                images, labels = self._batches(chunk)
                self.states, metrics = program(self.states, numbers, images, labels, counts)
                whole = count == chunk[0].steps
                ahead = [feed.next() for feed in feeds] if whole else []
                metrics, steps = jax.device_get((metrics, self.states.step))
                pace.took(count, time.perf_counter() - began)
                stop = bool(signals)
                for i in taking:
                    own = {name: values[i] for name, values in metrics.items()}
                    done = chunk[0 if self.shared else i]
                    self._after_chunk(i, done, count, int(steps[i]) - start, own, stop)
                if whole and chunk[0].reported:
                    going = [i for i in taking if not self.ended[i]]
                    self._report(chunk[0], going, metrics["loss"][going, :count])
                if stop and self.training:
                    at = max(self.steps[i] for i in taking)
                    raise InterruptedRun(self.whole, at, self.total, signals[0])

    def _after_chunk(
        self, i: int, done: Chunk, count: int, fine: int, metrics: dict[str, Any], stop: bool
    ) -> None:
        """What `training.loop` does behind a chunk, for one member.

        Args:
            i: which.
            done: the chunk.
            count: how many steps of it were to be taken.
            fine: and how many were finite numbers throughout.
            metrics: of the steps.
            stop: whether to save all.
        """
        member, rules, meter, saver = self.members[i], self.rules[i], self.meters[i], self.savers[i]
        run, experiment, memory = member.run, member.experiment, self.memories[i]
        self.steps[i] = step = self.steps[i] + fine
        meter.add(step, {k: m[: min(fine, count)] for k, m in metrics.items()})
        if fine < count:
            odd = odd_step(step + 1, {k: m[: fine + 1] for k, m in metrics.items()})
            if memory.skipped == experiment.config.training.skip_nonfinite:
                saver.save(self._state(i), here(memory, meter, step))
                saver.wait()
                batch = (done.images[fine], done.labels[fine])
                self.ended[i] = True
                self.display.note(str(give_up(run, experiment, odd, self._state(i), batch)))
                return
            memory = leave_out(run, memory, odd)
            self.steps[i] = step = step + 1
            self.states = self.states._replace(step=self.states.step.at[i].set(step))
        else:
            memory = after_update(rules, memory, metrics, fine - 1)
        at_end = step == done.stop
        due = at_end and done.evaluated
        if memory.reason or (at_end and done.reported):
            meter.flush(step)
        if due:
            evaluate, state = partial(self.eval_step, self.numbers[i]), self._state(i)
            metric = validate(run, experiment, evaluate, state, self.quiet[i])
            memory, self.metrics[i] = after_validation(rules, memory, metric, step), metric
        if due or memory.reason or stop:
            memory = here(memory, meter, step)
            saver.save(self._state(i), memory)
        self.memories[i] = memory
        if memory.reason:
            self.display.note(f"{member.name} stopped early: {memory.reason}")

    def _report(self, done: Chunk, members: list[int], losses: np.ndarray) -> None:
        """The mean over the networks that took these steps, and how far they are apart."""
        if not members:
            return
        self.display.step(done.stop, self.total, {"loss": float(losses.mean())})
        metrics = [metric for metric in (self.metrics[i] for i in members) if metric is not None]
        if done.evaluated and metrics:
            name = self.experiment.config.stop.metric
            self.display.note(f"validation at step {done.stop}:  {name} {spread_of(metrics)}")

    def _evaluate(self, numbers: Numbers, params, state, images, labels, weights):
        step = make_eval_step_of(with_numbers(self.experiment, numbers))
        return step(params, state, images, labels, weights)

    def _state(self, i: int) -> TrainState:
        return jax.tree.map(lambda leaf: leaf[i], self.states)

    def _feeds(self, pace: Pace, stack: ExitStack) -> list[Feed]:
        """The batches of each member, or one feed for all where they are the same."""
        feeds = []
        for member in self.members[:1] if self.shared else self.members:
            split, config = member.experiment.dataset.train, member.experiment.config
            feeds.append(Feed(split, config, pace, total=self.total, every=self.every))
            stack.callback(feeds[-1].close)
        return feeds

    def _batches(self, chunk: Sequence[Chunk]) -> tuple[np.ndarray, np.ndarray]:
        if self.shared:
            return chunk[0].images, chunk[0].labels
        return np.stack([c.images for c in chunk]), np.stack([c.labels for c in chunk])

    def _compile(self) -> jax.stages.Compiled:
        began = time.perf_counter()
        steps = make_steps_together(self.experiment, self.form, self.shared)
        split, config = self.experiment.dataset.train, self.experiment.config
        M = () if self.shared else (len(self.members),)
        batches = (*M, most_steps(split, config), config.training.batch_size)
        program = steps.lower(
            self.states,
            _stacked(self.numbers),
            jax.ShapeDtypeStruct((*batches, *split.images.shape[1:]), split.images.dtype),
            jax.ShapeDtypeStruct((*batches, *split.labels.shape[1:]), split.labels.dtype),
            jax.ShapeDtypeStruct((len(self.members),), np.int32),
        ).compile()
        seconds, size = time.perf_counter() - began, step_bytes(program)
        for member in self.members:
            member.run.update_info(compile_seconds=round(seconds, 2), step_bytes=size)
        memory = "" if size is None else f"; a step of all works in {as_text(size)}"
        self.display.note(f"compiled in {seconds:.1f} s{memory}")
        return program


def _at(step: int, chunks: Sequence[Chunk | None]) -> list[Chunk]:
    """The chunks, which are of the same steps, if they begin at this one; else nothing."""
    return [c for c in chunks if c is not None and c.stop - int(c.steps) == step]


def _stacked(trees: Sequence[Any]) -> Any:
    """One tree whose leaves have the trees as a new first axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
