"""Uploaded files decoded for the network."""

import io
from typing import NamedTuple

import numpy as np

from ...training.data import DataError
from ...training.data.image import FORMATS, decode, decode_with_size, inverted, pixels_of
from ...training.data.metadata import without_metadata
from .admission import RequestRejected


class DecodedImage(NamedTuple):
    """A decoded image."""

    image: np.ndarray  # (H, W, C) uint8, as the network takes it
    size: tuple[int, int]  # (H, W) of the upright image in the file


def decode_upload(
    name: str,
    content: bytes,
    *,
    image_shape: tuple[int, int, int],
    max_pixels: int,
    invert: bool,
    letterbox: bool = False,
) -> DecodedImage:
    """Decode an image whose header says that it is not too large.

    To be called within `training.data.image.quiet_pillow`.

    Raises:
        RequestRejected: 413 of too many pixels, 422 of what cannot be read.
    """
    try:
        _check_size(name, content, max_pixels)
        image, size = decode_with_size(
            content,
            size=image_shape[:2],
            channels=image_shape[2],
            name=name,
            letterbox=letterbox,
        )
    except DataError as error:
        raise RequestRejected(422, str(error)) from None
    return DecodedImage(inverted(image, size, letterbox=letterbox) if invert else image, size)


def _check_size(name: str, content: bytes, max_pixels: int) -> None:
    """Look at the size in the header: nothing is decoded for it."""
    from PIL import Image

    if not content:
        raise DataError(f"{name}: cannot be read as an image: empty")
    try:
        with Image.open(io.BytesIO(without_metadata(content)), formats=FORMATS) as image:
            width, height = image.size
            if pixels_of(image) <= max_pixels:
                return
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        height = width = 0
    except Exception:  # `decode` says what is wrong, in the words of every reader here
        decode(content, size=(1, 1), channels=1, name=name)
        raise DataError(f"{name}: cannot be read as an image: damaged") from None
    got = f"got {height}x{width}, " if height else ""
    raise RequestRejected(
        413, f"{name}: too many pixels: {got}need at most {max_pixels:,}; make it smaller"
    )
