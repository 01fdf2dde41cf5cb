"""Evaluation: every example of a split, each exactly once."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import data
from .checkpoint import restore_network
from .experiment import Experiment, reopen
from .preprocess import preprocess
from .run import Run, RunError
from .step import make_eval_step, make_loss, make_probabilities

EVAL_BATCH = 500


class Evaluation(NamedTuple):
    """The figures of one split."""

    loss: float  # mean over the examples
    accuracy: float  # share of examples whose largest logit is the label's
    count: int  # type: ignore[override] -- tuple has a method of that name
    split: str
    probabilities: np.ndarray  # (count, K), float32

    def as_record(self) -> dict[str, Any]:
        """The figures alone, for JSON."""
        keys = ("loss", "accuracy", "count", "split")
        return {key: getattr(self, key) for key in keys}


def evaluate_split(
    eval_step: Callable[..., Any], params: Any, state: Any, dataset: data.Dataset, split: str
) -> Evaluation:
    """Loss and accuracy over a whole split, the last partial batch included.

    Raises:
        RunError: the split is empty.
        RuntimeError: not every example was counted exactly once.
    """
    examples = getattr(dataset, split)
    size = len(examples.labels)
    if not size:
        raise RunError(f"{split}: this split of the data is empty; set data.{split} in the config")
    loss, correct, count, probabilities = 0.0, 0, 0, []
    for images, labels, weights in data.eval_batches(examples, min(EVAL_BATCH, size)):
        sums, batch = eval_step(params, state, images, labels, weights)
        loss += float(sums["loss"])
        correct += int(sums["correct"])
        count += int(sums["count"])
        probabilities.append(np.asarray(batch)[weights > 0])
    if count != size:
        raise RuntimeError(f"{split}: {count} of {size} examples were counted")
    return Evaluation(loss / count, correct / count, count, split, np.concatenate(probabilities))


def make_eval_step_of(experiment: Experiment) -> Callable[..., Any]:
    """The evaluation step of an experiment, its preprocessing inside."""
    loss = experiment.config.loss
    images = partial(preprocess, spec=experiment.card.preprocessing)
    return make_eval_step(experiment.net, make_loss(loss), images, make_probabilities(loss))


def reopen_trained(path: str | Path, checkpoint: str) -> tuple[Run, Experiment, Any, Any]:
    """`reopen`, with the parameters and state of its "best" or "last" checkpoint."""
    run, experiment = reopen(path)
    template = experiment.template
    params, state, _ = restore_network(run.checkpoints, checkpoint, template.params, template.state)
    return run, experiment, params, state


def evaluate(run: str | Path, split: str = "test", *, checkpoint: str = "best") -> Evaluation:
    """Evaluate the network of a run on a split of its data.

    Args:
        run: the run directory.
        split: "train", "validation" or "test".
        checkpoint: "best" or "last".

    Raises:
        RunError, CheckpointError, DataError: the run, its checkpoint or its data cannot be used.
    """
    _, experiment, params, state = reopen_trained(run, checkpoint)
    return evaluate_split(make_eval_step_of(experiment), params, state, experiment.dataset, split)
