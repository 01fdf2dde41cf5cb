"""Keys and values of a config under the names that earlier versions of convax gave them.

One table for all: an error about such a key names the one to write instead, and a run that was
made by an earlier version says so. Paths are without the indices of lists, `schedule.parts` being
a list of tables like `schedule` itself.
"""

from collections.abc import Iterable

KEYS = {
    "augment.edge": "augment.padding_mode",
    "augment.policy.count": "augment.policy.num_ops",
    "augment.shift": "augment.translate",
    "data.values": "data.mask_kind",
    "data.workers": "data.num_workers",
    "init_from.into": "init_from.target",
    "loss.dice": "loss.dice_weight",
    "mesh.towers": "mesh.model",
    "model.layers.pieces": "model.layers.num_pieces",
    "model.widen": "model.widen_factor",
    "records": "logging",
    "schedule.at": "schedule.milestones",
    "schedule.back": "schedule.pct_final",
    "schedule.every": "schedule.decay_steps",
    "schedule.factor": "schedule.gamma",
    "schedule.final_div": "schedule.final_div_factor",
    "schedule.growth": "schedule.t_mult",
    "schedule.initial_div": "schedule.div_factor",
    "stop": "early_stopping",
    "training.accumulate": "training.grad_accum_steps",
}
VALUES = {
    ("optimizer.name", "momentum"): '"sgd" with momentum',
    ("schedule.name", "join"): '"sequence"',
    ("schedule.name", "restarts"): '"cosine_restarts"',
}


def renamed_key(path: Iterable[int | str]) -> str | None:
    """Return the last part of the path that an old key has, None for one that never was.

    Example:
        >>> renamed_key(["schedule", "parts", 0, "initial_div"])
        'div_factor'
    """
    new = KEYS.get(_plain(path))
    return None if new is None else new.rpartition(".")[2]


def renamed_value(path: Iterable[int | str], value: object) -> str | None:
    """Return what to write in place of an old value of a key, None where it is none."""
    return VALUES.get((_plain(path), value)) if isinstance(value, str) else None


def _plain(path: Iterable[int | str]) -> str:
    keys = ".".join(key for key in path if isinstance(key, str))
    return keys.replace("schedule.parts", "schedule")
