"""Augmentations of one's own: functions of an image that were registered."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ...config.errors import ConfigError
from ...config.given import object_or
from ...plugins.tables import AUGMENTATIONS


def own(key: Array, images: Array, entry: Any) -> Array:
    """Change each image by a function that was registered, clipped to [0, 1] again.

    Args:
        key: a PRNG key, of this step and this augmentation alone.
        images: ``(N, H, W, C)``, in [0, 1].
        entry: of ``[[augment.custom]]``: the name and the keywords.

    Raises:
        ConfigError: what it returns has another shape or dtype.
    """
    keywords = {name: value for name, value in entry if name != "name"}
    change = object_or(entry, lambda: AUGMENTATIONS[entry.name])
    changed = jax.vmap(lambda k, image: change(k, image, **keywords))(
        jax.random.split(key, len(images)), images
    )
    if changed.shape != images.shape or changed.dtype != images.dtype:
        raise ConfigError(
            f"augment.custom: {entry.name!r} makes {changed.dtype} {changed.shape[1:]} of an image "
            f"of {images.dtype} {images.shape[1:]}; need the same"
        )
    return jnp.clip(changed, 0, 1)
