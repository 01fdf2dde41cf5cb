"""The program of a predictor: preprocessing, network, postprocessing; of one network or several."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..model import fold_batch_norm
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
    folded: tuple[str, ...] = ()  # the batch norms that other layers do the work of


def make_program(
    members: Sequence[LoadedModel],
    task: Task,
    *,
    tta: bool = False,
    temperatures: Sequence[float] | None = None,
    fold: bool = True,
) -> Program:
    """Make the program of networks that are alike (`ensemble.check_compatible`).

    Args:
        members: one, or several: then their arrays are stacked, one `jax.vmap` computes the
            predictions of all, and their mean is given.
        task: theirs.
        tta: each network sees the mirror image too, and gives the mean of both predictions.
        temperatures: of each; applied before the mean over the networks.
        fold: whether batch norms are folded into the layers before them.
    """
    members, folded = without_norms(members) if fold else (members, ())
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
        return Program(jax.jit(predict_one), first.params, first.state, folded)
    params, state = (stack_trees([getattr(m, n) for m in members]) for n in ("params", "state"))
    return Program(jax.jit(predict_mean), params, state, folded)


def without_norms(members: Sequence[LoadedModel]) -> tuple[list[LoadedModel], tuple[str, ...]]:
    """Return networks that are alike with their batch norms folded, and the paths of these."""
    net, convert, norms = fold_batch_norm(members[0].net)
    if not norms:
        return list(members), ()
    made = []
    for member in members:
        params, state = _on_host(convert, member.params, member.state)
        made.append(member._replace(net=net, params=params, state=state))
    return made, norms


def _on_host(convert: Callable[[Any, Any], tuple[Any, Any]], *trees: Any) -> tuple[Any, Any]:
    """Apply a function of trees by NumPy; what it leaves as it is, is not copied.

    JAX would compile a program for each shape.
    """
    views = jax.tree.map(np.asarray, trees)
    pairs = zip(jax.tree.leaves(views), jax.tree.leaves(trees), strict=True)
    kept = {id(view): leaf for view, leaf in pairs}
    return jax.tree.map(lambda a: kept[id(a)] if id(a) in kept else jnp.asarray(a), convert(*views))


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
