"""A step whose loss, gradients or update are not finite: found, examined, and written down.

The state before such a step is what `step.train_step` returns. It is saved, so that "last" is
the state just before, and ``nonfinite.json`` says what there is to know of the step itself:

    step, metric, value     the step, which of `train_step.WATCHED` was not finite, its value
    learning_rate           the schedule's, times the scale of a plateau
    examples                the batch: indices into the training images, as the seed split them
    parameters              for each path whether parameter, gradient and update are finite
    activations             for each layer on top whether its output is, in training on this batch
"""

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ...model import INLINE, Layer, capture_intermediates
from ..common.errors import ConvaxError
from ..common.pytree_paths import named_leaves
from ..common.train_state import TrainState
from ..config_data import sampling_of
from ..data import batch_indices
from ..data.preprocess import preprocess
from ..experiment import Experiment, make_step_spec
from ..run.directory import Run, study_of, write_json
from ..step.loss_scaling import never
from ..step.train_step import WATCHED, make_train_step, step_key


class NonFiniteError(ConvaxError, ArithmeticError):
    """The loss or an update is not a finite number; says at which step."""

    exit_code = 1
    in_all_processes = True


class NonFiniteStep(NamedTuple):
    """The first number of a step that was not finite."""

    step: int  # counts from 1, as in metrics
    metric: str
    value: float

    def as_json(self) -> dict[str, Any]:
        """Return plain values; JSON has no NaN."""
        return {"step": self.step, "metric": self.metric, "value": str(self.value)}


def find_nonfinite(step: int, metrics: Mapping[str, np.ndarray]) -> NonFiniteStep:
    """Return what was not finite in a step.

    Args:
        step: which one, counted from 1.
        metrics: ``(count,)`` each; the last row is that step's.
    """
    name = next(name for name in WATCHED if not math.isfinite(metrics[name][-1]))
    return NonFiniteStep(step, name, float(metrics[name][-1]))


def diverged(
    run: Run,
    experiment: Experiment,
    nonfinite: NonFiniteStep,
    train_state: TrainState,
    batch: tuple[Any, Any],
) -> NonFiniteError:
    """Write ``nonfinite.json``, and return what to raise.

    Args:
        run: where.
        experiment: what is trained.
        nonfinite: the step.
        train_state: before that step.
        batch: the images and labels of that step.
    """
    config, scale = experiment.config, train_state.rate_scale
    rate = experiment.learning_rate(nonfinite.step - 1)
    if rate is not None:
        rate *= 1 if scale is None else float(scale)
    examples = batch_indices(
        nonfinite.step - 1,
        size=experiment.card.counts["train"],
        **sampling_of(config, experiment.dataset.train),
    )
    record = {**nonfinite.as_json(), "learning_rate": rate, "examples": examples.tolist()}
    write_json(run.path / "nonfinite.json", record | examine(experiment, train_state, *batch))
    run.update_info(status="diverged", diverged_at_step=nonfinite.step)
    lower = "lower the learning rate of the optimizer that was given, or clip gradients in it"
    if rate is not None:
        lower = f"lower optimizer.learning_rate (here {rate:.3g}) or set optimizer.clip_norm"
    skip = f"; or leave out such steps: {run.again} --skip-nonfinite 10"
    skip = "" if study_of(run.path) else skip  # a study goes on with its other runs
    return NonFiniteError(
        f"{run.path}: {nonfinite.metric} is {nonfinite.value} at step {nonfinite.step}; the state "
        f"before it is saved; see nonfinite.json\n{lower}{skip}"
    )


def examine(
    experiment: Experiment, train_state: TrainState, images: Any, labels: Any
) -> dict[str, Any]:
    """Return which parameters, gradients, updates and activations of a step are finite.

    Args:
        experiment: what is trained.
        train_state: before the step.
        images, labels: the batch, ``(N, H, W, C)``, uint8, and ``(N, ...)``.
    """
    optimizer = experiment.optimizer
    watched = _Watched(optimizer.init, partial(_update_and_watch, optimizer.update))
    train_step = make_train_step(make_step_spec(experiment)._replace(optimizer=watched))
    opt_state = _WatchedState(train_state.opt_state, *2 * [_finite(train_state.params)])
    unguarded = train_state._replace(opt_state=opt_state, loss_scale=never(train_state.loss_scale))
    found = {"parameter": _finite(train_state.params)}
    activations = _activations(experiment, train_state, images, labels)
    run_step = jax.jit(lambda *arguments: train_step(*arguments)[0].opt_state)
    seen = run_step(unguarded, images, labels)
    found |= {"gradient": seen.gradient, "update": seen.update}
    tables = {name: dict(named_leaves(tree)) for name, tree in found.items()}
    parameters = {
        path: {name: bool(table[path]) for name, table in tables.items()}
        for path in tables["parameter"]
    }
    return {"parameters": parameters, "activations": activations}


class _Watched(NamedTuple):
    """An optimizer that remembers what was finite, too."""

    init: Any
    update: Any


class _WatchedState(NamedTuple):
    """The state of a `_Watched`."""

    own: Any  # that of the optimizer it watches
    gradient: Any  # whether each parameter's is finite
    update: Any


def _update_and_watch(update: Any, grads: Any, opt_state: Any, params: Any) -> tuple[Any, Any]:
    updates, own = update(grads, opt_state.own, params)
    return updates, _WatchedState(own, _finite(grads), _finite(updates))


def _finite(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.isfinite(leaf).all(), tree)


def _activations(
    experiment: Experiment, train_state: TrainState, images: Any, labels: Any
) -> dict[str, bool]:
    """Of the parts that the network is put together of; nothing where it cannot be tapped."""
    parts = list(_named_parts(experiment.net))
    if not parts:
        return {}
    finite = jax.jit(partial(_finite_activations, capture_intermediates(experiment.net, parts)))
    task, spec = experiment.task, experiment.card.preprocessing
    targets = task.targets(jax.tree.map(jnp.asarray, labels), spec=spec)
    x = task.inputs(preprocess(jnp.asarray(images), spec), targets)
    found = finite(train_state, x)
    return {path: all(map(bool, jax.tree.leaves(found[path]))) for path in parts}


def _named_parts(layer: Layer) -> Iterator[str]:
    """The names of its parts; those of what stands inline in place of that."""
    if layer.info.rebuild is None:
        return
    for name, part in layer.info.parts.items():
        if name == INLINE:
            yield from _named_parts(part)
        else:
            yield name


def _finite_activations(tapped: Layer, train_state: TrainState, x: Any) -> dict[str, Array]:
    key = step_key(train_state.key, train_state.step)
    params, state = train_state.params, train_state.state
    outputs: Any = tapped.apply(params, state, x, train=True, key=key)[0]
    _, found = outputs
    return {path: _finite(y) for path, y in found.items()}
