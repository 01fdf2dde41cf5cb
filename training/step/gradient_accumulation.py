r"""The gradient of a large batch out of smaller ones, one after the other, in the memory of one.

The mean over a batch of N examples is the mean of the means over n equal parts of it:

.. math:: \nabla \frac{1}{N} \sum_{i=1}^N \ell_i
    = \frac{1}{n} \sum_{j=1}^n \nabla \frac{n}{N} \sum_{i \in B_j} \ell_i

So where the loss is a mean over examples, and each example passes through the network by itself,
the gradient is that of the whole batch, but for rounding. What is different:

- batch normalization takes the statistics of each part, and moves the running ones n times a step;
- dropout and stochastic depth draw for each part with a key of its own: as they should, but not
  what they would draw for the whole batch;
- a loss of pixels is a mean over those that count: parts in which fewer count than in others (by
  padding, or class 255) weigh the same. The Dice loss is of each image by itself, and the same;
- what is reported of a batch is the mean over its parts: loss and accuracy are those of the whole,
  the mean IoU is not.

A loss of pairs or triplets of a batch would be another one; a config cannot ask for it.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from .gradient import BatchGradient, Gradient


def accumulated(gradient: Gradient, parts: int) -> Gradient:
    """Average `gradient` over as many equal parts of a batch, one after the other.

    Part j has the examples j, j + n, j + 2n ...: where a batch is divided over devices, each device
    has its share of every part. The state goes from part to part.

    Args:
        gradient: of a batch, see `training.step.gradient`.
        parts: n, which divides the examples of a batch; of 1, `gradient` is returned as it is.
    """
    if parts == 1:
        return gradient

    def of_batch(
        params: Any, state: Any, x: Array, targets: Any, key: Array, scale: Array | None = None
    ) -> BatchGradient:
        batches = jax.tree.map(lambda whole: _parts(whole, parts), (x, targets))
        keys = jax.vmap(lambda j: jax.random.fold_in(key, j))(jnp.arange(parts))

        def of_part(state: Any, part: Any) -> BatchGradient:
            (x, targets), key = part
            return gradient(params, state, x, targets, key, scale)

        def add(
            carry: tuple[BatchGradient, Any], part: Any
        ) -> tuple[tuple[BatchGradient, Any], None]:
            sums, state = carry
            found = of_part(state, part)
            sums = jax.tree.map(jnp.add, sums, found._replace(state=None))
            return (sums, found.state), None

        first = jax.tree.map(lambda a: a[0], (batches, keys))
        shapes = jax.eval_shape(of_part, state, first)._replace(state=None)
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        (sums, state), _ = jax.lax.scan(add, (zeros, state), (batches, keys))
        return jax.tree.map(lambda total: total / parts, sums)._replace(state=state)

    return of_batch


def _parts(whole: Array, parts: int) -> Array:
    """Reshape ``(N, ...)`` to ``(n, N / n, ...)``, the examples dealt out like cards."""
    return whole.reshape(len(whole) // parts, parts, *whole.shape[1:]).swapaxes(0, 1)
