"""A split that was evaluated: what was found in each image beside what is there."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from ....model.detection.structures import Detections
from ...data import Split
from ..per_class import PerClass
from .average_precision import AveragePrecision, average_precision
from .mistakes import HIT, SURE, Mistakes, judge, mistakes
from .objects import FoundObjects, Placed, Placement, TrueObjects, found_in, true_in


class Assessment(NamedTuple):
    """The objects of a split, and how well they were found.

    Attributes:
        found, truth: of each image, in its own pixels.
        precision: of boxes.
        mask_precision: of masks; None where the network has none.
    """

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

    def mistakes(self) -> Mistakes:
        """Return the kinds of mistakes; those of masks where the network has them."""
        masks = self.mask_precision is not None
        return mistakes(self.found, self.truth, len(self.precision.truths), masks=masks)


def assess(collected: Detections, examples: Split, classes: int) -> Assessment:
    """Compare what was found in a split with what is there, in the pixels of the image files.

    Args:
        collected: ``(N, D, ...)``, in pixels of the stored images; masks as bytes.
        examples: whose labels are a `GroundTruth`; without notes the stored images are the files.
        classes: K.
    """
    places = places_of(examples)
    found = [found_in(row(collected, i), place) for i, place in enumerate(places)]
    truth = [true_in(row(examples.labels, i), place) for i, place in enumerate(places)]
    most = collected.boxes.shape[1]
    masks = None
    if collected.masks is not None:
        masks = average_precision(found, truth, classes, masks=True, most=most)
    return Assessment(found, truth, average_precision(found, truth, classes, most=most), masks)


def places_of(examples: Split) -> Sequence[Placement]:
    """Return the placement of the image file of each example."""
    if examples.notes:
        return examples.notes
    return [Placed((examples.images.shape[1], examples.images.shape[2]))] * examples.count


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


def worst_images(collected: Detections, examples: Split, most: int) -> list[WorstImage]:
    """Return the images with the least share of their objects found, then the surest mistakes.

    Args:
        collected, examples: as in `assess`.
        most: how many.
    """
    masks = collected.masks is not None
    place = Placed((examples.images.shape[1], examples.images.shape[2]))
    ranks = []
    for i in range(examples.count):
        # Boxes decide; to paste every mask of every image would take as long as all else.
        found = found_in(row(collected, i)._replace(masks=None), place)
        truth = true_in(row(examples.labels, i)._replace(masks=np.zeros((0, 0))), place)
        shown = found.rows(found.scores >= SURE)
        verdict = judge(shown, truth)
        hits, objects = int((verdict.kinds == HIT).sum()), int((~truth.ignored).sum())
        wrong = shown.scores[verdict.kinds >= 0]
        share = hits / objects if objects else 1.0
        ranks.append((share, -float(wrong.max(initial=0)), i, hits))
    images = []
    for _, _, i, hits in sorted(ranks)[:most]:
        found = found_in(row(collected, i), place)
        truth = true_in(row(examples.labels, i), place)
        truth = truth if masks else truth._replace(masks=())
        pixels = np.asarray(examples.images[i : i + 1])[0]
        images.append(WorstImage(i, pixels, found.rows(found.scores >= SURE), truth, hits))
    return images
