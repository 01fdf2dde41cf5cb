"""Where configs are read from: files, and those that are installed with convax."""

from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from .errors import ConfigError, did_you_mean
from .limits import MOST_BYTES, check_text


@cache
def shipped_configs() -> Mapping[str, str]:
    """Return the text of every config that is installed with convax, by name."""
    folder = resources.files("convax.configs")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    texts = {f.name.removesuffix(".toml"): f.read_text(encoding="utf-8") for f in files}
    return MappingProxyType(texts)


def read_source(source: str | Path) -> tuple[str, str]:
    """Read a config file or a shipped config: its name and its text."""
    shipped = shipped_configs()
    if str(source) in shipped:
        return str(source), shipped[str(source)]
    path = Path(source)
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        check_text(content, str(path))
        text = content.decode("utf-8-sig")
        return str(path), text.replace("\r\n", "\n").replace("\r", "\n")
    except FileNotFoundError:
        near = did_you_mean(str(source), shipped)
        raise ConfigError(
            f"{source}: no such file or shipped config{near}; `convax configs` lists them"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a UTF-8 text file"
        raise ConfigError(f"{source}: cannot be read as a config: {reason}") from None
