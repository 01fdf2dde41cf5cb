"""Weights & Biases: ``pip install 'convax[wandb]'``, then ``wandb login`` or WANDB_MODE=offline."""

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from .tracker import Ending, Subject, Tracker, TrackerError

_SECONDS = 30  # to begin with


def open_wandb(subject: Subject, known: str | None) -> Tracker:
    """Open a run there; see `tracker.Open`."""
    wandb = import_module("wandb")
    mode = os.environ.get("WANDB_MODE") or wandb.setup().settings.mode
    if mode == "online" and not wandb.login(prompt=False, verify=False):  # init would ask for a key
        raise TrackerError(
            "not logged in: `wandb login`, or WANDB_MODE=offline and `wandb sync` later"
        )
    run = wandb.init(
        project=subject.project,
        name=subject.name,
        dir=str(subject.path),
        config=dict(subject.config),
        id=known,
        resume="allow" if known else None,
        reinit="create_new",
        settings=wandb.Settings(
            init_timeout=_SECONDS, console="off", silent=True, disable_git=True, save_code=False
        ),
    )
    # Figures have the training's step: evaluations are logged behind steps, and of earlier ones.
    run.define_metric("step", hidden=True)
    run.define_metric("*", step_metric="step")
    return _Run(run)


class _Run:
    def __init__(self, run: Any):
        self._run = run

    @property
    def id(self) -> str:
        return self._run.id

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self._run.log({**figures, "step": step})

    def finish(self, ending: Ending) -> None:
        self._run.summary["ending"] = ending
        self._run.finish(exit_code=0 if ending == "finished" else 1)
