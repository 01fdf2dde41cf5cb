r"""Exponential moving averages of the weights: what evaluation and inference use, if there are any.

.. math:: \bar w_t = \bar w_{t-1} + (1 - d_t)\,(w_t - \bar w_{t-1}), \qquad
    d_t = d \quad\text{or, with warm-up,}\quad \min\Bigl(d, \frac{1 + t}{10 + t}\Bigr)

with :math:`\bar w_0 = w_0` the first weights, t = 1 at the first step. Without warm-up the first
weights still have a share of :math:`d^t`: a decay of 0.999 wants some thousands of steps.

The state is averaged by the same formula: of batch normalization the running means and variances.
These are means over the last 1 / momentum batches already; their average is over the same steps as
that of the weights. It is what the layers saw on their way while the weights were those that went
into the average, and not what the averaged network itself would see, for which the training images
would have to pass through it once more (as after stochastic weight averaging). What is not floating
point is not averaged: it is the newest. What does not change, a frozen layer, say, stays the same
to the bit, which is why the formula is written as it is.

References:
    Polyak & Juditsky, 1992, doi:10.1137/0330046. Tarvainen & Valpola, arXiv:1703.01780. The warm-up
    is that of TensorFlow's `ExponentialMovingAverage`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ..common.train_state import Ema


class EmaSpec(NamedTuple):
    """How much of the average each step keeps."""

    decay: float  # in (0, 1)
    warmup: bool = False


def init_ema(params: Any, state: Any) -> Ema:
    """Initialize the averages: copies, as a step takes its arguments' memory."""
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), Ema(params, state))


def update_ema(
    old: Ema | None, params: Any, state: Any, *, step: Array, spec: EmaSpec | None
) -> Ema | None:
    """Update the averages after a step.

    Args:
        old: those before it; None: there are none.
        params: the parameters after it.
        state: the state after it.
        step: t, 1 for the first step.
        spec: decay and warm-up.

    Example:
        >>> spec = EmaSpec(decay=0.75)
        >>> ema = init_ema({"w": jnp.array(0.0)}, {})
        >>> for t, w in enumerate([1.0, 1.0], start=1):
        ...     ema = update_ema(ema, {"w": jnp.array(w)}, {}, step=jnp.array(t), spec=spec)
        >>> print(ema.params["w"])  # 1 - 0.75 ** 2
        0.4375
    """
    if old is None or spec is None:
        return old
    share = 1 - decay_at(step, spec)

    def averaged(mean: Array, new: Array) -> Array:
        if not jnp.issubdtype(mean.dtype, jnp.floating):
            return new
        return mean + share.astype(mean.dtype) * (new - mean)

    return jax.tree.map(averaged, old, Ema(params, state))


def decay_at(step: Array, spec: EmaSpec) -> Array:
    """Compute the decay of step t, a float32 scalar."""
    decay = jnp.float32(spec.decay)
    if not spec.warmup:
        return decay
    t = step.astype(jnp.float32)
    return jnp.minimum(decay, (1 + t) / (10 + t))
