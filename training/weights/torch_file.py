"""The state dict in a file of PyTorch's: .safetensors without PyTorch, .pt and .pth with it."""

import re
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..common.unpack_limits import UnpackBudget, UnpackError, check_zip
from .safetensors_io import WeightsError, is_safetensors, read_safetensors

# Where training scripts keep the network beside the optimizer and the like.
_WITHIN = ("state_dict", "model_state_dict", "model_state", "model", "network", "net")
# What wrappers put before every name: DataParallel and AveragedModel, Lightning.
_PREFIXES = ("module.", "model.")
# What others put there, before the names of all or of a part: torch.compile, FSDP, activation
# checkpointing, FairScale, Fabric.
_WRAPPERS = (
    *("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_fpw_module"),
    "_forward_module",
)
MODULE = "module"  # what DataParallel and AveragedModel call what they wrap
AVERAGED = "n_averaged"  # the counter of AveragedModel
_SAFE = (2, 10)  # the first PyTorch whose reader of tensors only cannot be made to do more
# Files that hold weights, too, but neither as PyTorch nor as safetensors have them.
_OTHERS = {
    **{".h5": "Keras", ".hdf5": "Keras", ".keras": "Keras", ".msgpack": "Flax"},
    **{".onnx": "ONNX", ".pb": "TensorFlow", ".tflite": "TensorFlow Lite", ".gguf": "GGML"},
    **{".npz": "NumPy", ".npy": "NumPy", ".orbax": "Orbax"},
}


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Read every tensor by its name in PyTorch.

    Args:
        path: a file with a state dict; one under "state_dict", "model_state_dict", "model" or the
            like is found too, and what `torch.nn.DataParallel`, `torch.compile`, FSDP,
            `AveragedModel` and Lightning put before the names is taken off.

    Raises:
        WeightsError: it cannot be read, holds more than tensors, or a tensor twice, wrapped and
            not; or is not a .safetensors file and PyTorch is not installed, or too old to read it
            without running code.
    """
    path = Path(path)
    if is_safetensors(path):
        return _unwrapped(read_safetensors(path), path)
    if (maker := _OTHERS.get(path.suffix.lower())) is not None:
        raise WeightsError(
            f"{path}: a file of {maker}'s: got {path.suffix}, need .safetensors, or .pt or .pth of "
            "PyTorch's; save the arrays with safetensors.numpy.save_file under the names and in "
            "the layouts that `convax export-weights` writes"
        )
    return _unwrapped(_tensors(path, _load(path)), path)


def _unwrapped(tensors: dict[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """Take off what wrappers put before the names."""
    found: dict[str, np.ndarray] = {}
    for name, array in tensors.items():
        plain = without(name, _WRAPPERS)
        if plain in found:
            raise WeightsError(
                f"{path}: {plain} is there twice, one of them as {name!r}; save the state dict of "
                "one network, wrapped or not"
            )
        found[plain] = array
    if any(name.startswith("module.") for name in found):
        found.pop(AVERAGED, None)
    for prefix in _PREFIXES * 2:  # of either within the other
        if found and all(name.startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): array for name, array in found.items()}
    return found


def without(name: str, parts: Collection[str]) -> str:
    """Leave some parts out of a name.

    Example:
        >>> without("features.module.0.weight", ["module"])
        'features.0.weight'
    """
    return ".".join(part for part in name.split(".") if part not in parts)


def check_torch(path: Path) -> None:
    """Raise unless there is a PyTorch that reads a file without running code of it.

    Raises:
        WeightsError: there is none, or an older one.
    """
    try:
        import torch
    except ImportError:
        raise WeightsError(
            f"{path}: reading this needs PyTorch: pip install torch; or save it there as "
            "safetensors: safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
        ) from None
    if _version(torch.__version__) < _SAFE:
        raise WeightsError(
            f"{path}: PyTorch {torch.__version__} can be made to run code by such a file "
            "(CVE-2025-32434, CVE-2026-24747): pip install --upgrade 'torch>=2.10'; or save it as "
            "safetensors where it was written"
        )


def _load(path: Path) -> Any:
    check_torch(path)
    import torch

    _check_limits(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from None
    except Exception as error:  # many kinds, none of them documented
        reason = str(error).strip().partition("\n")[0]
        raise WeightsError(
            f"{path}: not a PyTorch file of tensors only, and code in files is not run: "
            f"{reason[:200]}; save model.state_dict()"
        ) from None


def _version(text: str) -> tuple[int, ...]:
    """Return the first two numbers of a version.

    Example:
        >>> _version("2.10.0a0+cu130")
        (2, 10)
    """
    return tuple(map(int, re.findall(r"\d+", text)[:2]))


def _check_limits(path: Path) -> None:
    """Raise where a file that is a .zip, as PyTorch writes, would unpack to far more than it is."""
    try:
        with zipfile.ZipFile(path) as packed:
            check_zip(path, packed)
    except UnpackError as error:
        raise WeightsError(f"{path}: {error}") from None
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return  # of the older format, or PyTorch says what is wrong


def _tensors(path: Path, loaded: Any) -> dict[str, np.ndarray]:
    for key in _WITHIN:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(
        isinstance(name, str) and hasattr(t, "detach") for name, t in loaded.items()
    ):
        raise WeightsError(f"{path}: not a state dict: names with tensors; save model.state_dict()")
    sizes = [(name, t.numel() * t.element_size()) for name, t in loaded.items()]
    try:  # few bytes can be many numbers: `Tensor.expand` repeats them
        UnpackBudget(path).add_files(sizes, each=False)
    except UnpackError as error:
        raise WeightsError(f"{path}: {error}") from None
    return {name: _to_numpy(tensor, f"{path}: {name}") for name, tensor in loaded.items()}


def _to_numpy(tensor: Any, where: str) -> np.ndarray:
    try:
        if str(tensor.layout) != "torch.strided":
            raise TypeError
        tensor = tensor.detach().cpu()
        if str(tensor.dtype) == "torch.bfloat16":  # which NumPy has not; float32 holds all of it
            tensor = tensor.float()
        return tensor.numpy()
    except (TypeError, RuntimeError):  # of 8-bit floats, quantized, sparse, or without a content
        raise WeightsError(
            f"{where}: of type {tensor.dtype}, layout {tensor.layout}, which convax does not read: "
            "make it a dense tensor of float32 where it was written"
        ) from None
