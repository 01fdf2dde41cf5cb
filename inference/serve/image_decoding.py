"""Uploaded files decoded for the network."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...training.data import DataError
from ...training.data.image import decode, decode_with_size, inverted, size_in_header
from ...training.data.pixels import PixelFormat
from .admission import RequestRejected


class DecodedImage(NamedTuple):
    """A decoded image."""

    image: np.ndarray  # (H, W, C), as the network takes it
    size: tuple[int, int]  # (H, W) of the upright image in the file


def decode_upload(
    name: str,
    content: bytes,
    *,
    image_shape: tuple[int, int, int],
    max_pixels: int,
    invert: bool,
    letterbox: bool = False,
    pixels: Sequence[Any] | None = None,
) -> DecodedImage:
    """Decode an image whose header says that it is not too large.

    To be called within `training.data.image.quiet_pillow`. `pixels` is a `PixelFormat`, as JSON has
    it, of images that are no photographs.

    Raises:
        RequestRejected: 413 of too many pixels, 422 of what cannot be read.
    """
    channels = PixelFormat(*pixels) if pixels else PixelFormat(image_shape[2])
    try:
        _check_size(name, content, max_pixels, channels)
        image, size = decode_with_size(
            content,
            size=image_shape[:2],
            channels=channels,
            name=name,
            letterbox=letterbox,
        )
    except DataError as error:
        raise RequestRejected(422, str(error)) from None
    if invert:
        image = inverted(image, size, letterbox=letterbox, channels=channels)
    return DecodedImage(image, size)


def _check_size(name: str, content: bytes, max_pixels: int, channels: PixelFormat) -> None:
    """Look at the size in the header: nothing is decoded for it."""
    from PIL import Image

    if not content:
        raise DataError(f"{name}: cannot be read as an image: empty")
    try:
        height, width, pixels = size_in_header(content, channels)
        if pixels <= max_pixels:
            return
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        height = width = 0
    except Exception:  # `decode` says what is wrong, in the words of every reader here
        decode(content, size=(1, 1), channels=channels, name=name)
        raise DataError(f"{name}: cannot be read as an image: damaged") from None
    got = f"got {height}x{width}, " if height else ""
    raise RequestRejected(
        413, f"{name}: too many pixels: {got}need at most {max_pixels:,}; make it smaller"
    )
