"""What the losses' entries share: per example, and as a weighted mean."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tests.reference import loss as reference

from .entry import Arrays, Entry


@dataclass(frozen=True)
class Loss:
    """A loss with its hyper-parameters and labels; everything here is per example."""

    function: Callable  # (*arrays, weights=, reduction=)
    draw: Callable[[np.random.Generator], Arrays]
    torch: Callable
    plain: Callable
    loops: Callable
    loops_grad: Callable
    # What the mean divides by, of the examples' weights: None where they are all 1.
    weigh: Callable = field(default=lambda w: w)


def entry(op: str, case: str, loss: Loss) -> Entry:
    return Entry(
        op,
        case,
        lambda *arrays: loss.function(*arrays, reduction="none"),
        loss.draw,
        plain=loss.plain,
        loops=loss.loops,
        loops_grad=loss.loops_grad,
        torch=loss.torch,
    )


def weighted_mean(op: str, case: str, loss: Loss, shape: tuple[int, ...]) -> Entry:
    """The mean, with a derivative in the weights too."""

    def mean(each, w):
        w = w.reshape(w.shape + (1,) * (each.ndim - w.ndim)) * (0 * each + 1)
        return (w * each).sum() / w.sum()

    def loops_grad(g, *arrays):
        *arrays, w = arrays
        g_loss, g_weights = reference.mean_grads(loss.loops(*arrays), w)
        return *loss.loops_grad(g * g_loss, *arrays), g * g_weights

    return Entry(
        op,
        case,
        lambda *arrays: loss.function(*arrays[:-1], weights=arrays[-1]),
        lambda rng: (*loss.draw(rng), rng.uniform(0.5, 2, shape)),
        plain=lambda *arrays: mean(loss.plain(*arrays[:-1]), arrays[-1]),
        loops=lambda *arrays: np.array(reference.mean(loss.loops(*arrays[:-1]), arrays[-1])),
        loops_grad=loops_grad,
        torch=lambda torch, *arrays: mean(loss.torch(torch, *arrays[:-1]), arrays[-1]),
    )


def per_example(f: Callable, axes: int, *given: np.ndarray) -> dict[str, Callable]:
    """Value and gradients in loops; `given` has no gradient and follows the arrays."""
    return {
        "loops": lambda *arrays: reference.over_examples(f, arrays, given, axes),
        "loops_grad": lambda g, *a: reference.over_examples_grads(f, g, a, given, axes),
    }
