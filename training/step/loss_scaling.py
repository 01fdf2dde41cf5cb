r"""Loss scaling: gradients that float16 can hold.

Gradients below 6e-8 are zero in float16. The loss times a scale s has gradients s times as large
all the way back to the parameters, where they are float32 and divided by s again. Where s is too
large, some overflow to infinity: such a step is left out, and moves neither the parameters nor the
running statistics nor the optimizer, whose schedule then is a step behind. The scale

.. math:: s \leftarrow \begin{cases}
    s / f & \text{after an overflow} \\
    s f & \text{after } k \text{ steps in a row without one}
    \end{cases}

f = 2 and k = 2000 are customary. With k = 0 it stays as it is, and steps are left out all the same.
Powers of two change no digit of a gradient. After `MOST` overflows in a row the scale is not to
blame: the step is taken as it is, and the run stops as one that diverged. So it does at once where
the loss itself is not finite, which no scale has a part in.

`overflow` in the metrics is 1 for a step that was left out: in a report, the share of them.
`loss_scale` is the scale of the step.

References:
    Micikevicius et al., Mixed Precision Training, ICLR 2018, arXiv:1710.03740, section 3.2.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ..common.train_state import LossScale

MOST = 20  # overflows in a row; from the customary 65536 down to 1 it takes 16
LARGEST = 2.0**24  # a loss that is zero for long would otherwise raise the scale to infinity


class LossScaling(NamedTuple):
    """How the loss is scaled."""

    initial: float  # the scale of the first step
    growth_interval: int  # k; 0: it stays
    growth_factor: float = 2.0  # f


def init_loss_scale(spec: LossScaling | None) -> LossScale | None:
    """Initialize the scale of the first step; None where nothing is scaled."""
    if spec is None:
        return None
    calm, overflows = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)  # two: each is donated
    return LossScale(jnp.float32(spec.initial), calm, overflows)


def is_taken(old: LossScale | None, grads: Any) -> Array | None:
    """Return whether a step with these gradients is taken, or left out; None: no scaling."""
    if old is None:
        return None
    finite = [jnp.isfinite(g).all() for g in jax.tree.leaves(grads)]
    return jnp.stack(finite).all() | (old.overflows >= MOST)


def never(old: LossScale | None) -> LossScale | None:
    """Return the same scale, under which no step is left out, to look at one that overflows."""
    return None if old is None else old._replace(overflows=jnp.full((), MOST, jnp.int32))


def only_if(taken: Array | None, new: Any, otherwise: Any = None) -> Any:
    """Return `new`, or `otherwise` where the step is left out: by default, zeros."""
    if taken is None:
        return new
    if otherwise is None:
        otherwise = jax.tree.map(jnp.zeros_like, new)
    return jax.tree.map(lambda one, other: jnp.where(taken, one, other), new, otherwise)


def scale_metrics(old: LossScale | None, taken: Array | None) -> dict[str, Array]:
    """Return the metrics of the scale that are reported of a step."""
    if old is None or taken is None:
        return {}
    return {"overflow": 1 - taken.astype(jnp.float32), "loss_scale": old.scale}


def update_loss_scale(
    old: LossScale | None, taken: Array | None, spec: LossScaling | None
) -> LossScale | None:
    """Update the scale, after a step that was `taken` or left out.

    Example:
        >>> spec = LossScaling(initial=8.0, growth_interval=2)
        >>> scale, seen = init_loss_scale(spec), []
        >>> for taken in (True, True, False, True):
        ...     scale = update_loss_scale(scale, jnp.array(taken), spec)
        ...     seen.append(float(scale.scale))
        >>> seen
        [8.0, 16.0, 8.0, 8.0]
    """
    if old is None or taken is None or spec is None:
        return old
    calm, overflows = jnp.where(taken, old.calm + 1, 0), jnp.where(taken, 0, old.overflows + 1)
    if not spec.growth_interval:
        return LossScale(old.scale, calm, overflows)
    factor, grows = jnp.float32(spec.growth_factor), calm >= spec.growth_interval
    larger = jnp.minimum(old.scale * factor, jnp.maximum(old.scale, LARGEST))
    grown = jnp.where(grows, larger, old.scale)
    scale = jnp.where(taken, grown, old.scale / factor)
    return LossScale(scale, jnp.where(grows, 0, calm), overflows)
