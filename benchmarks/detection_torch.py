"""Operations of object detection in torchvision."""

import torch
from detection_cases import BINS, REGIONS, SCALE, SUPPRESSIONS, map_and_boxes, scene
from ops_torch import repeated
from programs import Program
from torchvision.ops import batched_nms, nms, roi_align


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


PROGRAMS = {"suppression": suppression, "region": region}
LIBRARIES = ("torch", "torchvision")
