"""A config as a Python object: of a shipped one, a file or a dict, with other values of keys."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

from ..common.text import plain_line
from .errors import ConfigError
from .files import shipped_configs
from .schema import Config, checked, put, read_tables

ConfigLike: TypeAlias = Config | str | PathLike[str] | Mapping[str, Any]


def config(source: ConfigLike, /, **overrides: Any) -> Config:
    """Make a config, validated as one on the command line is.

    Args:
        source: the name of a shipped config, a file, its tables as a dict, or a config.
        overrides: values by their dotted keys, as ``--set`` has them; None where a key that may be
            left out is to be. Tuples and arrays are taken as lists, NumPy's numbers as Python's.

    Returns:
        The config. Its paths that are relative to its file and there are absolute.

    Raises:
        ConfigError: every key that is wrong, with its remedy.
        PluginError: a module that it names cannot be run.

    Example:
        >>> made = config("lenet5-digits", **{"training.epochs": 3, "seed": 7})
        >>> made.training.epochs, made.seed
        (3.0, 7)
        >>> config(made, **{"training.epoch": 3})
        Traceback (most recent call last):
            ...
        convax.training.config.errors.ConfigError: config: training.epoch: unknown key; did you ...
    """
    where, raw, folder = tables_of(source)
    for key, value in overrides.items():
        put_value(raw, key, value)
    return _with_paths(checked(raw, where, folder=folder), folder)


def tables_of(source: ConfigLike) -> tuple[str, dict[str, Any], Path | None]:
    """Return what names a config in errors, its tables, which may be changed, and its folder.

    Raises:
        ConfigError: there is none of this name, or it is no config.
    """
    if isinstance(source, Config):
        return "config", source.model_dump(exclude_none=True), None
    if isinstance(source, Mapping):
        return "config", _plain(source), None
    if not isinstance(source, (str, PathLike)):
        raise ConfigError(
            f"config: got {type(source).__name__}; need the name of a shipped config, a file, a "
            "dict of tables, or what convax.config returns"
        )
    where, raw = read_tables(str(source))
    return where, raw, None if str(source) in shipped_configs() else Path(source).parent


def put_value(raw: dict[str, Any], key: str, value: Any) -> None:
    """Put a value of Python's into the tables of a config, at a dotted key.

    Raises:
        ConfigError: the key leads through something that is no table.
    """
    where = plain_line(f"config: {key}={value!r}", 200)
    if not all(keys := key.split(".")):
        raise ConfigError(f'{where}: write keys with dots, e.g. **{{"training.epochs": 2}}')
    put(raw, keys, _plain(value), where)


def _plain(value: Any) -> Any:
    """Return a copy of a value in what TOML has, as far as it is of Python's or NumPy's kinds."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, PathLike):
        return str(value)
    return value.tolist() if hasattr(value, "dtype") and hasattr(value, "tolist") else value


def _with_paths(made: Config, folder: Path | None) -> Config:
    """Return a config whose relative paths are absolute where they are found beside its file."""
    for table in ("data", "proposals", "init_from") if folder is not None else ():
        part = getattr(made, table)
        written = getattr(part, "path", None)
        if written and not Path(written).is_absolute() and (folder / written).exists():
            moved = part.model_copy(update={"path": str((folder / written).absolute())})
            made = made.model_copy(update={table: moved})
    return made
