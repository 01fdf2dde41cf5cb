"""What a detector gets wrong, by kind, and which classes it takes for which.

The kinds are those of TIDE (Bolya et al., arXiv:2008.08115). A detection that hits no object is, by
its IoU with those that are there, and the first of these that fits,

    place        from 0.1 to 0.5 with one of its class
    class        0.5 or more with one of another class
    duplicate    0.5 or more with one of its class, which a better one has hit
    both         from 0.1 to 0.5 with one of another class
    background   below 0.1 with every object

An object is missed where no detection hits it, and none is wrong about it in place or class alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .objects import FoundObjects, TrueObjects, overlaps

KINDS = ("place", "class", "duplicate", "both", "background", "missed")
HIT, IGNORED, PLACE, CLASS, DUPLICATE, BOTH, BACKGROUND = range(-2, 5)
HIGH, LOW = 0.5, 0.1  # IoU from which on an object is found, below which it is not meant
SURE = 0.5  # the score from which on a detection is shown


class Verdict(NamedTuple):
    """What the detections of an image are worth.

    Attributes:
        kinds: ``(D,)``: `HIT`, `IGNORED` (in an ignored object), or the index in `KINDS`.
        objects: ``(D,)``, the object that is hit, or that is meant by one wrong in place or class;
            else -1.
        missed: ``(M,)`` bool.
    """

    kinds: np.ndarray
    objects: np.ndarray
    missed: np.ndarray


def judge(found: FoundObjects, truth: TrueObjects, *, masks: bool = False) -> Verdict:
    """Decide of each detection of an image what it is.

    Args:
        found: best first.
        truth: of the same image.
        masks: whether the IoU is that of masks; else of boxes.
    """
    iou = overlaps(found, truth, masks=masks)
    same = found.classes[:, None] == truth.classes[None]
    there = ~truth.ignored
    D, M = iou.shape
    kinds, objects = np.full(D, BACKGROUND), np.full(D, -1)
    hit = np.zeros(M, bool)
    for d in range(D):
        best = _best(iou[d], same[d] & there & ~hit, HIGH)
        if best >= 0:
            hit[best], kinds[d], objects[d] = True, HIT, best
        elif _best(iou[d], same[d] & truth.ignored, HIGH) >= 0:
            kinds[d] = IGNORED
    for d in np.flatnonzero(kinds == BACKGROUND):
        own = _best(iou[d], same[d] & there, LOW)
        other = _best(iou[d], ~same[d] & there, LOW)
        if own >= 0 and iou[d, own] < HIGH:
            kinds[d], objects[d] = PLACE, own
        elif other >= 0 and iou[d, other] >= HIGH:
            kinds[d], objects[d] = CLASS, other
        elif own >= 0:
            kinds[d] = DUPLICATE
        elif other >= 0:
            kinds[d] = BOTH
    meant = np.zeros(M, bool)
    meant[objects[objects >= 0]] = True
    return Verdict(kinds, objects, there & ~meant)


class Mistakes(NamedTuple):
    """The mistakes of a split.

    Attributes:
        counts: how many of each of `KINDS`, among detections that are shown.
        gains: by how much AP50 would rise without them, all detections counted.
        confusion: ``(K + 1, K + 1)``, the true class (row) taken for another (column), the
            background last, among detections that are shown.
        hits: how many detections that are shown hit an object.
        ap50: what the gains are added to.
    """

    counts: dict[str, int]
    gains: dict[str, float]
    confusion: np.ndarray
    hits: int
    ap50: float


def mistakes(
    found: Sequence[FoundObjects],
    truth: Sequence[TrueObjects],
    classes: int,
    *,
    masks: bool = False,
    sure: float = SURE,
) -> Mistakes:
    """Sort the mistakes of a split by kind, and say what repairing each would gain.

    Args:
        found: of each image.
        truth: of each image.
        classes: K.
        masks: whether the IoU is that of masks; else of boxes.
        sure: the least score of a detection that is shown.
    """
    shown = [objects.rows(objects.scores >= sure) for objects in found]
    verdicts = [judge(f, t, masks=masks) for f, t in zip(shown, truth, strict=True)]
    kinds = np.concatenate([np.zeros(0, int), *(v.kinds for v in verdicts)])
    counts = {name: int((kinds == k).sum()) for k, name in enumerate(KINDS)}
    counts["missed"] = int(sum(v.missed.sum() for v in verdicts))
    matrix = sum(
        (_confusion(*each, classes, masks) for each in zip(shown, truth, strict=True)),
        np.zeros((classes + 1, classes + 1), int),
    )
    whole = _Ranking.of(found, truth, masks)
    ap50 = whole.ap50()
    gains = {name: whole.repaired(k).ap50() - ap50 for k, name in enumerate(KINDS)}
    return Mistakes(counts, gains, matrix, int((kinds == HIT).sum()), ap50)


class _Ranking(NamedTuple):
    """All detections of a split that are not ignored, best first, and how many objects there are.

    Attributes:
        classes: ``(D,)``.
        hit: ``(D,)`` bool.
        kinds: ``(D,)``.
        objects: ``(D,)``, the number of the object that is hit or meant, over all images; or -1.
        true_classes: ``(M,)`` of all objects; -1 for those ignored.
        missed: ``(M,)``.
    """

    classes: np.ndarray
    hit: np.ndarray
    kinds: np.ndarray
    objects: np.ndarray
    true_classes: np.ndarray
    missed: np.ndarray

    @classmethod
    def of(
        cls, found: Sequence[FoundObjects], truth: Sequence[TrueObjects], masks: bool
    ) -> "_Ranking":
        verdicts = [judge(f, t, masks=masks) for f, t in zip(found, truth, strict=True)]
        starts = np.cumsum([0, *(len(t.classes) for t in truth)])
        objects = [
            np.where(v.objects >= 0, v.objects + start, -1)
            for v, start in zip(verdicts, starts, strict=False)
        ]
        scores = np.concatenate([np.zeros(0), *(f.scores for f in found)])
        kinds = np.concatenate([np.zeros(0, int), *(v.kinds for v in verdicts)])
        order = np.argsort(-scores, kind="stable")
        order = order[kinds[order] != IGNORED]
        named = np.concatenate([np.zeros(0, int), *(f.classes for f in found)])
        true = [np.where(t.ignored, -1, t.classes) for t in truth]
        return cls(
            named[order],
            kinds[order] == HIT,
            kinds[order],
            np.concatenate([np.zeros(0, int), *objects])[order],
            np.concatenate([np.zeros(0, int), *true]),
            np.concatenate([np.zeros(0, bool), *(v.missed for v in verdicts)]),
        )

    def ap50(self) -> float:
        """Return the mean over the classes that are there; 0 of nothing."""
        there = np.unique(self.true_classes[self.true_classes >= 0])
        each = [
            interpolated_precision(self.hit[self.classes == k], int((self.true_classes == k).sum()))
            for k in there
        ]
        return float(np.mean(each)) if each else 0.0

    def repaired(self, kind: int) -> "_Ranking":
        """Return the ranking without the mistakes of a kind.

        What is wrong in place or class becomes a hit of the object that it means, if it is the
        first; any other detection goes, and so does an object that is missed.
        """
        if KINDS[kind] == "missed":
            return self._replace(true_classes=np.where(self.missed, -1, self.true_classes))
        wrong, classes, hit = self.kinds == kind, self.classes.copy(), self.hit.copy()
        taken = set(self.objects[self.hit].tolist())
        for d in np.flatnonzero(wrong & (self.objects >= 0)):
            if self.objects[d] not in taken:
                taken.add(int(self.objects[d]))
                classes[d], hit[d], wrong[d] = self.true_classes[self.objects[d]], True, False
        kept = ~wrong
        return self._replace(
            classes=classes[kept], hit=hit[kept], kinds=self.kinds[kept], objects=self.objects[kept]
        )


def interpolated_precision(hit: np.ndarray, objects: int) -> float:
    """Return the average precision of a ranking, over 101 recalls as COCO has it.

    Args:
        hit: ``(D,)`` bool, best first.
        objects: how many there are to be found, 1 or more.

    Example:
        >>> round(interpolated_precision(np.array([True, False, True]), 2), 4)  # 1 up to 0.5
        0.835
    """
    hits = np.cumsum(hit)
    precision = hits / np.arange(1, len(hit) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]  # that of any recall as high
    at = np.searchsorted(hits / objects, np.linspace(0, 1, 101), side="left")
    return float(np.append(best, 0.0)[np.minimum(at, len(hit))].mean())


def _confusion(found: FoundObjects, truth: TrueObjects, classes: int, masks: bool) -> np.ndarray:
    """Return the confusion of an image: objects with detections of their class first."""
    counts = np.zeros((classes + 1, classes + 1), int)
    verdict = judge(found, truth, masks=masks)
    iou = overlaps(found, truth, masks=masks)
    free = ~truth.ignored
    free[verdict.objects[verdict.kinds == HIT]] = False
    for d, kind in enumerate(verdict.kinds):
        k = found.classes[d]
        if kind == HIT:
            counts[k, k] += 1
            continue
        if kind == IGNORED:
            continue
        other = _best(iou[d], free, HIGH)
        row = classes if other < 0 else truth.classes[other]
        counts[row, k] += 1
        if other >= 0:
            free[other] = False
    missed = np.bincount(truth.classes[free].astype(int), minlength=classes)
    counts[:classes, classes] += missed
    return counts


def _best(iou: np.ndarray, which: np.ndarray, least: float) -> int:
    """Return the object with the largest IoU of those that count, if that is large enough."""
    values = np.where(which, iou, -1.0)
    best = int(values.argmax()) if values.size else -1
    return best if best >= 0 and values[best] >= least else -1
