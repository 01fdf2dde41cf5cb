"""Boxes: by hand, degenerate boxes and padding, drawn boxes against loops, torchvision, messages."""

from math import inf, log

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convax import ops
from tests.golden.detection import golden
from tests.reference import detection as reference

UNIT = np.array([[0.0, 0.0, 1.0, 1.0]], np.float32)
ZERO = np.zeros((1, 4), np.float32)

# What tasks meet, and what they should not: whole and half pixels, 1e-7 apart, out of the image, no
# side, swapped corners, one pixel, padding.
COORDINATES = st.one_of(
    st.integers(-4, 12).map(lambda v: v / 2),
    st.sampled_from([1.0, 1.0 + 1e-7, 1.0 + 2e-7, 0.0, 1e-7, 1e-20, 500.0]),
)
N = 6  # one shape, one program
BOXES = hnp.arrays(np.float32, (N, 4), elements=COORDINATES.map(np.float32))


def test_box_iou_equals_hand_arithmetic():
    a = jnp.array([[0.0, 0.0, 2.0, 2.0], [10.0, 10.0, 11.0, 11.0]])
    b = jnp.array([[1.0, 0.0, 3.0, 2.0], [0.0, 0.0, 2.0, 1.0], [2.0, 0.0, 3.0, 2.0]])
    # 2 x 2 against 2 x 2, half of each in common; half of it; an edge in common
    np.testing.assert_allclose(ops.box_iou(a, b), [[2 / 6, 1 / 2, 0], [0, 0, 0]], rtol=1e-6)
    # around: 3 x 2; 2 x 2; 3 x 2
    expected = [2 / 6 - 0, 1 / 2 - 0, 0 - 0]
    np.testing.assert_allclose(ops.box_giou(a[:1], b)[0], expected, rtol=1e-6)
    far = jnp.array([[3.0, 1.0, 4.0, 2.0]])  # around: 4 x 2, of which 3 are neither
    np.testing.assert_allclose(ops.box_giou(jnp.array([[0.0, 0, 2, 2]]), far), [[-3 / 8]])


def test_box_iou_takes_leading_axes():
    a, b = jnp.ones((3, 1, 2, 4)), jnp.ones((5, 4, 4))
    assert ops.box_iou(a, b).shape == (3, 5, 2, 4)
    assert ops.box_decode(jnp.ones((3, 5, 4)), jnp.ones((3, 1, 4))).shape == (3, 5, 4)
    assert ops.box_encode(jnp.ones((3, 4)), jnp.ones(4)).shape == (3, 4)


def test_low_precision_is_widened_at_the_door():
    low = jnp.array([[1000.0, 1000.0, 1008.0, 1008.0]], jnp.bfloat16)
    for y in (ops.box_iou(low, UNIT), ops.box_encode(low, UNIT), ops.box_clip(low, (9, 9))):
        assert y.dtype == jnp.float32
    assert ops.box_area(low)[0] == 64
    with jax.enable_x64(True):
        assert ops.box_iou(np.ones((1, 4)), UNIT).dtype == jnp.float64


def grads_of(measure, a, b):
    return jax.grad(lambda a, b: jnp.sum(measure(a, b)), (0, 1))(a, b)


@pytest.mark.parametrize("measure", [ops.box_iou, ops.box_giou])
@pytest.mark.parametrize(
    ("a", "b"),
    [
        (ZERO, ZERO),
        (ZERO, UNIT),
        (UNIT, UNIT),
        (ZERO + 3, UNIT),
        (np.array([[5.0, 0, 5, 9]], np.float32), np.array([[5.0, 2, 5, 7]], np.float32)),
        (UNIT * 1e-7, UNIT * 1e-7),
        (UNIT * 1e-9, UNIT * 1e-9),
        (UNIT * 1e-25, ZERO),
        (UNIT[:, ::-1], UNIT[:, ::-1]),
    ],
    ids=["padding", "padded", "equal", "point", "lines", "tiny", "tinier", "underflow", "swapped"],
)
def test_overlap_of_degenerate_boxes_is_finite_with_its_gradient(measure, a, b):
    a, b = jnp.asarray(a), jnp.asarray(b)
    y = measure(a, b)
    assert jnp.all((y >= -1) & (y <= 1 + 1e-6))
    assert all(jnp.all(jnp.isfinite(g)) for g in grads_of(measure, a, b))


def test_padding_has_no_gradient():
    a = jnp.array([[0.0, 0, 0, 0], [1.0, 2, 5, 6]])
    for measure in (ops.box_iou, ops.box_giou):
        of_padding = grads_of(measure, a[:1], a[:1])
        np.testing.assert_array_equal(of_padding, jnp.zeros((2, 1, 4)))
    np.testing.assert_array_equal(grads_of(ops.box_iou, a[:1], a[1:])[1], jnp.zeros((1, 4)))


def test_equal_boxes_have_iou_one_to_the_bit(rng):
    corner = rng.uniform(0, 1000, (200, 2))
    b = np.concatenate([corner, corner + rng.uniform(0.1, 300, (200, 2))], 1).astype(np.float32)
    np.testing.assert_allclose(jnp.diagonal(ops.box_iou(b, b)), 1, rtol=3e-7)


@given(BOXES, BOXES)
@settings(max_examples=60)
def test_overlaps_of_drawn_boxes_equal_loops(a, b):
    f = jax.jit(lambda a, b: (ops.box_iou(a, b), ops.box_giou(a, b), ops.box_area(a)))
    iou, giou, area = f(a, b)
    wide = a.astype(float), b.astype(float)
    expected = reference.pairwise(reference.iou, *wide)
    large = reference.pairwise(lambda a, b: (reference._overlap(a, b)[1][0], 0), *wide) > 1e-12
    np.testing.assert_allclose(iou[large], expected[large], rtol=1e-4, atol=1e-6)
    proper = [all(c[..., 2] >= c[..., 0]) and all(c[..., 3] >= c[..., 1]) for c in wide]
    if all(proper):
        expected = reference.pairwise(reference.giou, *wide)
        np.testing.assert_allclose(giou[large], expected[large], rtol=1e-4, atol=1e-5)
    assert np.all((iou >= 0) & (iou <= 1 + 1e-6))
    assert np.all((giou >= -1 - 1e-6) & (giou <= 1 + 1e-6))
    np.testing.assert_allclose(area, [reference.area(c)[0] for c in wide[0]], rtol=1e-5)


@given(BOXES, BOXES)
@settings(max_examples=60)
def test_offsets_of_drawn_boxes_are_finite_and_come_back(b, a):
    def f(b, a):
        t = ops.box_encode(b, a)
        return t, ops.box_decode(t, a, scale_clamp=100.0), ops.box_decode(t, a)

    t, back, clamped = jax.jit(f)(b, a)
    assert np.all(np.isfinite(t))
    assert np.all(np.isfinite(clamped))
    slope = jax.jit(jax.grad(lambda b, a: jnp.sum(ops.box_encode(b, a)), (0, 1)))(b, a)
    assert np.all(np.isfinite(slope))
    sides = np.stack([b[:, 2] - b[:, 0], b[:, 3] - b[:, 1], a[:, 2] - a[:, 0], a[:, 3] - a[:, 1]])
    proper = np.all((sides >= 1e-3) & (sides < 400), axis=0)
    np.testing.assert_allclose(back[proper], b[proper], atol=1e-4 * 10)


def test_encode_and_decode_equal_hand_arithmetic():
    anchor, box = jnp.array([[10.0, 10.0, 20.0, 30.0]]), jnp.array([[12.0, 10.0, 32.0, 20.0]])
    # centers (15, 20) and (22, 15); sides (10, 20) and (20, 10)
    expected = [[10 * 7 / 10, 10 * -5 / 20, 5 * log(2), 5 * log(1 / 2)]]
    weights = (10, 10, 5, 5)
    t = ops.box_encode(box, anchor, weights)
    np.testing.assert_allclose(t, expected, rtol=1e-6)
    np.testing.assert_allclose(ops.box_decode(t, anchor, weights), box, rtol=1e-6)


def test_decode_stops_growing_at_the_clamp():
    anchor, d = jnp.array([0.0, 0.0, 1.0, 1.0]), jnp.array([0.0, 0.0, inf, 5.0])
    b = ops.box_decode(d, anchor)
    np.testing.assert_allclose(b[2:] - b[:2], 1000 / 16, rtol=1e-5)
    g = jax.grad(lambda d: jnp.sum(ops.box_decode(d, anchor) ** 2))(d.at[2].set(4.0))
    assert g[2] > 0 and g[3] == 0
    assert jnp.all(ops.box_decode(d, jnp.zeros(4)) == 0)  # padding stays where it is


@pytest.mark.parametrize("in_format", ["xyxy", "xywh", "cxcywh", "yxyx"])
@pytest.mark.parametrize("out_format", ["xyxy", "xywh", "cxcywh", "yxyx"])
def test_box_convert_goes_and_comes_back(in_format, out_format):
    b = np.array([[1.0, 2.0, 10.0, 20.0], [3.5, 1.0, 4.0, 8.0]], np.float32)
    there = ops.box_convert(b, in_format, out_format)
    np.testing.assert_array_equal(there, [reference.convert(c, in_format, out_format) for c in b])
    np.testing.assert_array_equal(ops.box_convert(there, out_format, in_format), b)


def test_box_clip_and_scale_equal_hand_arithmetic():
    b = jnp.array([[-3.0, 2.0, 50.0, 40.0], [70.0, 70.0, 80.0, 80.0]])
    np.testing.assert_array_equal(ops.box_clip(b, (30, 60)), [[0, 2, 50, 30], [60, 30, 60, 30]])
    slope = jax.grad(lambda b: jnp.sum(ops.box_clip(b, (30, 60))))
    np.testing.assert_array_equal(slope(jnp.array([0.0, 1.0, 60.0, 31.0])), [0.5, 1, 0.5, 0])
    sizes = jnp.array([[30.0, 60.0], [90.0, 90.0]])  # one for each image
    clipped = jax.vmap(ops.box_clip)(b, sizes)
    np.testing.assert_array_equal(clipped, [[0, 2, 50, 30], [70, 70, 80, 80]])
    np.testing.assert_array_equal(ops.box_scale(b[:1], (2, 10)), [[-30, 4, 500, 80]])


def test_boxes_equal_torchvision():
    """The golden numbers: torchvision's of the same boxes."""
    with golden() as g:
        np.testing.assert_allclose(ops.box_iou(g["boxes1"], g["boxes2"]), g["iou"], rtol=1e-5)
        np.testing.assert_allclose(
            ops.box_giou(g["boxes1"], g["boxes2"]), g["giou"], rtol=1e-4, atol=1e-6
        )
        weights = tuple(map(float, g["weights"]))
        encoded = ops.box_encode(g["boxes1"], g["anchors"], weights)
        np.testing.assert_allclose(encoded, g["encoded"], rtol=1e-4, atol=1e-5)
        decoded = ops.box_decode(g["deltas"], g["anchors"], weights)
        np.testing.assert_allclose(decoded, g["decoded"], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ops.box_area(jnp.ones((2, 3))), ValueError, r"box_area: boxes have no last axis"),
        (lambda: ops.box_area(jnp.ones(4, int)), TypeError, "box_area: boxes is not floating"),
        (lambda: ops.box_iou(jnp.ones(4), UNIT), ValueError, "box_iou: boxes1 have no axis of"),
        (lambda: ops.box_giou(UNIT, jnp.ones(4)), ValueError, "box_giou: boxes2 have no axis of"),
        (
            lambda: ops.box_convert(UNIT, "ltrb", "xyxy"),
            ValueError,
            "box_convert: unknown in_format: got 'ltrb', need 'xyxy'",
        ),
        (
            lambda: ops.box_convert(UNIT, "xyxy", "coco"),
            ValueError,
            "box_convert: unknown out_format: got 'coco'",
        ),
        (lambda: ops.box_scale(UNIT, 2), ValueError, "box_scale: factors are not two numbers"),
        (lambda: ops.box_clip(UNIT, (2, 3, 3)), ValueError, "box_clip: image_size are not two"),
        (
            lambda: ops.box_encode(UNIT, UNIT, (1, 1, 1)),
            ValueError,
            r"box_encode: bad weights: got \(1, 1, 1\), need four positive",
        ),
        (
            lambda: ops.box_decode(UNIT, UNIT, (1, 1, 1, 0)),
            ValueError,
            "box_decode: bad weights",
        ),
        (
            lambda: ops.box_decode(UNIT, UNIT, scale_clamp=0.0),
            ValueError,
            "box_decode: bad scale_clamp: got 0.0, need scale_clamp > 0",
        ),
    ],
)
def test_errors_name_the_argument_and_the_remedy(call, error, message):
    with pytest.raises(error, match=message):
        call()
