"""Evaluation: every example of a split, each exactly once."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ..model import Layer
from . import data
from .config.given import NOTHING, Objects
from .config_data import given_data
from .data import Arrays, Dataset
from .data.preprocess import Preprocessing, preprocess
from .experiment import Experiment, reopen
from .plugins.register import register_metrics
from .run.checkpoint import restore_network
from .run.directory import Run, RunError, open_run
from .step.train_step import make_eval_step
from .tasks.own_metrics import MetricError
from .tasks.per_class import PerClass
from .tasks.task import Numbers, Task, Tree


class Evaluation(NamedTuple):
    """The figures of one split."""

    figures: dict[str, float]  # the mean "loss", and what the task measures: "accuracy", say
    count: int  # type: ignore[override] -- tuple has a method of that name
    split: str
    collected: Tree  # what the network said of each example: `assess` of `training.tasks.task`
    sums: Numbers  # what the figures come from
    per_class: PerClass | None = None  # the figures of each class, where `evaluate` looked at them

    @property
    def probabilities(self) -> np.ndarray:
        """Return the class probabilities of a classification, ``(count, K)`` float32."""
        return self.collected

    def __getattr__(self, name: str) -> float:
        """Return a figure by its name."""
        try:
            return self.figures[name]
        except KeyError:
            known = ", ".join(self.figures)
            raise AttributeError(f"no metric {name!r} here; there are {known}") from None

    def as_record(self) -> dict[str, Any]:
        """Return the figures alone, for JSON."""
        return {**self.figures, "count": self.count, "split": self.split}


def evaluate_split(
    task: Task,
    eval_step: Callable[..., Any],
    params: Any,
    state: Any,
    dataset: data.Dataset,
    split: str,
) -> Evaluation:
    """Evaluate a network on a whole split, the last partial batch included.

    Raises:
        RunError: the split is empty.
        RuntimeError: not every example was counted exactly once.
    """
    examples: data.Split = getattr(dataset, split)
    if not examples.count:
        raise RunError(f"{split}: this split of the data is empty; set data.{split} in the config")
    return evaluate_examples(task, eval_step, params, state, examples, split)


def evaluate_examples(
    task: Task,
    eval_step: Callable[..., Any],
    params: Any,
    state: Any,
    examples: data.Split,
    split: str,
) -> Evaluation:
    """Evaluate a network as `evaluate_split`, on examples that are called a split; there are some.

    Raises:
        RuntimeError: not every example was counted exactly once.
    """
    size = examples.count
    totals: Numbers = {}
    parts = []
    batch_size = min(task.batches.evaluation, size)
    order = data.spread(size, batch_size) if task.batches.spread else None
    for images, labels, weights in data.eval_batches(examples, batch_size, order):
        sums, batch = eval_step(params, state, images, labels, weights)
        for name, value in sums.items():
            value = np.asarray(value)
            wide = value.astype(np.float64 if value.dtype.kind == "f" else np.int64)
            totals[name] = totals.get(name, 0) + wide
        parts.append(jax.tree.map(partial(_rows, weights > 0), batch))
    count = int(totals["count"])
    if count != size:
        raise RuntimeError(f"{split}: {count} of {size} examples were counted")
    collected = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    if order is not None:
        stored = np.argsort(order)
        collected = jax.tree.map(lambda leaf: leaf[stored], collected)
    own = {} if task.more_metrics is None else task.more_metrics(collected, examples)
    collected = task.assess(collected, examples)
    figures = task.metrics(totals, collected, examples)
    if twice := figures.keys() & own.keys():
        raise MetricError(f"metrics: {min(twice)!r} is a figure of the task; call yours otherwise")
    figures |= own
    return Evaluation(figures, count, split, collected, totals)


def _rows(there: np.ndarray, leaf: Any) -> np.ndarray:
    return np.asarray(leaf)[there]


def make_eval_step_of(experiment: Experiment) -> Callable[..., Any]:
    """Make the evaluation step of an experiment, its preprocessing inside."""
    return make_eval_step_for(experiment.task, experiment.net, experiment.card.preprocessing)


def make_eval_step_for(task: Task, net: Layer, spec: Preprocessing) -> Callable[..., Any]:
    """Make the evaluation step of a network, its preprocessing inside."""
    return make_eval_step(
        net,
        task.loss,
        task.metric_sums,
        partial(preprocess, spec=spec),
        partial(task.collect, spec=spec),
        targets=partial(task.targets, spec=spec),
        inputs=task.inputs,
    )


def reopen_trained(
    path: str | Path,
    checkpoint: str,
    *,
    use_ema: bool = True,
    data_path: Path | None = None,
    dataset: data.Dataset | None = None,
    objects: Objects = NOTHING,
) -> tuple[Run, Experiment, Any, Any]:
    """Reopen a run with the parameters and state of its "best" or "last" checkpoint: `reopen`."""
    run, experiment = reopen(path, data_path, dataset, objects)
    like = (experiment.template.params, experiment.template.state)
    params, state, _ = restore_network(run.checkpoints, checkpoint, *like, use_ema=use_ema)
    return run, experiment, params, state


def evaluate(
    run: str | Path,
    split: str = "test",
    *,
    checkpoint: str = "best",
    use_ema: bool = True,
    data: Dataset | Arrays | None = None,
    net: Layer | None = None,
    loss: Callable[..., Any] | Layer | None = None,
    metrics: Sequence[Callable[..., Any]] = (),
) -> Evaluation:
    """Evaluate the network of a run on a split of its data.

    Args:
        run: the run directory.
        split: "train", "validation" or "test".
        checkpoint: "best" or "last".
        use_ema: the averages of the weights, where the run has them (`[ema]`).
        data: the data of the run, where these were given in Python.
        net, loss, metrics: likewise.

    Raises:
        RunError, CheckpointError, DataError: the run, its checkpoint or its data cannot be used.
    """
    register_metrics(metrics)
    dataset = None if data is None else given_data(open_run(run).config(), data)[1]
    _, experiment, params, state = reopen_trained(
        run, checkpoint, use_ema=use_ema, dataset=dataset, objects=Objects(net, loss)
    )
    return evaluate_trained(experiment, params, state, split)


def evaluate_trained(experiment: Experiment, params: Any, state: Any, split: str) -> Evaluation:
    """Evaluate as `evaluate`, an experiment that is open."""
    task, dataset = experiment.task, experiment.dataset
    done = evaluate_split(task, make_eval_step_of(experiment), params, state, dataset, split)
    return with_classes(task, done, getattr(dataset, split))


def evaluate_outputs(
    experiment: Experiment, params: Any, split: str, outputs_of: Callable[[np.ndarray], Tree]
) -> Evaluation:
    """Evaluate a split as `evaluate_trained`, with outputs that are computed elsewhere.

    Args:
        experiment: what was trained.
        params: its parameters, of which those of the loss are used.
        split: "train", "validation" or "test".
        outputs_of: ``outputs_of(images)``: what the network gives of images ``(N, H, W, C)`` as
            they are stored, before the task's postprocessing.

    Raises:
        RunError: the split is empty.
    """
    task, spec = experiment.task, experiment.card.preprocessing
    step = make_eval_step(
        experiment.net._replace(apply=lambda params, state, x, **how: (x, state)),
        task.loss,
        task.metric_sums,
        lambda outputs: outputs,
        partial(task.collect, spec=spec),
        targets=partial(task.targets, spec=spec),
    )

    def step_outside(params: Any, state: Any, images: np.ndarray, *rest: Any) -> Any:
        return step(params, state, outputs_of(images), *rest)

    return evaluate_split(task, step_outside, params, {}, experiment.dataset, split)


def with_classes(task: Task, done: Evaluation, examples: data.Split) -> Evaluation:
    """Return an evaluation with the figures of each class, where the task has such."""
    if task.per_class is None:
        return done
    return done._replace(per_class=task.per_class(done.sums, done.collected, examples))
