"""From stored images to what the network sees: inside the jitted step, the same everywhere."""

import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

# By its name: what jax2onnx puts in the place of `jax.image.resize` knows no batch of any size.
from jax.image import resize

from ..config.schema import ConfigError, Input, Statistics
from . import IGNORED, Split, Streamed
from .pixels import PixelFormat
from .placement import letterboxed, margin

STATISTICS_SAMPLE = 2000  # of images in files, how many their mean and deviation are measured on
STATISTICS_BATCH = 200  # and how many in one go

# Of torchvision's published weights, and of most others.
IMAGENET = Statistics(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])


class Preprocessing(NamedTuple):
    """How images become the network's input; part of what a trained network is.

    Attributes:
        size: ``(H, W)`` of the network's input.
        fit: "pad" centers the image on black (zero), "resize" interpolates bilinearly, and so does
            "letterbox", which keeps the aspect: see `training.data.placement`.
        mean, std: of each channel, of images scaled to [0, 1].
        target_mean, target_std: of each value that is to be learned; None where none are.
        pixels: the format of images, if they are no photographs: bytes, gray or in color.
    """

    size: tuple[int, int]
    fit: Literal["pad", "resize", "letterbox"]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    target_mean: tuple[float, ...] | None = None
    target_std: tuple[float, ...] | None = None
    pixels: PixelFormat | None = None

    @property
    def pixel_format(self) -> PixelFormat:
        """Return the format of images, of photographs too."""
        return self.pixels or PixelFormat(len(self.mean))

    @property
    def statistics(self) -> dict[str, np.ndarray]:
        """Return what was measured of the training examples, by its name: float32 arrays."""
        names = ("mean", "std", "target_mean", "target_std")
        found = {name: getattr(self, name) for name in names}
        return {k: np.asarray(v, np.float32) for k, v in found.items() if v is not None}

    def as_json(self) -> dict[str, Any]:
        """Return its attributes, without those that are None."""
        values = {name: value for name, value in self._asdict().items() if value is not None}
        return values if self.pixels is None else values | {"pixels": self.pixels._asdict()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Preprocessing":
        """Invert `as_json` after a round through JSON."""
        size, mean, std = (tuple(values[key]) for key in ("size", "mean", "std"))
        targets = (values.get(key) for key in ("target_mean", "target_std"))
        of, deviation = (t if t is None else tuple(t) for t in targets)
        pixels = values.get("pixels")
        pixels = None if pixels is None else PixelFormat(**pixels)
        return cls(size, values["fit"], mean, std, of, deviation, pixels)


def measure(
    split: Split, spec: Input, *, targets: bool = False, pixels: PixelFormat | None = None
) -> Preprocessing:
    """Measure the statistics of images, where they are not given, for a config's preprocessing.

    With `targets` those of their labels too, which are values ``(N, V)``. Images that are no
    photographs have a format, `pixels`.

    Of `Streamed` images it is the statistics of `STATISTICS_SAMPLE`, or a few less, spread evenly.

    Raises:
        ConfigError: the images do not fit into the padded size, or have other channels than the
            statistics that are given.
    """
    height, width = split.images.shape[1:3]
    size = (spec.size[0], spec.size[1])
    if spec.fit == "pad" and (height > size[0] or width > size[1]):
        raise ConfigError(
            f"input.size: images of {height}x{width} cannot be padded to {size[0]}x{size[1]}; "
            'write a larger input.size, or input.fit = "resize"'
        )
    pixels = pixels or PixelFormat(split.images.shape[-1])
    mean, std = _statistics(split.images, spec, pixels)
    other = None if pixels.is_photograph else pixels
    measured = Preprocessing(size, spec.fit, mean, std, pixels=other)
    if not targets:
        return measured
    labels = split.labels.astype(np.float64)
    deviation = np.where(np.ptp(labels, axis=0) > 0, labels.std(axis=0), 1.0)
    return measured._replace(
        target_mean=tuple(map(float, labels.mean(axis=0))), target_std=tuple(map(float, deviation))
    )


def _statistics(
    images: np.ndarray | Streamed, spec: Input, pixels: PixelFormat
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of each channel: measured, or those that the config gives."""
    if spec.normalize not in ("standard", "mean"):
        given = IMAGENET if spec.normalize == "imagenet" else spec.normalize
        if len(given.mean) != images.shape[-1]:
            raise ConfigError(
                f"input.normalize: mean and std of {len(given.mean)} channels, but the images have "
                f"{images.shape[-1]}; write a number for each, or data.channels = {len(given.mean)}"
            )
        return tuple(given.mean), tuple(given.std)
    if isinstance(images, Streamed):
        images = images[:: math.ceil(len(images) / STATISTICS_SAMPLE)]
    mean, std = (
        _of_floats(images, pixels) if pixels.dtype == "float32" else _of_integers(images, pixels)
    )
    if spec.normalize == "mean":
        std = [1 / 255] * len(std)  # (x - mean) * 255, x in [0, 1]
    return tuple(mean), tuple(std)


def _of_integers(
    images: np.ndarray | Streamed, pixels: PixelFormat
) -> tuple[list[float], list[float]]:
    """Compute mean and deviation of each channel, of integers counted by their values."""
    # Exact integer sums over the values that there are: quick, and the same on every machine.
    mean, std = [], []
    for counts in _histograms(images):
        values = (np.arange(len(counts)) - pixels.low) / (pixels.high - pixels.low)
        average = float((counts * values).sum() / counts.sum())
        variance = float((counts * (values - average) ** 2).sum() / counts.sum())
        mean.append(average)
        # A constant channel has no scale; what rounding leaves of its variance is not one.
        std.append(variance**0.5 if np.count_nonzero(counts) > 1 else 1.0)
    return mean, std


def _histograms(images: np.ndarray | Streamed) -> np.ndarray:
    """Count each value in each channel: ``(C, 256)`` of bytes, ``(C, 65536)`` of uint16."""
    size = np.iinfo(images.dtype).max + 1
    counts = np.zeros((images.shape[-1], size), np.int64)
    for part in _in_parts(images):
        counts += [np.bincount(channel, minlength=size) for channel in part.T]
    return counts


def _of_floats(
    images: np.ndarray | Streamed, pixels: PixelFormat
) -> tuple[list[float], list[float]]:
    """Compute mean and deviation of each channel of floating-point numbers, in float64.

    Of the parts' means and squared deviations: Chan, Golub & LeVeque, Algorithms for computing the
    sample variance, 1983.
    """
    count, mean, squares = 0, 0.0, 0.0
    for part in map(pixels.unit, _in_parts(images)):
        n, average = len(part), part.mean(axis=0, dtype=np.float64)
        squares += ((part - average) ** 2).sum(axis=0)
        squares += (average - mean) ** 2 * (count * n / (count + n))
        mean += (average - mean) * (n / (count + n))
        count += n
    deviation = np.sqrt(squares / count)
    # A constant channel has no scale; what rounding leaves of its variance is not one.
    scaled = np.where(deviation > 1e-6 * np.maximum(np.abs(mean), 1e-6), deviation, 1.0)
    return np.ravel(mean).tolist(), scaled.tolist()


def _in_parts(images: np.ndarray | Streamed) -> Iterator[np.ndarray]:
    """Yield the pixels of some images after the other, ``(n, C)``."""
    for start in range(0, len(images), STATISTICS_BATCH):
        part = np.asarray(images[start : start + STATISTICS_BATCH])
        yield part.reshape(-1, part.shape[-1])


def preprocess(images: Array, spec: Preprocessing) -> Array:
    """Preprocess images: the network's input.

    Args:
        images: ``(N, H, W, C)``, uint8 in 0..255 or floating point in [0, 1]; or what
            `PixelFormat.unit` of their format takes.

    Returns:
        ``(N, *spec.size, C)`` float32, normalized: ``(x - mean) / std``.
    """
    x = spec.pixel_format.unit(images, jnp)
    N, H, W, C = x.shape
    if spec.fit == "resize":
        x = resize(x, (N, *spec.size, C), "linear")
    elif spec.fit == "letterbox":
        x = resize(x, (N, *letterboxed((H, W), spec.size).placed, C), "linear")
        x = _on_canvas(x, spec, margin(C) / 255)
    else:
        rows, columns = _padding(spec, H, W)
        x = jnp.pad(x, ((0, 0), rows, columns, (0, 0)))
    mean, std = (jnp.array(v, jnp.float32).reshape(1, 1, 1, C) for v in (spec.mean, spec.std))
    return (x - mean) / std


def preprocess_masks(masks: Array, spec: Preprocessing) -> Array:
    """Bring masks to the place and size of the preprocessed images.

    Args:
        masks: ``(N, H, W)``, uint8.

    Returns:
        ``(N, *spec.size)`` uint8: resized to the nearest pixel; pixels beside the image are
        ignored.
    """
    N, H, W = masks.shape
    if spec.fit == "resize":
        return resize(masks, (N, *spec.size), "nearest")
    if spec.fit == "letterbox":
        placed = resize(masks, (N, *letterboxed((H, W), spec.size).placed), "nearest")
        return _on_canvas(placed, spec, IGNORED)
    rows, columns = _padding(spec, H, W)
    return jnp.pad(masks, ((0, 0), rows, columns), constant_values=IGNORED)


def standardize_values(values: Array, spec: Preprocessing) -> Array:
    """Return values ``(N, V)`` less their mean, divided by their deviation."""
    mean, std = _target_statistics(spec)
    return (values - mean) / std


def restore_values(outputs: Array, spec: Preprocessing) -> Array:
    """Return the inverse of `standardize_values`, float32."""
    mean, std = _target_statistics(spec)
    return outputs.astype(jnp.float32) * std + mean


def _target_statistics(spec: Preprocessing) -> tuple[Array, Array]:
    """Compute mean and deviation of each value, ``(1, V)``."""
    mean, std = (jnp.asarray(v, jnp.float32)[None] for v in (spec.target_mean, spec.target_std))
    return mean, std


def restore_maps(maps: Array, spec: Preprocessing, image_shape: tuple[int, ...]) -> Array:
    """Bring maps over the preprocessed images back onto the images as they were.

    Args:
        maps: ``(N, *spec.size, K)``, floating point.
        image_shape: ``(H, W, ...)`` of the images.

    Returns:
        ``(N, H, W, K)``: without what is beside the image, resized bilinearly but for "pad".
    """
    H, W = image_shape[:2]
    if spec.fit == "resize":
        return resize(maps, (maps.shape[0], H, W, maps.shape[-1]), "linear")
    if spec.fit == "letterbox":
        h, w = letterboxed((H, W), spec.size).placed
        return resize(maps[:, :h, :w], (maps.shape[0], H, W, maps.shape[-1]), "linear")
    (top, _), (left, _) = _padding(spec, H, W)
    return maps[:, top : top + H, left : left + W]


def _on_canvas(arrays: Array, spec: Preprocessing, value: float) -> Array:
    """Pad arrays ``(N, h, w, ...)`` below and at the right to the size of the input."""
    below = [(0, whole - n) for whole, n in zip(spec.size, arrays.shape[1:3], strict=True)]
    beside = [(0, 0)] * (arrays.ndim - 3)
    return jnp.pad(arrays, [(0, 0), *below, *beside], constant_values=value)


def _padding(spec: Preprocessing, H: int, W: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return how much is added above and below, left and right."""
    top, left = (spec.size[0] - H) // 2, (spec.size[1] - W) // 2
    return (top, spec.size[0] - H - top), (left, spec.size[1] - W - left)
