"""Mask R-CNN with torchvision's weights: its maps, proposals, detections, losses and gradients.

On a pyramid of a ResNet-18; nothing is sampled out on either side, so that no random number enters.
"""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import model
from convax.model.detection.options import RPNOptions
from convax.model.detection.proposals import anchors_on, by_anchor, propose
from convax.model.torch.names import names_of
from convax.training.common.pytree_paths import map_named, named_leaves
from convax.training.tasks.detection.losses import rcnn
from convax.training.weights.torch_state_dict import torch_mapping

SIZE, CLASSES, R = 96, 3, 40
ANCHORS = (8, 16, 32, 64, 96)
SPEC = {
    "name": "mask_rcnn",
    "backbone": "resnet18",
    "fpn": 16,
    "hidden": 32,
    "mask_features": [16, 16, 16, 16],
    "rpn": {
        "anchor_sizes": [[size] for size in ANCHORS],
        "pre_nms_top_n_train": 100,
        "pre_nms_top_n_test": 100,
        "post_nms_top_n_train": R,
        "post_nms_top_n_test": R,
        "batch_size_per_image": 10**5,
    },
    "roi": {
        "aligned": False,
        "batch_size_per_image": R + 2,
        "positive_fraction": 1.0,
        "detections_per_img": 20,
    },
}
V2 = SPEC | {
    "head_features": [16, 24],
    "head_norm": "batch",
    "rpn": SPEC["rpn"] | {"depth": 2},
}
BOXES = np.array([[[10, 12, 50, 60], [40, 30, 90, 80]], [[20, 5, 70, 45], [0, 0, 0, 0]]])
OBJECTS = np.array([[0, 2], [1, -1]])


@pytest.fixture(scope="module")
def torchvision(torch):
    return pytest.importorskip(
        "torchvision", reason="torchvision is not installed", exc_type=Exception
    )


def mask_rcnn(torch, torchvision, *, v2=False):
    norm = torch.nn.BatchNorm2d if v2 else None
    detection = torchvision.models.detection
    utils = importlib.import_module("torchvision.models.detection.backbone_utils")
    torch.manual_seed(0)
    trunk = torchvision.models.resnet18(weights=None)
    layers = {f"layer{i}": str(i - 1) for i in range(1, 5)}
    backbone = utils.BackboneWithFPN(trunk, layers, [64, 128, 256, 512], 16, norm_layer=norm)
    anchors = detection.anchor_utils.AnchorGenerator(
        tuple((size,) for size in ANCHORS), ((0.5, 1.0, 2.0),) * 5
    )
    heads = dict(
        box_head=detection.faster_rcnn.TwoMLPHead(16 * 7 * 7, 32),
        box_predictor=detection.faster_rcnn.FastRCNNPredictor(32, CLASSES + 1),
        mask_head=detection.mask_rcnn.MaskRCNNHeads(16, (16,) * 4, 1, norm_layer=norm),
        mask_predictor=detection.mask_rcnn.MaskRCNNPredictor(16, 16, CLASSES + 1),
    )
    if v2:
        box = detection.faster_rcnn.FastRCNNConvFCHead((16, 7, 7), [16, 24], [32], norm)
        heads |= {"box_head": box, "rpn_head": detection.rpn.RPNHead(16, 3, conv_depth=2)}
    return detection.MaskRCNN(
        backbone,
        min_size=SIZE,
        max_size=SIZE,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        rpn_anchor_generator=anchors,
        rpn_pre_nms_top_n_train=100,
        rpn_pre_nms_top_n_test=100,
        rpn_post_nms_top_n_train=R,
        rpn_post_nms_top_n_test=R,
        rpn_batch_size_per_image=10**5,
        box_batch_size_per_image=10**5,
        box_detections_per_img=20,
        **heads,
    )


def masks_of():
    masks = np.zeros((2, SIZE, SIZE), np.uint8)
    for image, rows in zip(masks, BOXES, strict=True):
        for number, (x1, y1, x2, y2) in enumerate(rows, 1):
            image[y1:y2, x1:x2] = number
    return masks


RPN_OF_SPEC = RPNOptions(**SPEC["rpn"])
TRUTH = model.GroundTruth(
    jnp.asarray(BOXES, jnp.float32),
    jnp.asarray(OBJECTS, jnp.int32),
    jnp.zeros((2, 2), bool),
    jnp.asarray(masks_of()),
)


def theirs_of(torch, masks):
    """The truth as torchvision has it: a dict an image, the background counted."""
    return [
        {
            "boxes": torch.tensor(boxes[classes >= 0], dtype=torch.float32),
            "labels": torch.tensor(classes[classes >= 0] + 1),
            "masks": torch.tensor(np.stack([ids == n + 1 for n in range((classes >= 0).sum())])),
        }
        for boxes, classes, ids in zip(BOXES, OBJECTS, masks, strict=True)
    ]


class Both:
    """The two networks with the same weights, and images."""

    def __init__(self, torch, torchvision, spec=SPEC):
        self.torch = torch
        self.module = mask_rcnn(torch, torchvision, v2=spec is V2)
        for name, buffer in self.module.named_buffers():
            if spec is V2 and "running" in name:  # else norms in evaluation would do nothing
                buffer.uniform_(0.5, 2)
        self.net = model.build(spec, CLASSES)
        shape = (1, SIZE, SIZE, 3)
        self.mapping = torch_mapping(self.net, shape, names_of(spec, self.net))
        tensors = {name: tensor.numpy() for name, tensor in self.module.state_dict().items()}
        arrays = {k: jnp.asarray(v) for k, v in self.mapping.to_ours(tensors).items()}
        _, *like = model.init_shapes(self.net, shape)
        self.params, self.state = (map_named(lambda k, _: arrays.pop(k), tree) for tree in like)
        assert not arrays, "no tensor of theirs is left over"
        self.images = np.random.default_rng(0).uniform(0, 1, (2, SIZE, SIZE, 3)).astype(np.float32)
        self.theirs = torch.tensor(np.moveaxis(self.images, -1, 1).copy())


@pytest.fixture(scope="module")
def both(torch, torchvision):
    return Both(torch, torchvision)


@pytest.mark.slow  # large programs
def test_maps_proposals_and_detections_are_torchvisions(both):
    torch, module = both.torch, both.module.eval()
    paths = ["fpn", "rpn"]
    tapped = model.capture_intermediates(both.net, paths)
    out, found = jax.jit(lambda x: tapped.apply(both.params, both.state, x)[0])(both.images)
    with torch.no_grad():
        maps = module.backbone(both.theirs)
        logits, deltas = module.rpn.head(list(maps.values()))
        images = importlib.import_module("torchvision.models.detection.image_list").ImageList(
            both.theirs, [(SIZE, SIZE)] * 2
        )
        anchors = module.rpn.anchor_generator(images, list(maps.values()))
        proposals, _ = module.rpn(images, maps)
        detections, _ = module.roi_heads(maps, proposals, [(SIZE, SIZE)] * 2)
    for mine, other in zip(found["fpn"].values(), maps.values(), strict=True):
        close(mine, other.movedim(1, -1), 1e-4)
    for name, other in (("logits", logits), ("deltas", deltas)):
        for mine, level in zip(found["rpn"][name].values(), other, strict=True):
            close(mine, level.movedim(1, -1), 1e-4)
    ours = anchors_on([m.shape[1:3] for m in found["fpn"].values()], (SIZE, SIZE), RPN_OF_SPEC)
    np.testing.assert_array_equal(jnp.concatenate(ours), anchors[0])
    logits = by_anchor(found["rpn"]["logits"], 1)[..., 0]
    deltas = by_anchor(found["rpn"]["deltas"], 4)
    for n, other in enumerate(proposals):
        boxes, valid = propose(logits[n], deltas[n], ours, (SIZE, SIZE), RPN_OF_SPEC, train=False)
        assert valid.sum() == len(other) > 0
        np.testing.assert_allclose(boxes[valid], other, atol=1e-3)
    mine = jax.tree.map(np.asarray, out.detections)
    for n, other in enumerate(detections):
        there = mine.classes[n] >= 0
        assert there.sum() == len(other["labels"]) > 0
        np.testing.assert_array_equal(mine.classes[n][there] + 1, other["labels"])
        np.testing.assert_allclose(mine.scores[n][there], other["scores"], atol=1e-5)
        np.testing.assert_allclose(mine.boxes[n][there], other["boxes"], atol=1e-3)
        np.testing.assert_allclose(mine.masks[n][there], other["masks"][:, 0], atol=1e-5)


@pytest.mark.slow  # large programs
def test_losses_and_gradients_are_torchvisions(both):
    torch, module = both.torch, both.module.train()
    theirs = module(list(both.theirs), theirs_of(torch, masks_of()))
    sum(theirs.values()).backward()

    @jax.jit
    def ours(params):
        given = model.DetectorInput(both.images, TRUTH)
        out, _ = both.net.apply(params, both.state, given, train=True, key=jax.random.key(0))
        loss = rcnn(out, TRUTH)
        return loss.loss, {name: part.mean for name, part in loss.parts.items()}

    (_, parts), grads = jax.value_and_grad(ours, has_aux=True)(both.params)
    assert parts.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_allclose(parts[name], value.detach(), rtol=1e-4, err_msg=name)
    written = both.mapping.to_torch(dict(named_leaves(grads)) | dict(named_leaves(both.state)))
    largest = max(float(p.grad.abs().max()) for p in module.parameters())
    for name, parameter in module.named_parameters():
        of_layer = max(float(parameter.grad.abs().max()), 1e-3 * largest)
        np.testing.assert_allclose(
            written[name], parameter.grad, atol=1e-3 * of_layer, err_msg=name
        )


def close(mine, other, tolerance):
    scale = np.abs(np.asarray(other)).max()
    np.testing.assert_allclose(mine, other, atol=tolerance * scale)


@pytest.mark.slow  # large programs
def test_the_heads_of_its_second_version_are_torchvisions(torch, torchvision):
    """Pyramid and heads with norms: the maps, what is proposed, and what is made of regions."""
    both = Both(torch, torchvision, V2)
    parts, rng = both.net.info.parts, np.random.default_rng(1)
    regions = rng.normal(size=(3, 7, 7, 16)).astype(np.float32)
    larger = rng.normal(size=(3, 14, 14, 16)).astype(np.float32)

    def value(name, x):
        arrays = (tree.get(name, {}) for tree in (both.params, both.state))
        return parts[name].apply(*arrays, x)[0]

    @jax.jit
    def ours(images, regions, larger):
        maps = value("fpn", value("backbone", images))
        boxes = value("predictor", value("head", regions))
        return maps, value("rpn", maps), boxes, value("mask_predictor", value("mask_head", larger))

    maps, rpn, boxes, masks = ours(both.images, regions, larger)
    module, read = both.module.eval(), lambda x: torch.tensor(np.moveaxis(x, -1, 1).copy())
    with torch.no_grad():
        their_maps = module.backbone(both.theirs)
        their_rpn = module.rpn.head(list(their_maps.values()))
        of_box = module.roi_heads.box_predictor(module.roi_heads.box_head(read(regions)))
        of_mask = module.roi_heads.mask_predictor(module.roi_heads.mask_head(read(larger)))
    for mine, other in zip(maps.values(), their_maps.values(), strict=True):
        close(mine, other.movedim(1, -1), 1e-4)
    for name, other in zip(("logits", "deltas"), their_rpn, strict=True):
        for mine, level in zip(rpn[name].values(), other, strict=True):
            close(mine, level.movedim(1, -1), 1e-4)
    for name, other in zip(("logits", "deltas"), of_box, strict=True):
        close(boxes[name], other, 1e-4)
    close(masks, of_mask.movedim(1, -1), 1e-4)

    written = both.mapping.to_torch(
        dict(named_leaves(both.params)) | dict(named_leaves(both.state))
    )
    theirs = module.state_dict()
    assert written.keys() == theirs.keys()
    for name, array in written.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)
