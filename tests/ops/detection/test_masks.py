"""Masks pasted into an image and cut out of it: by hand, against loops and torchvision, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from convax import ops
from tests.golden import roi as golden_roi
from tests.reference import roi as reference
from tests.reference.random_boxes import COUNT, random_boxes

SIZE = (5, 6)


def test_paste_masks_equal_hand_arithmetic():
    mask = jnp.array([[[1.0, 3.0]]])
    # A box of 4 pixels for 2 elements: pixels read at -3/4, -1/4, 1/4, 3/4, 5/4, 7/4.
    y = ops.paste_masks(mask, jnp.array([[1.0, 0.0, 5.0, 1.0]]), (1, 6))[0, 0]
    np.testing.assert_allclose(y, [1 / 4, 3 / 4, 3 / 4 + 3 / 4, 1 / 4 + 9 / 4, 9 / 4, 3 / 4])


def test_pasting_into_a_box_of_the_size_of_the_mask_copies_it(rng):
    masks = jnp.asarray(rng.random((1, 3, 2)), jnp.float32)
    y = ops.paste_masks(masks, jnp.array([[2.0, 1.0, 4.0, 4.0]]), SIZE)
    np.testing.assert_allclose(y[0, 1:4, 2:4], masks[0], rtol=1e-6)
    assert jnp.sum(y > 0) == 6


def test_any_pasted_masks_equal_loops(rng):
    masks = rng.random((COUNT, 3, 2)).astype(np.float32)
    g = rng.standard_normal((COUNT, *SIZE)).astype(np.float32)

    @jax.jit
    def value_and_grads(masks, boxes, g):
        y, vjp = jax.vjp(lambda *a: ops.paste_masks(*a, SIZE), masks, boxes)
        return y, *vjp(g)

    @settings(max_examples=30)
    @given(random_boxes(SIZE))
    def each(boxes):
        y, gm, gb = value_and_grads(masks, boxes, g)
        sides = boxes[:, 2:] - boxes[:, :2]
        sure = ~((sides > 0) & (sides < 1e-3)).any(1)  # of a sliver rounding decides what it meets
        expected = reference.paste_masks(masks, boxes, SIZE)
        np.testing.assert_allclose(y[sure], expected[sure], rtol=1e-4, atol=1e-4)
        assert np.isfinite(gm).all() and np.isfinite(gb).all()
        # <g, A m> = <A^T g, m>
        np.testing.assert_allclose(np.vdot(g, y), np.vdot(gm, masks), rtol=1e-4, atol=1e-4)

    each()


def test_paste_masks_keep_leading_axes_and_type(rng):
    masks = jnp.asarray(rng.random((2, 3, 4, 4)), jnp.bfloat16)
    boxes = jnp.asarray(rng.random((2, 3, 4)) * (2, 2, 6, 6), jnp.float32)
    y = ops.paste_masks(masks, boxes, SIZE)
    assert y.shape == (2, 3, *SIZE) and y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(
        y[1].astype(float), ops.paste_masks(masks[1], boxes[1], SIZE).astype(float)
    )


def test_crop_masks_equal_hand_arithmetic():
    ids = jnp.array([[1, 1, 0, 0], [1, 1, 2, 2]], jnp.uint8)
    boxes = jnp.array([[0.0, 0.0, 2.0, 2.0]] * 3)
    # Samples at 1/2 and 3/2 along each axis: x between columns 0 and 1, and 1 and 2.
    y = ops.crop_masks(ids, jnp.array([0, 1, -1]), boxes, (1, 2), aligned=False)[:, 0]
    np.testing.assert_allclose(y, [[1, 1 / 2], [0, (1 / 4 + 1 / 2) / 2], [0, 0]])


def test_crop_masks_equal_torchvision_as_recorded():
    with golden_roi.golden() as t:
        arrays = (jnp.asarray(t[name]) for name in ("ids", "which"))
        y = ops.crop_masks(*arrays, jnp.asarray(t["small_boxes"]), 3, aligned=False)
        np.testing.assert_allclose(y, t["cropped"], rtol=1e-5, atol=1e-5)


def test_crop_masks_equal_loops(rng):
    """More boxes than are in memory at once, and a batch."""
    ids = rng.integers(0, 4, (2, 9, 8)).astype(np.uint8)
    which = rng.integers(-1, 3, (2, 20)).astype(np.int32)
    boxes = np.sort(rng.uniform(-2, 11, (2, 20, 2, 2)), axis=2).reshape(2, 20, 4)
    boxes = boxes.astype(np.float32)
    crop = jax.jit(jax.vmap(lambda *a: ops.crop_masks(*a, (2, 3))))
    y = crop(ids, which, boxes)
    for n in range(2):
        expected = reference.crop_masks(ids[n], which[n], boxes[n], (2, 3))
        np.testing.assert_allclose(y[n], expected, rtol=1e-4, atol=1e-4)


def test_paste_masks_refuse_what_does_not_fit():
    message = (
        r"^paste_masks: shapes do not fit: got masks \(4, 4\) and boxes \(4,\), need .*write m"
    )
    with pytest.raises(ValueError, match=message):
        ops.paste_masks(jnp.zeros((4, 4)), jnp.zeros(4), SIZE)
    with pytest.raises(ValueError, match=r"^paste_masks: shapes do not fit: got masks \(2, 4, 4\)"):
        ops.paste_masks(jnp.zeros((2, 4, 4)), jnp.zeros((3, 4)), SIZE)
    with pytest.raises(ValueError, match=r"and no empty masks"):
        ops.paste_masks(jnp.zeros((2, 0, 4)), jnp.zeros((2, 4)), SIZE)
    with pytest.raises(TypeError, match=r"^paste_masks: masks is not floating point: got bool"):
        ops.paste_masks(jnp.zeros((2, 4, 4), bool), jnp.zeros((2, 4)), SIZE)
    with pytest.raises(ValueError, match=r"^paste_masks: bad image_size: got \(5, 6, 3\), need"):
        ops.paste_masks(jnp.zeros((2, 4, 4)), jnp.zeros((2, 4)), (5, 6, 3))


def test_crop_masks_refuse_what_does_not_fit():
    ids, which, boxes = jnp.zeros(SIZE, jnp.uint8), jnp.zeros(3, jnp.int32), jnp.zeros((3, 4))
    with pytest.raises(
        TypeError, match=r"^crop_masks: ids are no integers: got float32.*write ids"
    ):
        ops.crop_masks(ids.astype(jnp.float32), which, boxes, 2)
    with pytest.raises(TypeError, match=r"^crop_masks: which are no integers: got float32"):
        ops.crop_masks(ids, which.astype(jnp.float32), boxes, 2)
    message = (
        r"^crop_masks: shapes do not fit: got ids \(2, 5, 6\), which \(3,\) and boxes \(3, 4\)"
    )
    with pytest.raises(ValueError, match=message):
        ops.crop_masks(jnp.stack([ids, ids]), which, boxes, 2)
    with pytest.raises(ValueError, match=r"^crop_masks: bad output_size: got 0, need a positive"):
        ops.crop_masks(ids, which, boxes, 0)
