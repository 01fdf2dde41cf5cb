"""A split that was evaluated: what was found in each image beside what is there."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np

from ....model.detection.structures import Detections
from ...data import Split
from ...data.placement import Placement
from ..per_class import PerClass
from .average_precision import AveragePrecision, average_precision
from .mistakes import HIT, SURE, Mistakes, judge, mistakes
from .objects import FoundObjects, TrueObjects, found_in, true_in


@dataclass(frozen=True, eq=False)
class Assessment:
    """The objects of a split, and how well they were found.

    Attributes:
        detections: ``(N, D, ...)``, in pixels of the stored images; masks as bytes.
        found, truth: of each image, in its own pixels.
        precision: of boxes.
        mask_precision: of masks; None where the network has none.
    """

    detections: Detections
    found: list[FoundObjects]
    truth: list[TrueObjects]
    precision: AveragePrecision
    mask_precision: AveragePrecision | None

    @property
    def of_task(self) -> AveragePrecision:
        """Return the average precision that the task is judged by."""
        return self.precision if self.mask_precision is None else self.mask_precision

    def figures(self) -> dict[str, float]:
        """Return what is defined of COCO's figures, those of masks with "mask_" in front.

        Those that a run may stop by are there of any split: 0 where there is nothing to be found.
        """
        found = dict(self.precision.figures)
        if self.mask_precision is not None:
            found |= {f"mask_{name}": v for name, v in self.mask_precision.figures.items()}
        always = ("ap", "ap50", "ap75", "mask_ap", "mask_ap50", "mask_ap75")
        known = {name: value for name, value in found.items() if np.isfinite(value)}
        return {name: 0.0 for name in always if name in found} | known

    def per_class(self) -> PerClass:
        """Return the average precision of each class."""
        of = self.of_task
        return PerClass(of.per_class, of.truths, of.found, "objects")

    @cached_property
    def mistakes(self) -> Mistakes:
        """The kinds of mistakes; those of masks where the network has them."""
        masks = self.mask_precision is not None
        return mistakes(self.found, self.truth, len(self.precision.truths), masks=masks)


def assess(collected: Detections, examples: Split, classes: int) -> Assessment:
    """Compare what was found in a split with what is there, in the pixels of the image files.

    Args:
        collected: ``(N, D, ...)``, in pixels of the stored images; masks as bytes.
        examples: whose labels are a `GroundTruth`; without notes the stored images are the files.
        classes: K.
    """
    notes = examples.notes or (None,) * examples.count
    places = [stored(examples.images) if note is None else note.placement for note in notes]
    found = [found_in(row(collected, i), place) for i, place in enumerate(places)]
    truth = [
        true_in(row(examples.labels, i), place, note)
        for i, (place, note) in enumerate(zip(places, notes, strict=True))
    ]
    most = collected.boxes.shape[1]
    masks = None
    if collected.masks is not None:
        masks = average_precision(found, truth, classes, masks=True, most=most)
    boxes = average_precision(found, truth, classes, most=most)
    return Assessment(collected, found, truth, boxes, masks)


def stored(images: Any) -> Placement:
    """Return the placement of each of images ``(N, H, W, C)`` that are all of their canvas."""
    size = (images.shape[1], images.shape[2])
    return Placement(size, size)


def row(tree: Any, i: int) -> Any:
    """Return what belongs to one image, without the images' axis."""
    return jax.tree.map(lambda leaf: leaf[i], tree)


class WorstImage(NamedTuple):
    """An image with its objects, in pixels of the image as stored."""

    number: int  # in the split
    pixels: np.ndarray  # (H, W, C) uint8
    found: FoundObjects  # those that are shown
    truth: TrueObjects
    hits: int


def worst_images(assessment: Assessment, examples: Split, most: int) -> list[WorstImage]:
    """Return the images with the least share of their objects found, then the surest mistakes.

    Boxes decide, of masks too.

    Args:
        assessment: of the examples.
        examples: the split.
        most: how many.
    """
    masks = assessment.mask_precision is not None
    ranks = []
    for i, (found, truth) in enumerate(zip(assessment.found, assessment.truth, strict=True)):
        shown = found.rows(found.scores >= SURE)
        verdict = judge(shown, truth)
        hits, objects = int((verdict.kinds == HIT).sum()), int((~truth.ignored).sum())
        wrong = shown.scores[verdict.kinds >= 0]
        share = hits / objects if objects else 1.0
        ranks.append((share, -float(wrong.max(initial=0)), i, hits))
    images, place = [], stored(examples.images)
    for _, _, i, hits in sorted(ranks)[:most]:
        found = found_in(row(assessment.detections, i), place)
        truth = true_in(row(examples.labels, i), place)
        truth = truth if masks else truth._replace(masks=())
        pixels = np.asarray(examples.images[i : i + 1])[0]
        images.append(WorstImage(i, pixels, found.rows(found.scores >= SURE), truth, hits))
    return images
