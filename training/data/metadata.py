"""Read the orientation in an image file, under a guard, and leave aside all else but the pixels.

Text, color profiles, resolutions and dates are written by many programs, not always well. None of
them may decide whether the pixels can be read.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

PNG = b"\x89PNG\r\n\x1a\n"
_ORIENTATION = 0x112
# What of a PNG's chunks has to do with the pixels: those that none can do without, transparency,
# frames. And those that may hold the orientation, as Pillow looks for it.
_PIXELS = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"acTL", b"fcTL", b"fdAT")
_EXIF = b"eXIf"
_TEXTS = {
    b"iTXt": (b"XML:com.adobe.xmp",),
    b"tEXt": (b"Raw profile type exif",),
    b"zTXt": (b"Raw profile type exif",),
}
JPEG = b"\xff\xd8\xff"
# The segments of applications and comments; but for JFIF, Exif and XMP, Adobe's (which says what
# the colors are).
_UNUSED = [bytes([marker]) for marker in (*range(0xE2, 0xEE), 0xEF, 0xFE)]
_LONGEST = 2**19  # bytes of a text; Pillow refuses an image for one of 2**20


def without_metadata(content: bytes) -> bytes:
    """Return a PNG or JPEG file without its metadata, but for its orientation; others as they are.

    A chunk of a PNG whose checksum is wrong stays: Pillow says that the file is damaged.
    """
    if content.startswith(PNG):
        return PNG + b"".join(chunk for chunk in _chunks(content) if _is_kept(chunk))
    if content.startswith(JPEG):
        return JPEG[:2] + b"".join(part for part in _segments(content) if part[1:2] not in _UNUSED)
    return content


def upright(image: "Image") -> "Image":
    """Return an image turned as its EXIF or XMP orientation says; the image itself if it is so.

    An orientation that cannot be read is none, as in every image viewer.
    """
    from PIL.Image import Transpose

    image.load()
    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    turn = turns.get(_orientation(image))
    if turn is None:
        return image
    turned = image.transpose(turn)
    turned.format = image.format  # which a copy forgets, and 16-bit gray is known by
    return turned


def lies_on_its_side(image: "Image") -> bool:
    """Return whether `upright` would swap height and width of an image that Pillow has opened."""
    return _orientation(image) in (5, 6, 7, 8)


def _orientation(image: "Image") -> int:
    """Return the orientation in an image's metadata, 1 to 8; 1 where there is none."""
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Pillow parses as it goes, and raises nearly anything
        return 1


def _chunks(content: bytes) -> Iterator[bytes]:
    """Yield each chunk of a PNG whole, and what is no chunk as the last."""
    at = len(PNG)
    while len(content) - at >= 12:
        (length,) = struct.unpack_from(">I", content, at)
        end = at + 12 + length
        if end > len(content):
            break
        yield content[at:end]
        at = end
    yield content[at:]


def _segments(content: bytes) -> Iterator[bytes]:
    """Yield each segment of a JPEG's head whole, and all from the first that is none as the last.

    The segments with a length are 0xC0 to 0xFE but for 0xD0 to 0xD9; the last of a head is 0xDA.
    """
    at = 2
    while content[at : at + 1] == b"\xff" and len(content) - at >= 4:
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        end = at + 2 + length
        if not 0xC0 <= marker <= 0xFE or 0xD0 <= marker <= 0xDA or end > len(content):
            break
        yield content[at:end]
        at = end
    yield content[at:]


def _is_kept(chunk: bytes) -> bool:
    kind, inside = chunk[4:8], chunk[8:-4]
    if kind in _PIXELS or len(chunk) < 12:
        return True
    if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
        return True
    keyword, _, text = inside.partition(b"\0")
    return kind == _EXIF or (keyword in _TEXTS.get(kind, ()) and _is_short(kind, text))


def _is_short(kind: bytes, text: bytes) -> bool:
    """Return whether the text in a chunk, behind its keyword, is one that Pillow reads."""
    compressed, packed = kind == b"zTXt", text[1:]
    if kind == b"iTXt":  # two flags, a language, and the keyword in that language
        compressed, packed = text[:1] == b"\1", text[2:].split(b"\0", 2)[-1]
    if not compressed:
        return len(text) <= _LONGEST
    try:
        return len(zlib.decompressobj().decompress(packed, _LONGEST + 1)) <= _LONGEST
    except zlib.error:
        return False
