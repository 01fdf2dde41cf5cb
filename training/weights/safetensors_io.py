"""Files of named arrays: safetensors, read and written without PyTorch."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from ..common import atomic_io
from ..common.errors import ConvaxError


class WeightsError(ConvaxError, ValueError):
    """A file of weights cannot be read, or does not fit the network; names what and why."""


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Read every array of a safetensors file by name.

    Raises:
        WeightsError: it cannot be read, or is no such file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from None
    return parse_file(content, path)


def parse_file(content: bytes, path: Path) -> dict[str, np.ndarray]:
    """Parse what was read of a safetensors file: its arrays by name.

    Raises:
        WeightsError: it is no such file; names the path.
    """
    try:
        return parse(content)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        unknown = re.search("unknown variant `([^`]+)`", str(error))
        problem = f"an array is of type {unknown[1]}, {_CAST}" if unknown else None
        raise WeightsError(f"{path}: {problem or 'damaged, or not a safetensors file'}") from None


def is_safetensors(path: Path) -> bool:
    """Return whether a file is named as safetensors are; the case of letters does not matter."""
    return path.suffix.lower() == ".safetensors"


def write_safetensors(path: Path, tensors: Mapping[str, Any]) -> None:
    """Replace a safetensors file in one go."""
    content = safetensors.numpy.save({name: to_numpy(array) for name, array in tensors.items()})
    try:
        atomic_io.atomic_write(path, content)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be written: {error.strerror}") from None


def parse(content: bytes) -> dict[str, np.ndarray]:
    """Parse the content of a safetensors file: its arrays by name."""
    return {name: _as_array(name, tensor) for name, tensor in safetensors.deserialize(content)}


def to_numpy(leaf: Any) -> np.ndarray:
    """Convert an array, or a PRNG key, to what safetensors takes."""
    if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.ascontiguousarray(jax.device_get(leaf)).reshape(leaf.shape)


# safetensors' own reader for NumPy does not know bfloat16.
_DTYPES = {"BOOL": "bool", "BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}
_DTYPES |= {f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)}
_DTYPES |= {f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)}


_CAST = "which convax does not read: cast it to float32 where it was written"


def _as_array(name: str, tensor: dict[str, Any]) -> np.ndarray:
    if tensor["dtype"] not in _DTYPES:
        raise WeightsError(f"{name}: of type {tensor['dtype']}, {_CAST}")
    dtype = jax.numpy.dtype(_DTYPES[tensor["dtype"]])
    return np.frombuffer(tensor["data"], dtype).reshape(tensor["shape"])
