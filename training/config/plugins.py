"""``[plugins]``: the modules with code of one's own, run as the config is read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PrivateAttr, ValidationError

from ..plugins.modules import PluginError, check_loaded, digests, load_modules
from .table import Table

_MODULE = r"^[^\W\d]\w*(\.[^\W\d]\w*)*$"


class Plugins(Table):
    """Modules with code of one's own, run as the config is read; see `training.plugins`."""

    modules: Annotated[
        list[Annotated[str, Field(pattern=_MODULE)]], Field(min_length=1, examples=[["my_nets"]])
    ]
    _sha256: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def sha256(self) -> dict[str, str]:
        """Return the SHA-256 of each module's sources, as it was when the config was read."""
        return self._sha256

    def remember(self) -> None:
        """Note which modules these are."""
        self._sha256 = digests(self.modules)

    def check(self) -> None:
        """Raise a PluginError if they are others by now: see `plugins.modules.check_loaded`."""
        check_loaded(self._sha256)


def run_modules(raw: dict[str, Any], where: str, folder: Path | None) -> None:
    """Run the modules of ``[plugins]``; where the table is wrong, none, and validation says so."""
    if "plugins" not in raw:
        return
    try:
        named = Plugins.model_validate(raw["plugins"])
    except ValidationError:
        return
    try:
        load_modules(named.modules, folder)
    except PluginError as error:
        raise PluginError(f"{where}: plugins.modules: {error}") from error


def none_registered(entries: Sequence[Any]) -> bool:
    """Return whether entries were validated by no table, as nothing of their kind is registered."""
    return any(not isinstance(entry, Table) for entry in entries)
