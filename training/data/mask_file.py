"""Masks as arrays: images whose pixels are numbers, or colors, that nothing may change."""

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np

from .errors import DataError
from .image import called_in_errors, opened, unreadable
from .metadata import upright
from .raster import is_wide

if TYPE_CHECKING:
    from PIL.Image import Image


def decode_mask(source: str | PathLike[str] | bytes, *, name: str | None = None) -> np.ndarray:
    """Decode an image whose pixels are numbers, as they are: no palette, colors or scaling.

    It is turned upright as `read_image` turns the image that it belongs to.

    Args:
        source: a file, or its content.
        name: what errors call it.

    Returns:
        ``(H, W)``, int32.

    Raises:
        DataError: it is damaged, has colors, or its format does not keep every pixel.
    """
    called = called_in_errors(source, name)
    try:
        with opened(source) as image:
            mode, lossy, step = image.mode, _lossy(image), _gray_step(image)
            numbers = np.array(upright(image))
    except Exception as error:  # decoders raise nearly anything on damaged data
        raise unreadable(called, "a mask", error) from None
    _check_lossless(called, lossy)
    if numbers.ndim != 2 or numbers.dtype.kind not in "bui":
        raise DataError(
            f"{called}: not a mask: its pixels are {mode} colors, need one whole number each; "
            "save it as gray (or with a palette) in PNG, or write data.colors"
        )
    return numbers.astype(np.int32) // step


def decode_color_mask(
    source: str | PathLike[str] | bytes, *, name: str | None = None
) -> np.ndarray:
    """Decode an image whose pixels are colors, as they are; those of a palette too.

    Args:
        source: a file, or its content.
        name: what errors call it.

    Returns:
        ``(H, W, 3)``, uint8.

    Raises:
        DataError: it is damaged, partly transparent, not of 8 bits a color, or its format does not
            keep every pixel.
    """
    called = called_in_errors(source, name)
    try:
        with opened(source) as image:
            mode, lossy = image.mode, _lossy(image)
            if is_wide(image):
                mode = f"{mode} of 16 bits each"
            wide = upright(image).convert("RGBA") if mode in _COLORED else None
            pixels = None if wide is None else np.array(wide)
    except Exception as error:  # decoders raise nearly anything on damaged data
        raise unreadable(called, "a mask", error) from None
    _check_lossless(called, lossy)
    if pixels is None:
        raise DataError(
            f"{called}: not a mask of colors: its pixels are {mode}, need red, green and blue of 8 "
            "bits each; save it as RGB (or with a palette) in PNG"
        )
    if (pixels[..., 3] != 255).any():
        raise DataError(
            f"{called}: not a mask of colors: it has transparent pixels, whose color is none; save "
            "it without transparency"
        )
    return pixels[..., :3]


_COLORED = ("1", "L", "P", "RGB", "RGBA", "LA", "PA")


def _check_lossless(called: str, lossy: str | None) -> None:
    if lossy:
        raise DataError(
            f"{called}: not a mask: saved as {lossy}, which need not keep the number of each "
            "pixel; make it again from its source, as PNG"
        )


def resize_nearest(mask: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resize a mask: the pixel in whose middle, or nearest to it, each new pixel's middle falls."""
    rows, columns = (
        ((2 * np.arange(new) + 1) * old) // (2 * new)
        for new, old in zip(size, mask.shape, strict=True)
    )
    return mask[rows[:, None], columns[None, :]]


def _lossy(image: "Image") -> str | None:
    """Return what an opened image is saved as, if that need not keep every pixel as it was."""
    if image.format in ("PNG", "BMP", "GIF"):
        return None
    if image.format == "TIFF":
        compression = str(image.info.get("compression", "raw"))
        lossy = {"jpeg": "JPEG", "tiff_jpeg": "JPEG", "webp": "WebP"}.get(compression)
        return lossy and f"TIFF with {lossy} in it"
    return image.format


def _gray_step(image: "Image") -> int:
    """Return what one step of gray became: Pillow spreads 2 and 4 bits a pixel over 0 to 255."""
    for tile in getattr(image, "tile", ()):  # which opened images have
        raw = tile[3][0] if isinstance(tile[3], tuple) else tile[3]
        if image.mode == "L" and str(raw).startswith(("L;2", "L;4")):
            return 85 if raw[2] == "2" else 17
    return 1
