"""Pictures of any kind and number: lists, single images, folders, the most probable classes."""

import io
import os
import warnings

import numpy as np
import pytest
from PIL import Image

import convax
from convax.inference import image_inputs
from convax.inference.image_inputs import to_sized_image
from convax.training.data import DataError, read_image
from convax.training.tasks.registry import TASKS


@pytest.fixture(scope="module")
def predictor(whole):
    return convax.load(whole.path)


@pytest.fixture
def folder(tmp_path):
    """Nine pictures of several sizes, two folders deep."""
    rng = np.random.default_rng(0)
    (tmp_path / "in" / "b").mkdir(parents=True)
    for i in range(9):
        place = tmp_path / "in" / ("b" if i % 3 == 0 else "") / f"{8 - i}.png"
        Image.fromarray(rng.integers(0, 256, (5 + i, 9, 3), dtype=np.uint8)).save(place)
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    return tmp_path / "in"


ORDER = ["0.png", "1.png", "3.png", "4.png", "6.png", "7.png", "b/2.png", "b/5.png", "b/8.png"]


def test_one_image_is_the_row_of_a_batch(predictor):
    images = np.random.default_rng(1).integers(0, 256, (3, 6, 6, 1), dtype=np.uint8)
    one = predictor(images[1])
    assert one.shape == (3,)
    np.testing.assert_allclose(one, predictor(images)[1], rtol=1e-5, atol=1e-7)
    floats = predictor(images[1].astype(np.float64) / 255)
    np.testing.assert_allclose(floats, one, rtol=1e-4, atol=1e-6)


def test_a_list_is_resized_as_files_are(predictor, folder):
    files = [folder / name for name in ORDER]
    expected = predictor(np.stack([predictor.read(file) for file in files]))
    opened = [Image.open(file) for file in files]
    np.testing.assert_array_equal(predictor(opened), expected)
    np.testing.assert_array_equal(predictor([np.asarray(i) for i in opened]), expected)
    np.testing.assert_array_equal(predictor(tuple(files)), expected)


def test_floats_in_a_list_are_not_rounded(predictor):
    ramp = np.linspace(0, 1, 144).reshape(12, 12)
    image = to_sized_image(ramp, (6, 6, 1)).image
    assert image.dtype == np.float32 and image.shape == (6, 6, 1)
    rounded = to_sized_image(np.round(ramp * 255).astype(np.uint8), (6, 6, 1)).image
    np.testing.assert_allclose(image, rounded / 255, atol=1.01 / 255)
    assert np.abs(image * 255 - np.round(image * 255)).max() > 0.1
    # Together with bytes, the bytes become floats.
    mixed = predictor([ramp, np.round(ramp * 255).astype(np.uint8)])
    np.testing.assert_allclose(mixed[0], mixed[1], atol=0.01)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("depth", [None, 1, 3])
@pytest.mark.parametrize("kind", ["uint8", "float64"])
def test_gray_and_color(kind, depth, channels):
    values = np.array([51, 102, 204][: depth or 1], np.uint8)
    flat = np.broadcast_to(values, (7, 5, len(values)))
    picture = (flat[..., 0] if depth is None else flat).astype(kind)
    image = to_sized_image(picture / 255 if kind == "float64" else picture, (6, 4, channels)).image
    assert image.shape == (6, 4, channels)
    # 0.299 x 51 + 0.587 x 102 + 0.114 x 204 = 98.379
    gray = 98.379 if depth == 3 else 51
    expected = values if channels == depth == 3 else np.full(channels, gray)
    actual = image * 255 if kind == "float64" else image
    np.testing.assert_allclose(actual, np.broadcast_to(expected, image.shape), atol=0.7)


def test_transparency_and_orientation(tmp_path):
    clear = np.zeros((4, 4, 4), np.uint8)
    assert (to_sized_image(clear, (4, 4, 1)).image == 255).all()
    turned = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(2, 8))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    from_file = read_image(tmp_path / "turned.png", size=(8, 2), channels=1)
    with Image.open(tmp_path / "turned.png") as picture:
        np.testing.assert_array_equal(to_sized_image(picture, (8, 2, 1)).image, from_file)
    # Upright, the first row of the file is the last column.
    upright = read_image(tmp_path / "turned.png", size=None, channels=1)
    np.testing.assert_array_equal(upright[:, 1, 0], np.arange(8))


@pytest.mark.parametrize("batch", [1, 4, 9, 64])
def test_a_folder_in_order(predictor, folder, batch):
    answers = list(predictor.stream(folder, batch=batch))
    assert [str(a.source.relative_to(folder)) for a in answers] == ORDER
    expected = predictor(np.stack([predictor.read(folder / name) for name in ORDER]))
    np.testing.assert_allclose(
        np.stack([a.prediction for a in answers]), expected, rtol=1e-5, atol=1e-7
    )


def test_anything_in_any_mixture(predictor, folder):
    array = np.full((3, 4), 90, np.uint8)
    file = folder / "0.png"
    sources = [str(file), file.read_bytes(), array, Image.open(file), folder / "b"]
    answers = list(predictor.stream(iter(sources), batch=3, invert=True))
    assert len(answers) == 7 and answers[2].source is array
    expected = predictor(predictor.read(file, invert=True)[None])[0]
    for i in (0, 1, 3):
        np.testing.assert_allclose(answers[i].prediction, expected, rtol=1e-5, atol=1e-7)
    light = predictor(np.full((6, 6, 1), 165, np.uint8))
    np.testing.assert_allclose(answers[2].prediction, light, rtol=1e-5, atol=1e-7)
    floats = next(predictor.stream([array / 255], invert=True)).prediction
    np.testing.assert_allclose(floats, light, rtol=1e-4, atol=1e-6)


def test_inverting_leaves_the_margin_of_a_letterbox(predictor, monkeypatch):
    monkeypatch.setattr(type(predictor), "letterbox", True)
    file = io.BytesIO()
    Image.fromarray(np.full((3, 6), 90, np.uint8)).save(file, "PNG")
    image = predictor.read(file.getvalue(), invert=True)
    assert (image[:3] == 165).all() and (image[3:] == 0).all()
    answer = next(predictor.stream([file.getvalue()], invert=True)).prediction
    np.testing.assert_allclose(answer, predictor(image[None])[0], rtol=1e-5, atol=1e-7)


def test_what_is_no_picture_of_any_kind_comes_behind_the_answers_before_it(predictor):
    good = np.full((3, 4), 90, np.uint8)
    answers = []
    with pytest.raises((TypeError, ValueError)):
        for answer in predictor.stream([good, good, good, np.full((3, 4), 7, np.int64)], batch=2):
            answers.append(answer)
    assert len(answers) == 3


def test_no_pictures_at_all(predictor):
    assert predictor([]).shape == predictor(np.zeros((0, 6, 6, 1), np.uint8)).shape == (0, 3)


def test_no_more_is_read_ahead_than_two_batches(predictor):
    taken = []

    def endless():
        while True:
            taken.append(None)
            yield np.zeros((9, 9), np.uint8)

    stream = predictor.stream(endless(), batch=5)
    assert not taken
    for count in range(1, 31):
        next(stream)
        assert len(taken) == 5 * ((count - 1) // 5 + 2)
    stream.close()


def test_a_stream_compiles_no_more_than_its_sizes(whole, folder):
    fresh = convax.load(whole.path)
    for batch in (4, 5, 8, 9):
        list(fresh.stream(folder, batch=batch))
    seen = fresh.function._cache_size()
    assert seen <= 3
    list(fresh.stream(folder, batch=7))
    assert fresh.function._cache_size() == seen


def test_what_cannot_be_read_is_raised_or_told(predictor, folder):
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:40])
    stream = predictor.stream([folder, folder / "missing.png"], batch=4)
    assert [next(stream).source.name for _ in range(2)] == ["0.png", "1.png"]
    with pytest.raises(DataError, match=r"3\.png: cannot be read as an image"):
        next(stream)
    told = []
    sources = [folder, folder / "missing.png"]
    good = list(predictor.stream(sources, batch=4, on_error=lambda s, e: told.append((s, str(e)))))
    assert [str(a.source.relative_to(folder)) for a in good] == [n for n in ORDER if n != "3.png"]
    assert [source.name for source, _ in told] == ["3.png", "missing.png"]
    assert "no such file" in told[1][1]
    # A batch of which nothing can be read.
    assert not list(predictor.stream([b"", b"x"], on_error=lambda s, e: told.append((s, str(e)))))
    assert len(told) == 4


def test_what_a_generator_raises_comes_after_the_answers_before_it(predictor):
    def seven():
        yield from np.zeros((7, 9, 9), np.uint8)
        raise RuntimeError("no more")

    stream = predictor.stream(seven(), batch=5)
    assert len([next(stream) for _ in range(7)]) == 7
    with pytest.raises(RuntimeError, match="no more"):
        next(stream)


def test_a_picture_too_large_is_refused_and_the_callers_warnings_stay(
    predictor, folder, monkeypatch
):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)
    told = []
    filters = list(warnings.filters)
    stream = predictor.stream(folder, batch=2, on_error=lambda s, e: told.append(str(e)))
    for _ in stream:
        assert warnings.filters == filters
    assert told and all("more than 60 pixels; make it smaller" in text for text in told)


def test_folders_that_give_nothing(predictor, tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"no images in this folder; their names end in \.png"):
        next(predictor.stream(tmp_path))

    def closed(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(PermissionError):
        list(image_inputs.iter_files([tmp_path]))


def test_the_most_probable_classes(predictor):
    images = np.random.default_rng(2).integers(0, 256, (4, 6, 6, 1), dtype=np.uint8)
    probabilities = predictor(images)
    top = predictor.top_k(images, 2)
    assert top.probabilities.shape == (4, 2)
    for row, names, shares in zip(probabilities, top.classes, top.probabilities, strict=True):
        order = sorted(range(3), key=lambda k: -row[k])[:2]
        assert names == tuple(predictor.classes[k] for k in order)
        np.testing.assert_array_equal(shares, row[order])
    assert predictor.top_k(images[0], 3).probabilities.shape == (1, 3)
    for k in (0, 4):
        with pytest.raises(ValueError, match=f"top_k: k: got {k}, need 1 to 3"):
            predictor.top_k(images, k)
    other = convax.Predictor(
        predictor.function,
        predictor.params,
        predictor.state,
        predictor.classes,
        predictor.image_shape,
        predictor.task._replace(spec=TASKS["embedding"]),
    )
    with pytest.raises(ValueError, match="top_k: got a network of embedding, need classification"):
        other.top_k(images, 1)


@pytest.mark.parametrize(
    ("picture", "error", "message"),
    [
        (np.zeros((4, 4), int), TypeError, "predict: wrong dtype: got int64, need uint8"),
        (np.zeros((4, 4, 2), np.uint8), ValueError, r"got \(4, 4, 2\), need .*one of 1, 3, 4"),
        (np.zeros((4, 4, 4)), ValueError, r"got \(4, 4, 4\), need \(h, w\).*one of 1, 3$"),
        (np.zeros((0, 4), np.uint8), ValueError, r"wrong shape of an image in a list: got \(0, 4"),
        (np.full((4, 4), 2.0), ValueError, r"must lie in \[0, 1\]: got 2 to 2; pass uint8, or div"),
    ],
)
def test_arrays_that_are_no_pictures(predictor, picture, error, message):
    with pytest.raises(error, match=message):
        predictor([picture])


def test_no_batch(predictor):
    with pytest.raises(ValueError, match="stream: batch: got 0, need 1 or more"):
        predictor.stream([], batch=0)
    assert not list(predictor.stream([]))
