"""Where a run goes on: from its newest whole checkpoint, if nothing that decides it has changed.

1. What decides the bytes is as it was (`training.run.provenance`); a difference is named, and
refused.
2. The newest checkpoint whose files are whole, and whose best checkpoint is, or will come again on
   the way to where the run has been: training is deterministic. What is damaged is set aside.
3. The metrics up to there, byte by byte.

With `force` the run goes on all the same: under what is true now, from the beginning if nothing
else is left, and with those metrics that can be read; ``run.json`` notes it.
"""

import contextlib
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from ..common.train_state import TrainState
from ..config.schema import validate
from ..experiment import UNSTRATIFIED, Experiment, is_unstratified, left_out_otherwise
from ..run import checkpoint
from ..run.checkpoint import CheckpointError, DamagedError
from ..run.directory import Run, RunError, circumstances, old_config_named, write_json
from ..run.metrics_log import truncate
from ..run.provenance import (
    comparable,
    differences,
    lowering_remedy,
    provenance,
    relevant_config,
    summarized,
)
from .checkpointing import LoopState
from .progress import Display


class ResumePoint(NamedTuple):
    """A whole checkpoint."""

    train_state: TrainState
    loop_state: LoopState
    metrics: dict[str, Any]  # how far the metrics go: `metrics_log.truncate`


def find_resume_point(
    run: Run, experiment: Experiment, display: Display, *, force: bool
) -> ResumePoint | None:
    """Check that a run may go on, and bring it back to where it does.

    Args:
        run: its run directory, which this process holds the lock of.
        experiment: what it trains.
        display: is told of what is damaged.
        force: see above.

    Returns:
        The checkpoint to go on from; None where none was ever saved.

    Raises:
        RunError: it has changed, or is damaged.
        CheckpointError: its checkpoints are of another network.
    """
    unchanged = check_unchanged(run, experiment, force=force)
    found = latest_valid(run, experiment.template, display, force=force, repeats=unchanged)
    keep_metrics(run, found, force=force)
    return found


def repair(run: Run) -> None:
    """Write ``config.toml`` or ``run.json`` anew where one is gone.

    What is there and cannot be read is not touched; its error says to remove it.
    """
    config, info = run.path / "config.toml", run.path / "run.json"
    if info.is_file() and not config.exists():
        known = run.info().get("provenance", {}).get("config")
        if known is not None:
            with old_config_named(run):
                run.write_config(validate(known, str(info), folder=run.path))
    elif config.is_file() and not info.exists() and run.checkpoints.is_dir():
        found = _newest_manifest(run).get("provenance", {})
        write_json(info, {"status": "running", **circumstances(), "provenance": found})


def lacks_dataset(run: Run) -> bool:
    """Return whether ``dataset.json`` has to be written anew."""
    try:
        run.dataset()
    except RunError:
        return True
    return False


def check_unchanged(run: Run, experiment: Experiment, *, force: bool) -> bool:
    """Refuse to go on where what decides the bytes has changed; or note it.

    Args:
        run: its run directory.
        experiment: what it trains, as config and data are by now.
        force: note it and go on.

    Returns:
        Whether nothing has, so that steps taken once more come to what they came to.

    Raises:
        RunError: the differences, a line each, and the remedies.
    """
    changes = changes_since(run, experiment, f"{run.again} --force", force=force)
    if changes:
        note(run, changes)
    now = provenance(experiment.config, experiment.card.fingerprint)
    if run.info().get("provenance", {}) != now:
        run.update_info(provenance=now)
    if changes or _damaged_card(run, experiment):
        run.write_dataset(experiment.card)
    return not changes


def changes_since(run: Run, experiment: Experiment, again: str, *, force: bool) -> list[str]:
    """List what decides the bytes of a run and is not as it was when it began, a line each.

    Args:
        run: its run directory.
        experiment: what it trains, as config and data are by now.
        again: the command that goes on all the same.
        force: whether to.

    Raises:
        RunError: there is something, without `force`; with the remedies.
    """
    now = provenance(experiment.config, experiment.card.fingerprint)
    then = run.info().get("provenance", {})
    changes = _changes(run, experiment, then, now)
    if changes and not force:
        listed = "\n".join(f"  {line}" for line in changes)
        ways = ["without config.toml it is written as it was"] * _of_config(changes)
        if lowering := then and lowering_remedy(then, now):
            ways.append(f"the same implementation of convolutions: {lowering}")
        anew = f"({'; '.join(ways)}) " if ways else ""
        raise RunError(
            f"{run.path}: changed since this run began:\n{listed}\n"
            f"restore it {anew}or continue to a different result with: {again}"
        )
    return changes


def allow_nonfinite(
    run: Run, experiment: Experiment, found: ResumePoint | None, more: int | None
) -> Experiment:
    """Let so many `more` steps that are not finite be left out; the run remembers it.

    The config has the limit for the whole run, so those left out before `found` are added.

    Args:
        run: its run directory.
        experiment: what it trains.
        found: where it goes on.
        more: how many steps; None leaves the limit as it is.

    Returns:
        The experiment with that limit.
    """
    if more is None:
        return experiment
    before = 0 if found is None else found.loop_state.skipped
    config, count = experiment.config, min(before + more, 2**31 - 1)  # what a config can say
    if config.training.skip_nonfinite == count:
        return experiment
    line = f"training.skip_nonfinite: {config.training.skip_nonfinite} -> {count}"
    training = config.training.model_copy(update={"skip_nonfinite": count})
    config = config.model_copy(update={"training": training})
    # Killed between the two, the run goes on: the limit is free to change
    # (`training.run.provenance`).
    note(run, [line], provenance=provenance(config, experiment.card.fingerprint))
    run.write_config(config)
    return experiment._replace(config=config)


def note(run: Run, changes: list[str], **info: Any) -> None:
    """Write down in ``run.json`` that the run went on under changes, and at which step.

    Args:
        run: where.
        changes: a line each.
        info: other keys of it that change with that.
    """
    last = next(iter(checkpoint.names(run.checkpoints)), None)
    step = 0 if last is None else checkpoint.step_of(last)
    forced = [*run.info().get("forced", []), {"step": step, "changes": changes}]
    run.update_info(forced=forced, **info)


def latest_valid(
    run: Run, template: TrainState, display: Display, *, force: bool, repeats: bool = True
) -> ResumePoint | None:
    """Return the newest checkpoint that is whole; bring the folder in line with it.

    Args:
        run: whose.
        template: see `checkpoint.restore`.
        display: is told of what is damaged.
        force: see above.
        repeats: whether a better checkpoint that was there will come again (`check_unchanged`).

    Returns:
        The checkpoint to go on from; None where none was ever saved.

    Raises:
        RunError: all are damaged, and it is not to begin anew.
        CheckpointError: it is of another network.
    """
    folder, best = run.checkpoints, _newest_best(run) if repeats else None
    without_best: ResumePoint | None = None
    for name in checkpoint.names(folder):
        try:
            found = _resume_point(folder, name, template)
            loop_state = found.loop_state
            without_best = without_best or found
            _check_best(run, loop_state, best, checkpoint.step_of(name))
        except DamagedError as error:
            display.note(f"warning: {error}; falling back to the checkpoint before {name}")
        else:
            return _reconcile(run, found, best)
    if force:
        if without_best is not None:
            loop_state = without_best.loop_state._replace(best=None, best_step=None)
            without_best = without_best._replace(loop_state=loop_state)
        return _reconcile(run, without_best, None)
    if not checkpoint.names(folder):
        return None
    what = "every checkpoint" if without_best is None else "the best checkpoint"
    way = "begin anew" if without_best is None else "go on without it"
    again = f"{run.again} --force"
    raise RunError(f"{run.path}: {what} is damaged; restore it, or {way} with: {again}")


def _resume_point(folder: Path, name: str, template: TrainState) -> ResumePoint:
    """Read a checkpoint as `checkpoint.read`; one that does not say how to go on is damaged."""
    saved = checkpoint.read(folder, name, template)
    try:
        mark = {key: saved.memory["metrics"][key] for key in ("lines", "sha256")}
        return ResumePoint(saved.train_state, LoopState.from_json(saved.memory), mark)
    except (KeyError, TypeError):
        path = folder / name / "manifest.json"
        raise DamagedError(f"{path}: damaged: it does not say how to go on") from None


def keep_metrics(run: Run, found: ResumePoint | None, *, force: bool) -> None:
    """Cut the metrics back to those up to the checkpoint.

    Args:
        run: its run directory.
        found: the checkpoint; None for the very beginning.
        force: keep the lines that can be read where they are not what was logged.

    Raises:
        RunError: they are not what was logged.
    """
    if truncate(run.metrics_file, found and found.metrics):
        return
    if not force:
        raise RunError(
            f"{run.metrics_file}: damaged: not what was logged; this does not affect "
            "the training; restore it, or continue with the lines that can be read: "
            f"{run.again} --force"
        )
    assert found is not None
    note(run, ["metrics.jsonl: damaged; lines that cannot be read were dropped"])
    run.forget_after(int(found.train_state.step))


def _changes(
    run: Run, experiment: Experiment, then: dict[str, Any], now: dict[str, Any]
) -> list[str]:
    """Return the differences between two origins, for people."""
    if not then:
        return ["run.json: does not say what made this run; without it, it is written anew"]
    now = comparable(now, then)
    if isinstance(then.get("config"), str):  # run.json was written anew: the key is not known
        then, now = then | {"versions": dict(then.get("versions", {}))}, summarized(now)
        then["versions"] |= {k: now["versions"][k] for k in ("convax", "python")}
    elif "config" in then:
        # Keys that a later convax has added have their defaults.
        with contextlib.suppress(ValueError):
            full = validate(then["config"], "run.json").model_dump(mode="json", exclude_none=True)
            then = then | {"config": full}
        then, now = ({**o, "config": relevant_config(o["config"])} for o in (then, now))
    lines = []
    for name in (
        *("config", "data", "code", "plugins", "versions", "device", "environment", "settings"),
    ):
        label = {"config": "config.toml", "code": "convax"}.get(name, name)
        lines += differences({label: then.get(name)}, {label: now.get(name)})
    if then.get("data") != now.get("data"):
        old, new = _counts(run), experiment.card.counts
        lines += differences({"data.counts": old}, {"data.counts": new})
        if not lacks_dataset(run):
            lines += left_out_otherwise(run.dataset(), experiment.card)
        if is_unstratified(experiment.config, then.get("data", "")):
            lines.append(UNSTRATIFIED)
    return lines


def _of_config(changes: list[str]) -> bool:
    return any(line.startswith("config.toml") for line in changes)


def _counts(run: Run) -> dict[str, int] | None:
    try:
        return run.dataset().counts
    except RunError:
        return None


def _damaged_card(run: Run, experiment: Experiment) -> bool:
    """Return whether ``dataset.json`` is not what this data, which is the same, amounts to."""
    return lacks_dataset(run) or run.dataset() != experiment.card


def _newest_manifest(run: Run) -> dict[str, Any]:
    """The newest one that can be read; nothing where none can."""
    for name in checkpoint.names(run.checkpoints):
        with contextlib.suppress(CheckpointError):
            return checkpoint.read_manifest(run.checkpoints / name)
    return {}


def _newest_best(run: Run) -> int | None:
    """The step of the best checkpoint, by all that is known."""
    steps = [_newest_manifest(run).get("memory", {}).get("best_step")]
    steps.append(run.info().get("best_to_come"))
    with contextlib.suppress(CheckpointError):
        name = checkpoint.named(run.checkpoints, "best")
        steps.append(None if name is None else checkpoint.step_of(name))
    return max((step for step in steps if step is not None), default=None)


def _check_best(run: Run, loop_state: LoopState, best: int | None, step: int) -> None:
    """Raise where the best checkpoint before `step` is damaged, and will not come again."""
    if loop_state.best_step is None or (best is not None and best > step):
        return
    checkpoint.check(run.checkpoints, checkpoint.name_of(loop_state.best_step))


def _reconcile(run: Run, found: ResumePoint | None, best: int | None) -> ResumePoint | None:
    """Bring the folder in line with what was found.

    Newer checkpoints, which are damaged, go out of the way of those that will be written again
    under their names. Where the best is among them, ``run.json`` remembers that it will come: a
    run that is killed on the way there finds nothing else that says so.
    """
    folder, step = run.checkpoints, -1 if found is None else int(found.train_state.step)
    to_come = best if best is not None and best > step else None
    if run.info().get("best_to_come") != to_come:
        run.update_info(best_to_come=to_come)
    for name in checkpoint.names(folder):
        if checkpoint.step_of(name) > step:
            shutil.rmtree(folder / f"damaged-{name}", ignore_errors=True)
            (folder / name).rename(folder / f"damaged-{name}")
    best = None if found is None else found.loop_state.best_step
    for pointer, at in (("best", best), ("last", step)):
        name = checkpoint.name_of(-1 if at is None else at)
        if (folder / name).is_dir():
            checkpoint.point(folder, pointer, name)
        else:
            (folder / pointer).unlink(missing_ok=True)
    return found
