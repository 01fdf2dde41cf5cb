"""The directory of a study, several runs of one config: what reads it needs nothing else.

study.toml       the config, every default written out, with its [sweep] if it has one
plugins/         as in a run directory
study.json       the members and what is each one's own; the form of the program; versions, status
seed-0/ ...      each an ordinary run directory (point-0/ ... of a sweep)
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..config.schema import Config, load_config
from .directory import Run, old_config_named
from .json_types import STUDY

FILE = "study.json"
Keys = Mapping[str, Any]


class Study(NamedTuple):
    """A study's directory."""

    path: Path

    @property
    def members(self) -> dict[str, Keys]:
        """Return the keys of the config that are each member's own, by its name."""
        return self.info()["members"]

    def config(self) -> Config:
        """Return the config it was started with; raises as `Run.config`."""
        with old_config_named(Run(self.path), FILE):
            return load_config(self.path / "study.toml")

    def info(self) -> dict[str, Any]:
        """Read ``study.json``."""
        return Run(self.path).read_json(FILE, STUDY)

    def run(self, name: str) -> Run:
        """Return the run directory of a member."""
        return Run(self.path / name)


def is_study(path: str | Path) -> bool:
    """Return whether there is a study in this directory."""
    return (Path(path) / FILE).is_file()
