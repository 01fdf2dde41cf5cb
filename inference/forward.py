"""The program of a predictor: preprocessing, network, postprocessing; of one network or several."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..training.data.preprocess import Preprocessing, preprocess
from ..training.run.load_model import LoadedModel
from ..training.tasks.task import Task
from .ensemble import EnsembleError, stack_trees

_SMALLEST = float(np.finfo(np.float32).tiny)  # of a probability that is to have a logarithm


class Program(NamedTuple):
    """``function(params, state, images) -> predictions``, pure and jitted, and its arrays.

    Behind the images it takes what `Task.more_inputs` has of them, where the task has that.
    """

    function: Callable[..., Array]
    params: Any
    state: Any


def make_program(
    members: Sequence[LoadedModel],
    task: Task,
    *,
    tta: bool = False,
    temperatures: Sequence[float] | None = None,
) -> Program:
    """Make the program of networks that are alike (`ensemble.check_compatible`).

    Args:
        members: one, or several: then their arrays are stacked, one `jax.vmap` computes the
            predictions of all, and their mean is given.
        task: theirs.
        tta: each network sees the mirror image too, and gives the mean of both predictions.
        temperatures: of each; applied before the mean over the networks.
    """
    first, several = members[0], len(members) > 1
    numbers = None if temperatures is None else np.array(temperatures, np.float32)
    predict = _make_predict(first, task, tta)

    def predict_one(params: Any, state: Any, images: Array, *more: Array) -> Array:
        predictions = predict(params, state, images, first.card.preprocessing, *more)
        return predictions if numbers is None else apply_temperature(predictions, numbers[0])

    def member(params: Any, state: Any, statistics: Any, temperature: Any, images: Array):
        spec = first.card.preprocessing._replace(**statistics)
        predictions = predict(params, state, images, spec)
        return predictions if temperature is None else apply_temperature(predictions, temperature)

    measured = [member.card.preprocessing.statistics for member in members]
    statistics = {name: np.stack([each[name] for each in measured]) for name in measured[0]}

    def predict_mean(params: Any, state: Any, images: Array) -> Array:
        every = jax.vmap(member, in_axes=(0, 0, 0, None if numbers is None else 0, None))
        return every(params, state, statistics, numbers, images).mean(axis=0)

    if not several:
        return Program(jax.jit(predict_one), first.params, first.state)
    params, state = (stack_trees([getattr(m, n) for m in members]) for n in ("params", "state"))
    return Program(jax.jit(predict_mean), params, state)


def apply_temperature(probabilities: Array, temperature: Any) -> Array:
    r"""Apply `calibration.with_temperature` within JAX: :math:`p_k^{1/T} / \sum_j p_j^{1/T}`.

    Args:
        probabilities: ``(..., K)`` float32.
        temperature: T, a scalar.
    """
    return jax.nn.softmax(jnp.log(jnp.maximum(probabilities, _SMALLEST)) / temperature)


def _make_predict(trained: LoadedModel, task: Task, tta: bool) -> Callable[..., Array]:
    """Return ``predict(params, state, images, preprocessing)`` of one network."""
    net, image_shape = trained.net, trained.card.image_shape
    aggregate = task.aggregate
    if tta and aggregate is None:
        raise EnsembleError(
            f"load: tta: what a network of {task.name} says of an image and of its mirror image "
            "has no mean; leave it out"
        )

    def predict(params: Any, state: Any, images: Array, spec: Preprocessing, *more: Array) -> Array:
        x = preprocess(images, spec)
        x = task.inputs(x, None, *more) if more else x
        outputs, _ = net.apply(params, state, x, train=False)
        return task.postprocess(outputs, spec, image_shape)

    def predict_with_mirror(params: Any, state: Any, images: Array, spec: Preprocessing) -> Array:
        both = jnp.concatenate([images, images[:, :, ::-1]])
        seen, mirrored = jnp.split(predict(params, state, both, spec), 2)
        if task.spec.per_pixel:
            mirrored = mirrored[:, :, ::-1]
        assert aggregate is not None
        return aggregate(jnp.stack([seen, mirrored]))

    return predict_with_mirror if tta else predict
