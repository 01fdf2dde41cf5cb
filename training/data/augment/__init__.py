"""Random changes of training images: pure functions of a key, inside the jitted step.

One file for each kind: `mosaic`, `flip`, `translate`, `crop`, `zoom`, `affine`, `randaugment`,
`color`, `cutout`, `mixup`, and `own` for those that were registered; `boxes` has objects follow
what moves, `pixelwise` has what changes values alone, `interpolate` reads images between their
pixels, `pipeline` puts them in order as a config asks.

Images come as the network would see them: normalized, so that 0 is the mean of the training
images. That is also what comes in from outside, wherever something moves. Moving, erasing and
mixing give the same before the normalization as after it, because their weights sum to 1; only
`color`, `randaugment` and `own` mean values in [0, 1], and are given those.

Masks ``(N, H, W)``, where there are some, go the way of their images, to the nearest pixel; what
comes in from outside is `IGNORED`. The rest of the functions' arguments are numbers of the config.
"""

from .pipeline import Augmentation, make_augmentation

__all__ = ["Augmentation", "make_augmentation"]
