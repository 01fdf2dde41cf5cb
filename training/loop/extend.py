"""A new run that goes on where a finished one has ended, for more epochs.

It begins with the last checkpoint of that run, its best one and its metrics, and is then a run like
any that was stopped: `training.loop.loop.resume` continues it, now and after a kill. ``run.json``
names the run that it extends. What decides the steps up to there must be the same; how long it
trains, by which schedule, and when it stops early may be other. Code, versions, device and data are
compared as those of a run that is resumed, and ``run.json`` notes what was forced, then or now.
"""

import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..common import atomic_io
from ..common.text import plain_line
from ..config.given import NOTHING, attach
from ..config.schema import Config, load_config
from ..distributed import processes
from ..experiment import (
    Experiment,
    count_steps,
    make_schedule,
    prepare,
    resolve_data_path,
    run_length,
)
from ..run import checkpoint
from ..run.directory import Run, RunError, create_run, open_run, refuse_existing
from ..run.provenance import differences, relevant_config, summarized
from .loop import resume
from .plateau import PlateauProgress
from .progress import Display, Silent
from .resume import changes_since, note, repair

# What may be other than in the run that is extended.
_FREE = (
    *("training.epochs", "training.steps", "training.length"),
    *("training.evaluate_every", "training.log_every"),
    *("schedule", "optimizer.learning_rate", "early_stopping", "mesh"),
)


def extend(
    parent: str | Path,
    out: str | Path,
    overrides: Sequence[str] = (),
    *,
    display: Display | None = None,
    force: bool = False,
) -> Run:
    """Train a finished run for longer, as a new run.

    Args:
        parent: the run directory of the finished one, which stays as it is; a config.toml that is
            gone is written anew.
        out: the run directory to make.
        overrides: of its config, as those of `load_config`: ``training.epochs=20`` for 20 in all.
        display: where progress goes; nowhere by default.
        force: go on although data, code or device have changed since the parent began, to another
            result than that of a run which was longer all along; the new run notes it.

    Returns:
        The finished new run.

    Raises:
        RunError: the run is not finished, has stopped early, or ends with what is fitted once;
            data, code or device have changed; something else than the length would be other, or no
            step be left.
        ConfigError, DataError, NonFiniteError, InterruptedRun: as `training.loop.loop.train`.
    """
    display, out = display or Silent(), Path(processes.broadcast_str(str(out)))
    with processes.detect_peer_loss(out), processes.barrier("make the run directory"):
        if processes.is_first():
            refuse_existing(out)
            repair(Run(Path(parent)))
            _make(open_run(parent), out, overrides, display, force=force)
    return resume(out, display=display)


def _make(
    parent: Run, out: Path, overrides: Sequence[str], display: Display, *, force: bool
) -> None:
    """Make the directory of the new run, all of it or nothing."""
    _check_finished(parent)
    config = load_config(parent.path / "config.toml", overrides)
    attach(config, NOTHING)  # what was given in Python cannot be given here
    _check_alike(parent, config)
    config = resolve_data_path(config, None)
    experiment = prepare(config)
    changes = _changes(parent, experiment, _command(parent, out, overrides), force=force)
    name = checkpoint.pointed(parent.checkpoints, "last")
    step, total = checkpoint.step_of(name), experiment.total_steps
    if total <= step:
        raise RunError(
            f"{parent.path}: has taken {step} steps, and is to take {total} in all; ask for more: "
            "--set training.epochs=20, say"
        )
    manifest = checkpoint.read_manifest(parent.checkpoints / name)
    about = {
        "run": str(parent.path.resolve()),
        "step": step,
        "sha256": checkpoint.checksum(manifest),
    }
    scale = (manifest["memory"].get("plateau") or PlateauProgress()._asdict())["scale"]
    fill = partial(_fill, parent, changes)
    create_run(config, out, experiment.card, fill=fill, extends=about)
    display.note(f"{out}: extends {parent.path}, {_rates(parent, experiment, step, scale)}")


def _check_finished(parent: Run) -> None:
    """Raise unless a run has come to its end, and the steps behind it are more of the same."""
    info = parent.info()
    if info["status"] != "finished":
        raise RunError(
            f"{parent.path}: not finished, which a run to extend must be; continue it with: "
            f"{parent.again}"
        )
    if reason := info.get("result", {}).get("stopped_early"):
        raise RunError(
            f"{parent.path}: stopped early ({reason}), as a longer run of its config would; begin "
            "one from its weights: [init_from] in a config"
        )
    last = checkpoint.pointed(parent.checkpoints, "last")
    memory: dict[str, Any] = checkpoint.read_manifest(parent.checkpoints / last)["memory"]
    if memory.get("finalized_from") is not None:
        raise RunError(
            f"{parent.path}: ends with what is fitted once, behind its last step, and cannot be "
            "extended; begin a run from its weights: [init_from] in a config"
        )


def _check_alike(parent: Run, config: Config) -> None:
    """Raise where a config differs in more than how long a run is and how it goes on."""
    then, now = (
        relevant_config(c.model_dump(mode="json", exclude_none=True))
        for c in (parent.config(), config)
    )
    for line in differences(then, now):
        key = line.partition(":")[0]
        if not any(key == free or key.startswith(f"{free}.") for free in _FREE):
            raise RunError(
                f"--extend: {plain_line(line, 200)}: the steps taken by then would be others; "
                f"leave it out: what may be other is {', '.join(_FREE)}"
            )


def _changes(parent: Run, experiment: Experiment, again: str, *, force: bool) -> list[str]:
    """List what has changed since the parent began: `changes_since`, of its own config.

    In what that of the new run is other, it may be.
    """
    config = parent.config().model_copy(update={"data": experiment.config.data})
    return changes_since(parent, experiment._replace(config=config), again, force=force)


def _command(parent: Run, out: Path, overrides: Sequence[str]) -> str:
    """Return the command that extends a run although something has changed."""
    words = ["convax", "train", "--extend", str(parent.path), "--out", str(out)]
    words += [word for override in overrides for word in ("--set", override)]
    return f"{shlex.join(words)} --force"


def _fill(parent: Run, changes: list[str], run: Run) -> None:
    """Copy what a run goes on from: its last checkpoint, its best, the metrics, what was forced.

    Raises:
        CheckpointError: one of these is damaged.
    """
    made = summarized(run.info()["provenance"])
    for pointer in ("best", "last"):
        name = checkpoint.pointed(parent.checkpoints, pointer)
        if name not in checkpoint.names(run.checkpoints):
            checkpoint.copy_into(run.checkpoints, parent.checkpoints / name, made)
        checkpoint.point(run.checkpoints, pointer, name)
    if parent.metrics_file.exists():
        atomic_io.atomic_write(run.metrics_file, parent.metrics_file.read_bytes())
    if forced := parent.info().get("forced"):
        run.update_info(forced=forced)
    if changes:
        note(run, changes)


def _rates(parent: Run, experiment: Experiment, step: int, scale: float) -> str:
    """Say which learning rate the longer run begins with, and which the shorter one ended with.

    Both are those of a schedule, times the scale of a plateau.
    """
    config, examples = parent.config(), experiment.card.counts["train"]
    before = make_schedule(config, run_length(config, examples, count_steps(config, examples)))
    rates = [scale * float(schedule(step)) for schedule in (experiment.schedule, before)]
    return f"from step {step} with a learning rate of {rates[0]:.3g}; it ended with {rates[1]:.3g}"
