"""One image file as an array."""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import DataError, UnreadableError
from .jpeg_scans import check_scans
from .metadata import JPEG, PNG, lies_on_its_side, upright, without_metadata
from .pixels import Channels, FormatError, PixelFormat, format_of
from .placement import place
from .raster import NPY, is_wide, open_raster, pixels_in, read_raster

if TYPE_CHECKING:
    from PIL.Image import Image

# Only these: Pillow also reads formats that run other programs, such as PostScript.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "AVIF")
_MOST_CHANNELS = 64  # that are looked for
TILE_WIDTH, TILE_LENGTH = 322, 323  # tags of a TIFF
EXTENSIONS = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif"),
    *(".bmp", ".webp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif", ".npy"),
)
_SUBFILE_TYPE, _SAMPLES_PER_PIXEL = 254, 277  # tags of TIFF
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # brands


def read_image(
    source: str | PathLike[str] | bytes,
    *,
    size: Sequence[int] | None,
    channels: Channels,
    letterbox: bool = False,
) -> np.ndarray:
    """Read an image file, of any size and colors, as an array.

    It is turned upright as its EXIF orientation says. As a photograph (`pixels.PixelFormat`)
    transparent parts become white, as on paper; of an animation the first frame is taken; color
    becomes gray as 0.299 R + 0.587 G + 0.114 B. In any other format it is read as it is stored:
    see `training.data.raster`. Color profiles and all other metadata are ignored, however odd they
    are.

    Args:
        source: a file, or its content.
        size: ``(H, W)`` to resize to, bilinear and antialiased; None keeps the image's own.
        channels: 1 for gray, 3 for red, green, blue; or a `PixelFormat`.
        letterbox: keep the aspect, at the top left of that size; see `training.data.placement`.

    Returns:
        ``(H, W, channels)``, uint8 or the dtype of the format.

    Raises:
        DataError: not an image, damaged, of another format (16 bits where bytes are read), or of
            more than Pillow's limit of about 89 million pixels.
    """
    with quiet_pillow():
        return decode(source, size=size, channels=channels, letterbox=letterbox)


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Let no warning of Pillow escape; that of an image too large becomes an error.

    Apart from `decode` because Python's filters are shared by all threads: whoever decodes on
    several threads enters this once, around them all.
    """
    from PIL.Image import DecompressionBombWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", DecompressionBombWarning)
        yield


def decode(
    source: str | PathLike[str] | bytes,
    *,
    size: Sequence[int] | None,
    channels: Channels,
    name: str | None = None,
    letterbox: bool = False,
) -> np.ndarray:
    """Decode as `read_image`, within `quiet_pillow`; errors call the image by `name`."""
    return decode_with_size(source, size=size, channels=channels, name=name, letterbox=letterbox)[0]


def decode_with_size(
    source: str | PathLike[str] | bytes,
    *,
    size: Sequence[int] | None,
    channels: Channels,
    name: str | None = None,
    letterbox: bool = False,
) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode as `decode`, and return ``(H, W)`` of the upright image in the file."""
    pixels = format_of(channels)
    try:
        content = _content(source)
        if not pixels.is_photograph or content.startswith(NPY):
            stored = read_raster(content, pixels, _open)
            return _placed(stored, pixels, size, letterbox), (stored.shape[0], stored.shape[1])
        with _open(content) as image:
            _check_bytes(image)
            turned = upright(image)
            array = _as_array(turned, size, pixels, letterbox)
            return array, (turned.height, turned.width)
    except Exception as error:  # decoders raise nearly anything on damaged data
        raise unreadable(called_in_errors(source, name), "an image", error) from None


def convert(
    image: "Image", *, size: Sequence[int] | None, channels: Channels, letterbox: bool = False
) -> np.ndarray:
    """Convert an image that Pillow has opened or made, as `decode`; it stays as it is."""
    return convert_with_size(image, size=size, channels=channels, letterbox=letterbox)[0]


def convert_with_size(
    image: "Image", *, size: Sequence[int] | None, channels: Channels, letterbox: bool = False
) -> tuple[np.ndarray, tuple[int, int]]:
    """Convert as `convert`, and return ``(H, W)`` of the upright image."""
    pixels = format_of(channels)
    try:
        if not pixels.is_photograph:
            stored = read_raster(b"", pixels, lambda _: image)
            return _placed(stored, pixels, size, letterbox), (stored.shape[0], stored.shape[1])
        _check_bytes(image)
        turned = upright(image)
        array = _as_array(turned, size, pixels, letterbox)
        return array, (turned.height, turned.width)
    except Exception as error:  # an opened file is read only now
        raise DataError(f"image: cannot be read as an image: {_reason(error)}") from None


def upright_size(source: str | PathLike[str] | bytes, channels: Channels = 1) -> tuple[int, int]:
    """Return ``(H, W)`` of an image file as `read_image` reads it.

    Raises:
        DataError: not an image.
    """
    with quiet_pillow():  # whose size in the head may lie on its side or not, as the format has it
        return decode_with_size(source, size=(1, 1), channels=channels)[1]


def stored_format(source: str | PathLike[str] | bytes) -> tuple[int, str]:
    """Return how many channels an image file has, and their dtype, within `quiet_pillow`.

    Raises:
        DataError: it is no image, or one that `raster` does not read.
    """
    try:
        raster = open_raster(_content(source), PixelFormat(_MOST_CHANNELS), _open)
    except Exception as error:
        raise unreadable(called_in_errors(source, None), "an image", error) from None
    return raster.channels, raster.dtype


def size_in_header(content: bytes, pixels: PixelFormat) -> tuple[int, int, int]:
    """Return height and width that the header of an image says, and how many pixels it takes.

    For limits of one's own, within `quiet_pillow`.

    Raises:
        Exception: nearly anything, of what is no image.
    """
    if pixels.is_photograph and not content.startswith(NPY):
        with _pillow(without_metadata(content)) as image:
            return image.height, image.width, pixels_of(image)
    raster = open_raster(content, pixels, _open)
    return *raster.size, pixels_in(raster)


def size_in_head(file: Path) -> tuple[int, int]:
    """Return `upright_size` of a file, within `quiet_pillow`; of a JPEG the head alone is read.

    Raises:
        DataError: not an image.
    """
    from PIL import Image

    try:
        with file.open("rb") as opened:
            if opened.read(len(JPEG)) == JPEG:
                with Image.open(file, formats=("JPEG",)) as image:
                    w, h = image.size
                    return (w, h) if lies_on_its_side(image) else (h, w)
    except Exception:  # decoding says what is wrong, or passes over metadata that is
        pass
    return decode_with_size(file, size=(1, 1), channels=1)[1]


def resize_image(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resize bytes or floats ``(H, W)`` or ``(H, W, 3)``, bilinear and antialiased."""
    from PIL import Image

    return np.array(_resized(Image.fromarray(image), size))


def resize_raster(image: np.ndarray, size: Sequence[int], pixels: PixelFormat) -> np.ndarray:
    """Resize ``(h, w, C)`` of a format channel by channel, bilinear and antialiased, in float32."""
    if image.shape[:2] == tuple(size):
        return image
    planes = np.moveaxis(image.astype(np.float32), -1, 0)
    resized = [resize_image(np.ascontiguousarray(plane), size) for plane in planes]
    whole = np.clip(np.stack(resized, axis=-1), pixels.low, pixels.high)  # of rounding, by a hair
    return (whole if pixels.dtype == "float32" else np.round(whole)).astype(pixels.dtype)


def on_canvas(image: np.ndarray, canvas: Sequence[int], pixels: PixelFormat) -> np.ndarray:
    """Put an image of a format, ``(h, w, C)``, at the top left of a canvas ``(H, W, C)``."""
    if image.shape[:2] == tuple(canvas):
        return image
    missing = [(0, whole - side) for whole, side in zip(canvas, image.shape[:2], strict=True)]
    return np.pad(image, [*missing, (0, 0)], constant_values=pixels.margin)


def inverted(
    image: np.ndarray,
    size: Sequence[int],
    *,
    letterbox: bool,
    channels: Channels | None = None,
) -> np.ndarray:
    """Swap black and white of an image on its canvas; the margin beside it stays.

    Args:
        image: ``(H, W, C)``, uint8, or floating point in [0, 1]; or as `PixelFormat.unit` takes.
        size: ``(h, w)`` that the image had before.
        letterbox: whether it kept its aspect.
        channels: its format, if it is no photograph.
    """
    h, w = place(size, image.shape[:2], letterbox=letterbox).placed
    swapped = image.copy()
    pixels = format_of(image.shape[-1] if channels is None else channels)
    swapped[:h, :w] = pixels.inverted(image[:h, :w])
    return swapped


def _placed(
    stored: np.ndarray, pixels: PixelFormat, size: Sequence[int] | None, letterbox: bool
) -> np.ndarray:
    if size is None:
        return stored
    placed = place(stored.shape[:2], size, letterbox=letterbox).placed
    return on_canvas(resize_raster(stored, placed, pixels), size, pixels)


def _as_array(
    image: "Image", size: Sequence[int] | None, pixels: PixelFormat, letterbox: bool
) -> np.ndarray:
    channels = pixels.channels
    plain = _opaque(image).convert("L" if channels == 1 else "RGB")
    if size is None:
        array = np.array(plain)
    else:
        placement = place((plain.height, plain.width), size, letterbox=letterbox)
        array = np.array(_resized(plain, placement.placed))
    array = array.reshape(*array.shape[:2], channels)
    return array if size is None else on_canvas(array, size, pixels)


def _resized(image: "Image", size: Sequence[int]) -> "Image":
    from PIL import Image

    if image.size == (size[1], size[0]):
        return image
    return image.resize((size[1], size[0]), Image.Resampling.BILINEAR)


def pixels_of(image: "Image") -> int:
    """Return how many pixels are decoded at once, by the head of an image that Pillow has opened.

    Of a TIFF in tiles at least one tile, however small the image in it is.
    """
    tags = getattr(image, "tag_v2", {})
    tile = int(tags.get(TILE_WIDTH, 0)) * int(tags.get(TILE_LENGTH, 0))
    return max(image.width * image.height, tile)


def by(image: np.ndarray) -> str:
    """Return height by width, the order in which data.size is written."""
    return f"{image.shape[0]}x{image.shape[1]}"


def opened(source: str | PathLike[str] | bytes) -> "Image":
    """Open an image that is not too large, see `_open`."""
    return _open(_content(source))


def _content(source: str | PathLike[str] | bytes) -> bytes:
    return source if isinstance(source, bytes) else Path(source).read_bytes()


def _open(content: bytes) -> "Image":
    """Open an image that is not too large, nor too much work; of a PNG verify the checksums.

    Pillow decodes without them, so that damage may show as other pixels. No other format has any.
    """
    from PIL import Image

    content = without_metadata(content)
    check_scans(content)
    if content.startswith(PNG):
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            image.verify()
    image = _pillow(content)
    if Image.MAX_IMAGE_PIXELS is not None and pixels_of(image) > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError
    return image


def _pillow(content: bytes) -> "Image":
    """Open an image by Pillow, or by pillow-heif where it is HEIF."""
    from PIL import Image

    if content[4:8] != b"ftyp" or content[8:12] not in _HEIF or b"avif" in content[8:64]:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise DataError("HEIC needs pillow-heif: pip install 'convax[heif]'") from None
    register_heif_opener()
    return Image.open(io.BytesIO(content), formats=("HEIF",))


def called_in_errors(source: str | PathLike[str] | bytes, name: str | None) -> str:
    """Return what errors call an image: by its name, or its path."""
    return name or ("image" if isinstance(source, bytes) else str(source))


def unreadable(called: str, kind: str, error: Exception) -> DataError:
    """Make the error of a file that is not decoded; not of its bytes where the system refuses."""
    if isinstance(error, DataError) and not isinstance(error, FormatError):  # of a package
        return DataError(f"{called}: {error}")
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.strerror):
        return DataError(f"{called}: cannot be read as {kind}: {_reason(error)}")
    return UnreadableError(called, kind, _reason(error))


def _check_bytes(image: "Image") -> None:
    """Raise where the values of an image are more than bytes: none is cut to 8 bits."""
    if is_wide(image):
        raise FormatError(
            'has 16 bits a value, where bytes are read; write data.dtype = "uint16", or save it '
            "with 8"
        )
    if image.mode in ("I", "F"):
        raise FormatError(
            'has 32 bits a value, whose range is unknown; write data.dtype = "float32" and '
            "data.value_range, or save it with 8"
        )
    if image.format == "TIFF":
        _check_channels(image)


def _check_channels(image: Any) -> None:
    """Raise where a TIFF has more channels or pages than a photograph keeps."""
    bands = int(image.tag_v2.get(_SAMPLES_PER_PIXEL, 1))
    if bands > 4 or (bands == 4 and image.mode == "RGB"):
        raise FormatError(
            f"has {bands} channels, of which a photograph keeps 3; write data.channels = {bands}"
        )
    pages = 0
    for page in range(image.n_frames):
        image.seek(page)
        pages += not int(image.tag_v2.get(_SUBFILE_TYPE, 0)) & 1  # a preview is no page
    image.seek(0)
    if pages > 1:
        raise FormatError(
            f"has {pages} pages, of which a photograph keeps the first; write data.channels = "
            f"{pages}, or save that page"
        )


def _opaque(image: "Image") -> "Image":
    """Lay an image on white, where it is transparent."""
    from PIL import Image

    if image.mode not in ("RGBA", "RGBa", "LA", "PA") and "transparency" not in image.info:
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA"))


def _reason(error: Exception) -> str:
    """Say in a few words what is wrong."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return f"not an image, or damaged; need one of {', '.join(FORMATS)}"
    if isinstance(error, (Image.DecompressionBombWarning, Image.DecompressionBombError)):
        return f"more than {Image.MAX_IMAGE_PIXELS:,} pixels; make it smaller"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error).partition("\n")[0] or type(error).__name__
