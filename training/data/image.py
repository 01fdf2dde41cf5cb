"""One image file as an array."""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import DataError, UnreadableError
from .jpeg_scans import check_scans
from .metadata import JPEG, PNG, lies_on_its_side, upright, without_metadata
from .placement import margin, place

if TYPE_CHECKING:
    from PIL.Image import Image

# Only these: Pillow also reads formats that run other programs, such as PostScript.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF")
TILE_WIDTH, TILE_LENGTH = 322, 323  # tags of a TIFF
EXTENSIONS = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif"),
    *(".bmp", ".webp", ".gif", ".tif", ".tiff"),
)


def read_image(
    source: str | PathLike[str] | bytes,
    *,
    size: Sequence[int] | None,
    channels: int,
    letterbox: bool = False,
) -> np.ndarray:
    """Read an image file, of any size and colors, as an array.

    It is turned upright as its EXIF orientation says. Transparent parts become white, as on
    paper; 16-bit gray is scaled to 8 bits; of an animation the first frame is taken; color
    becomes gray as 0.299 R + 0.587 G + 0.114 B. Color profiles and all other metadata are
    ignored, however odd they are.

    Args:
        source: a file, or its content.
        size: ``(H, W)`` to resize to, bilinear and antialiased; None keeps the image's own.
        channels: 1 for gray, 3 for red, green, blue.
        letterbox: keep the aspect, at the top left of that size; see `training.data.placement`.

    Returns:
        ``(H, W, channels)``, uint8.

    Raises:
        DataError: not an image, damaged, or of more than Pillow's limit of about 89 million
            pixels.
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
    channels: int,
    name: str | None = None,
    letterbox: bool = False,
) -> np.ndarray:
    """Decode as `read_image`, within `quiet_pillow`; errors call the image by `name`."""
    return decode_with_size(source, size=size, channels=channels, name=name, letterbox=letterbox)[0]


def decode_with_size(
    source: str | PathLike[str] | bytes,
    *,
    size: Sequence[int] | None,
    channels: int,
    name: str | None = None,
    letterbox: bool = False,
) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode as `decode`, and return ``(H, W)`` of the upright image in the file."""
    _check_channels(channels)
    try:
        with _opened(source) as image:
            turned = upright(image)
            array = _as_array(turned, size, channels, letterbox)
            return array, (turned.height, turned.width)
    except Exception as error:  # decoders raise nearly anything on damaged data
        raise _unreadable(_name(source, name), "an image", error) from None


def convert(
    image: "Image", *, size: Sequence[int] | None, channels: int, letterbox: bool = False
) -> np.ndarray:
    """Convert an image that Pillow has opened or made, as `decode`; it stays as it is."""
    return convert_with_size(image, size=size, channels=channels, letterbox=letterbox)[0]


def convert_with_size(
    image: "Image", *, size: Sequence[int] | None, channels: int, letterbox: bool = False
) -> tuple[np.ndarray, tuple[int, int]]:
    """Convert as `convert`, and return ``(H, W)`` of the upright image."""
    _check_channels(channels)
    try:
        turned = upright(image)
        array = _as_array(turned, size, channels, letterbox)
        return array, (turned.height, turned.width)
    except Exception as error:  # an opened file is read only now
        raise DataError(f"image: cannot be read as an image: {_reason(error)}") from None


def upright_size(source: str | PathLike[str] | bytes) -> tuple[int, int]:
    """Return ``(H, W)`` of an image file as `read_image` reads it.

    Raises:
        DataError: not an image.
    """
    with quiet_pillow():  # whose size in the head may lie on its side or not, as the format has it
        return decode_with_size(source, size=(1, 1), channels=1)[1]


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
    called = _name(source, name)
    try:
        with _opened(source) as image:
            mode, lossy, step = image.mode, _lossy(image), _gray_step(image)
            numbers = np.array(upright(image))
    except Exception as error:  # decoders raise nearly anything on damaged data
        raise _unreadable(called, "a mask", error) from None
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
    called = _name(source, name)
    try:
        with _opened(source) as image:
            mode, lossy = image.mode, _lossy(image)
            wide = upright(image).convert("RGBA") if mode in _COLORED else None
            pixels = None if wide is None else np.array(wide)
    except Exception as error:  # decoders raise nearly anything on damaged data
        raise _unreadable(called, "a mask", error) from None
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


def resize_image(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resize bytes or floats ``(H, W)`` or ``(H, W, 3)``, bilinear and antialiased."""
    from PIL import Image

    return np.array(_resized(Image.fromarray(image), size))


def resize_nearest(mask: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resize a mask: the pixel in whose middle, or nearest to it, each new pixel's middle falls."""
    rows, columns = (
        ((2 * np.arange(new) + 1) * old) // (2 * new)
        for new, old in zip(size, mask.shape, strict=True)
    )
    return mask[rows[:, None], columns[None, :]]


def on_canvas(image: np.ndarray, canvas: Sequence[int]) -> np.ndarray:
    """Put an image of bytes ``(h, w, C)`` at the top left of a canvas ``(H, W, C)``."""
    if image.shape[:2] == tuple(canvas):
        return image
    missing = [(0, whole - side) for whole, side in zip(canvas, image.shape[:2], strict=True)]
    return np.pad(image, [*missing, (0, 0)], constant_values=margin(image.shape[2]))


def inverted(image: np.ndarray, size: Sequence[int], *, letterbox: bool) -> np.ndarray:
    """Swap black and white of an image on its canvas; the margin beside it stays.

    Args:
        image: ``(H, W, C)``, uint8, or floating point in [0, 1].
        size: ``(h, w)`` that the image had before.
        letterbox: whether it kept its aspect.
    """
    h, w = place(size, image.shape[:2], letterbox=letterbox).placed
    swapped = image.copy()
    swapped[:h, :w] = (255 if image.dtype == np.uint8 else 1) - image[:h, :w]
    return swapped


def _as_array(
    image: "Image", size: Sequence[int] | None, channels: int, letterbox: bool
) -> np.ndarray:
    plain = _opaque(_eight_bits(image)).convert("L" if channels == 1 else "RGB")
    if size is None:
        array = np.array(plain)
    else:
        placement = place((plain.height, plain.width), size, letterbox=letterbox)
        array = np.array(_resized(plain, placement.placed))
    array = array.reshape(*array.shape[:2], channels)
    return array if size is None else on_canvas(array, size)


def _check_channels(channels: int) -> None:
    if channels not in (1, 3):
        raise DataError(f"channels: got {channels}, need 1 (gray) or 3 (color)")


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


def _opened(source: str | PathLike[str] | bytes) -> "Image":
    """Open an image that is not too large, nor too much work; of a PNG verify the checksums.

    Pillow decodes without them, so that damage may show as other pixels. No other format has any.
    """
    from PIL import Image

    content = without_metadata(source if isinstance(source, bytes) else Path(source).read_bytes())
    check_scans(content)
    if content.startswith(PNG):
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            image.verify()
    image = Image.open(io.BytesIO(content), formats=FORMATS)
    if Image.MAX_IMAGE_PIXELS is not None and pixels_of(image) > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError
    return image


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


def _name(source: str | PathLike[str] | bytes, name: str | None) -> str:
    return name or ("image" if isinstance(source, bytes) else str(source))


def _unreadable(called: str, kind: str, error: Exception) -> DataError:
    """Make the error of a file that is not decoded; not of its bytes where the system refuses."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.strerror):
        return DataError(f"{called}: cannot be read as {kind}: {_reason(error)}")
    return UnreadableError(called, kind, _reason(error))


def _eight_bits(image: "Image") -> "Image":
    """Scale 16-bit gray to 8 bits; Pillow's own conversion would clip it."""
    from PIL import Image

    sixteen = image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PNG")
    if sixteen:
        wide = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("32 bits a pixel, whose range is unknown; save it with 8 or 16")
    return image


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
