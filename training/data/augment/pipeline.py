"""The operations of ``[augment]``, one after the other, as one function of a batch."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp
from jax import Array

from ....model.detection.structures import GroundTruth
from ...config.augment import Augment
from ...config.errors import ConfigError
from .. import IGNORED
from ..pixels import PixelFormat
from ..preprocess import Preprocessing
from .affine import affine, affine_map
from .boxes import flipped, follow, objects_of, settle
from .color import color
from .crop import crop, crop_map
from .cutout import cutout
from .flip import alternating, fair_coin, flip
from .mixup import mix, mixed_targets
from .mosaic import mosaic
from .own import own
from .randaugment import randaugment
from .translate import translate, translate_map
from .zoom import zoom, zoom_map

Augmentation: TypeAlias = Callable[..., tuple[Array, Any]]


def make_augmentation(
    spec: Augment | None,
    preprocessing: Preprocessing,
    *,
    classes: int,
    examples: int,
    masked_objects: int = 0,
) -> Augmentation | None:
    """Make ``augment(key, x, targets, *, images, step) -> (x, targets)``; None if there is none.

    Args:
        spec: the table ``[augment]``.
        preprocessing: how images in [0, 1] became the network's input.
        classes: how many there are.
        examples: how many training images there are: of which epoch a step is.
        masked_objects: for how many objects with masks an image has room.

    Raises:
        ConfigError: the saturation, hue or color of images of other than three channels, operations
            on bytes of images of more bits, more images than can be counted, or more objects of
            four images than masks tell apart.
    """
    if spec is None:
        return None
    _check(spec, preprocessing.pixel_format, examples, masked_objects)
    return partial(
        augment, spec=spec, preprocessing=preprocessing, classes=classes, examples=examples
    )


def augment(
    key: Array,
    x: Array,
    targets: Any,
    *,
    images: Array,
    step: Array,
    spec: Augment,
    preprocessing: Preprocessing,
    classes: int,
    examples: int,
) -> tuple[Array, Any]:
    """See `make_augmentation`. No operation draws other numbers because of another one.

    Args:
        key: a PRNG key, of this step alone.
        x: ``(N, H, W, C)``, the network's input.
        targets: ``(N,)`` labels, ``(N, H, W)`` masks, or `GroundTruth` in pixels of `x`; others
            stay as they are.
        images: ``(N, ...)``, the images as they are stored, by which one is known again.
        step: (), how many steps were taken before.
        spec, preprocessing, classes, examples: as for `make_augmentation`.

    Returns:
        x, of the same shape and dtype; and the targets, which are probabilities ``(N, K)`` if
        labels were mixed.
    """
    for_flip, for_translate = jax.random.split(key)
    for_crop, for_affine, for_policy, for_color, for_cutout, for_mix = (
        jax.random.fold_in(key, i) for i in range(2, 8)
    )
    objects = objects_of(targets) if isinstance(targets, GroundTruth) else None
    masks: Any = targets if getattr(targets, "ndim", 0) == 3 else None
    if objects is not None:
        masks = objects.masks
    N, H, W = x.shape[:3]
    size = (H, W)
    if spec.mosaic and objects is not None:
        for_mosaic = jax.random.fold_in(key, 9)
        x, objects, masks = mosaic(for_mosaic, x, objects, masks, **dict(spec.mosaic))
    if spec.flip:
        coin = fair_coin(for_flip, len(x))
        coin = alternating(images, step, examples) if spec.flip == "alternating" else coin
        x, masks = flip(x, masks, coin)
        if objects is not None:
            objects = follow(objects, flipped(coin, W), masks, size)
    if spec.translate:
        x, masks = translate(
            for_translate, x, masks, furthest=spec.translate, padding_mode=spec.padding_mode
        )
        if objects is not None:
            to = translate_map(for_translate, N, spec.translate)
            objects = follow(objects, to, masks, size)
    if spec.crop:
        x, masks = crop(for_crop, x, masks, **dict(spec.crop))
        if objects is not None:
            to = crop_map(for_crop, (N, H, W), **dict(spec.crop))
            objects = follow(objects, to, masks, size)
    if spec.zoom:
        for_zoom = jax.random.fold_in(key, 8)
        x, masks = zoom(for_zoom, x, masks, **dict(spec.zoom))
        if objects is not None:
            objects = follow(objects, zoom_map(for_zoom, (N, H, W), spec.zoom.scale), masks, size)
    if spec.affine:
        x, masks = affine(for_affine, x, masks, **dict(spec.affine))
        if objects is not None:
            to = affine_map(for_affine, (N, H, W), **dict(spec.affine))
            objects = follow(objects, to, masks, size)
    if objects is not None:
        targets, masks = settle(objects), None  # nothing below moves
    if spec.policy or spec.color or spec.custom:
        mean, std = (
            jnp.array(v, jnp.float32).reshape(1, 1, 1, -1)
            for v in (preprocessing.mean, preprocessing.std)
        )
        unit = jnp.clip(x.astype(jnp.float32) * std + mean, 0, 1)
        if spec.policy:
            unit, masks = randaugment(for_policy, unit, masks, mean, **dict(spec.policy))
        if spec.color:
            unit = color(for_color, unit, **dict(spec.color))
        for i, entry in enumerate(spec.custom):
            unit = own(jax.random.fold_in(jax.random.fold_in(key, 10), i), unit, entry)
        x = ((unit - mean) / std).astype(x.dtype)
    if spec.cutout:
        x, masks = cutout(for_cutout, x, masks, size=spec.cutout.size)
    if spec.mixup or spec.cutmix:
        x, masks, share = mix(for_mix, x, masks, mixup=spec.mixup, cutmix=spec.cutmix)
        if masks is None:
            targets = mixed_targets(cast(Array, targets), share, classes)
    return x, targets if masks is None else masks


def _check(spec: Augment, pixels: PixelFormat, examples: int, masked_objects: int) -> None:
    """Raise where the config asks for what these data cannot give."""
    if spec.mosaic and 4 * masked_objects >= IGNORED:
        raise ConfigError(
            f"augment.mosaic: four images have up to {4 * masked_objects} objects with masks, need "
            f"{IGNORED - 1} at most; write data.objects = {(IGNORED - 1) // 4} and data.crowded = "
            '"largest", or leave it out'
        )
    channels = pixels.channels
    of = "one channel" if channels == 1 else f"{channels} channels"
    for name in ("saturation", "hue") if spec.color and channels != 3 else ():
        if getattr(spec.color, name):
            raise ConfigError(
                f"augment.color.{name}: images of {of} have no {name}; write {name} = 0.0"
            )
    if spec.policy and "color" in spec.policy.operations and channels not in (1, 3):
        raise ConfigError(
            f"augment.policy.operations: images of {of} have no color; write a list of operations "
            'without "color"'
        )
    if spec.policy and pixels.dtype != "uint8":
        of_bytes = [name for name in ("posterize", "equalize") if name in spec.policy.operations]
        if of_bytes:
            raise ConfigError(
                f"augment.policy.operations: {' and '.join(of_bytes)} would cut images of "
                f"{pixels.dtype} to 8 bits; write a list of operations without them"
            )
    if spec.flip == "alternating" and examples >= 2**15 * 2**15:
        raise ConfigError(
            f"augment.flip: epochs of {examples} images cannot be counted; write flip = true"
        )
