"""What is to be explained: the number that a network gives an image for a class, or another one."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .. import ops
from ..model import DetectorOutput
from ..ops.common.jax_compat import Tracer

Target: TypeAlias = int | np.ndarray | Array | Callable[[Any], Array]


def scores(outputs: Any, target: Target) -> Array:
    """Return a number for each image: what saliency, Grad-CAM and the others are the reasons of.

    Args:
        outputs: the network's, before softmax: ``(N, K)``, or ``(N, *spatial, K)``; for a target
            that is a function any pytree of arrays with the images in front.
        target: a class, ``()`` or ``(N,)``, for its logit; of outputs for each pixel the sum of
            the class's logits. Or a function ``outputs -> (N,)``: the logits of some pixels, the
            likeness to another image's embedding, a difference of two classes, a detection.

    Returns:
        ``(N,)``.

    Raises:
        ValueError: a class out of range (where its value is known: not of a traced one, which is
            taken as the nearest there is), or a shape that does not fit.
        TypeError: a class that is no integer, or a class of outputs that are several arrays.

    Example:
        >>> scores(jnp.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1, 0]))
        Array([2., 3.], dtype=float32)
    """
    N = len(jax.tree.leaves(outputs)[0])
    if callable(target):
        found = target(outputs)
        if found.shape != (N,):
            raise ValueError(
                f"scores: target(outputs): got shape {found.shape}, need {(N,)}; reduce all axes "
                "but the first"
            )
        return found
    if not hasattr(outputs, "shape"):
        raise TypeError(
            f"scores: class: got outputs of several arrays, a {type(outputs).__name__}, need a "
            "target that is a function of them; write explain.detection(0) for a detector"
        )
    if not jnp.issubdtype(jnp.asarray(target).dtype, jnp.integer):
        raise TypeError(f"scores: class: got {jnp.asarray(target).dtype}, need an integer")
    if jnp.shape(target) not in ((), (N,)):
        raise ValueError(f"scores: class: got shape {jnp.shape(target)}, need () or {(N,)}")
    K = outputs.shape[-1]
    if not isinstance(target, Tracer):
        known = np.asarray(target)
        if known.size and not (known.min() >= 0 and known.max() < K):
            raise ValueError(f"scores: class: got {known.tolist()}, need 0 to {K - 1}")
    each = outputs.reshape(N, -1, K).sum(axis=1)
    classes = jnp.broadcast_to(jnp.clip(jnp.asarray(target, jnp.int32), 0, K - 1), (N,))
    return jnp.take_along_axis(each, classes[:, None], axis=1)[:, 0]


def pixels(mask: Array | np.ndarray, k: int) -> Callable[[Array], Array]:
    r"""Make the target of a segmentation: the mean logit of class k over fixed pixels.

    .. math:: S = \frac{1}{|M|} \sum_{(i,j) \in M} y_{ijk}

    Args:
        mask: ``(*spatial)``, or one for each image; true for the pixels M.
        k: the class.

    References:
        Vinogradova, Dibrov & Myers, Towards interpretable semantic segmentation via
        gradient-weighted class activation mapping, arXiv:2002.11434.
    """

    def score(outputs: Array) -> Array:
        counts = jnp.broadcast_to(jnp.asarray(mask, outputs.dtype), outputs.shape[:-1])
        axes = tuple(range(1, counts.ndim))
        return (outputs[..., k] * counts).sum(axes) / jnp.maximum(counts.sum(axes), 1)

    return score


def neg_distance(embedding: Array | np.ndarray) -> Callable[[Array], Array]:
    r"""Make the target of an embedding: how near it comes to another, such as that of an image.

    .. math:: S = -\lVert y - v \rVert^2

    Args:
        embedding: v, ``(D,)``.
    """
    return lambda outputs: -jnp.square(outputs - jnp.asarray(embedding)[None]).sum(axis=-1)


def detection(row: int | Array | np.ndarray) -> Callable[[DetectorOutput], Array]:
    r"""Make the target of one detection: the logit of its class, before the softmax.

    .. math:: S = z_{d,\,k_d}

    of the region that detection d is at. Which region that is, and which class, is an index and has
    no gradient: what is differentiated is what the network sees there. A row of a changed image may
    be another object: for occlusion and `rise` there is `similarity`.

    Args:
        row: d, ``()`` or one for each image ``(N,)``, of `model.Detections`, whose rows are sorted
            by score; 0 is the best. A row that is empty has the score 0.

    Raises:
        ValueError: when it is called with outputs that have no such row.
    """

    def score(outputs: DetectorOutput) -> Array:
        found, logits = _found("detection", outputs)
        N, D = found.scores.shape
        if not isinstance(row, Tracer) and not 0 <= np.min(row) <= np.max(row) < D:
            raise ValueError(f"detection: row: got {np.asarray(row).tolist()}, need 0 to {D - 1}")
        rows = jnp.broadcast_to(jnp.asarray(row), (N,))
        of_row = jnp.take_along_axis(logits, rows[:, None, None], axis=1)[:, 0]
        classes = jnp.take_along_axis(found.classes, rows[:, None], axis=1)
        return jnp.take_along_axis(of_row, classes + 1, axis=1)[:, 0]

    return score


def similarity(box: Array | np.ndarray, logits: Array | np.ndarray) -> Callable[..., Array]:
    r"""Make the target of D-RISE: how much the best of all detections is like a given one.

    .. math:: S = \max_j\; \mathrm{IoU}(b, b_j)\; \cos(p, p_j)

    with p the probabilities of all classes, the background among them, at the region of a
    detection. It is in [0, 1], 0 where no detection overlaps the box; whichever row the object is
    in, and however the image was changed.

    Args:
        box: b, ``(4,)``, in pixels of what the network sees: of a `model.Detections`.
        logits: of p, ``(K + 1,)``: of the same row of `model.DetectorOutput`.

    References:
        Petsiuk et al., Black-box explanation of object detectors via saliency maps,
        arXiv:2006.03204, equations 4 to 7, without a factor for objectness.
    """

    def score(outputs: DetectorOutput) -> Array:
        found, each = _found("similarity", outputs)
        iou = ops.box_iou(jnp.asarray(box)[None, None], found.boxes)[:, 0]
        p, q = (_unit(jax.nn.softmax(jnp.asarray(z))) for z in (logits, each))
        alike = jnp.where(found.classes >= 0, iou * (q @ p), 0)
        return alike.max(axis=1)

    return score


def _unit(p: Array) -> Array:
    return p / jnp.linalg.norm(p, axis=-1, keepdims=True)


def _found(name: str, outputs: Any) -> tuple[Any, Array]:
    """Return detections and their logits."""
    if not isinstance(outputs, DetectorOutput) or outputs.logits is None:
        raise TypeError(
            f"{name}: got outputs of {type(outputs).__name__}, need those of a detector that is "
            "not in training"
        )
    return outputs.detections, outputs.logits
