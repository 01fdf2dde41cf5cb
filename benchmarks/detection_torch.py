"""Object detection in torchvision: its operations, and a Faster R-CNN."""

import torch
from detection_cases import (
    BINS,
    DIGITS,
    REGIONS,
    SCALE,
    SUPPRESSIONS,
    batch,
    map_and_boxes,
    scene,
)
from ops_torch import repeated
from programs import Program
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FasterRCNN, FastRCNNPredictor, TwoMLPHead
from torchvision.models.resnet import BasicBlock, conv1x1
from torchvision.ops import MultiScaleRoIAlign, batched_nms, nms, roi_align


def suppression(case: str) -> Program:
    of = SUPPRESSIONS[case]
    boxes, scores, classes = map(torch.tensor, scene(of))
    if of.classes > 1:
        operation = lambda: batched_nms(boxes, scores, classes, of.threshold)  # noqa: E731
    else:
        operation = lambda: nms(boxes, scores, of.threshold)  # noqa: E731
    return repeated(operation)._replace(about={"kept": len(operation())})


def region(case: str) -> Program:
    of = REGIONS[case]
    x, boxes, g = map(torch.tensor, map_and_boxes(of))
    x, boxes = x.permute(0, 3, 1, 2).contiguous(), list(boxes)  # its kernel's layout
    g = g.flatten(0, 1).permute(0, 3, 1, 2).contiguous()
    align = lambda x: roi_align(x, boxes, BINS, SCALE, 2, True)  # noqa: E731

    def both_ways():
        leaf = x.requires_grad_()
        return torch.autograd.grad(align(leaf), leaf, g)[0]

    operation = both_ways if of.backward else lambda: align(x)
    about = {"value": float(operation().abs().sum())}
    return repeated(operation)._replace(about=about)


def training(case: str) -> Program:
    del case
    images, boxes, classes = batch()
    x = list(torch.tensor(images).permute(0, 3, 1, 2).float() / 255)
    truth = [
        {"boxes": torch.tensor(rows), "labels": torch.tensor(labels).long() + 1}
        for rows, labels in zip(boxes, classes, strict=True)
    ]
    network = faster_rcnn(images.shape[1]).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=0.01, fused=True)

    def run(count):
        for _ in range(count):
            optimizer.zero_grad(set_to_none=True)
            loss = sum(network(x, truth).values())
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
        return loss.item()

    return Program({"": run}, {"parameters": sum(p.numel() for p in network.parameters())})


def faster_rcnn(side: int) -> nn.Module:
    """The network of `fasterrcnn-scenes`: one map, of an eighth of the size."""

    def block(inputs, features):
        shortcut = nn.Sequential(conv1x1(inputs, features, 2), nn.BatchNorm2d(features))
        return BasicBlock(inputs, features, 2, shortcut)

    stem = nn.Conv2d(1, 32, 3, stride=2, padding=1, bias=False)
    trunk = nn.Sequential(stem, nn.BatchNorm2d(32), nn.ReLU(), block(32, 32), block(32, 64))
    trunk.out_channels = 64
    return FasterRCNN(
        trunk,
        min_size=side,
        max_size=side,
        image_mean=[0.1],
        image_std=[0.3],
        rpn_anchor_generator=AnchorGenerator(((12, 20, 32),), ((1.0, 1.6),)),
        rpn_pre_nms_top_n_train=500,
        rpn_post_nms_top_n_train=200,
        box_roi_pool=MultiScaleRoIAlign(["0"], BINS, 2),
        box_head=TwoMLPHead(64 * BINS * BINS, 256),
        box_predictor=FastRCNNPredictor(256, DIGITS + 1),
        box_batch_size_per_image=64,
        _skip_resize=True,
    )


PROGRAMS = {"suppression": suppression, "region": region, "training": training}
LIBRARIES = ("torch", "torchvision")
