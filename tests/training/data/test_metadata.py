"""Metadata of an image file: the orientation counts, and nothing else decides over the pixels."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from convax.inference.image_inputs import to_sized_image
from convax.inference.serve.image_decoding import decode_upload
from convax.training.data import DataError, decode_mask, read_image, upright_size
from convax.training.data.metadata import without_metadata

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6), np.uint8)
TURNED = np.rot90(PIXELS, -1)
LONG = zlib.compress(b"workflow " * 230_000)  # 2 MB
TURN = (0x112, 3, struct.pack("<HH", 6, 0))


def encoded(format, **options):
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, format, **options)
    return file.getvalue()


def png(*chunks, behind=()):
    """A PNG with these chunks in front of its pixels, and others behind them."""
    content = encoded("PNG")
    middle = content.index(b"IDAT") - 4
    parts = [content[:middle], *map(chunk, chunks), content[middle:-12], *map(chunk, behind)]
    return b"".join([*parts, content[-12:]])


def chunk(kind_and_inside):
    kind, inside = kind_and_inside
    checksum = zlib.crc32(kind + inside)
    return struct.pack(">I", len(inside)) + kind + inside + struct.pack(">I", checksum)


def exif(*entries, tail=b""):
    """EXIF of one directory: a tag, its type and its four bytes each."""
    content = b"II*\0" + struct.pack("<IH", 8, len(entries))
    for tag, kind, value in entries:
        content += struct.pack("<HHI", tag, kind, 4 if kind == 2 else 1) + value
    return content + struct.pack("<I", 0) + tail


def read(content):
    return read_image(content, size=None, channels=1)[..., 0]


BEHIND = struct.pack("<I", 8 + 2 + 2 * 12 + 4)
ODD = {
    "no such ratio": exif(TURN, (0x11A, 10, BEHIND), tail=struct.pack("<ii", -1, 0)),
    "resolution as text": exif(TURN, (0x11A, 2, b"72\0\0")),
    "width as text": exif(TURN, (0x100, 2, b"72\0\0")),
    "negative width": exif(TURN, (0x100, 9, struct.pack("<i", -1))),
}


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
def test_an_odd_tag_beside_an_orientation_is_passed_over(content):
    for file in (
        png((b"eXIf", content)),
        encoded("WEBP", lossless=True, exif=content),
    ):
        np.testing.assert_array_equal(read(file), TURNED)
        assert upright_size(file) == TURNED.shape
    assert read(encoded("JPEG", exif=b"Exif\0\0" + content)).shape == TURNED.shape


@pytest.mark.parametrize(
    "junk", [b"junk", bytes(12), b"Exif\0\0Exif\0\0II*\0", exif((0x112, 2, b"6\0\0\0"))]
)
def test_exif_that_is_none_turns_nothing(junk):
    np.testing.assert_array_equal(read(png((b"eXIf", junk))), PIXELS)
    np.testing.assert_array_equal(read(encoded("WEBP", lossless=True, exif=junk)), PIXELS)
    assert read(encoded("JPEG", exif=b"Exif\0\0" + junk)).shape == PIXELS.shape


LARGE = {
    "text": (b"zTXt", b"Comment\0\0" + LONG),
    "XMP": (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + LONG),
    "EXIF as text": (b"zTXt", b"Raw profile type exif\0\0" + LONG),
    "color profile": (b"iCCP", b"icc\0\0" + LONG),
    "resolution of 3 bytes": (b"pHYs", b"abc"),
}


@pytest.mark.parametrize("odd", LARGE.values(), ids=LARGE)
def test_every_reader_takes_the_pixels_beside_large_or_broken_metadata(odd):
    for content in (png(odd), png(behind=[odd]), png((b"eXIf", ODD["negative width"]), odd)):
        wanted = TURNED if b"eXIf" in content else PIXELS
        np.testing.assert_array_equal(read(content), wanted)
        assert to_sized_image(content, (4, 6, 1)).image.shape == (4, 6, 1)
        upload = decode_upload(
            "a.png", content, image_shape=(*wanted.shape, 1), max_pixels=24, invert=False
        )
        np.testing.assert_array_equal(upload.image[..., 0], wanted)
    np.testing.assert_array_equal(decode_mask(content), TURNED)


def test_an_orientation_in_xmp_or_in_text_counts():
    xmp = b'<x tiff:Orientation="6"/>'
    profile = b"\nexif\n 64\n" + (b"Exif\0\0" + exif(TURN)).hex().encode()
    for odd in (
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp)),
        (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile)),
    ):
        np.testing.assert_array_equal(read(png(odd)), TURNED)


@pytest.mark.parametrize(
    "segment",
    [b"\xe2ICC_PROFILE\0", b"\xe2MPF\0II*\0\x08\0\0\0\1", b"\xedPhotoshop 3.0\x008BIM\0\0\0"],
)
def test_broken_segments_of_a_jpeg_are_passed_over(segment):
    plain = encoded("JPEG")
    length = struct.pack(">H", len(segment) + 1)
    odd = plain[:2] + b"\xff" + segment[:1] + length + segment[1:] + plain[2:]
    np.testing.assert_array_equal(read(odd), read(plain))


def test_what_is_kept_is_kept_byte_for_byte():
    for content in (png(), encoded("JPEG", quality=95), encoded("BMP"), b"", b"\xff\xd8\xff"):
        assert without_metadata(content) == content


def test_a_wrong_checksum_is_damage_wherever_it_is():
    content = bytearray(png((b"tEXt", b"Comment\0fine")))
    content[content.index(b"fine")] ^= 1
    with pytest.raises(DataError, match="not an image, or damaged"):
        read(bytes(content))
