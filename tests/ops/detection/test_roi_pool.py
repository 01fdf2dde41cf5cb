"""RoIPool: by hand, against loops and torchvision, ties, NaN, edges of bins and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from convax import ops
from tests.golden import roi as golden_roi
from tests.reference import roi as reference
from tests.reference.random_boxes import COUNT, random_boxes

SIZE, OUTPUT = (5, 6), (2, 3)


@jax.jit
def value_and_grads(x, boxes, g):
    y, vjp = jax.vjp(lambda x, boxes: ops.roi_pool(x, boxes, OUTPUT), x, boxes)
    return y, *vjp(g)


def test_roi_pool_equals_hand_arithmetic():
    x = jnp.arange(25.0).reshape(5, 5, 1)
    # From 0.5, rounded to 1, up to 3: three rows, whose two bins are 1 to 2 and 2 to 3.
    y = ops.roi_pool(x, jnp.array([[0.5, 0.5, 3.0, 3.4]]), 2)[0, :, :, 0]
    np.testing.assert_array_equal(y, [[12, 13], [17, 18]])
    # Half of it outside: rows -2 to 1, of which the first bin has none.
    y = ops.roi_pool(x, jnp.array([[0.0, -2.0, 0.0, 1.0]]), (2, 1))[0, :, 0, 0]
    np.testing.assert_array_equal(y, [0, 5])


def test_roi_pool_equals_torchvision_as_recorded():
    with golden_roi.golden() as t:
        boxes = jnp.asarray(t["boxes"])
        pool = lambda x: ops.roi_pool(  # noqa: E731
            x, boxes, golden_roi.OUTPUT_SIZE, spatial_scale=golden_roi.SCALE
        )
        y, vjp = jax.vjp(pool, jnp.asarray(t["x"]))
        np.testing.assert_array_equal(y, t["pool"])
        (gx,) = vjp(jnp.asarray(t["g"]))
        np.testing.assert_allclose(gx, t["pool_grad"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("ties", [False, True], ids=["normal", "ties"])
def test_any_boxes_equal_loops(ties, rng):
    shape = (*SIZE, 2)
    x = rng.integers(-2, 2, shape) if ties else rng.standard_normal(shape)
    g = rng.integers(-4, 5, (COUNT, *OUTPUT, 2))  # sums are exact
    x, g = x.astype(np.float32), g.astype(np.float32)

    @settings(max_examples=40)
    @given(random_boxes(SIZE))
    def each(boxes):
        y, gx, gb = value_and_grads(x, boxes, g)
        np.testing.assert_array_equal(y, reference.roi_pool(x, boxes, OUTPUT))
        np.testing.assert_array_equal(gx, reference.roi_pool_grad(g, x, boxes, OUTPUT)[0])
        np.testing.assert_array_equal(gb, 0)

    each()


def test_nan_wins_and_the_first_has_the_gradient(rng):
    x = rng.standard_normal((*SIZE, 2)).astype(np.float32)
    x[1, 2, 0] = x[1, 3, 0] = x[4, 0, 1] = np.nan
    boxes = np.array([[0, 0, 5, 4]] * COUNT, np.float32)
    g = np.ones((COUNT, *OUTPUT, 2), np.float32)
    y, gx, _ = value_and_grads(x, boxes, g)
    np.testing.assert_array_equal(y, reference.roi_pool(x, boxes, OUTPUT))
    np.testing.assert_array_equal(gx, reference.roi_pool_grad(g, x, boxes, OUTPUT)[0])


def test_edges_of_bins_are_exact():
    """In float32, 7 * (57 / 7) may be above 57, and one row more be read."""
    x = jnp.arange(60.0).reshape(60, 1, 1)
    for h in range(1, 59):
        box = jnp.array([[0.0, 0.0, 0.0, h - 1.0]])
        ends = [-(-(p + 1) * h // 7) - 1 for p in range(7)]
        np.testing.assert_array_equal(ops.roi_pool(x, box, (7, 1)).ravel(), ends)


def test_corners_are_rounded_half_away_from_zero():
    x = jnp.arange(8.0).reshape(1, 8, 1)
    below = np.nextafter(np.float32(0.5), np.float32(0))  # whose sum with 1/2 is rounded to 1
    boxes = jnp.array(
        [[below, 0, below, 0], [0.5, 0, 0.5, 0], [2.5, 0, 2.5, 0], [-0.5, 0, -0.4, 0]]
    )
    y = ops.roi_pool(x + 1, boxes, 1).ravel()
    # From -1 on, rounded, up to 0.
    np.testing.assert_array_equal(y, [1, 2, 4, 1])


def test_pyramid_of_the_whole_map_is_spatial_pyramid_pool(rng):
    x = jnp.asarray(rng.standard_normal((2, *SIZE, 3)), jnp.float32)
    whole = jnp.array([[[0.0, 0.0, 5.0, 4.0]]] * 2)
    y = ops.roi_pyramid_pool(x, whole)
    assert y.shape == (2, 1, 21 * 3)
    np.testing.assert_array_equal(y[:, 0], ops.spatial_pyramid_pool(x))


def test_roi_pool_keeps_the_type_and_takes_nothing(rng):
    x = jnp.asarray(rng.standard_normal((*SIZE, 2)), jnp.bfloat16)
    assert ops.roi_pool(x, jnp.zeros((3, 4)), 2).dtype == jnp.bfloat16
    for shape, boxes in (((5, 6, 2), (0, 4)), ((0, 5, 6, 2), (0, 3, 4))):
        y, vjp = jax.vjp(lambda *a: ops.roi_pool(*a, 2), jnp.zeros(shape), jnp.zeros(boxes))
        assert y.shape == (*boxes[:-1], 2, 2, 2)
        assert [a.shape for a in vjp(y)] == [shape, boxes]
    for box in ([np.nan] * 4, [-1e30, -1e30, 1e30, 1e30], [np.inf] * 4):
        assert jnp.isfinite(ops.roi_pool(x, jnp.array([box]), 2)).all()


@pytest.mark.parametrize("function", [ops.roi_pool, ops.roi_pyramid_pool])
def test_pools_refuse_what_does_not_fit(function):
    name, bins = function.__name__, (2, 2)
    with pytest.raises(ValueError, match=rf"^{name}: shapes do not fit: got x \(5, 6\) and boxes"):
        function(jnp.zeros((5, 6)), jnp.zeros((3, 4)), bins)
    with pytest.raises(TypeError, match=rf"^{name}: boxes is not floating point: got int32"):
        function(jnp.zeros((5, 6, 1)), jnp.zeros((3, 4), jnp.int32), bins)
    with pytest.raises(ValueError, match=rf"^{name}: bad spatial_scale: got 0, need a finite"):
        function(jnp.zeros((5, 6, 1)), jnp.zeros((3, 4)), bins, spatial_scale=0)


def test_roi_pool_refuses_a_wrong_size():
    with pytest.raises(ValueError, match=r"^roi_pool: bad output_size: got 0, need a positive int"):
        ops.roi_pool(jnp.zeros((5, 6, 1)), jnp.zeros((3, 4)), 0)


@pytest.mark.parametrize("levels", [(), 3, (2, 0), (2.0,), "21"])
def test_roi_pyramid_pool_refuses_wrong_levels(levels):
    message = r"^roi_pyramid_pool: bad levels: got .*, need one or more.*write levels=\(4, 2, 1\)"
    with pytest.raises(ValueError, match=message):
        ops.roi_pyramid_pool(jnp.zeros((5, 6, 1)), jnp.zeros((3, 4)), levels)
