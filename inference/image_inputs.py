"""Images of any kind and size made fit for a network, one or a folder of them at a time."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..training import data
from ..training.data import DataError, PixelFormat, check_pixels
from ..training.data.placement import margin, place

THREADS = 4  # at most; decoding is beside the network's own work
Failure = DataError | None


class SizedImage(NamedTuple):
    """An image as a network takes it."""

    image: np.ndarray  # (H, W, C)
    size: tuple[int, int]  # (h, w), that it had before, upright


def to_sized_image(
    source: Any,
    image_shape: tuple[int, int, int],
    *,
    letterbox: bool = False,
    pixels: PixelFormat | None = None,
) -> SizedImage:
    """Return an image of any size as one of a network's shape; to be called within `quiet_pillow`.

    Args:
        source: a file, or its content as bytes; Pillow's image; or an array ``(h, w)`` or
            ``(h, w, c)``, uint8 with c in 1, 3, 4, or floating point in [0, 1] with c 1 or 3. Of
            other formats than photographs, what `check_pixels` takes, with c channels.
        image_shape: ``(H, W, C)``.
        letterbox: keep its aspect, see `training.data.placement`.
        pixels: the format of the network's images, if they are no photographs.

    Returns:
        ``(H, W, C)``, uint8 or of the format's dtype; of floating point, float32; and the size that
        it had.

    Raises:
        DataError: a file, or Pillow's image, cannot be read as an image.
        ValueError, TypeError: an array is no image.
    """
    from PIL import Image

    size, channels = image_shape[:2], image_shape[2]
    pixels = pixels or PixelFormat(channels)
    how: dict[str, Any] = {"size": size, "channels": pixels, "letterbox": letterbox}
    if isinstance(source, Path) and source.is_dir():
        endings = ", ".join(data.EXTENSIONS)
        raise DataError(f"{source}: no images in this folder; their names end in {endings}")
    if isinstance(source, (str, Path, bytes)):
        return SizedImage(*data.decode_with_size(source, **how))
    if isinstance(source, Image.Image):
        return SizedImage(*data.convert_with_size(source, **how))
    image = check_pixels(np.asarray(source), pixels)
    if not pixels.is_photograph:
        return _sized_raster(image, size, pixels, letterbox)
    floating = image.dtype != np.uint8
    depth = image.shape[2] if image.ndim == 3 else 1
    if (
        image.ndim not in (2, 3)
        or not image.size
        or depth not in (1, 3, *(() if floating else (4,)))
    ):
        raise ValueError(
            f"predict: wrong shape of an image in a list: got {image.shape}, need (h, w) or "
            f"(h, w, c), c one of 1, 3{'' if floating else ', 4'}"
        )
    was = (image.shape[0], image.shape[1])
    if image.shape == image_shape:  # Pillow has nothing to do
        return SizedImage(image, was)
    if not floating:
        flat = image[..., 0] if depth == 1 and image.ndim == 3 else image
        return SizedImage(data.convert(Image.fromarray(flat), **how), was)
    planes = np.moveaxis(image.reshape(*image.shape[:2], depth), -1, 0)
    if depth == 3 and channels == 1:
        planes = np.tensordot(np.array([0.299, 0.587, 0.114], np.float32), planes, 1)[None]
    placed = place(image.shape[:2], size, letterbox=letterbox).placed
    resized = [data.resize_image(np.ascontiguousarray(plane), placed) for plane in planes]
    stacked = np.stack(resized * (channels // len(resized)), axis=-1)
    whole = np.full(image_shape, margin(channels) / 255, np.float32)
    whole[: placed[0], : placed[1]] = np.clip(stacked, 0, 1)  # which rounding may leave by a little
    return SizedImage(whole, was)


def _sized_raster(
    image: np.ndarray, size: Sequence[int], pixels: PixelFormat, letterbox: bool
) -> SizedImage:
    """Return an array of any size, of a format that is no photograph, as a network takes it."""
    image = image[..., None] if image.ndim == 2 else image
    if image.ndim != 3 or not image.size or image.shape[2] != pixels.channels:
        raise ValueError(
            f"predict: wrong shape of an image in a list: got {image.shape}, need (h, w, "
            f"{pixels.channels})"
        )
    was = (image.shape[0], image.shape[1])
    placed = place(was, size, letterbox=letterbox).placed
    if image.dtype != pixels.dtype:  # floating point in [0, 1]
        pixels = PixelFormat(pixels.channels, "float32", 0.0, 1.0)
    return SizedImage(data.on_canvas(data.resize_raster(image, placed, pixels), size, pixels), was)


def iter_files(sources: Iterable[Any], notes: data.Notes | None = None) -> Iterator[Any]:
    """Yield the sources, each folder replaced by the images in it and below; paths as `Path`.

    Args:
        sources: files and folders, and whatever else `to_sized_image` takes.
        notes: where the files in folders that are passed over are counted.

    Raises:
        OSError: a folder cannot be read. One without images comes as itself: `to_sized_image` says
            so.
    """
    for source in sources:
        if not isinstance(source, (str, Path)):
            yield source
            continue
        path, found = Path(source), False
        if path.is_dir():
            for _, file in data.images_below(path, data.Notes() if notes is None else notes):
                found = True
                yield file
        if not found:
            yield path


def decoded(
    sources: Iterator[Any],
    decode: Callable[[Any], SizedImage],
    answer: Callable[[list[SizedImage]], Any],
    batch: int,
) -> Iterator[tuple[list[tuple[Any, Failure]], Any]]:
    """Batches of sources with what is wrong with each, and the answers for those that are right.

    Pillow's warnings are silenced between one batch and the next alone: the setting is one for all
    threads, and in between the caller's own code runs. An error of the sources themselves, or a
    source that is no image of any kind, is raised behind the answers to those before it.
    """
    broken: list[Exception] = []
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:

        def begin() -> list[tuple[Any, Future[SizedImage]]]:
            begun: list[tuple[Any, Future[SizedImage]]] = []
            if broken:
                return begun
            try:
                for source in islice(sources, batch):
                    begun.append((source, pool.submit(decode, source)))
            except Exception as error:
                broken.append(error)
            return begun

        with data.quiet_pillow():
            coming = _gathered(begin(), broken)
        while coming:
            here = coming
            with data.quiet_pillow():
                following = begin()
                images = [image for _, image in here if isinstance(image, SizedImage)]
                answers = answer(images) if images else np.zeros(0)
                coming = _gathered(following, broken)
            yield [(s, i if isinstance(i, DataError) else None) for s, i in here], answers
        if broken:
            raise broken[0]


def _gathered(
    futures: list[tuple[Any, "Future[SizedImage]"]], broken: list[Exception]
) -> list[tuple[Any, Any]]:
    """Return each source with its image, or its error; up to one that is not to be passed over."""
    found: list[tuple[Any, Any]] = []
    for source, future in futures:
        try:
            found.append((source, future.result()))
        except DataError as error:
            found.append((source, error))
        except Exception as error:
            broken.insert(0, error)  # ahead of what came while more were read
            break
    return found
