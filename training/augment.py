"""Random changes of training images: a pure function of a key, inside the jitted step."""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from .config import Augment
from .data import IGNORED

Augmentation: TypeAlias = Callable[[Array, Array, Array], tuple[Array, Array]]


def make_augmentation(spec: Augment | None) -> Augmentation | None:
    """``augment(key, x, targets) -> (x, targets)`` as a config has it; None where it has none.

    Each image is flipped left to right with probability 1/2, and shifted by up to `shift` pixels
    along each axis, uniformly. What comes in at the edges is 0, the mean of the preprocessed
    images, and, where the targets are masks, is ignored: a mask goes the way of its image.
    """
    return None if spec is None else partial(augment, flip=spec.flip, shift=spec.shift)


def augment(key: Array, x: Array, targets: Array, *, flip: bool, shift: int) -> tuple[Array, Array]:
    """See `make_augmentation`.

    Args:
        key: a PRNG key.
        x: ``(N, H, W, C)``.
        targets: ``(N,)`` labels, which stay, or ``(N, H, W)`` masks.
        flip: whether to flip.
        shift: the furthest an image moves; 0 for not at all.
    """
    for_flip, for_shift = jax.random.split(key)
    N, masks = len(x), targets.ndim == 3
    if flip:
        coin = jax.random.bernoulli(for_flip, shape=(N,))
        x = jnp.where(coin[:, None, None, None], x[:, :, ::-1], x)
        if masks:
            targets = jnp.where(coin[:, None, None], targets[:, :, ::-1], targets)
    if shift:
        offsets = jax.random.randint(for_shift, (N, 2), 0, 2 * shift + 1)
        x = _shifted(x, offsets, shift, 0)
        if masks:
            targets = _shifted(targets, offsets, shift, IGNORED)
    return x, targets


def _shifted(images: Array, offsets: Array, shift: int, edge: int) -> Array:
    """Windows of the padded images, each at its own offset."""
    padding = [(shift, shift) if axis in (1, 2) else (0, 0) for axis in range(images.ndim)]
    padded = jnp.pad(images, padding, constant_values=edge)

    def window(image: Array, offset: Array) -> Array:
        start = (offset[0], offset[1], *(0,) * (images.ndim - 3))
        return jax.lax.dynamic_slice(image, start, images.shape[1:])

    return jax.vmap(window)(padded, offsets)
