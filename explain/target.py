"""What is to be explained: the number that a network gives an image for a class, or another one."""

from collections.abc import Callable
from typing import TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import Array

from ..ops.common.jax_compat import Tracer

Target: TypeAlias = int | np.ndarray | Array | Callable[[Array], Array]


def scores(outputs: Array, target: Target) -> Array:
    """Return a number for each image: what saliency, Grad-CAM and the others are the reasons of.

    Args:
        outputs: the network's, before softmax: ``(N, K)``, or ``(N, *spatial, K)``.
        target: a class, ``()`` or ``(N,)``, for its logit; of outputs for each pixel the sum of
            the class's logits. Or a function ``outputs -> (N,)``: the logits of some pixels, the
            likeness to another image's embedding, a difference of two classes.

    Returns:
        ``(N,)``.

    Raises:
        ValueError: a class out of range (where its value is known: not of a traced one, which is
            taken as the nearest there is), or a shape that does not fit.
        TypeError: a class that is no integer.

    Example:
        >>> scores(jnp.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1, 0]))
        Array([2., 3.], dtype=float32)
    """
    N = outputs.shape[0]
    if callable(target):
        found = target(outputs)
        if found.shape != (N,):
            raise ValueError(
                f"scores: target(outputs): got shape {found.shape}, need {(N,)}; reduce all axes "
                "but the first"
            )
        return found
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
