"""What is fitted behind the last step, once: `Task.finalize`, of the tasks that have it.

It begins with the best checkpoint, and its result is one more: that of the step behind the last
one, named "best" and "last" from then on. What it begins with is kept. Whatever ends a run in
between, it goes on with the stage, or behind it, and comes to the same bytes.
"""

import jax.numpy as jnp

from ..common.train_state import TrainState
from ..distributed import processes
from ..run import checkpoint
from .recorder import TrainingRecorder


def finalize(recorder: TrainingRecorder) -> None:
    """Fit what the task fits behind the training, and save it; unless it has nothing, or has done.

    Every process does it, for all of it: there are no sums over devices in it.

    Args:
        recorder: of a network that takes no more steps, whose best checkpoint is on the disk.
    """
    run, experiment = recorder.context.run, recorder.context.experiment
    fit = experiment.task.finalize
    if fit is None or recorder.is_finalized:
        return
    best = checkpoint.restore(run.checkpoints, "best", experiment.template).train_state
    with processes.barrier("fit the last stage"):
        params = fit(experiment, *best.trained, recorder.context.display.note)
    begun, step = int(best.step), jnp.asarray(recorder.step + 1, best.step.dtype)
    recorder.on_finalized(_with_trained(best, params)._replace(step=step), begun)
    with processes.barrier("save"):
        pass  # until it is on the disk


def _with_trained(train_state: TrainState, params: object) -> TrainState:
    """Return a state with other trained parameters; averages are what is trained, where kept."""
    if train_state.ema is None:
        return train_state._replace(params=params)
    return train_state._replace(ema=train_state.ema._replace(params=params))
