"""Read off labels what they say of classes, whichever of their forms they have.

    a class an image     (N,) integers
    classes an image     (N, K) uint8, 0 or 1
    a class a pixel      (N, H, W) uint8, or `IGNORED`
    objects              `model.detection.structures.GroundTruth`, each object with its class

Other labels, values and pytrees, say nothing of classes.
"""

from collections.abc import Sequence

import numpy as np

from ..common.text import plain_line
from .tree import Tree

IGNORED = 255  # the label of a pixel that counts neither in the loss nor in any figure
MOST_NAMED = 10  # classes in a message


def classes_of_each(labels: Tree, classes: int) -> np.ndarray | None:
    """Return which classes each example is of, ``(N, K)`` bool; None where labels do not say.

    Example:
        >>> classes_of_each(np.array([1, 0]), 2).tolist()
        [[False, True], [True, False]]
    """
    if is_objects(labels):
        counted = np.where(labels.ignored, -1, labels.classes)
        return (counted[:, :, None] == np.arange(classes)).any(axis=1)
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu":
        return None
    if is_class_each(labels):
        return labels[:, None] == np.arange(classes)
    if labels.ndim == 2:
        return labels > 0 if labels.shape[1] == classes else None
    each = [np.bincount(mask.ravel(), minlength=classes)[:classes] > 0 for mask in labels]
    return np.array(each, bool).reshape(len(labels), classes)


def is_class_each(labels: Tree) -> bool:
    """Return whether labels are a class an example."""
    return isinstance(labels, np.ndarray) and labels.ndim == 1 and labels.dtype.kind in "iu"


def is_objects(labels: Tree) -> bool:
    """Return whether labels are the objects of each image; by the name of their boxes."""
    return "boxes" in getattr(labels, "_fields", ())


def most_objects(labels: Tree) -> int:
    """Return how many objects an image has room for in labels; 0 of labels without objects."""
    return labels.classes.shape[1] if is_objects(labels) else 0


def examples_of_each(labels: Tree, classes: int) -> np.ndarray | None:
    """Return how many examples each class has, ``(K,)``; None where labels do not say.

    Example:
        >>> examples_of_each(np.array([1, 1, 0]), 3).tolist()
        [1, 2, 0]
    """
    if is_class_each(labels):
        return np.bincount(labels, minlength=classes)
    found = classes_of_each(labels, classes)
    return None if found is None else found.sum(axis=0)


def named(classes: Sequence[str], chosen: Sequence[int] | np.ndarray) -> str:
    """Return the names of some classes in a line, the first `MOST_NAMED` of them.

    Example:
        >>> named(("cat", "dog"), [1])
        "'dog'"
    """
    shown = ", ".join(plain_line(repr(classes[k]), 60) for k in chosen[:MOST_NAMED])
    more = len(chosen) - MOST_NAMED
    return f"{shown} and {more} more" if more > 0 else shown
