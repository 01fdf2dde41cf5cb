"""Several networks as one: which runs are meant, and whether they fit together."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from ..training.common.errors import ConvaxError
from ..training.common.pytree_paths import named_leaves
from ..training.run.directory import RunError
from ..training.run.load_model import LoadedModel
from ..training.run.study_directory import Study, is_study
from ..training.tasks.registry import spec_of

Runs: TypeAlias = str | Path | Iterable[str | Path]


class EnsembleError(ConvaxError, ValueError):
    """Runs that cannot answer together; one line that names them and the difference."""


def list_runs(runs: Runs) -> list[Path]:
    """Return the run directories that are named, each study of seeds or folds replaced by its runs.

    Those that diverged are left out.

    Raises:
        EnsembleError: none is named, or one twice; or a study is a sweep.
        RunError: a study is damaged, or all of its runs diverged.
    """
    named = [runs] if isinstance(runs, (str, Path)) else list(runs)
    found = [run for path in named for run in _expand_study(Path(path))]
    if not found:
        raise EnsembleError("load: got no runs, need one or more")
    places = [run.resolve() for run in found]
    for i, place in enumerate(places):
        if place in places[:i]:
            raise EnsembleError(f"load: {found[i]}: named twice; name each run once")
    return found


def _expand_study(path: Path) -> list[Path]:
    if not is_study(path):
        return [path]
    study = Study(path)
    members = study.members
    if any(set(keys) - {"seed", "data.fold"} for keys in members.values()):
        raise EnsembleError(
            f"{path}: a sweep, whose runs are not alike; name the runs to use, e.g. "
            f"{path / next(iter(members))}"
        )
    good = [name for name in members if _status(study, name) != "diverged"]
    if not good:
        raise RunError(f"{path}: all networks of this study diverged; there is none to use")
    return [study.run(name).path for name in good]


def _status(study: Study, name: str) -> Any:
    run = study.run(name)
    return run.info()["status"] if (run.path / "run.json").is_file() else None


def check_compatible(paths: Sequence[Path], members: Sequence[LoadedModel]) -> None:
    """Raise unless networks can predict as one program.

    They may differ in their weights, and in the mean and deviation of the images they have learned
    from: data that is split by the seed gives each its own.

    Raises:
        EnsembleError: naming the first difference.
    """
    if alone := spec_of(members[0].config.task).alone:
        raise EnsembleError(f"load: {paths[0]}, {paths[1]}: {alone}; name one run")
    first = _comparable_fields(members[0])
    for path, member in zip(paths[1:], members[1:], strict=True):
        for (name, ours), (_, theirs) in zip(first, _comparable_fields(member), strict=True):
            if ours != theirs:
                raise EnsembleError(
                    f"load: runs do not fit together: {name}: got {_short(ours, theirs)} in "
                    f"{paths[0]}, {_short(theirs, ours)} in {path}; name runs of one network"
                )


def _comparable_fields(member: LoadedModel) -> list[tuple[str, Any]]:
    """Return what has to be alike, the telling ones first."""
    card, config = member.card, member.config
    arrays = {"params": member.params, "state": member.state}
    shapes = {path: (leaf.shape, str(leaf.dtype)) for path, leaf in named_leaves(arrays)}
    return [
        ("task", config.task),
        ("classes", list(card.classes)),
        ("image shape", list(card.image_shape)),
        ("input.size", list(card.preprocessing.size)),
        ("input.fit", card.preprocessing.fit),
        ("the format of images", str(card.preprocessing.pixel_format)),
        ("plugins", {} if config.plugins is None else config.plugins.sha256),
        ("model", config.model.model_dump(exclude_none=True)),
        ("loss.name", config.loss.name),
        ("arrays", shapes),
    ]


def _short(ours: Any, theirs: Any) -> str:
    """Return what differs, of values with several parts."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = [k for k in {**ours, **theirs} if ours.get(k) != theirs.get(k)]
        return ", ".join(f"{k} = {ours.get(k)}" for k in keys[:3])
    if isinstance(ours, list) and len(ours) > 8:
        return f"{len(ours)} ({', '.join(map(str, ours[:3]))} ...)"
    return str(ours)


def stack_trees(trees: Sequence[Any]) -> Any:
    """Trees of one structure as one, with an axis of members in front of every array."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
