"""Images read as they are stored: `training.data.raster`, by the format that is stated."""

import numpy as np
import pytest
from PIL import Image

from convax.training.data import COLOR, DataError, PixelFormat, pixel_format, read_image
from convax.training.data.errors import UnreadableError
from convax.training.data.mask_file import decode_color_mask
from convax.training.data.pixels import check_pixels
from convax.training.data.preprocess import _of_floats, _of_integers

tifffile = pytest.importorskip("tifffile")
imagecodecs = pytest.importorskip("imagecodecs")

FIVE = pixel_format(5, "uint16")
X = np.random.default_rng(0).integers(0, 65536, (6, 8, 5), dtype=np.uint16)
PLANES = np.moveaxis(X, -1, 0)


def written(folder, name, array, **keywords):
    """Write an array as the file that its name says."""
    file = folder / name
    if file.suffix == ".npy":
        np.save(file, array)
    elif file.suffix == ".png":
        file.write_bytes(imagecodecs.png_encode(array))
    else:
        tifffile.imwrite(file, array, **keywords)
    return file


WRITTEN = {
    "pages.tif": (PLANES, {"photometric": "minisblack"}),
    "planes.tif": (PLANES, {"photometric": "minisblack", "planarconfig": "separate"}),
    "lzw.tif": (X, {"photometric": "minisblack", "planarconfig": "contig", "compression": "lzw"}),
    "tiles.tif": (
        X,
        {"photometric": "minisblack", "planarconfig": "contig", "tile": (16, 16)}
        | {"compression": "deflate", "predictor": True},
    ),
    "rows.npy": (X, {}),
    "columns.npy": (np.asfortranarray(X), {}),
    "big_endian.npy": (X.astype(">u2"), {}),
    "two.png": (np.ascontiguousarray(X[..., :2]), {}),
    "color.png": (np.ascontiguousarray(X[..., :3]), {}),
    "alpha.png": (np.ascontiguousarray(X[..., :4]), {}),
    "gray.png": (np.ascontiguousarray(X[..., 0]), {}),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_every_value_is_read_as_it_is_stored(tmp_path, name):
    array, keywords = WRITTEN[name]
    file = written(tmp_path, name, array, **keywords)
    C = 5 if 5 in array.shape else 1 if array.ndim == 2 else array.shape[-1]
    pixels = pixel_format(C, "uint16")
    found = read_image(file, size=None, channels=pixels)
    np.testing.assert_array_equal(found, X[..., :C])
    assert found.dtype == np.uint16
    half = read_image(file, size=(3, 4), channels=pixels)
    # every value of a half is a mean of several: not one is lost to 8 bits
    assert half.shape == (3, 4, C) and (half % 257 != 0).mean() > 0.9


def test_a_file_of_another_format_is_refused_by_what_it_has(tmp_path):
    three = written(tmp_path, "x.png", np.ascontiguousarray(X[..., :3]))
    for pixels, message in (
        (FIVE, "has 3 .*uint16, need 5 channels of uint16.*write data.channels = 3"),
        (PixelFormat(4), "has 3 .*uint16, need 4 channels of uint8.*write data.dtype"),
        (COLOR, 'has 16 bits a value, where bytes are read; write data.dtype = "uint16"'),
    ):
        with pytest.raises(UnreadableError, match=message):
            read_image(three, size=None, channels=pixels)
    first = written(tmp_path, "x.npy", PLANES)
    with pytest.raises(DataError, match="looks channels first"):
        read_image(first, size=None, channels=FIVE)
    with pytest.raises(DataError, match="of 16 bits each, need red, green and blue of 8"):
        decode_color_mask(three)
    Image.new("P", (2, 2)).save(tmp_path / "p.png")
    with pytest.raises(DataError, match=r"P of Pillow, need .* without a palette"):
        read_image(tmp_path / "p.png", size=None, channels=PixelFormat(4))
    for odd, message in ((np.array(["a"]), "<U1, need numbers"), (np.zeros(3), r"shape \(3,\)")):
        np.save(tmp_path / "odd.npy", odd)
        with pytest.raises(DataError, match=message):
            read_image(tmp_path / "odd.npy", size=None, channels=FIVE)
    other = written(tmp_path, "y.tif", X[:, :, 0])
    with tifffile.TiffWriter(other, append=True) as more:
        more.write(X[:3, :, 0])
    with pytest.raises(DataError, match="pages differ in size"):
        read_image(other, size=None, channels=pixel_format(2, "uint16"))


@pytest.mark.parametrize("name", ["tiles.tif", "lzw.tif", "rows.npy", "color.png"])
def test_a_file_that_is_cut_short_is_unreadable(tmp_path, name):
    array, keywords = WRITTEN[name]
    content = written(tmp_path, name, array, **keywords).read_bytes()
    pixels = pixel_format(3 if "color" in name else 5, "uint16")
    for length in (20, len(content) // 3):
        with pytest.raises(UnreadableError):
            read_image(content[:length], size=None, channels=pixels)


def test_a_tiff_is_turned_upright_as_it_says(tmp_path):
    file = written(tmp_path, "x.tif", X[..., 0], extratags=[(274, "H", 1, 6, True)])
    found = read_image(file, size=None, channels=pixel_format(1, "uint16"))
    np.testing.assert_array_equal(found[..., 0], np.rot90(X[..., 0], -1))


def test_an_image_too_large_is_refused_by_its_header(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 95)  # 48 pixels of five channels are 96
    for name in ("pages.tif", "rows.npy"):
        array, keywords = WRITTEN[name]
        file = written(tmp_path, name, array, **keywords)
        with pytest.raises(DataError, match="more than 95 pixels"):
            read_image(file, size=None, channels=FIVE)


def test_floating_point_has_the_range_that_is_stated(tmp_path):
    x = np.array([[-1000.0, 0.0], [3000.5, 12.25]], np.float32)
    hounsfield = pixel_format(1, "float32", [-1024, 3071])
    for name in ("x.npy", "x.tif"):
        file = written(tmp_path, name, x)
        found = read_image(file, size=None, channels=hounsfield)
        np.testing.assert_array_equal(found[..., 0], x)
        with pytest.raises(DataError, match=r"values of -1000 to 3000.5, need 0 to 100; correct"):
            read_image(file, size=None, channels=pixel_format(1, "float32", [0, 100]))
    with pytest.raises(DataError, match="that are no finite numbers"):
        np.save(tmp_path / "n.npy", np.full((2, 2), np.nan, np.float32))
        read_image(tmp_path / "n.npy", size=None, channels=hounsfield)
    signed = written(tmp_path, "s.npy", x.astype(np.int16))  # which float32 holds
    assert read_image(signed, size=None, channels=hounsfield)[0, 0, 0] == -1000
    np.save(tmp_path / "d.npy", x.astype(np.float64))
    with pytest.raises(DataError, match="of float64, need 1 channel of float32"):
        read_image(tmp_path / "d.npy", size=None, channels=hounsfield)
    # (v - low) / (high - low): (-1000 + 1024) / 4095
    np.testing.assert_allclose(hounsfield.unit(x)[0, 0], 24 / 4095, rtol=1e-6)
    assert hounsfield.inverted(x)[0, 0] == 3047


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "data.channels: got 0"),
        ((3, "int16"), "data.dtype: got int16, need uint8, uint16 or float32"),
        ((1, "float32"), "data.value_range: missing; .*e.g. value_range = "),
        (
            (1, "uint16", [0, 70000]),
            r"data.value_range: got \[0, 70000\], need two values of uint1",
        ),
        ((1, "uint16", [9, 9]), "the lower one first"),
        ((1, "uint8", [0, 1]), "bytes are 0 to 255"),
        ((1, "uint16", [0.5, 9]), r"got \[0.5, 9\], need whole numbers for uint16"),
    ],
)
def test_a_format_that_there_is_not(arguments, message):
    with pytest.raises(DataError, match=message):
        pixel_format(*arguments)


def test_a_network_takes_arrays_of_its_format_or_in_0_to_1():
    wide = pixel_format(1, "uint16", [0, 4095])
    assert check_pixels(np.array([4095], np.uint16), wide).dtype == np.uint16
    assert check_pixels(np.array([0.5], np.float64), wide).dtype == np.float32
    with pytest.raises(ValueError, match="values of 4096 to 4096, need 0 to 4095"):
        check_pixels(np.array([4096], np.uint16), wide)
    with pytest.raises(TypeError, match=r"got uint8, need uint16 or float32 in \[0, 1\]"):
        check_pixels(np.array([4], np.uint8), wide)
    with pytest.raises(ValueError, match="pass uint16, or divide by 4095"):
        check_pixels(np.array([400.0]), wide)
    assert check_pixels(np.array([400.0]), pixel_format(1, "float32", [0, 500])) == 400


def test_statistics_are_those_of_values_in_0_to_1():
    pixels = pixel_format(2, "uint16", [0, 4095])
    x = np.random.default_rng(1).integers(0, 4096, (450, 3, 3, 2), dtype=np.uint16)
    x[..., 1] = 7  # which has no scale
    unit = x.reshape(-1, 2) / 4095
    floats = pixel_format(2, "float32", [0, 4095])
    for mean, std in (_of_integers(x, pixels), _of_floats(x.astype(np.float32), floats)):
        np.testing.assert_allclose(mean, unit.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(std, [unit[:, 0].std(), 1], rtol=1e-6)


def test_heic_and_avif_are_images(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    for name in ("x.heic", "x.avif"):
        Image.new("RGB", (64, 64), (200, 100, 50)).save(tmp_path / name)
        found = read_image(tmp_path / name, size=(2, 2), channels=3)
        assert abs(found[0, 0].astype(int) - (200, 100, 50)).max() < 8


def test_what_needs_a_package_says_which(tmp_path, monkeypatch):
    for package in ("tifffile", "imagecodecs", "pillow_heif"):
        monkeypatch.setitem(__import__("sys").modules, package, None)
    heic = b"\0\0\0\x18ftypheic" + bytes(16)
    with pytest.raises(DataError, match=r"HEIC needs pillow-heif: pip install 'convax\[heif\]'"):
        read_image(heic, size=None, channels=3)
    monkeypatch.undo()
    tiff = written(tmp_path, "x.tif", X[..., 0]).read_bytes()
    png = written(tmp_path, "x.png", np.ascontiguousarray(X[..., :3])).read_bytes()
    for package in ("tifffile", "imagecodecs"):
        monkeypatch.setitem(__import__("sys").modules, package, None)
    for content in (tiff, png):
        with pytest.raises(DataError, match=r"needs tifffile .*pip install 'convax\[tiff\]'"):
            read_image(content, size=None, channels=pixel_format(3, "uint16"))
