"""One .npz file of arrays."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..common.text import plain_line
from ..common.unpack_limits import UnpackError, check_zip
from .archive import check_names
from .dataset import Dataset, Split, undivided
from .errors import DataError
from .pixels import FormatError, check_values, pixel_format

_KERAS = ("x_train", "y_train", "x_test", "y_test")
_PLAIN = ("images", "labels")
_KNOWN = (*_KERAS, *_PLAIN, "classes")
_MAX_CLASSES = 2**16


def load_npz(path: str | Path, *, value_range: Sequence[float] | None = None) -> Dataset:
    """Load images and labels from an ``.npz`` file; nothing in it is unpickled.

    Either ``x_train, y_train, x_test, y_test``, as Keras names them, or ``images, labels``
    without a test part. Images are uint8, uint16 or float32, ``(N, H, W)`` or ``(N, H, W, C)``;
    labels are integers from 0, ``(N,)`` or ``(N, 1)``. ``classes``, an array of strings, may name
    the classes; they are called "0", "1", ... otherwise.

    Args:
        path: the file.
        value_range: the values of images that are 0 and 1, see `pixel_format`.

    Raises:
        DataError: names the file, the key, and what to store instead.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/pets.npz", images=np.zeros((2, 8, 8), np.uint8),
        ...              labels=[0, 1], classes=["cat", "dog"])
        ...     load_npz(f"{folder}/pets.npz").classes
        ('cat', 'dog')
    """
    arrays = _read(path)
    keys = _KERAS if "x_train" in arrays else _PLAIN
    pairs = zip(keys[::2], keys[1::2], strict=True)
    parts = [_part(path, arrays, x, y, value_range) for x, y in pairs]
    classes = _classes(path, arrays, parts[0].labels)
    train = undivided(parts[0], classes)
    for y, part in zip(keys[1::2], parts, strict=True):
        if part.labels.max() >= len(classes):
            raise DataError(
                f"{path}: {y}: label {part.labels.max()} where there are {len(classes)} classes; "
                "number the classes from 0, and store every name in `classes`"
            )
    if len(parts) == 1:
        return train
    if parts[0].images.dtype != parts[1].images.dtype:
        raise DataError(
            f"{path}: x_train is {parts[0].images.dtype} but x_test {parts[1].images.dtype}; store "
            "one dtype of both"
        )
    if parts[0].images.shape[1:] != parts[1].images.shape[1:]:
        raise DataError(
            f"{path}: x_train holds images of {parts[0].images.shape[1:]} but x_test of "
            f"{parts[1].images.shape[1:]}; store one size of both"
        )
    return train._replace(test=parts[1])


def _read(path: str | Path) -> dict[str, np.ndarray]:
    """Read the arrays that are needed, by name."""
    remedy = "data.path should be a file that np.savez wrote"
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file; {remedy}")
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: not an .npz file, or cut short; {remedy}")
    with Path(path).open("rb") as file:  # np.load would leave a damaged one open
        try:
            found = zipfile.ZipFile(file)
            check_zip(Path(path), found, lambda name: name.removesuffix(".npy") in _KNOWN)
            check_names(found)
        except UnpackError as error:
            raise DataError(f"{path}: {error}") from None
        except Exception as error:  # zipfile raises many kinds on damaged data
            raise DataError(f"{path}: damaged: {_reason(error)}; copy or store it again") from None
        stored = [name.removesuffix(".npy") for name in found.namelist()]
        return {key: _member(path, found, key) for key in _wanted(path, stored)}


def _wanted(path: str | Path, stored: list[str]) -> list[str]:
    """Return the keys of the layout that is stored."""
    keys = _KERAS if set(_KERAS) & set(stored) else _PLAIN
    missing = [key for key in keys if key not in stored]
    if missing:
        raise DataError(
            f"{path}: no {' and no '.join(missing)} in it, only {', '.join(stored) or 'nothing'}; "
            f"store {', '.join(_KERAS)}, or {', '.join(_PLAIN)}"
        )
    return [*keys, *(key for key in stored if key == "classes")]


def _member(path: str | Path, found: zipfile.ZipFile, key: str) -> np.ndarray:
    """Read one array, no Python object, to the end, where its checksum is looked at."""
    if f"{key}.npy" not in found.namelist():
        raise DataError(f"{path}: {key}: not an array; store it with np.savez")
    try:
        with found.open(f"{key}.npy") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
            if file.read(1):
                raise ValueError("it is longer than its header says")
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds on damaged data
        raise DataError(
            f"{path}: {key}: cannot be read: {_reason(error)}; store it again, as "
            "an array of numbers (or, for `classes`, of strings)"
        ) from None
    return array


def _reason(error: Exception) -> str:
    return plain_line(str(error).partition("\n")[0], 300) or type(error).__name__


def _part(
    path: str | Path,
    arrays: Mapping[str, np.ndarray],
    x: str,
    y: str,
    value_range: Sequence[float] | None,
) -> Split:
    """Check images and labels that belong together."""
    images, labels = arrays[x], arrays[y]
    _check_images(f"{path}: {x}", images)
    if images.ndim == 3:
        images = images[..., None]
    try:
        check_values(images, pixel_format(images.shape[-1], images.dtype.name, value_range))  # type: ignore[arg-type] -- which `_check_images` has looked at
    except FormatError as error:
        raise DataError(f"{path}: {x}: {error}") from None
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    _check_labels(f"{path}: {y}", labels)
    if len(images) != len(labels):
        raise DataError(
            f"{path}: {x} holds {len(images)} images but {y} {len(labels)} labels; "
            "store one label for each image"
        )
    return Split(images, labels.astype(np.int32))


def _check_images(where: str, images: np.ndarray) -> None:
    if images.dtype not in (np.uint8, np.uint16, np.float32):
        remedy = (
            "store (255 * x).round().astype(np.uint8) of values in 0..1, or x.astype(np.float32), "
            "and write data.value_range"
        )
        if not np.issubdtype(images.dtype, np.floating):
            remedy = "store values in 0..255 as .astype(np.uint8)"
        raise DataError(f"{where}: dtype {images.dtype}, need uint8, uint16 or float32; {remedy}")
    if images.ndim not in (3, 4) or not images.size:
        raise DataError(
            f"{where}: shape {images.shape}, need (N, H, W) or (N, H, W, C), none of them 0; "
            "reshape it before storing"
        )
    if images.ndim == 4 and images.shape[1] in (1, 3, 4) and images.shape[3] > 4:
        raise DataError(
            f"{where}: shape {images.shape} looks channels first, need (N, H, W, C); "
            "store x.transpose(0, 2, 3, 1)"
        )


def _check_labels(where: str, labels: np.ndarray) -> None:
    if labels.ndim != 1:
        raise DataError(
            f"{where}: shape {labels.shape}, need (N,); store y.argmax(axis=1) of one-hot labels"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{where}: dtype {labels.dtype}, need integers; store y.astype(np.int32)")
    if labels.size and (labels.min() < 0 or labels.max() >= _MAX_CLASSES):
        raise DataError(
            f"{where}: labels from {labels.min()} to {labels.max()}, need 0 up to the number of "
            f"classes less one, below {_MAX_CLASSES}; number the classes from 0"
        )


def _classes(
    path: str | Path, arrays: Mapping[str, np.ndarray], labels: np.ndarray
) -> tuple[str, ...]:
    """Return the stored names of the classes, or their numbers."""
    if "classes" not in arrays:
        return tuple(map(str, range(int(labels.max()) + 1)))
    stored = arrays["classes"]
    if stored.ndim != 1 or stored.dtype.kind != "U" or len(set(stored.tolist())) < len(stored):
        raise DataError(
            f"{path}: classes: {stored.dtype} of shape {stored.shape}, need distinct strings (K,); "
            'store np.array(["cat", "dog"])'
        )
    return tuple(stored.tolist())
