"""Files that are whole but odd: pictures of every make, and archives that were packed with malice."""

import io
import struct
import tarfile
import zlib

import numpy as np
from PIL import Image

from . import sources


def pictures() -> dict[str, bytes]:
    """Odd pictures by file name."""
    gray = (np.arange(64, dtype=np.uint16) * 1000).reshape(8, 8)
    colors = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    frames = [Image.fromarray(np.roll(colors, i, 0)) for i in range(3)]
    made = {
        "cmyk.jpg": sources.picture(colors, "JPEG", "CMYK"),
        "gray.jpg": sources.picture(colors, "JPEG", "L"),
        "sixteen.png": sources.picture(gray),
        "one-bit.png": sources.picture(colors, "PNG", "1"),
        "palette.png": sources.picture(colors, "PNG", "P"),
        "alpha.png": sources.picture(colors, "PNG", "RGBA"),
        "gray-alpha.png": sources.picture(colors, "PNG", "LA"),
        "palette.gif": sources.picture(colors, "GIF", "P"),
        "float.tif": sources.picture(gray.astype(np.float32), "TIFF"),
        "cmyk.tif": sources.picture(colors, "TIFF", "CMYK"),
        "lab.tif": sources.picture(colors, "TIFF", "LAB"),
        "really-png.jpg": sources.picture(colors),
        "really-text.png": b"not a picture\n",
        "really-html.jpg": b"<!doctype html><html><body>404</body></html>",
        "really-svg.png": b'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"/>',
        "really-icon.png": sources.picture(colors, "ICO"),
        "really-postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n",
        "bomb.png": _png(60_000, 60_000),
        "wide.png": _png(2**31 - 1, 1),
        "nothing.png": _png(0, 0),
        "bomb.bmp": _with(sources.picture(colors, "BMP"), 18, struct.pack("<ii", 60_000, 60_000)),
        "negative.bmp": _with(sources.picture(colors, "BMP"), 18, struct.pack("<ii", -8, -8)),
        "bomb.gif": _with(sources.picture(colors, "GIF", "P"), 6, b"\xff\xff\xff\xff"),
        "tile.tif": _tile(10_000),
        "large-text.png": _text_png(colors),
        "junk-exif.png": _with_chunk(sources.picture(colors), b"eXIf", b"MM\0*junk"),
        "junk-profile.png": _with_chunk(sources.picture(colors), b"iCCP", b"x\0\0junk"),
        "junk-tag.jpg": _turned_jpeg(colors),
        "ENDING.JPG": sources.picture(colors, "JPEG"),
        "two-bits.png": _few_bits(colors[..., 0] // 64, 2),
    }
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        file = io.BytesIO()
        frames[0].save(file, kind, save_all=True, append_images=frames[1:])
        made[f"animated.{kind.lower()}"] = file.getvalue()
    return made


def archives() -> dict[str, bytes]:
    """Odd archives of pictures by file name; two classes are in each."""
    colors = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    good = {f"{c}/{i}.png": sources.picture(np.roll(colors, i)) for c in "ab" for i in range(2)}
    outside = good | dict.fromkeys(("../x.png", "/x.png", "a/../../x.png"), good["a/0.png"])
    outside |= {
        "C:\\x.png": good["a/0.png"],
        "~/x.png": good["a/0.png"],
        "a/./0.png": good["a/1.png"],
    }
    return {
        "outside.zip": sources.zipped(outside),
        "outside.tar.gz": sources.tar(outside),
        "links.tar": _links(good),
        "nothing.zip": sources.zipped({}),
        "nothing.tar.gz": sources.tar({}),
        "twice.tar.gz": sources.tar(good) * 2,
        "file-as-folder.zip": sources.zipped(good | {"a": b"x", "a/0.png/y.png": good["a/0.png"]}),
        "bomb.zip": sources.zipped(good | {"a/2.png": bytes(2**29 + 1)}),
        "bomb.tar.gz": _bomb(),
        "really-tar.zip": sources.tar(good),
        "really-zip.tar.gz": sources.zipped(good),
        "backslashes.zip": sources.zipped({k.replace("/", "\\"): v for k, v in good.items()}),
        "accents.zip": sources.zipped(
            good | dict.fromkeys(("caf\u00e9/0.png", "cafe\u0301/1.png"), good["a/0.png"])
        ),
        "below.zip": sources.zipped(good | {"a/x/y/0.png": good["a/0.png"]}),
        "systems.zip": sources.zipped(
            good | dict.fromkeys(("__MACOSX/a/._0.png", "@eaDir/0.png", "a/Thumbs.db"), b"x")
        ),
        "splits.zip": sources.zipped(
            {f"{part}/{k}": v for part in ("Train", "VALID", "testing") for k, v in good.items()}
        ),
        "split-in-class.zip": sources.zipped(
            {f"{k[0]}/{part}{k[1:]}": v for part in ("train", "val") for k, v in good.items()}
        ),
        "not-utf8.tar": sources.tar({**good, "a/\udcff.png": good["a/0.png"]}, "w"),
        "control.zip": sources.zipped(good | {"a/\x1b[31m\n.png": b"x"}),
    }


def masks() -> dict[str, bytes]:
    """Odd masks by file name: of an image of 8 by 8."""
    stripes = np.repeat(np.arange(8, dtype=np.uint8) % 3, 8).reshape(8, 8)
    turned, exif = io.BytesIO(), Image.Exif()
    exif[_ORIENTATION] = 6
    Image.fromarray(stripes).save(turned, "PNG", exif=exif)
    return {
        "0_mask.jpg": sources.picture(stripes, "JPEG"),
        "0_mask.webp": sources.picture(stripes, "WEBP"),
        "0_mask.gif": sources.picture(stripes, "GIF"),
        "0_mask.tif": sources.picture(stripes, "TIFF"),
        "0_mask.png": _few_bits(stripes, 2),
        "0_mask.bmp": sources.picture(stripes // 2 * 255),
        "0_mask.apng": turned.getvalue(),
    }


_ORIENTATION = 0x112


def _few_bits(array: np.ndarray, bits: int) -> bytes:
    """A PNG of gray with so many bits a pixel."""
    rows = b"".join(
        b"\0" + np.packbits(np.unpackbits(row[:, None], axis=1)[:, -bits:].ravel()).tobytes()
        for row in array
    )
    header = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], bits, 0, 0, 0, 0)
    return b"".join(
        (PNG, chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    )


def _with_chunk(png: bytes, kind: bytes, content: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    head = len(PNG) + 25
    return png[:head] + chunk(kind, content) + png[head:]


def _turned_jpeg(array: np.ndarray) -> bytes:
    """A JPEG that is turned, with a tag beside that whose type is no type."""
    exif, file = Image.Exif(), io.BytesIO()
    exif[_ORIENTATION] = 6
    exif[0x10F] = "maker"
    Image.fromarray(array).save(file, "JPEG", exif=exif)
    tag = struct.pack(">HH", 0x10F, 2)
    return file.getvalue().replace(tag, struct.pack(">HH", 0x10F, 99))


PNG = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def _png(width: int, height: int) -> bytes:
    """A PNG that says it is of this size, and has one row at most."""

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    row = chunk(b"IDAT", zlib.compress(bytes(9)))
    return PNG + chunk(b"IHDR", header) + row + chunk(b"IEND", b"")


def _text_png(array: np.ndarray) -> bytes:
    """A PNG with a text that is large when it is unpacked."""
    from PIL.PngImagePlugin import PngInfo

    notes, file = PngInfo(), io.BytesIO()
    notes.add_text("Comment", "x" * 2**25, zip=True)
    Image.fromarray(array).save(file, "PNG", pnginfo=notes)
    return file.getvalue()


def _tile(side: int) -> bytes:
    """A TIFF of one pixel, in a tile of so many rows and columns."""
    packed = zlib.compress(bytes(side * side))
    long, short = {256: 1, 257: 1, 322: side, 323: side, 324: 8, 325: len(packed)}, {}
    short |= {258: 8, 259: 8, 262: 1, 277: 1}  # bits, deflate, black is zero, one channel
    tags = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in long.items()]
    tags += [struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in short.items()]
    tags.sort(key=lambda entry: struct.unpack_from("<H", entry))
    head = b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed
    return head + struct.pack("<H", len(tags)) + b"".join(tags) + bytes(4)


def _with(content: bytes, place: int, piece: bytes) -> bytes:
    return content[:place] + piece + content[place + len(piece) :]


def _links(good: dict[str, bytes]) -> bytes:
    """A tar archive with links out of it and to itself, a device and a pipe."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as packed:
        for name, content in good.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
        kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)
        for number, kind in enumerate(kinds):
            member = tarfile.TarInfo(f"a/odd{number}.png")
            member.type, member.linkname = kind, "/etc/passwd"
            packed.addfile(member)
    return file.getvalue()


def _bomb() -> bytes:
    """A tar archive that says its only picture has eight gigabytes, and ends."""
    member = tarfile.TarInfo("a/0.png")
    member.size = 2**33
    return zlib.compress(member.tobuf() + bytes(2**20), wbits=31)
