"""U-Net: Ronneberger et al., arXiv:1505.04597."""

from typing import Literal

from ..combinators import identity, parallel, serial
from ..layer import Layer
from ..layers.activation import relu
from ..layers.arguments import check_choice, check_positive
from ..layers.conv import conv, conv_transpose
from ..layers.crop_or_pad import match_input_size
from ..layers.norm import batch_norm as batch_norm_layer
from ..layers.pool import max_pool
from ..layers.resize import upsample


def unet(
    classes: int,
    *,
    features: list[int],
    batch_norm: bool,
    upsampling: Literal["transposed", "bilinear"],
) -> Layer:
    """Make U-Net: halve the image again and again, double it as often, keep details at hand.

    Each level joins what it has computed itself with what the level below, at half its
    resolution, makes of it:

        level(f, ...) = two 3x3 convolutions to f
                      -> [itself, 2x2 max pooling -> level(...) -> up to twice the size, f channels]
                      -> two 3x3 convolutions to f

    The paper's has features [64, 128, 256, 512, 1024] and 31.0 million parameters.

    Args:
        classes: K, the number of logits of each pixel.
        features: channels of each level, from the full resolution down; two or more levels.
        batch_norm: whether each 3x3 convolution is followed by one, and has no bias of its own; the
            paper, a little older than batch norm, has none.
        upsampling: "transposed" is a 2x2 transposed convolution of stride 2, as in the paper;
            "bilinear" interpolates, then halves the channels by a 1x1 convolution.

    Note:
        The convolutions are padded, so that masks have the size of their images; the paper's are
        not, and its masks are smaller. An image may have any size: what pooling rounds up is cut
        off again after upsampling. The paper has dropout at the end of the contracting path.
    """
    check_positive("unet", features=features)
    if len(features) < 2:
        raise ValueError(
            f"unet: too few levels: got features={features}, need two or more; write "
            "features=[16, 32, 64, 128], for example"
        )
    check_choice("unet", "upsampling", upsampling, ["transposed", "bilinear"])
    levels = _level(features, batch_norm, upsampling)
    return serial(levels=levels, head=conv(classes, 1, kernel_init="lecun_normal"))


def _level(features: list[int], norm: bool, upsampling: str) -> Layer:
    """Make this level and all below."""
    here, *deeper = features
    if not deeper:
        return _convolutions(here, norm)
    below = serial(
        pool=max_pool(2, padding="SAME"),
        level=_level(deeper, norm, upsampling),
        up=_twice_as_large(here, upsampling),
    )
    return serial(
        down=_convolutions(here, norm),
        join=parallel(skip=identity(), below=match_input_size(below)),
        up=_convolutions(here, norm),
    )


def _convolutions(features: int, norm: bool) -> Layer:
    layers = {}
    for n in (1, 2):
        layers[f"conv{n}"] = conv(features, 3, padding="SAME", bias=not norm)
        if norm:
            layers[f"bn{n}"] = batch_norm_layer()
        layers[f"act{n}"] = relu()
    return serial(**layers)


def _twice_as_large(features: int, upsampling: str) -> Layer:
    if upsampling == "transposed":
        return conv_transpose(features, 2, stride=2)
    return serial(resize=upsample(2, method="bilinear"), conv=conv(features, 1))
