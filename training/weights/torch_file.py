"""The state dict in a file of PyTorch's: .safetensors without PyTorch, .pt and .pth with it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .safetensors_io import WeightsError, read_safetensors

# Where training scripts keep the network beside the optimizer and the like.
_WITHIN = ("state_dict", "model_state_dict", "model")


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Read every tensor by its name in PyTorch.

    Args:
        path: a file with a state dict; one under "state_dict", "model_state_dict" or "model" is
            found too, and the prefix "module." of a `DataParallel` is taken off.

    Raises:
        WeightsError: it cannot be read, holds more than tensors, or is not a .safetensors file and
            PyTorch is not installed.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        tensors = read_safetensors(path)
    else:
        tensors = _tensors(path, _load(path))
    if tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): array for name, array in tensors.items()}
    return tensors


def _load(path: Path) -> Any:
    try:
        import torch
    except ImportError:
        raise WeightsError(
            f"{path}: reading this needs PyTorch: pip install torch; or save it there as "
            "safetensors: safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
        ) from None
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


def _tensors(path: Path, loaded: Any) -> dict[str, np.ndarray]:
    for key in _WITHIN:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(hasattr(t, "detach") for t in loaded.values()):
        raise WeightsError(f"{path}: not a state dict: names with tensors; save model.state_dict()")
    return {name: _to_numpy(tensor) for name, tensor in loaded.items()}


def _to_numpy(tensor: Any) -> np.ndarray:
    tensor = tensor.detach().cpu()
    if str(tensor.dtype) == "torch.bfloat16":  # which NumPy has not; float32 holds all of it
        tensor = tensor.float()
    return tensor.numpy()
