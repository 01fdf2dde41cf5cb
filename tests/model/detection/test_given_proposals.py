"""R-CNN, SPP-Net and Fast R-CNN: detectors that are given their proposals."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import model, ops
from convax.model.detection.options import RegionOptions
from convax.model.detection.pools import pool_pyramid, warp_regions
from convax.model.detection.regions import sample_regions

SIZE = (32, 48)
SHARED = dict(backbone="small", norm="group", width=8, hidden=8, stages=[1])
ROI = dict(batch_size_per_image=8, detections_per_img=5, score_thresh=0.0)
NETWORKS = {
    "rcnn": dict(size=16, context=2),
    "spp_detector": dict(levels=[2, 1]),
    "fast_rcnn": dict(roi=ROI | {"output_size": 3}),
}
PROPOSALS = jnp.array(
    [
        [[4, 4, 20, 24], [6, 2, 22, 20], [30, 4, 44, 28], [0, 0, 8, 8], [0, 0, 0, 0]],
        [[0, 0, 48, 32], [10, 10, 12, 20], [2, 2, 2, 9], [0, 0, 0, 0], [0, 0, 0, 0]],
    ],
    jnp.float32,
)
TRUTH = model.GroundTruth(
    boxes=jnp.array([[[5.0, 4, 21, 23]], [[0, 0, 0, 0]]]),
    classes=jnp.array([[1], [-1]], jnp.int32),
    ignored=jnp.zeros((2, 1), bool),
    masks=jnp.zeros((2, 0, 0), jnp.uint8),
)


class Tiny:
    """A small network of one of the architectures, and its programs."""

    def __init__(self, name):
        self.net = model.build({"name": name, **SHARED, "roi": ROI, **NETWORKS[name]}, 2)
        self.shapes, params, self.state = model.init_shapes(self.net, (2, *SIZE, 3))
        rng = np.random.default_rng(0)
        draw = lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
        self.params = jax.tree.map(lambda leaf: 0.2 * draw(leaf.shape), params)
        self.images = draw((2, *SIZE, 3))
        self.given = model.DetectorInput(self.images, TRUTH, PROPOSALS)


@pytest.fixture(scope="module", params=NETWORKS)
def tiny(request):
    return Tiny(request.param)


@pytest.mark.parametrize(
    ("name", "in_shape", "parameters"),
    [
        # AlexNet's convolutions, its dense layers on 6x6x256, and two outputs
        ("rcnn", (1, 64, 64, 3), 2_469_696 + 37_752_832 + 16_781_312 + 86_037 + 344_148),
        # ZF-5's convolutions, and 50 bins of 256 channels
        ("spp_detector", (1, 64, 64, 3), 3_726_464 + 52_432_896 + 16_781_312 + 430_185),
        # VGG-16's, and 7x7x512
        ("fast_rcnn", (1, 64, 64, 3), 14_714_688 + 102_764_544 + 16_781_312 + 430_185),
    ],
)
def test_parameters_are_those_of_the_papers(name, in_shape, parameters):
    net = model.ARCHITECTURES[name](20)
    _, params, _ = model.init_shapes(net, in_shape)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == parameters
    assert f"{parameters:,} parameters for 20 classes" in (model.ARCHITECTURES[name].__doc__ or "")


def test_only_proposals_become_detections(tiny):
    out, state = jax.jit(tiny.net.apply)(tiny.params, tiny.state, tiny.given._replace(truth=None))
    assert out.rpn is None and out.regions is None and state == tiny.state
    assert jax.tree.map(jnp.shape, out) == tiny.shapes
    found = out.detections
    # Of the second image two rows have an area, and two classes each.
    assert int((found.classes[1] >= 0).sum()) == 4
    boxes = np.asarray(found.boxes)
    assert (boxes >= 0).all() and (boxes <= [48, 32, 48, 32]).all()


def test_a_training_step_samples_proposals_and_true_boxes_and_reaches_all_parts():
    tiny = Tiny("rcnn")

    def loss(params):
        out, _ = tiny.net.apply(params, tiny.state, tiny.given, train=True, key=jax.random.key(2))
        return jnp.square(out.regions.logits).sum() + jnp.square(out.regions.deltas).sum(), out

    (_, out), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(tiny.params)
    labels = np.asarray(out.regions.labels)
    assert out.detections is None and out.rpn is None and labels.shape == (2, 8)
    # The true box and the two proposals on it stand for it, of which a quarter of 8 is taken.
    assert labels[0].tolist()[:2] == [2, 2] and not (labels[0, 2:] > 0).any()
    assert not (labels[1] > 0).any() and (labels[1] == 0).sum() == 2, "rows without area are none"
    for part in ("backbone", "head", "predictor"):
        leaves = jax.tree.leaves(grads[part])
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in leaves)
        assert any(leaf.any() for leaf in leaves), part


def test_features_are_what_the_last_layer_is_given(tiny):
    compute = jax.jit(partial(model.region_features, tiny.net))
    found = compute(tiny.params, tiny.state, tiny.images, PROPOSALS)
    D = tiny.params["head"]["fc7"]["kernel"].shape[1]
    assert found.features.shape == (2, 5, D)
    assert found.pooled.shape == (2, 5, len(tiny.params["head"]["fc6"]["kernel"]))
    hidden = np.asarray(found.pooled)
    for layer in ("fc6", "fc7"):
        weights = jax.tree.map(np.asarray, tiny.params["head"][layer])
        hidden = np.maximum(hidden @ weights["kernel"] + weights["bias"], 0)
    np.testing.assert_allclose(found.features, hidden, rtol=1e-4, atol=1e-5)


def test_a_part_can_be_captured_and_a_summary_counts_one_region(tiny):
    tapped = model.capture_intermediates(tiny.net, ["head/fc6", "backbone/stage1/then"])
    given = tiny.given._replace(truth=None)
    (_, found), _ = jax.eval_shape(tapped.apply, tiny.params, tiny.state, given)
    assert found["head/fc6"].shape == (10, 8)
    rows = {row.path: row for row in model.summarize(tiny.net, (*SIZE, 3)).rows}
    assert rows["head/fc7"].flops == 2 * 8 * 8
    assert sum(row.parameters for row in rows.values()) == sum(
        leaf.size for leaf in jax.tree.leaves(tiny.params)
    )


def test_proposals_must_be_given(tiny):
    with pytest.raises(ValueError, match=r"no proposals: .*; pass a DetectorInput with proposals"):
        jax.eval_shape(tiny.net.apply, tiny.params, tiny.state, tiny.images)


def test_a_warped_region_has_its_context_and_zeros_beyond_the_image():
    image = jnp.ones((1, 8, 8, 1)) * jnp.arange(1.0, 9)[None, :, None, None]
    boxes = jnp.array([[[2.0, 2, 6, 6], [0, 0, 4, 4]]])
    out = warp_regions({"image": image}, boxes, (8, 8), size=8, context=2)
    # Four pixels become four, and two on each side are what is around them: 0 to 8.
    np.testing.assert_allclose(out[0, 0, :, 0, 0], [1, 2, 3, 4, 5, 6, 7, 8])
    # RoIAlign reads the edge of an image up to a pixel beyond it.
    np.testing.assert_allclose(out[0, 1, :, 4, 0], [0, 1, 1, 2, 3, 4, 5, 6])
    np.testing.assert_allclose(out[0, 1, 4], np.full((8, 1), 3) * (np.arange(8) >= 1)[:, None])


def test_a_pyramid_on_the_whole_image_is_that_of_spp_net(rng):
    maps = jnp.asarray(rng.normal(size=(2, 6, 6, 3)), jnp.float32)
    whole = jnp.array([[[0.0, 0, 80, 80]]] * 2)  # up to the last of six pixels of 16
    out = pool_pyramid({"a": maps}, whole, (96, 96), levels=(3, 2, 1))
    assert out.shape == (2, 1, 14, 3)
    expected = ops.spatial_pyramid_pool(maps, (3, 2, 1))
    np.testing.assert_array_equal(out.reshape(2, -1), expected)


@pytest.mark.parametrize("objects", [True, False])
def test_background_that_is_far_from_all_objects_is_sampled_only_where_there_are_none(objects):
    roi = RegionOptions(batch_size_per_image=8, min_background_iou=0.1)
    truth = jax.tree.map(lambda leaf: leaf[0 if objects else 1], TRUTH)
    # IoU with the object: 0.17, below 0.1, none
    proposals = jnp.array([[5.0, 4, 13, 10], [5, 4, 8, 8], [30, 4, 44, 28]])
    sample = jax.jit(partial(sample_regions, roi=roi))
    found = sample(jax.random.key(0), proposals, jnp.ones(3, bool), truth)
    background = found.boxes[found.labels == 0]
    expected = proposals[:1] if objects else proposals
    assert sorted(background.tolist()) == sorted(expected.tolist())


@pytest.mark.parametrize(
    ("name", "keywords", "message"),
    [
        (
            "rcnn",
            dict(size=16, context=8),
            r"rcnn: bad context: got 8, need 0 or more, and less than half",
        ),
        ("rcnn", dict(size=0), r"rcnn: bad size: got 0"),
        ("rcnn", dict(stages=[1, 2]), r"rcnn: bad stages: got \[1, 2\], need one of"),
        ("spp_detector", dict(levels=[]), r"spp_detector: bad levels: got \[\]"),
        ("spp_detector", dict(stages=[5]), r"spp_detector: bad stages: got \[5\], need one of"),
        ("fast_rcnn", dict(pool="mean"), r"unknown pool: got 'mean', need one of 'max', 'align'"),
        ("fast_rcnn", dict(hidden=0), r"fast_rcnn: bad hidden: got 0"),
        (
            "fast_rcnn",
            dict(roi=dict(min_background_iou=0.6)),
            r"roi: bad min_background_iou: got 0.6, need at most bg_iou_thresh, 0.5",
        ),
    ],
)
def test_what_does_not_fit_is_named(name, keywords, message):
    with pytest.raises(ValueError, match=message):
        model.build({"name": name, "backbone": "small", **keywords}, 2)
