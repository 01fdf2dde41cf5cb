"""Images that are read as they are stored: any number of channels, of 8 or 16 bits or float32.

`.npy` by NumPy; TIFF, of one page or of several that are its channels, by tifffile; PNG of 16 bits
in color by imagecodecs (``pip install 'convax[tiff]'``); everything else by Pillow. What a file
holds beyond its header is decoded only once the header says that it is of the format, and no larger
than Pillow would decode.
"""

import io
import logging
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..common.text import plain_line
from .errors import DataError
from .metadata import PNG, orientation, without_metadata
from .pixels import FormatError, PixelFormat, check_values

if TYPE_CHECKING:
    from PIL.Image import Image

NPY = b"\x93NUMPY"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_COLOR_TYPE = 25  # where in a PNG, in its first chunk
_NEEDS = "needs tifffile and imagecodecs: pip install 'convax[tiff]'"
# The dtypes whose values are all values of a format's, too.
_HELD = {
    "uint8": ("uint8",),
    "uint16": ("uint16",),
    "float32": ("float32", "float16", "uint16", "int16", "uint8", "int8"),
}
# What turns an image upright, by its orientation.
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}
_PLAIN = ("L", "LA", "RGB", "RGBA", "I;16", "I;16B", "F")  # Pillow's modes that are read as stored


class Raster(NamedTuple):
    """An image that is known by its header.

    Attributes:
        size: ``(h, w)``, as it is stored.
        channels, dtype: of its pixels.
        read: decodes it, ``(h, w, channels)``, upright.
    """

    size: tuple[int, int]
    channels: int
    dtype: str
    read: Callable[[], np.ndarray]


def read_raster(
    content: bytes, pixels: PixelFormat, opened: Callable[[bytes], "Image"]
) -> np.ndarray:
    """Read an image of a format, ``(h, w, channels)``, upright.

    Args:
        content: of the file.
        pixels: the format.
        opened: opens what Pillow reads.

    Raises:
        FormatError: it is of another format, or has values outside of its range.
        DataError: a package is missing.
        Exception: nearly anything, of damaged data.
    """
    raster = open_raster(content, pixels, opened)
    check_size(raster)
    if raster.channels != pixels.channels or raster.dtype not in _HELD[pixels.dtype]:
        raise FormatError(_mismatch(raster, pixels))
    array = np.ascontiguousarray(raster.read()).astype(pixels.dtype, copy=False)
    check_values(array, pixels)
    return array


def open_raster(content: bytes, pixels: PixelFormat, opened: Callable[[bytes], "Image"]) -> Raster:
    """Read the header of an image; see `read_raster`."""
    if content.startswith(NPY):
        return _npy(content)
    if content.startswith(TIFF):
        return _tiff(content, pixels.channels)
    image = opened(content)
    if is_wide(image) and not image.mode.startswith("I"):
        if not content.startswith(PNG):
            raise FormatError("has 16 bits a value, of which Pillow keeps 8; save it as TIFF")
        return _wide_png(without_metadata(content), image)
    if image.mode not in _PLAIN and (image.mode, image.format) != ("I", "PNG"):
        raise FormatError(
            f"its pixels are {image.mode} of Pillow, need {pixels}; save it without a palette, as "
            "PNG, TIFF or .npy"
        )
    dtype = "uint16" if image.mode.startswith("I") else "float32" if image.mode == "F" else "uint8"
    channels = len(image.getbands())

    def read() -> np.ndarray:
        array = np.asarray(image).astype(dtype)  # loads it, as the orientation may need
        return _turned(array.reshape(*array.shape[:2], channels), orientation(image))

    return Raster((image.height, image.width), channels, dtype, read)


def is_wide(image: "Image") -> bool:
    """Return whether an image that Pillow has opened has 16 bits a value in its file.

    Pillow keeps 8 of them of all but gray, without a word.
    """
    if image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PNG"):
        return True
    raw = (tile[3][0] if isinstance(tile[3], tuple) else tile[3] for tile in _tiles(image))
    return any(";16" in str(mode) for mode in raw)


def check_size(raster: Raster) -> None:
    """Raise Pillow's error of an image too large, by as many values as its limit has in RGBA."""
    from PIL import Image

    most = Image.MAX_IMAGE_PIXELS
    if most is not None and pixels_in(raster) > most:
        raise Image.DecompressionBombError


def pixels_in(raster: Raster) -> int:
    """Return how many pixels of four values an image takes."""
    return raster.size[0] * raster.size[1] * -(-raster.channels // 4)


def _tiles(image: "Image") -> Iterable[Any]:
    return getattr(image, "tile", ())  # which opened images have


def _npy(content: bytes) -> Raster:
    """Open an array of NumPy's, ``(h, w)`` or ``(h, w, c)``; nothing in it is unpickled."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    reader = {(1, 0): np.lib.format.read_array_header_1_0}.get(
        version, np.lib.format.read_array_header_2_0
    )
    shape, columns_first, dtype = reader(file)
    if dtype.hasobject or dtype.kind not in "biuf":
        raise FormatError(f"an array of {dtype}, need numbers; store them by np.save")
    if len(shape) not in (2, 3) or not all(shape):
        raise FormatError(f"an array of shape {shape}, need (H, W) or (H, W, C); reshape it")
    start = file.tell()
    if len(content) - start != dtype.itemsize * int(np.prod(shape, dtype=np.int64)):
        raise ValueError("cut short, or longer than its header says")

    def read() -> np.ndarray:
        flat = np.frombuffer(content, dtype, offset=start)
        array = flat.reshape(shape, order="F" if columns_first else "C")
        return array.astype(dtype.newbyteorder("=")).reshape(*shape[:2], -1)

    height, width, channels = (*shape, 1)[:3]
    return Raster((height, width), channels, dtype.name, read)


def _tiff(content: bytes, channels: int) -> Raster:
    """Open a TIFF, whose full-size pages are channels, or hold them."""
    try:
        from tifffile import TiffFile
    except ImportError:
        raise DataError(f"TIFF with such pixels {_NEEDS}") from None
    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # errors say what is wrong
    every: Any = TiffFile(io.BytesIO(content)).pages
    # Pages beyond those that can be channels, and as many previews, are looked at no more.
    pages: list[Any] = [
        page for page in islice(every, 4 * channels + 4) if not (page.is_reduced or page.is_mask)
    ]
    if not pages:
        raise ValueError("a TIFF without an image")
    first, total = pages[0], sum(page.samplesperpixel for page in pages)
    size = (first.imagelength, first.imagewidth)
    for page in pages:
        if (page.imagelength, page.imagewidth, page.dtype) != (*size, first.dtype):
            raise FormatError("a TIFF whose pages differ in size or dtype; need one for a channel")
        if page.imagedepth != 1 or page.photometric == 3:
            raise FormatError("a TIFF of volumes or with a palette; save a page for each channel")
        cut_short = any(
            not count or offset + count > len(content)
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
        )
        if cut_short:  # tifffile fills in zeros
            raise ValueError("cut short")
        if page.is_tiled and page.tilelength * page.tilewidth > max(size[0] * size[1], 2**24):
            raise ValueError("its tiles are larger than its image")
    if any(page.photometric == 0 for page in pages):
        raise FormatError("a TIFF whose 0 is white; save it with 0 as black")
    if first.dtype is None:
        raise FormatError(f"a TIFF of {first.bitspersample} bits that tifffile does not read")

    def read() -> np.ndarray:
        return _turned(np.concatenate([_page(page) for page in pages], axis=-1), _side(first))

    return Raster(size, total, first.dtype.name, read)


def _page(page: Any) -> np.ndarray:
    """Decode a page, ``(h, w, samples)``."""
    try:
        array = page.asarray()
    except ValueError as error:
        if "imagecodecs" in str(error):
            raise DataError(f"its compression {_NEEDS}") from None
        raise
    if page.planarconfig == 2 and array.ndim == 3:  # a plane after the other
        array = np.moveaxis(array, 0, -1)
    return array.reshape(*array.shape[:2], -1)


def _side(page: Any) -> int:
    tag = page.tags.get(274)
    return 1 if tag is None else int(tag.value)


def _wide_png(content: bytes, image: "Image") -> Raster:
    """Open a PNG of 16 bits a value that is not gray alone."""
    try:
        from imagecodecs import png_decode
    except ImportError:
        raise DataError(f"PNG of 16 bits in color {_NEEDS}") from None
    channels = {2: 3, 4: 2, 6: 4}[content[_COLOR_TYPE]]  # Pillow makes four of gray and alpha

    def read() -> np.ndarray:
        image.load()  # which looks for damage, and for the orientation
        return _turned(png_decode(content), orientation(image))

    return Raster((image.height, image.width), channels, "uint16", read)


def _turned(array: np.ndarray, side: int) -> np.ndarray:
    turn = _TURNS.get(side)
    return array if turn is None else turn(array)


def _mismatch(raster: Raster, pixels: PixelFormat) -> str:
    line = f"has {raster.channels} channel(s) of {raster.dtype}, need {plain_line(str(pixels))}"
    if raster.channels != pixels.channels == raster.size[0]:
        return f"{line}; it looks channels first: store x.transpose(1, 2, 0)"
    known = _HELD.keys() & {raster.dtype}
    remedy = f'data.dtype = "{raster.dtype}"' if known else "data.dtype as it is stored"
    if raster.dtype in _HELD[pixels.dtype]:
        remedy = f"data.channels = {raster.channels}"
    return f"{line}; write {remedy}, or bring the file to that"
