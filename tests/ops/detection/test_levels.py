"""Levels of a pyramid: which, and the regions read on them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import ops
from tests.golden import roi as golden_roi
from tests.reference import roi as reference

SIZES, SCALES, OUTPUT = ((5, 6), (3, 4)), (0.5, 0.25), (2, 3)


@pytest.fixture
def pyramid(rng):
    maps = [jnp.asarray(rng.standard_normal((*size, 2)), jnp.float32) for size in SIZES]
    corners = np.sort(rng.uniform(-0.2, 1.2, (4, 2, 2)), axis=1).reshape(4, 4)
    boxes = jnp.asarray(corners * (12, 10, 12, 10), jnp.float32).at[3].set(0)
    return maps, boxes, jnp.array([0, 1, 1, 0])


def test_roi_levels_equal_hand_arithmetic():
    sides = jnp.array([0.0, 1.0, 111.9, 112.0, 223.9, 224.0, 448.0, 1e5])[:, None]
    boxes = jnp.concatenate([0 * sides, 0 * sides, sides, sides], axis=1)
    np.testing.assert_array_equal(ops.roi_levels(boxes), [0, 0, 0, 1, 1, 2, 3, 3])
    # 30 pixels where 20 belong to level 1: floor(1 + log2(1.5)) = 1, the second of levels 0 to 2.
    of = partial(ops.roi_levels, k_min=0, k_max=2, canonical_scale=20, canonical_level=1)
    assert of(jnp.array([0.0, 0.0, 30.0, 30.0])) == 1
    assert ops.roi_levels(jnp.array([5.0, 5.0, 1.0, 900.0])) == 0  # no area


def test_roi_levels_equal_loops(rng):
    boxes = np.float32(rng.uniform(0, 900, (200, 4)))
    np.testing.assert_array_equal(ops.roi_levels(jnp.asarray(boxes)), reference.roi_levels(boxes))


def test_levels_equal_torchvision_as_recorded():
    how = dict(spatial_scales=[1 / stride for stride in golden_roi.STRIDES], aligned=False)
    with golden_roi.golden() as t:
        np.testing.assert_array_equal(ops.roi_levels(jnp.asarray(t["sizes"])), t["levels"])
        boxes = jnp.asarray(t["boxes"])
        levels = ops.roi_levels(boxes, k_min=2, k_max=3, canonical_scale=20)
        assert set(np.asarray(levels)) == {0, 1}
        maps = [jnp.asarray(t[name]) for name in ("x", "coarse")]
        y = ops.multilevel_roi_align(maps, boxes, levels, golden_roi.OUTPUT_SIZE, **how)
        np.testing.assert_allclose(y, t["multilevel"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sampling_ratio", [2, 0], ids=["fixed", "adaptive"])
@pytest.mark.parametrize("name", ["cpu", "xla"])
def test_each_region_is_read_on_its_own_level(name, sampling_ratio, pyramid, rng):
    """Value and gradients of a batch, against loops."""
    maps, boxes, levels = pyramid
    how = dict(spatial_scales=SCALES, sampling_ratio=sampling_ratio)
    g = jnp.asarray(rng.standard_normal((2, 4, *OUTPUT, 2)), jnp.float32)

    @jax.jit
    def value_and_grads(maps, boxes, g):
        align = lambda maps, boxes: ops.multilevel_roi_align(  # noqa: E731
            maps, boxes, jnp.stack([levels, 1 - levels]), OUTPUT, **how
        )
        y, vjp = jax.vjp(align, maps, boxes)
        return y, *vjp(g)

    twice = lambda a: jnp.stack([a, a])  # noqa: E731
    with ops.implementation(name):
        y, gmaps, gboxes = value_and_grads([twice(x) for x in maps], twice(boxes), g)
    assert jnp.isfinite(gboxes).all()
    for n, of in enumerate((levels, 1 - levels)):
        arrays = [np.asarray(x, float) for x in maps], np.asarray(boxes, float), np.asarray(of)
        expected = reference.multilevel_roi_align(*arrays, OUTPUT, **how)
        np.testing.assert_allclose(y[n], expected, rtol=1e-4, atol=1e-4)
        *expected, _ = reference.multilevel_roi_align_grad(
            np.asarray(g[n], float), *arrays, OUTPUT, **how
        )
        for gx, e in zip(gmaps, expected, strict=True):
            np.testing.assert_allclose(gx[n], e, rtol=1e-4, atol=1e-4)


def test_a_level_that_is_not_there_counts_as_the_nearest(pyramid):
    maps, boxes, levels = pyramid
    align = jax.jit(partial(ops.multilevel_roi_align, output_size=2, spatial_scales=SCALES))
    np.testing.assert_array_equal(
        align(maps, boxes, 9 * levels - 1), align(maps, boxes, jnp.minimum(levels, 1))
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(k_min=2.5), "bad k_min: got 2.5, need an int; write k_min=4"),
        (dict(canonical_level="4"), "bad canonical_level: got '4', need an int"),
        (dict(k_min=5, k_max=2), "no levels: got k_min=5 and k_max=2, need k_min <= k_max; write"),
        (dict(canonical_scale=0), "bad canonical_scale: got 0, need a finite number > 0, pixels"),
    ],
    ids=str,
)
def test_roi_levels_refuse_wrong_options(options, message):
    with pytest.raises(ValueError) as error:
        ops.roi_levels(jnp.zeros((3, 4)), **options)
    assert str(error.value).startswith(f"roi_levels: {message}")


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (dict(maps=[]), ValueError, "no maps: got list, need a sequence of arrays"),
        (dict(maps=np.zeros((5, 6, 2))), ValueError, "no maps: got ndarray, need a sequence"),
        (
            dict(maps=[np.zeros((5, 6, 2), np.float32), np.zeros((3, 4, 3), np.float32)]),
            *(ValueError, "channels of maps differ: got 2 and 3, need one number; bring"),
        ),
        (
            dict(maps=[np.zeros((5, 6, 2), np.float32), np.zeros((3, 4, 2), np.float16)]),
            *(TypeError, "dtypes of maps differ: got float32 and float16, need one; write x.as"),
        ),
        (
            dict(spatial_scales=(0.5,)),
            *(ValueError, "scales do not fit the maps: got 1 scales of 2 maps, need one for each"),
        ),
        (
            dict(spatial_scales=(0.5, -1)),
            *(ValueError, "bad spatial_scale: got -1, need a finite number > 0"),
        ),
        (
            dict(levels=np.zeros(4, np.float32)),
            *(TypeError, "levels are no integers: got float32, need an integer dtype; write roi"),
        ),
        (
            dict(levels=np.zeros(3, np.int32)),
            *(ValueError, "levels do not fit the boxes: got levels (3,) and boxes (4, 4), need on"),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_multilevel_roi_align_refuses_what_does_not_fit(change, kind, message, pyramid):
    maps, boxes, levels = pyramid
    right = dict(maps=maps, boxes=boxes, levels=levels, output_size=2, spatial_scales=SCALES)
    with pytest.raises(kind) as error:
        ops.multilevel_roi_align(**right | change)
    assert str(error.value).startswith(f"multilevel_roi_align: {message}")
