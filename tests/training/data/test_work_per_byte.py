"""The work that a file can ask for: in proportion to its pixels, which are limited, and its bytes.

The worst that was found, in CPU seconds (AMD EPYC, Pillow 13.0), is 90 ns a pixel, of which a file
of 1 kB may have all that are allowed (BMP of run lengths; of JPEG 63, of PNG 46, of WebP 28), and
0.7 µs a byte (segments of a JPEG).
"""

import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from convax.training.data import PixelFormat, pixel_format, read_image
from convax.training.data.metadata import without_metadata
from tests.training.data.test_jpeg_scans import progressive

A_PIXEL, A_BYTE = 300e-9, 1.5e-6  # seconds; more than was found, for slower machines
SIDE = 1000
PNG = b"\x89PNG\r\n\x1a\n"


def saved(image, **options):
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


def chunk(kind, content):
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png(side=SIDE, *, more=b"", piece=2**20, bits=8):
    """RGBA, interlaced, with the filter that is most work, and chunks in front."""
    rows = b""
    for x, y, dx, dy in (
        *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4)),
        *((1, 0, 2, 2), (0, 1, 1, 2)),
    ):
        width, height = -(-(side - x) // dx), -(-(side - y) // dy)
        rows += (b"\x04" + bytes(bits // 2 * width)) * height
    packed = zlib.compress(rows, 1)
    pieces = (packed[i : i + piece] for i in range(0, len(packed), piece))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, bits, 6, 0, 0, 1))
    idat = b"".join(chunk(b"IDAT", part) for part in pieces)
    return PNG + head + more + idat + chunk(b"IEND", b"")


def jpeg(more):
    content = saved(Image.new("L", (64, 64)), format="JPEG")
    return content[:2] + more + content[2:]


def gif(more):
    content = saved(Image.new("P", (64, 64)), format="GIF", optimize=False)
    head = 13 + 3 * 256
    return content[:head] + more + content[head:]


def frames(kind):
    first, *others = (Image.fromarray(np.full((64, 64, 3), i, np.uint8)) for i in range(200))
    return saved(first, format=kind, save_all=True, append_images=others)


def tiff(width, height, rows, compression, strip):
    """Gray, with strips that all are the same bytes of the file."""
    count = height // rows
    shorts = [(258, 8), (259, compression), (262, 1), (277, 1)]
    longs = [(256, width), (257, height), (278, rows)]
    entries = len(shorts) + len(longs) + 2
    places = 8 + 2 + 12 * entries + 4
    lengths, data = places + 4 * count, places + 8 * count
    tags = [(tag, struct.pack("<HHIHH", tag, 3, 1, value, 0)) for tag, value in shorts]
    tags += [(tag, struct.pack("<HHII", tag, 4, 1, value)) for tag, value in longs]
    tags += [
        (tag, struct.pack("<HHII", tag, 4, count, at))
        for tag, at in ((273, places), (279, lengths))
    ]
    directory = struct.pack("<H", entries) + b"".join(tag for _, tag in sorted(tags)) + bytes(4)
    offsets, counts = struct.pack("<I", data) * count, struct.pack("<I", len(strip)) * count
    return b"II*\0" + struct.pack("<I", 8) + directory + offsets + counts + strip


def bmp(width, height):
    """One pixel of each row, and its end: Pillow fills the rest of it byte by byte."""
    data = b"\1\0\0\0" * height + b"\0\1"
    palette = bytes(1024)
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 0, 0, 256, 0)
    start = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + head + palette + data


def text(kind):
    """A text of half a MiB in half a kB, where the orientation may be."""
    packed = zlib.compress(bytes(2**19), 9)
    front = {b"zTXt": b"Raw profile type exif\0\0", b"iTXt": b"XML:com.adobe.xmp\0\1\0\0\0"}
    return chunk(kind, front[kind] + packed)


WORST = {
    "png": lambda: png(),
    "png of tiny pieces": lambda: png(300, piece=1),
    "png of empty chunks": lambda: png(16, more=chunk(b"tEXt", b"") * 20_000),
    "png of packed texts": lambda: png(16, more=text(b"zTXt") * 500),
    "png of packed international texts": lambda: png(16, more=text(b"iTXt") * 500),
    "png of a packed profile": lambda: png(
        16, more=chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**7), 9))
    ),
    "png, wide": lambda: png(bits=16),
    "png of packed texts, wide": lambda: png(16, more=text(b"zTXt") * 500, bits=16),
    "jpeg of many scans": lambda: progressive(SIDE, more=90),
    "jpeg of empty segments": lambda: jpeg(b"\xff\xe1\0\2" * 50_000),
    "jpeg of many restart intervals": lambda: jpeg(b"\xff\xdd\0\4\0\0" * 30_000),
    "gif": lambda: saved(Image.new("P", (SIDE, SIDE)), format="GIF", interlace=1),
    "gif of many frames": lambda: frames("GIF"),
    "gif of a long comment": lambda: gif(b"!\xfe" + (b"\xff" + bytes(255)) * 800 + b"\0"),
    "gif of many extensions": lambda: gif(b"!\xf9\1\0\0" * 40_000),
    "webp": lambda: saved(Image.new("RGBA", (SIDE, SIDE)), format="WEBP", lossless=True),
    "webp of many frames": lambda: frames("WEBP"),
    "tiff": lambda: saved(Image.new("RGB", (SIDE, SIDE)), format="TIFF", compression="tiff_lzw"),
    "tiff of one strip a pixel": lambda: tiff(1, 40_000, 1, 1, b"a"),
    "tiff of one packed strip": lambda: tiff(1, 40_000, 1, 8, zlib.compress(b"a") + bytes(100_000)),
    "tiff of many scans": lambda: tiff(SIDE, SIDE, SIDE // 2, 7, scans_of(SIDE, SIDE // 2)),
    "bmp of run lengths": lambda: bmp(250_000, 4),
}


def scans_of(width, height):
    content = saved(Image.new("L", (width, height)), format="JPEG", progressive=True)
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + 90 * last + content[-2:]


@pytest.mark.parametrize("name", WORST)
def test_work_is_in_proportion_to_pixels_and_bytes(name):
    content, channels = WORST[name](), PixelFormat(1)
    if "wide" in name:
        pytest.importorskip("imagecodecs")
        channels = pixel_format(4, "uint16")
    with Image.open(io.BytesIO(without_metadata(content))) as image:
        pixels = image.width * image.height

    def seconds():
        began = time.process_time()
        found = read_image(content, size=(8, 8), channels=channels)
        assert found.shape == (8, 8, channels.channels)
        return time.process_time() - began

    most = A_PIXEL * pixels + A_BYTE * len(content) + 0.03
    assert any(seconds() < most for _ in range(3))  # other threads of this process count too


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(png(16, more=chunk(b"eXIf", bytes(600)) * 500), id="png"),
        pytest.param(png(16, more=text(b"zTXt") * 500), id="png of texts"),
        pytest.param(jpeg(b"\xff\xe1\2\x5aExif\0\0" + bytes(594)), id="jpeg of one"),
        pytest.param(jpeg((b"\xff\xe1\2\x5aExif\0\0" + bytes(594)) * 500), id="jpeg"),
    ],
)
def test_the_orientation_is_looked_for_in_few_places(content):
    """Pillow puts the parts of a JPEG's Exif together one by one, each time all of it."""
    assert len(without_metadata(content)) < 16_000
