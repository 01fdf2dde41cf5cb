"""Read the orientation in an image file, under a guard, and leave aside all else but the pixels.

Text, color profiles, resolutions and dates are written by many programs, not always well. None of
them may decide whether the pixels can be read.
"""

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
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
_MOST = 16  # chunks or segments that may hold the orientation, each work of its own to read
_EXIF_OR_XMP = b"\xe1"


def without_metadata(content: bytes) -> bytes:
    """Return a PNG or JPEG file without its metadata, but for its orientation; others as they are.

    The orientation is looked for in the first 16 places where it may be. A chunk of a PNG whose
    checksum is wrong stays: Pillow says that the file is damaged.
    """
    if content.startswith(PNG):
        few = _first(_chunks(content), lambda chunk: chunk[4:8] == _EXIF or _keyword(chunk) != b"")
        return PNG + b"".join(chunk for chunk in few if _is_kept(chunk))
    if content.startswith(JPEG):
        few = _first(_segments(content), lambda part: part[1:2] == _EXIF_OR_XMP)
        return JPEG[:2] + b"".join(part for part in few if part[1:2] not in _UNUSED)
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
    turn = turns.get(orientation(image))
    if turn is None:
        return image
    turned = image.transpose(turn)
    turned.format = image.format  # which a copy forgets, and 16-bit gray is known by
    return turned


def lies_on_its_side(image: "Image") -> bool:
    """Return whether `upright` would swap height and width of an image that Pillow has opened."""
    return orientation(image) in (5, 6, 7, 8)


def orientation(image: "Image") -> int:
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


def _first(parts: Iterable[bytes], is_counted: Callable[[bytes], bool]) -> Iterator[bytes]:
    """Yield all parts but those that are counted, of which the first `_MOST`."""
    count = 0
    for part in parts:
        counted = is_counted(part)
        count += counted
        if not counted or count <= _MOST:
            yield part


def _keyword(chunk: bytes) -> bytes:
    """Return the keyword of a chunk of a text that may hold the orientation; of others none."""
    known = _TEXTS.get(chunk[4:8], ())
    return next((word for word in known if chunk.startswith(word + b"\0", 8)), b"")


def _is_kept(chunk: bytes) -> bool:
    kind = chunk[4:8]
    if kind in _PIXELS or len(chunk) < 12:
        return True
    if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
        return True
    keyword = _keyword(chunk)
    return kind == _EXIF or (keyword != b"" and _is_short(kind, chunk[8 + len(keyword) + 1 : -4]))


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
