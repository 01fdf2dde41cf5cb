"""Operations of object detection in torchvision."""

import torch
from detection_cases import SUPPRESSIONS, scene
from ops_torch import repeated
from programs import Program
from torchvision.ops import batched_nms, nms


def suppression(case: str) -> Program:
    of = SUPPRESSIONS[case]
    boxes, scores, classes = map(torch.tensor, scene(of))
    if of.classes > 1:
        operation = lambda: batched_nms(boxes, scores, classes, of.threshold)  # noqa: E731
    else:
        operation = lambda: nms(boxes, scores, of.threshold)  # noqa: E731
    return repeated(operation)._replace(about={"kept": len(operation())})


PROGRAMS = {"suppression": suppression}
LIBRARIES = ("torch", "torchvision")
