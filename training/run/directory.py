"""A run is a directory: everything about one training, readable without convax.

config.toml      the config with every default written out
run.json         command, versions, devices, git revision, provenance (see
                 `training.run.provenance`); the run that it extends; the result once it is finished
plugins/         the modules beside the config that its [plugins] names
dataset.json     classes, image shape, counts, normalization, fingerprint of the data, notes
                 on it: what was passed over or is missing; and which image files are left out
metrics.jsonl    one line per report: {"kind": "train" | "validation" | "test" | "skipped", ...}
checkpoints/     see `training.run.checkpoint`
plots/           see `training.report.figures`
report.html      see `inference.report.page`
nonfinite.json   where it stopped for a number that is not finite: see `training.loop.nonfinite`
lock             who trains in it now: see `training.run.lock`
"""

import json
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
from pydantic import TypeAdapter

from ..common import atomic_io, waiting
from ..common.errors import ConvaxError
from ..common.hashing import json_digest
from ..common.json_io import parse_json
from ..config.errors import ConfigError, OldConfigError
from ..config.schema import Config, load_config, to_toml
from ..data.each_file import Unreadable
from ..data.preprocess import Preprocessing
from ..plugins.modules import sources_of
from .git_revision import git_revision
from .json_types import DATASET, RUN, check_types
from .provenance import provenance


class RunError(ConvaxError, ValueError):
    """A run directory cannot be used; one line that names it and the remedy."""


class DatasetCard(NamedTuple):
    """What a trained network must know of the data it was trained on."""

    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]  # H, W, C as stored, before preprocessing
    counts: dict[str, int]  # examples in each split
    preprocessing: Preprocessing
    fingerprint: str
    notes: tuple[str, ...] = ()  # what its reader passed over, guessed or missed, a line each
    objects: int = 0  # for how many an image's labels have room; 0 of labels without objects
    category_ids: tuple[int, ...] = ()  # of each class, where the data set has such numbers
    unreadable: tuple[Unreadable, ...] = ()  # image files left out: ``data.unreadable = "skip"``


class Run(NamedTuple):
    """A run directory."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Return the folder of its checkpoints."""
        return self.path / "checkpoints"

    @property
    def plots(self) -> Path:
        """Return the folder of its figures."""
        return self.path / "plots"

    def config(self) -> Config:
        """Return the config it was started with.

        Raises:
            ConfigError: it cannot be read, or is wrong.
            RunError: it is of an earlier version of convax.
        """
        with old_config_named(self):
            return load_config(self.path / "config.toml")

    def info(self) -> dict[str, Any]:
        """Read ``run.json``."""
        return self.read_json("run.json", RUN)

    def dataset(self) -> DatasetCard:
        """Read ``dataset.json``."""
        try:
            values = self.read_json("dataset.json", DATASET)
            if values.pop("checksum", None) not in (None, json_digest(values)):
                raise RunError(f"{self.path / 'dataset.json'}: damaged: its SHA-256 differs")
            card = DatasetCard(**values)
            card = card._replace(
                classes=tuple(card.classes),
                image_shape=tuple(card.image_shape),
                notes=tuple(card.notes),
                category_ids=tuple(card.category_ids),
                unreadable=tuple(Unreadable(*left) for left in card.unreadable),
                preprocessing=Preprocessing.from_json(card.preprocessing),  # type: ignore[arg-type]
            )
            if {len(s) for s in card.preprocessing[2:4]} != {card.image_shape[2]}:
                raise KeyError  # mean and std are of each channel
            if len(card.category_ids) not in (0, len(card.classes)):
                raise KeyError  # of each class
            return card
        except (TypeError, KeyError):
            raise RunError(f"{self.path / 'dataset.json'}: damaged: keys differ") from None

    def metrics(self) -> list[dict[str, Any]]:
        """Read every whole line of ``metrics.jsonl``."""
        return list(_whole_lines(self.metrics_file))

    @property
    def metrics_file(self) -> Path:
        """Return the path of ``metrics.jsonl``."""
        return self.path / "metrics.jsonl"

    def log(self, record: dict[str, Any]) -> None:
        """Append one line to ``metrics.jsonl``."""
        with self.metrics_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def forget_after(self, step: int) -> None:
        """Drop the metrics behind a step; of the others, what can be read is kept."""
        kept = [r for r in self.metrics() if r["step"] <= step and r["kind"] != "test"]
        write_json_lines(self.metrics_file, kept)

    def write_config(self, config: Config) -> None:
        """Write ``config.toml``."""
        atomic_io.atomic_write(self.path / "config.toml", to_toml(config).encode())

    def update_info(self, **changes: Any) -> None:
        """Change keys of ``run.json``."""
        write_json(self.path / "run.json", self.info() | changes)

    def write_dataset(self, card: DatasetCard) -> None:
        """Write ``dataset.json``."""
        values = card._asdict() | {"preprocessing": card.preprocessing.as_json()}
        write_json(self.path / "dataset.json", values | {"checksum": json_digest(values)})

    def read_json(self, name: str, kind: TypeAdapter[Any] | None = None) -> dict[str, Any]:
        """Read one of its JSON files, whose values are of a kind of `json_types`.

        Raises:
            RunError: it cannot be read, or holds something else.
        """
        path = self.path / name
        try:
            values = dict(parse_json(path.read_bytes()))
        except OSError as error:
            raise RunError(f"{path}: cannot be read: {error.strerror}") from None
        except (ValueError, TypeError):
            raise RunError(f"{path}: damaged: not JSON; {self._remedy(name)}") from None
        try:
            if kind is not None:
                check_types(values, kind)
        except ValueError as error:
            raise RunError(f"{path}: damaged: {error}; {self._remedy(name)}") from None
        return values

    @property
    def again(self) -> str:
        """Return the command that continues it, or its study where that has to go on."""
        try:
            whole = study_of(self.path)
        except RunError:  # what is wrong with study.json is said when it is needed
            whole = self.path.parent
        return f"convax train --resume {shlex.quote(str(whole or self.path))}"

    def _remedy(self, name: str) -> str:
        """Say what to do about a JSON file that cannot be read."""
        if name == "study.json":
            return (
                "restore it; without it the study cannot be resumed, and each of its runs "
                "continues on its own, with other rounding"
            )
        return f"remove it, and `{self.again}` writes it anew"


def create_run(
    config: Config,
    out: Path,
    card: DatasetCard,
    *,
    fill: Callable[[Run], None] | None = None,
    **about: Any,
) -> Run:
    """Make a new run directory, all of it or nothing.

    Args:
        config: what is trained.
        out: the directory.
        card: of its data.
        fill: puts in what the run begins with, before the directory has its name.
        about: more for ``run.json``.

    Raises:
        RunError: `out` is there already, or cannot be made.
    """
    aside = out.with_name(f".{out.name}.{os.getpid()}")
    refuse_existing(out)
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        run = Run(aside)
        run.checkpoints.mkdir()
        run.write_dataset(card)
        about |= circumstances() | {"provenance": provenance(config, card.fingerprint)}
        write_json(aside / "run.json", {"status": "running", **about})
        run.write_config(config)
        if config.plugins is not None:
            atomic_io.write_all(aside, sources_of(config.plugins.modules))
        if fill is not None:
            fill(run)
        aside.rename(out)
        atomic_io.fsync_path(out.parent)
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        if not isinstance(error, OSError):
            raise
        if out.exists():  # somebody was faster
            raise exists_already(out) from None
        raise RunError(f"{out}: cannot be created: {error.strerror}") from None
    return Run(out)


def refuse_existing(out: Path) -> None:
    """Raise a RunError where something is at the place for a new run or study."""
    if out.exists():
        raise exists_already(out)


def exists_already(out: Path) -> RunError:
    """Make the error of a place for a new run or study where something is."""
    return RunError(
        f"{out}: exists already; choose another --out, or continue it with "
        f"`convax train --resume {shlex.quote(str(out))}`"
    )


def open_run(path: str | Path) -> Run:
    """Open an existing run directory.

    Raises:
        RunError: there is none.
    """
    run = Run(Path(path))
    if not run.path.is_dir():
        raise RunError(f"{path}: no such run directory; `convax train` makes one under runs/")
    if (run.path / "study.json").is_file():
        raise RunError(
            f"{path}: a study of several runs; name one of them, or compare them with "
            f"`convax compare {path}`"
        )
    if not (run.path / "config.toml").is_file():
        raise RunError(f"{path}: not a run directory: it has no config.toml")
    try:
        config = run.config()
    except ConfigError as error:
        if registered := [name for name in _own_code(run) if not name.startswith("given.")]:
            raise RunError(
                f"{error}\n{path}: was trained with {', '.join(registered)}; register these first "
                "(convax.register), or name their modules in plugins.modules of its config.toml"
            ) from None
        raise RunError(
            f"{error}\n{path}: correct it, or remove it, and `{run.again}` writes config.toml as "
            "it was"
        ) from None
    _say_other_code(run, config)
    return run


def _own_code(run: Run) -> dict[str, str]:
    """Return the SHA-256 of the code of one's own that a run was trained with, by name."""
    try:
        return dict(run.info()["provenance"]["plugins"])
    except (RunError, KeyError, TypeError):
        return {}


def _say_other_code(run: Run, config: Config) -> None:
    """Say that the modules of a run are not those that it was trained with, if they are not."""
    if config.plugins is None:
        return
    then, now = _own_code(run), config.plugins.sha256
    others = [name for name, sha256 in now.items() if then and then.get(name) != sha256]
    if others:
        waiting.note(f"plugins: {', '.join(others)}: not the code that {run.path} was trained with")


@contextmanager
def old_config_named(run: Run, file: str = "run.json") -> Iterator[None]:
    """Say, where a config in the block has old names, which convax wrote it.

    Args:
        run: a run directory, or that of a study.
        file: where its circumstances stand.

    Raises:
        RunError: it has; with the version and the revision of the convax that wrote it.
    """
    try:
        yield
    except OldConfigError as error:
        try:
            about = run.read_json(file)
        except RunError:
            about = {}
        release = (about.get("versions") or {}).get("convax", "unknown")
        revision = about.get("git") or "unknown"
        raise RunError(
            f"{error}\n{run.path}: written by an earlier convax; resume it with that version: "
            f"convax {release}, git revision {revision}"
        ) from None


def study_of(run: Path) -> Path | None:
    """Return the study that this run directory has to go on with: it lists it, and has not ended.

    Raises:
        RunError: its ``study.json`` cannot be read.
    """
    for path in (run, run.resolve()):  # a link beside the study, and one within
        if (path.parent / "study.json").is_file():
            about = Run(path.parent).read_json("study.json")
            members = about.get("members")
            listed = isinstance(members, dict) and path.name in members
            if listed and about.get("status") != "finished":
                return path.parent
    return None


def free_name(folder: Path, stem: str) -> Path:
    """Return ``folder/stem``, or ``stem-2``, ``stem-3`` ... where that is taken."""
    candidates = (folder / (stem if i == 1 else f"{stem}-{i}") for i in range(1, sys.maxsize))
    return next(path for path in candidates if not path.exists())


def write_json(path: Path, values: Any) -> None:
    """Replace a JSON file in one go."""
    atomic_io.atomic_write(path, as_json(values))


def as_json(values: Any) -> bytes:
    """Format values as the text of a JSON file."""
    return (json.dumps(values, indent=2) + "\n").encode()


def write_json_lines(path: Path, records: list[dict[str, Any]]) -> None:
    """Replace a JSON Lines file in one go."""
    atomic_io.atomic_write(path, "".join(json.dumps(record) + "\n" for record in records).encode())


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the whole lines of a file: a killed process may leave half a line at the end."""
    if not path.exists():
        return
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from None
    yield from filter(None, map(parse_record, lines))


# What a report needs of a record.
_NUMBERS = {"train": ("step", "loss", "epoch", "images_per_second")}
_NUMBERS |= {
    "validation": ("step", "loss"),
    "test": ("step", "loss", "count"),
    "skipped": ("step",),
}


def parse_record(line: bytes | str) -> dict[str, Any] | None:
    """Parse a line of ``metrics.jsonl``; None where it is not one that was written whole."""
    try:
        record = parse_json(line)
    except ValueError:
        return None
    return record if _is_record(record) else None


def _is_record(record: Any) -> bool:
    """Return whether a line is a record as written, as far as can be seen."""
    if not isinstance(record, dict) or record.get("kind") not in [*_NUMBERS]:
        return False
    needed = _NUMBERS[record["kind"]]
    figures = {k: v for k, v in record.items() if k not in ("kind", "split", "metric", "value")}
    return (
        all(key in figures for key in needed)
        and all(type(v) is float or (type(v) is int and abs(v) < 2**63) for v in figures.values())
        and type(record["step"]) is int
        and record.get("images_per_second", 1.0) >= 0
    )


def circumstances() -> dict[str, Any]:
    """Return what may matter when the run is looked at in a year."""
    packages = ("convax", "jax", "jaxlib", "numpy", "optax")
    return {
        "command": sys.argv,
        "versions": {"python": platform.python_version(), **{p: version(p) for p in packages}},
        "platform": platform.platform(),
        "devices": [f"{d.platform}:{d.device_kind}" for d in jax.devices()],
        "git": git_revision(Path.cwd()),
    }
