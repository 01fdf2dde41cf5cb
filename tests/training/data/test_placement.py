"""Images that keep their aspect: where they lie, in files, in the step, and the way back."""

import io

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convax.inference.image_inputs import to_sized_image
from convax.inference.serve.image_decoding import decode_upload
from convax.training.config.schema import load_config
from convax.training.data import load_folder, read_image
from convax.training.data.image import inverted
from convax.training.data.placement import letterboxed, place
from convax.training.data.preprocess import (
    Preprocessing,
    preprocess,
    preprocess_masks,
    restore_maps,
)

SIDES = st.tuples(st.integers(1, 300), st.integers(1, 300))


def file_of(array, **options) -> bytes:
    content = io.BytesIO()
    Image.fromarray(array).save(content, "PNG", **options)
    return content.getvalue()


@given(size=SIDES, canvas=SIDES)
def test_letterboxed_fills_the_canvas_one_way_and_keeps_the_aspect(size, canvas):
    placement = letterboxed(size, canvas)
    s = min(canvas[0] / size[0], canvas[1] / size[1])
    assert any(p == c for p, c in zip(placement.placed, canvas, strict=True))
    for placed, whole, side in zip(placement.placed, canvas, size, strict=True):
        assert 1 <= placed <= whole and abs(placed - max(s * side, 1)) <= 0.5 + 1e-9
    box = np.array([[0.0, 0.0, size[1], size[0]]])
    assert placement.to_canvas(box)[0, 2:].tolist() == pytest.approx(placement.placed[::-1])
    np.testing.assert_allclose(placement.to_image(placement.to_canvas(box)), box)
    beyond = np.array([[-5.0, -5.0, 1e4, 1e4]])
    np.testing.assert_allclose(placement.to_image(beyond), box)


def test_place_stretches_without_letterbox():
    assert place((3, 4), (6, 6), letterbox=False).scale == (2, 1.5)


@pytest.mark.parametrize(("channels", "beside"), [(1, 0), (3, 114)])
def test_files_and_arrays_lie_at_the_top_left_of_the_canvas(channels, beside):
    image = np.full((4, 8, 3), 200, np.uint8)[..., slice(None) if channels == 3 else 0]
    read = read_image(file_of(image), size=(8, 8), channels=channels, letterbox=True)
    assert (read[:4] == 200).all() and (read[4:] == beside).all()
    np.testing.assert_array_equal(
        to_sized_image(image, (8, 8, channels), letterbox=True).image, read
    )
    floats = to_sized_image(image / 255, (8, 8, channels), letterbox=True).image
    np.testing.assert_allclose(floats, read / 255, atol=1e-6)


def test_inverting_leaves_the_margin_as_it_is():
    content = file_of(np.full((4, 8, 3), 200, np.uint8))
    upload = decode_upload(
        "a.png", content, image_shape=(8, 8, 3), max_pixels=32, invert=True, letterbox=True
    )
    assert (upload.image[:4] == 55).all() and (upload.image[4:] == 114).all()
    floats = np.full((8, 8, 1), 0.25, np.float32)
    half = inverted(floats, (8, 4), letterbox=True)
    assert half.dtype == np.float32 and (half[:, :4] == 0.75).all() and (half[:, 4:] == 0.25).all()
    assert (inverted(floats, (8, 4), letterbox=False) == 0.75).all()


def test_letterbox_turns_an_image_upright_first():
    exif = Image.Exif()
    exif[0x112] = 6
    lying = file_of(np.full((4, 8), 200, np.uint8), exif=exif)
    read = read_image(lying, size=(8, 8), channels=1, letterbox=True)
    assert (read[:, :4] == 200).all() and (read[:, 4:] == 0).all()


@pytest.mark.parametrize("stream", [False, True])
def test_folders_keep_the_aspect_of_their_images(tmp_path, stream):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(file_of(np.full((4, 8, 3), 200, np.uint8)))
    both = [
        load_folder(tmp_path, size=(8, 8), stream=stream, letterbox=letterbox).train.images
        for letterbox in (True, False)
    ]
    assert (np.asarray(both[0])[:, 4:] == 114).all() and (np.asarray(both[1]) == 200).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_preprocess_keeps_the_aspect_and_is_undone(channels):
    spec = Preprocessing((8, 8), "letterbox", (0.0,) * channels, (1.0,) * channels)
    x = preprocess(jnp.full((1, 3, 6, channels), 51, jnp.uint8), spec)
    np.testing.assert_allclose(x[:, :4], 0.2, rtol=1e-6)
    np.testing.assert_allclose(x[:, 4:], 0 if channels == 1 else 114 / 255, rtol=1e-6)
    masks = preprocess_masks(jnp.ones((1, 3, 6), jnp.uint8), spec)
    assert (masks[:, :4] == 1).all() and (masks[:, 4:] == 255).all()
    np.testing.assert_allclose(restore_maps(x, spec, (3, 6)), 0.2, rtol=1e-5)
    same = preprocess(jnp.full((1, 8, 8, channels), 51, jnp.uint8), spec)
    np.testing.assert_allclose(same, 0.2, rtol=1e-6)


def test_masks_are_letterboxed_with_their_images():
    assert load_config("unet-pennfudan", ['input.fit="letterbox"']).input.fit == "letterbox"
