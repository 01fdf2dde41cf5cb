"""Image files: every mode and format becomes (H, W, C) bytes, or one line of complaint."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from convax.training.data import DataError, read_image
from convax.training.data.image import FORMATS

COLOR = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3) * 4
GRAY = np.arange(20, dtype=np.uint8).reshape(4, 5) * 12


def encoded(image, format="PNG", **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def read(image, channels, size=None, **options):
    return read_image(encoded(image, **options), size=size, channels=channels)


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF"])
def test_read_image_is_exact_for_lossless_formats(format):
    np.testing.assert_array_equal(read(Image.fromarray(COLOR), 3, format=format), COLOR)
    np.testing.assert_array_equal(read(Image.fromarray(GRAY), 1, format=format), GRAY[..., None])


@pytest.mark.parametrize(
    ("format", "options"), [("JPEG", {"quality": 95}), ("WEBP", {}), ("GIF", {})]
)
def test_read_image_is_close_for_lossy_formats(format, options):
    flat = Image.new("RGB", (16, 8), (200, 100, 50))
    found = read(flat, 3, format=format).astype(int)
    assert found.shape == (8, 16, 3)
    np.testing.assert_allclose(found, np.broadcast_to([200, 100, 50], found.shape), atol=6)


@pytest.mark.parametrize("source", [str, lambda path: path, lambda path: path.read_bytes()])
def test_read_image_takes_paths_and_bytes(tmp_path, source):
    path = tmp_path / "image.jpg"  # the content counts, not the name
    path.write_bytes(encoded(Image.fromarray(COLOR)))
    np.testing.assert_array_equal(read_image(source(path), size=None, channels=3), COLOR)


def test_read_image_converts_between_gray_and_color():
    three = read(Image.fromarray(GRAY), 3)
    np.testing.assert_array_equal(three, np.repeat(GRAY[..., None], 3, axis=2))
    one = read(Image.new("RGB", (1, 1), (100, 200, 50)), 1)
    # 0.299 * 100 + 0.587 * 200 + 0.114 * 50 = 153
    assert one.tolist() == [[[153]]]


def palette():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    return image


def test_read_image_resolves_palettes():
    assert read(palette(), 3).tolist() == [[[10, 20, 30], [200, 100, 50]]]
    assert read(palette(), 3, transparency=0).tolist() == [[[255, 255, 255], [200, 100, 50]]]


def test_read_image_reads_black_and_white():
    image = Image.fromarray(GRAY > 100)
    assert image.mode == "1"
    np.testing.assert_array_equal(read(image, 1)[..., 0], np.where(GRAY > 100, 255, 0))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_white(mode):
    ink = {"RGBA": (100, 100, 100), "LA": (100,)}[mode]
    image = Image.new(mode, (3, 1))
    for x, alpha in enumerate((0, 255, 51)):
        image.putpixel((x, 0), (*ink, alpha))
    # none of the ink; all of it; a fifth: 255 + (100 - 255) / 5 = 224
    assert read(image, 1).tolist() == [[[255], [100], [224]]]
    assert read(image, 3).tolist() == [[[255] * 3, [100] * 3, [224] * 3]]


def test_one_transparent_color_is_laid_on_white():
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    image.putpixel((1, 0), (4, 5, 6))
    assert read(image, 3, transparency=(1, 2, 3)).tolist() == [[[255] * 3, [4, 5, 6]]]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bits_are_never_cut_to_8(format, channels):
    wide = Image.fromarray(np.array([[0, 255, 256, 65535]], np.uint16))
    with pytest.raises(DataError, match=r'has 16 bits a value.*write data.dtype = "uint16"'):
        read(wide, channels, format=format)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_pixels_are_rejected(dtype):
    with pytest.raises(DataError, match=r"has 32 bits a value, .*write data.dtype"):
        read(Image.fromarray(np.ones((2, 2), dtype)), 1, format="TIFF")


def test_read_image_reads_cmyk():
    found = read(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), 3, format="TIFF")
    assert found[0, 0].tolist() == [255, 0, 0]


UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_read_image_applies_exif_orientation(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = read(Image.fromarray(COLOR), 3, exif=exif)
    np.testing.assert_array_equal(found, UPRIGHT[orientation](COLOR))


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_read_image_takes_the_first_frame_of_an_animation(format):
    frames = [Image.new("RGB", (8, 8), color) for color in ("white", "black")]
    options = {"lossless": True} if format == "WEBP" else {}
    found = read(frames[0], 1, format=format, save_all=True, append_images=frames[1:], **options)
    assert found.shape == (8, 8, 1) and found.min() == 255


def test_no_page_or_channel_of_a_tiff_is_left_out():
    frames = [Image.new("RGB", (8, 8), color) for color in ("white", "black")]
    with pytest.raises(
        DataError, match=r"has 2 pages, of which a photograph keeps the first; write"
    ):
        read(frames[0], 3, format="TIFF", save_all=True, append_images=frames[1:])
    assert read(frames[0], 3, format="TIFF").min() == 255
    tifffile = pytest.importorskip("tifffile")
    for bands, extra in ((4, [0]), (5, [0, 0])):
        file = io.BytesIO()
        array = np.zeros((8, 8, bands), np.uint8)
        tifffile.imwrite(file, array, photometric="rgb", extrasamples=extra)
        with pytest.raises(
            DataError, match=rf"has {bands} channels.*write data.channels = {bands}$"
        ):
            read_image(file.getvalue(), size=None, channels=3)


def test_resizing_takes_height_before_width():
    assert read(Image.fromarray(COLOR), 3, size=(2, 9)).shape == (2, 9, 3)
    assert (
        read(Image.fromarray(COLOR), 1, size=[4, 5]).tolist()
        == read(Image.fromarray(COLOR), 1).tolist()
    )


def test_resizing_interpolates():
    # Twice as wide: centers at 0, 0.25, 0.75, 1 (clamped) of the way from 0 to 200.
    found = read(Image.fromarray(np.array([[0, 200]], np.uint8)), 1, size=(1, 4))
    assert found[0, :, 0].tolist() == [0, 50, 150, 200]


def test_resizing_is_antialiased():
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    found = read(Image.fromarray(board), 1, size=(8, 8))
    assert np.ptp(found) <= 4 and abs(found.mean() - 127.5) < 2


# Refusals


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0"])
def test_read_image_rejects_what_is_no_image(content):
    message = r"^image: cannot be read as an image: not an image, or damaged; need one of PNG"
    with pytest.raises(DataError, match=message):
        read_image(content, size=None, channels=3)


def test_formats_not_in_the_list_are_rejected():
    with pytest.raises(DataError, match="not an image"):
        read(Image.fromarray(COLOR), 3, format="PPM")


def test_read_image_names_files_it_cannot_open(tmp_path):
    with pytest.raises(DataError, match=r"a\.png: cannot be read as an image: no such file"):
        read_image(tmp_path / "a.png", size=None, channels=3)
    with pytest.raises(DataError, match=r": cannot be read as an image: is a directory"):
        read_image(tmp_path, size=None, channels=3)


@pytest.mark.parametrize("channels", [0, 2, 4])
def test_read_image_rejects_other_numbers_of_channels(channels):
    with pytest.raises(DataError, match=rf"channels: got {channels}, need 1 \(gray\), 3 \(color\)"):
        read(Image.fromarray(COLOR), channels)


@pytest.mark.parametrize("limit", [12, 7], ids=["Pillow warns", "Pillow refuses"])
def test_image_too_large_is_rejected_by_its_header(monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)  # of 20 pixels
    with pytest.raises(DataError, match=rf"more than {limit} pixels; make it smaller"):
        read(Image.fromarray(GRAY), 1)


def test_decompression_bomb_is_not_decompressed():
    # A PNG whose header claims 40,000 x 40,000 pixels.
    small = encoded(Image.fromarray(GRAY))
    header = b"IHDR" + (40_000).to_bytes(4, "big") * 2 + small[24:29]
    crc = zlib.crc32(header).to_bytes(4, "big")
    with pytest.raises(DataError, match=r"more than 89,478,485 pixels"):
        read_image(small[:12] + header + crc + small[33:], size=None, channels=1)


def noise():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"])
def test_truncated_images_are_rejected(format):
    content = encoded(noise(), format)
    for length in range(0, int(len(content) * 0.9), 7):
        with pytest.raises(DataError, match=r"^image: cannot be read as an image: .") as caught:
            read_image(content[:length], size=None, channels=3)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("format", FORMATS)
def test_damaged_images_raise_data_error_alone_without_warnings(format):
    # Some damage only changes colors; what is not noticed must still be an image.
    rng = np.random.default_rng(1)
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(noise(), format, exif=exif)
    for _ in range(300):
        damaged = bytearray(content)
        for i in rng.integers(0, min(len(content), rng.choice([64, len(content)])), 3):
            damaged[i] = rng.integers(0, 256)
        try:
            found = read_image(bytes(damaged), size=(6, 7), channels=3)
        except DataError as error:
            assert "\n" not in str(error)
        else:
            assert found.shape == (6, 7, 3) and found.dtype == np.uint8
