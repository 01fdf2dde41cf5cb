"""An uploaded picture as an image for the network."""

import io
from typing import NamedTuple

import numpy as np

from ...training.data import DataError
from ...training.data.image import FORMATS, decode
from .limits import Refused

ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)  # of EXIF


class Picture(NamedTuple):
    """A decoded picture."""

    image: np.ndarray  # (H, W, C) uint8, as the network takes it
    size: tuple[int, int]  # (H, W) of the upright picture itself


def read_picture(
    name: str,
    content: bytes,
    *,
    image_shape: tuple[int, int, int],
    max_pixels: int,
    invert: bool,
) -> Picture:
    """Decode a picture whose header says that it is not too large.

    To be called within `training.data.image.quiet_pillow`.

    Raises:
        Refused: 413 of too many pixels, 422 of what cannot be read.
    """
    try:
        size = _size(name, content, max_pixels)
        image = decode(content, size=image_shape[:2], channels=image_shape[2], name=name)
    except DataError as error:
        raise Refused(422, str(error)) from None
    return Picture(255 - image if invert else image, size)


def _size(name: str, content: bytes, max_pixels: int) -> tuple[int, int]:
    """Height and width by the header: nothing is decoded for it."""
    from PIL import Image

    if not content:
        raise DataError(f"{name}: cannot be read as a picture: empty")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            width, height = picture.size
            if width * height <= max_pixels:
                sideways = picture.getexif().get(ORIENTATION) in SIDEWAYS
                return (width, height) if sideways else (height, width)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        height = width = 0
    except Exception:  # `decode` says what is wrong, in the words of every reader here
        decode(content, size=(1, 1), channels=1, name=name)
        raise DataError(f"{name}: cannot be read as a picture: damaged") from None
    got = f"got {height}x{width}, " if height else ""
    raise Refused(
        413, f"{name}: too many pixels: {got}need at most {max_pixels:,}; make it smaller"
    )
