"""What a contestant offers to be timed, and the form that the libraries on JAX share."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Program(NamedTuple):
    """What is timed.

    Attributes:
        forms: by name, ``run(count) -> value``: runs so many times and returns when all is done;
            the value must be finite (the last loss, say), or what was timed is worth nothing.
        about: what else is to be known; "parameters" must agree between contestants.
    """

    forms: Mapping[str, Callable[[int], float]]
    about: Mapping[str, Any]


def jax_training(step: Callable[[Any], tuple[Any, Any]], carry: Any, params: Any) -> Program:
    """Of ``step(carry) -> (carry, loss)``; steps are dispatched ahead, as in a training loop."""
    import jax

    def run(count: int) -> float:
        nonlocal carry
        for _ in range(count):
            carry, loss = step(carry)
        jax.block_until_ready(carry)
        return float(loss.mean())

    return Program({"": run}, {"parameters": size(params)})


def jax_inference(predict: Callable[[Any], Any], images: Any, params: Any) -> Program:
    """Of ``predict(images) -> logits``; each answer is waited for, as by who asked for it."""

    def run(count: int) -> float:
        for _ in range(count):
            logits = predict(images).block_until_ready()
        return float(logits.sum())

    return Program({"": run}, {"parameters": size(params)})


def size(params: Any) -> int:
    """How many numbers are in a tree of arrays."""
    import jax

    return sum(leaf.size for leaf in jax.tree.leaves(params))
