"""Detectors: parameters, shapes, what is given and sampled, and what no gradient passes."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import model, ops
from convax.model.detection.options import RoIOptions, RPNOptions
from convax.model.detection.proposals import propose
from convax.model.detection.regions import BOX_WEIGHTS, detect
from tests.reference import detection as reference

SIZE = (64, 96)
TINY = dict(
    backbone="small",
    norm="group",
    width=8,
    fpn=8,
    stages=[1, 2],
    hidden=16,
    rpn=dict(
        anchor_sizes=[[12], [24], [48]],
        pre_nms_top_n_train=60,
        post_nms_top_n_train=40,
        pre_nms_top_n_test=50,
        post_nms_top_n_test=30,
        batch_size_per_image=32,
    ),
    roi=dict(batch_size_per_image=16, detections_per_img=10, score_thresh=0.0),
)


# What torchvision calls the second version of its detectors.
V2 = dict(head_features=[256] * 4, head_norm="batch", rpn=dict(depth=2))


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
    "make, backbone, classes, parameters",
    [
        (model.faster_rcnn, "resnet18", 1, 28_283_481),
        (model.faster_rcnn, "resnet34", 10, 38_437_766),
        (model.faster_rcnn, "resnet50", 90, 41_808_406),
        (model.faster_rcnn, "resnet101", 20, 60_441_784),
        (model.mask_rcnn, "resnet18", 1, 30_906_715),
        (model.mask_rcnn, "resnet50", 90, 44_454_513),
        (partial(model.faster_rcnn, **V2), "resnet50", 90, 43_712_278),
        (partial(model.mask_rcnn, **V2), "resnet50", 90, 46_359_409),
    ],
)
def test_parameters_are_those_of_torchvision(make, backbone, classes, parameters):
    _, params, _ = model.init_shapes(make(classes, backbone=backbone), (1, 64, 64, 3))
    assert count(params) == parameters


@pytest.mark.parametrize("backbone", ["vgg11", "vgg16_bn", "mobilenet_v2", "alexnet", "zf5"])
@pytest.mark.parametrize("fpn", [0, 16])
def test_a_detector_takes_maps_of_any_backbone(backbone, fpn):
    sizes = [[16.0]] * ({"alexnet": 4, "zf5": 3}.get(backbone, 5) if fpn else 1)
    net = model.faster_rcnn(2, backbone=backbone, fpn=fpn, rpn=dict(anchor_sizes=sizes))
    out, params, _ = model.init_shapes(net, (2, 70, 65, 3))
    assert out.detections.boxes == (2, 100, 4) and ("fpn" in params) == bool(fpn)


class Tiny:
    """A small Mask R-CNN, and its programs, compiled once."""

    def __init__(self):
        self.net = model.mask_rcnn(3, mask_features=[8], **TINY)
        out, self.params, self.state = self.net.init(jax.random.key(0), (2, *SIZE, 3))
        self.shapes = out
        self.images = jax.random.normal(jax.random.key(1), (2, *SIZE, 3))
        self.detect = jax.jit(lambda x: self.net.apply(self.params, self.state, x)[0])
        self.learn = jax.jit(jax.value_and_grad(self._loss, has_aux=True))

    def _loss(self, params, given, key):
        out, _ = self.net.apply(params, self.state, given, train=True, key=key)
        return sum(jnp.sum(jnp.square(y)) for y in _learned(out.regions)), out


def _learned(regions):
    return regions.logits, regions.deltas, regions.masks


@pytest.fixture(scope="module")
def tiny():
    return Tiny()


def truth_of(*objects):
    """Two images with the same objects, (x1, y1, x2, y2, class); -1 is a row without one."""
    rows = np.array([*objects, *[(0, 0, 0, 0, -1)] * (3 - len(objects))], np.float32)
    masks = np.zeros(SIZE, np.uint8)
    for number, (x1, y1, x2, y2, k) in enumerate(rows, 1):
        if k >= 0:
            masks[int(y1) : int(y2), int(x1) : int(x2)] = number
    return model.GroundTruth(
        boxes=jnp.asarray([rows[:, :4]] * 2),
        classes=jnp.asarray([rows[:, 4]] * 2).astype(jnp.int32),
        ignored=jnp.zeros((2, len(rows)), bool),
        masks=jnp.asarray([masks] * 2),
    )


OBJECTS = truth_of((10, 10, 40, 50, 0), (50, 20, 90, 60, 2))


def test_detections_have_the_shapes_that_init_says(tiny):
    out = tiny.detect(tiny.images)
    assert out.rpn is None and out.regions is None
    assert jax.tree.map(jnp.shape, out) == tiny.shapes
    found = out.detections
    there = found.classes >= 0
    assert there.any() and bool((found.scores[there] > 0).all())
    boxes = np.asarray(found.boxes)
    assert (boxes >= 0).all() and (boxes <= [96, 64, 96, 64]).all()
    assert bool((jnp.diff(found.scores) <= 0).all()), "best first"
    assert bool(((found.masks >= 0) & (found.masks <= 1)).all())


def test_truth_in_training_gives_what_the_loss_compares(tiny):
    (_, out), _ = tiny.learn(
        tiny.params, model.DetectorInput(tiny.images, OBJECTS), jax.random.key(2)
    )
    rpn, regions = out.rpn, out.regions
    assert out.detections is None
    A = rpn.logits.shape[1]
    # Strides 4 and 8, and every other pixel of the last: three ratios at each place.
    assert A == 3 * (16 * 24 + 8 * 12 + 4 * 6) and rpn.deltas.shape == (2, A, 4)
    assert (rpn.labels >= 0).sum(1).tolist() == [32, 32]
    assert bool((rpn.labels == 1).any(1).all()), "each object has an anchor"
    assert not bool(rpn.targets[rpn.labels != 1].any())
    # The true boxes are among the proposals, so each class is sampled, and comes first.
    labels = np.asarray(regions.labels)
    assert labels.shape == (2, 16) and all({1, 3} <= set(row[:4]) for row in labels)
    assert set(labels[:, 4:].ravel()) <= {0, -1}
    exact = (regions.boxes[:, :, None] == OBJECTS.boxes[:, None]).all(-1).any(-1)
    assert not bool(regions.targets[exact].any()), "a true box is where it should be"
    assert regions.masks.shape == (2, 4, 28, 28, 4) and regions.mask_targets.shape == (2, 4, 28, 28)
    inner = regions.mask_targets[exact[:, :4]][:, 1:-1, 1:-1]  # bins at the edge see what is beside
    np.testing.assert_allclose(inner, 1)


def test_samples_follow_the_key_in_training_and_are_fixed_in_evaluation(tiny):
    given = model.DetectorInput(tiny.images, OBJECTS)
    samples = [
        np.asarray(tiny.learn(tiny.params, given, jax.random.key(k))[0][1].rpn.labels)
        for k in (1, 1, 2)
    ]
    assert (samples[0] == samples[1]).all() and (samples[0] != samples[2]).any()
    out = tiny.detect(given)
    assert out.detections is not None and out.rpn is not None
    again = tiny.detect(given)
    np.testing.assert_array_equal(out.rpn.labels, again.rpn.labels)
    np.testing.assert_array_equal(out.detections.boxes, tiny.detect(tiny.images).detections.boxes)


def test_no_gradient_of_the_second_stage_reaches_the_first(tiny):
    given = model.DetectorInput(tiny.images, OBJECTS)
    _, grads = tiny.learn(tiny.params, given, jax.random.key(2))
    assert not any(leaf.any() for leaf in jax.tree.leaves(grads["rpn"]))
    for part in ("backbone", "fpn", "head", "predictor", "mask_head", "mask_predictor"):
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(grads[part]))
        assert any(leaf.any() for leaf in jax.tree.leaves(grads[part])), part


@pytest.mark.parametrize("kind", ["none", "ignored", "tiny"])
def test_images_without_objects_to_be_found_are_finite(tiny, kind):
    truth = {
        "none": truth_of(),
        "ignored": OBJECTS._replace(ignored=jnp.ones((2, 3), bool)),
        "tiny": truth_of((5, 5, 5, 9, 1)),  # a box without width
    }[kind]
    (loss, out), grads = tiny.learn(
        tiny.params, model.DetectorInput(tiny.images, truth), jax.random.key(0)
    )
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves((loss, out, grads)))
    if kind != "tiny":
        assert not bool((out.rpn.labels == 1).any()) and not bool((out.regions.labels > 0).any())
    if kind == "ignored":
        # Of the proposals inside what is ignored none is background.
        inside = (OBJECTS.boxes[:, None, :2, :2] <= out.regions.boxes[:, :, None, :2]).all(-1)
        inside &= (OBJECTS.boxes[:, None, :2, 2:] >= out.regions.boxes[:, :, None, 2:]).all(-1)
        assert not bool((inside.any(-1) & (out.regions.labels == 0)).any())


def test_coordinates_stay_wide_where_images_are_narrow(tiny):
    narrow = jax.tree.map(lambda p: p.astype(jnp.bfloat16), tiny.params)
    given = model.DetectorInput(tiny.images.astype(jnp.bfloat16), OBJECTS)
    out, _ = jax.eval_shape(
        partial(tiny.net.apply, train=True), narrow, tiny.state, given, key=jax.random.key(0)
    )
    assert {leaf.dtype.name for leaf in jax.tree.leaves(out)} == {"float32", "int32"}


def test_training_needs_a_key_and_a_network_without_proposals_needs_some(tiny):
    given = model.DetectorInput(tiny.images, OBJECTS)
    with pytest.raises(ValueError, match=r"no key: need one in training, for the samples"):
        jax.eval_shape(partial(tiny.net.apply, train=True), tiny.params, tiny.state, given)


def test_converters_know_what_a_detector_is_made_of(tiny):
    """Of jax2onnx 0.17: no loop, no scatter, no log2; no remainder and padding of any batch."""
    find = lambda x: tiny.net.apply(tiny.params, tiny.state, x)[0].detections  # noqa: E731
    with ops.implementation("jaxpr"), jax.disable_jit():
        program = str(jax.make_jaxpr(find)(tiny.images))
    used = set(re.findall(r"= ([a-z_0-9]+)\[?", program))
    assert "top_k" in used and "conv_general_dilated" in used
    assert not {name for name in used if re.match("while|cond|scatter|log2|rem$|pad$", name)}


def test_intermediates_of_a_detector_can_be_captured(tiny):
    paths = ["fpn/output1", "rpn/conv1", "head/fc6", "backbone/stage2/then"]
    tapped = model.capture_intermediates(tiny.net, paths)
    (_, shapes), params, state = model.init_shapes(tapped, (2, *SIZE, 3))
    x = jax.ShapeDtypeStruct((2, *SIZE, 3), jnp.float32)
    (_, found), _ = jax.eval_shape(tapped.apply, params, state, x)
    assert jax.tree.map(lambda a: a.shape, found) == shapes
    assert shapes["rpn/conv1"] == {"p2": (2, 16, 24, 8), "p3": (2, 8, 12, 8), "p4": (2, 4, 6, 8)}
    assert shapes["head/fc6"] == (60, 16)


def test_a_summary_counts_every_map_and_region(tiny):
    rows = {row.path: row for row in model.summarize(tiny.net, (*SIZE, 3)).rows}
    places = 16 * 24 + 8 * 12 + 4 * 6
    assert rows["rpn/conv1"].flops == 2 * places * 9 * 8 * 8
    assert rows["head/fc6"].flops == 2 * 30 * 7 * 7 * 8 * 16
    assert sum(row.parameters for row in rows.values()) == count(tiny.params)


def decoded_box(deltas, anchor, weights):
    box, *_ = reference.decode(deltas, anchor, weights, np.log(1000 / 16))
    return reference.clip(box, 40, 50)[0]


def test_proposals_are_those_of_loops(rng):
    rpn = RPNOptions(pre_nms_top_n_test=20, post_nms_top_n_test=12, nms_thresh=0.5, min_size=4.0)
    anchors = [rng.uniform(0, 40, (n, 4)).astype(np.float32) for n in (30, 8)]
    for level in anchors:
        level[:, 2:] = level[:, :2] + rng.uniform(2, 30, (len(level), 2))
    logits = rng.normal(size=38).astype(np.float32)
    deltas = rng.normal(size=(38, 4)).astype(np.float32) * 0.3
    boxes, valid = jax.jit(
        lambda *a: propose(*a, [jnp.asarray(x) for x in anchors], (40, 50), rpn, train=False)
    )(logits, deltas)

    found = []
    for level, start in zip(anchors, (0, 30), strict=True):
        order = np.argsort(-logits[start : start + len(level)], kind="stable")[:20]
        decoded = np.array([decoded_box(deltas[start + i], level[i], (1,) * 4) for i in order])
        large = (decoded[:, 2:] - decoded[:, :2] >= 4).all(1)
        kept = reference.nms(decoded, logits[start + order], 0.5, valid=large)
        found += [(logits[start + order[i]], decoded[i]) for i in kept]
    found.sort(key=lambda pair: -pair[0])
    expected = np.array([box for _, box in found[:12]])
    assert valid.sum() == len(expected) and not np.asarray(boxes)[len(expected) :].any()
    np.testing.assert_allclose(boxes[: len(expected)], expected, atol=1e-4)


def test_detections_are_those_of_loops(rng):
    roi = RoIOptions(score_thresh=0.2, nms_thresh=0.4, detections_per_img=6)
    R, K = 14, 3
    logits = rng.normal(size=(R, K + 1)).astype(np.float32) * 2
    deltas = rng.normal(size=(R, K + 1, 4)).astype(np.float32)
    proposals = rng.uniform(0, 30, (R, 4)).astype(np.float32)
    proposals[:, 2:] = proposals[:, :2] + rng.uniform(2, 30, (R, 2))
    proposed = np.arange(R) < R - 2
    found_by = jax.jit(lambda *a: detect(*a, (40, 50), roi))
    out, own, regions = found_by(logits, deltas, proposals, proposed)

    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = []
    for k in range(K):
        rows = [i for i in range(R) if proposed[i] and scores[i, k + 1] > 0.2]
        boxes = [decoded_box(deltas[i, k + 1], proposals[i], BOX_WEIGHTS) for i in rows]
        for n in reference.nms(np.array(boxes), scores[rows, k + 1], 0.4) if rows else []:
            found.append((scores[rows[n], k + 1], k, boxes[n], rows[n]))
    found.sort(key=lambda row: -row[0])
    n = min(len(found), 6)
    assert n > 2 and (np.asarray(out.classes) >= 0).sum() == n
    np.testing.assert_array_equal(out.classes[:n], [k for _, k, *_ in found[:n]])
    np.testing.assert_allclose(out.scores[:n], [score for score, *_ in found[:n]], rtol=1e-5)
    np.testing.assert_allclose(out.boxes[:n], [box for _, _, box, _ in found[:n]], atol=1e-4)
    rows = [row for *_, row in found[:n]]
    np.testing.assert_array_equal(own[:n], logits[rows])
    np.testing.assert_array_equal(regions[:n], proposals[rows])
    assert not np.asarray(own[n:]).any() and not np.asarray(regions[n:]).any()
    assert not np.asarray(out.boxes[n:]).any() and (np.asarray(out.classes[n:]) == -1).all()


@pytest.mark.parametrize(
    "keywords, message",
    [
        (dict(stages=[1, 5]), r"bad stages: got \[1, 5\], need some of \[1, 2, 3, 4\] of small"),
        (dict(stages=[1, 2], fpn=0), r"need one of \[1, 2, 3, 4\] of small: there is no pyramid"),
        (dict(stages=[1]), r"rpn.anchor_sizes: got 5 list\(s\) for 2 map\(s\), need one each"),
        (dict(backbone="lenet5"), r"unknown backbone: got 'lenet5'"),
        (dict(norm="layer"), r"unknown norm: got 'layer'"),
        (dict(rpn=dict(anchor_sizes=[[8], [16, 32]])), r"rpn: bad anchor_sizes: .* as many"),
        (dict(rpn=dict(aspect_ratios=[0.0])), r"rpn: bad aspect_ratios: got \[0.0\], need pos"),
        (dict(stages=[]), r"bad stages: got \[\], need some of"),
        (dict(width=0), r"faster_rcnn: bad width: got 0"),
        (dict(fpn=-1), r"faster_rcnn: bad fpn: got -1, need channels, or 0"),
        (dict(rpn=dict(bg_iou_thresh=0.8)), r"rpn: bad bg_iou_thresh: got 0.8, need at most"),
        (dict(rpn=dict(nms_thresh=1.5)), r"rpn: bad nms_thresh: got 1.5, need a number in"),
        (dict(roi=dict(detections_per_img=0)), r"roi: bad detections_per_img: got 0, need an int"),
    ],
)
def test_what_does_not_fit_is_named(keywords, message):
    with pytest.raises(ValueError, match=message):
        model.faster_rcnn(2, **dict(backbone="small") | keywords)
