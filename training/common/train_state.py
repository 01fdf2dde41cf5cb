"""All that decides how training goes on, as one tree of arrays: what a checkpoint holds."""

from typing import Any, NamedTuple

from jax import Array

LOSS = "loss"  # where among the parameters those of the loss stand, if it has any


class Ema(NamedTuple):
    """Exponential moving averages, in trees like those they are of; see `training.step.ema`."""

    params: Any
    state: Any


class LossScale(NamedTuple):
    """The scale of the next step, and what decides when it changes; see `step.loss_scaling`."""

    scale: Array  # (), float32
    calm: Array  # (), int32: steps since it changed
    overflows: Array  # (), int32: steps left out, the last ones in a row


class TrainState(NamedTuple):
    """Everything that decides how training goes on."""

    params: Any
    state: Any
    opt_state: Any
    step: Array  # (), int32
    key: Array  # (), a PRNG key; never changes: step t draws from fold_in(key, t)
    ema: Ema | None = None  # averages of params and state; None: there are none
    loss_scale: LossScale | None = None  # of float16; None: nothing is scaled
    rate_scale: Array | None = None  # (), float32: times the learning rate; see `loop.plateau`

    @property
    def trained(self) -> tuple[Any, Any]:
        """Return the parameters and state to evaluate and to use: the averages, if any."""
        return (self.params, self.state) if self.ema is None else tuple(self.ema)
