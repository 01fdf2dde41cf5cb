"""Published weights by name: fetched once, converted, and kept in the user's cache."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..model import build, init_shapes
from ..model.torch.names import names_of
from .common.cache import cache_directory
from .config.errors import ConfigError
from .data.download import Deadline
from .data.errors import DataError
from .data.fetch import TIME_LIMIT, Remote, RemoteFile, fetch_into
from .weights.published import CLASSES, IN_SHAPE, PUBLISHED, ROOT
from .weights.safetensors_io import write_safetensors
from .weights.torch_file import check_torch, read_state_dict
from .weights.torch_state_dict import torch_mapping
from .weights.weights import by_name, restore


def pretrained_path(name: str) -> Path:
    """Return where the converted weights of this name are kept, whether they are there or not.

    Raises:
        DataError: a name that is not known.
    """
    if name not in PUBLISHED:
        raise DataError(
            f"pretrained: unknown weights: got {name!r}, need one of {', '.join(PUBLISHED)}"
        )
    return cache_directory() / "pretrained" / f"{name}.safetensors"


def fetch_pretrained(
    name: str,
    *,
    mirrors: Sequence[str] | None = None,
    time_limit: float = TIME_LIMIT,
    progress: bool = True,
) -> Path:
    """Download published weights and convert them, unless they are there already.

    What was downloaded is compared with the part of its SHA-256 that is known, and read as tensors
    alone. It stays beside what is made of it.

    Args:
        name: a key of `PUBLISHED`.
        mirrors: URLs to try before the known one, each with the file right under it.
        time_limit: seconds that it may take.
        progress: report on standard error.

    Returns:
        a safetensors file with our names and layouts, for ``[init_from]`` and `load_weights`.

    Raises:
        DataError: an unknown name, a folder that cannot be written to, no URL that has the file.
        WeightsError: it is not what it should be, or PyTorch is missing, which reads it.
    """
    path, published = pretrained_path(name), PUBLISHED[name]
    if path.is_file():
        return path
    original = path.with_name(published.file)
    check_torch(original)
    file = RemoteFile(published.file, published.sha256, published.size)
    remote = Remote((ROOT,), (file,))
    try:
        fetch_into(path.parent, remote, mirrors or (), Deadline(time_limit), progress)
        net = build(published.model, CLASSES)
        bridge = torch_mapping(net, IN_SHAPE, names_of(published.model, net))
        _, *like = init_shapes(net, IN_SHAPE)
        arrays = bridge.to_ours(read_state_dict(original))
        params, state = restore((like[0], like[1]), arrays, str(original), bridge.called)
        write_safetensors(path, by_name(params, state))
    except OSError as error:
        raise DataError(
            f"{path.parent}: {error.strerror or error}; name another folder by XDG_CACHE_HOME"
        ) from None
    return path


def check_fits(name: str, table: Mapping[str, Any]) -> None:
    """Raise unless weights of this name are for the network of a ``[model]`` table.

    Raises:
        ConfigError: they are for another; says what to write.
    """
    need = PUBLISHED[name].model
    other = [key for key, value in need.items() if table.get(key) != value]
    if "name" in other:
        other = ["name"]
    if other:
        shown = need if other == ["name"] else {key: need[key] for key in ("name", *other)}
        raise ConfigError(
            f"init_from.pretrained: {name!r} is not for this network: "
            + ", ".join(f"model.{key} is {table.get(key)!r}" for key in other)
            + f"; write {', '.join(_written(key, value) for key, value in shown.items())}"
        )


def _written(key: str, value: Any) -> str:
    return f"no model.{key}" if value is None else f"model.{key} = {json.dumps(value)}"
