"""Residual networks: for ImageNet, for CIFAR, and wide ones.

He et al., Deep Residual Learning for Image Recognition, arXiv:1512.03385; Zagoruyko & Komodakis,
Wide Residual Networks, arXiv:1605.07146; Xie et al., Aggregated Residual Transformations (ResNeXt),
arXiv:1611.05431.

Parameters are named as in torchvision, with words for its numbers: `layer2.0.conv1.weight` is
``stage2/block1/conv1/kernel``, `layer2.0.downsample.1` is ``stage2/block1/shortcut/bn``.
"""

from functools import partial
from typing import Literal, TypeAlias

import jax.numpy as jnp

from ..combinators import residual_block, serial
from ..layer import INLINE, Layer, Window, stateless
from ..layers.activation import relu
from ..layers.arguments import check_choice, check_positive
from ..layers.conv import conv
from ..layers.dense import dense
from ..layers.norm import NORMS, Norm, NormName, batch_norm
from ..layers.pool import global_avg_pool, max_pool
from ..layers.regularization import dropout

# depth: (channels out of a block for each of its own, blocks in each stage); table 1 of the paper
_DEPTHS = {
    18: (1, (2, 2, 2, 2)),
    34: (1, (3, 4, 6, 3)),
    50: (4, (3, 4, 6, 3)),
    101: (4, (3, 4, 23, 3)),
    152: (4, (3, 8, 36, 3)),
}


# By depth, for networks that take one as their backbone.
ResNetName: TypeAlias = Literal["resnet18", "resnet34", "resnet50", "resnet101"]


def resnet(
    classes: int,
    *,
    depth: Literal[18, 34, 50, 101, 152],
    zero_init_residual: bool = False,
    norm: NormName = "batch",
    norm_eps: float = 1e-5,
    width: int = 64,
    groups: int = 1,
    width_per_group: int = 64,
) -> Layer:
    """Make ResNet for images of about 224x224.

    A 7x7 convolution and a pool, then four stages of blocks, each stage with half the resolution
    and twice the channels of the one before; a global mean and a dense layer.

    Parameters for 1000 classes: 11,689,512 (18), 21,797,672 (34), 25,557,032 (50), 44,549,160
    (101) and 60,192,808 (152); 25,028,904 of ResNeXt-50 32x4d (50, with `groups` 32 and
    `width_per_group` 4) and 68,883,240 of wide ResNet-50-2 (50, with `width_per_group` 128).

    Args:
        classes: K, the number of outputs (logits).
        depth: layers with kernels; from 50 on the blocks are bottlenecks.
        zero_init_residual: whether each block starts as the identity, its last scale at zero
            (Goyal et al., arXiv:1706.02677, section 5.1).
        norm: "group" for batches of few images (Wu & He, arXiv:1803.08494): 32 groups of channels,
            or so many that each has eight.
        norm_eps: added to the variance; 0 for the detectors that torchvision published in 2019.
        width: channels of the stem and of a basic block of the first stage.
        groups: of the 3x3 convolution of a bottleneck; 32 or 64 make it a ResNeXt.
        width_per_group: channels of each of these groups in the first stage where `width` is 64;
            128 makes it a wide ResNet.

    Note:
        As torchvision's, "v1.5": a bottleneck's stride is that of its 3x3 convolution; the paper
        has it in the first 1x1. Shortcuts are the paper's option B, a 1x1 convolution where the
        shape changes. The dense layer starts by He's rule, not PyTorch's.
    """
    check_choice("resnet", "depth", depth, _DEPTHS)
    check_positive("resnet", width=width, groups=groups, width_per_group=width_per_group)
    expansion, counts = _DEPTHS[depth]
    if expansion == 1 and (groups, width_per_group) != (1, 64):
        raise ValueError(
            f"resnet: groups and width_per_group are for bottlenecks: got {groups} and "
            f"{width_per_group} for depth {depth}; leave them out, or write depth=50"
        )
    check_choice("resnet", "norm", norm, NORMS)
    name, make_norm = NORMS[norm]
    normalization = Norm(name, partial(make_norm, eps=norm_eps))
    bottleneck = partial(_bottleneck, groups=groups, width_per_group=width_per_group)
    block = partial(bottleneck if expansion > 1 else basic_block, norm=normalization)

    def stage(index: int, count: int) -> Layer:
        blocks = {}
        for n in range(count):
            stride = 2 if index and not n else 1
            project = not n and (index > 0 or expansion > 1)
            features = width * 2**index
            shortcut = projection(features * expansion, stride, normalization) if project else None
            blocks[f"block{n + 1}"] = block(
                features, stride, shortcut, 0.0 if zero_init_residual else 1.0
            )
        return serial(**blocks)

    return serial(
        conv1=conv(width, 7, stride=2, padding=3, bias=False),
        **{f"{name}1": normalization.layer(width)},
        relu=relu(),
        maxpool=max_pool(3, stride=2, padding=1),
        **{f"stage{index + 1}": stage(index, count) for index, count in enumerate(counts)},
        avgpool=global_avg_pool(),
        fc=dense(classes),
    )


def resnet_cifar(
    classes: int, *, depth: int, shortcut: Literal["A", "B"] = "A", zero_init_residual: bool = False
) -> Layer:
    """Make ResNet for images of about 32x32: section 4.2 of the paper.

    A 3x3 convolution, three stages of n basic blocks with 16, 32 and 64 channels; a global mean
    and a dense layer. 6n + 2 layers have kernels, those of shortcuts not counted.

    Parameters for 10 classes and shortcuts A: 269,722 (depth 20), 464,154 (32), 853,018 (56) and
    1,727,962 (110).

    Args:
        classes: K, the number of outputs (logits).
        depth: 6n + 2: 20, 32, 44, 56, 110 in the paper.
        shortcut: where the shape changes, "A" takes every other pixel and fills the new channels
            with zeros, as in the paper; "B" is a 1x1 convolution.
        zero_init_residual: as for `resnet`.

    Note:
        The zeros stand behind the channels; the paper does not say where.
    """
    check_positive("resnet_cifar", depth=depth)
    if depth < 8 or depth % 6 != 2:
        n = max(1, round((depth - 2) / 6))
        raise ValueError(
            f"resnet_cifar: bad depth: got {depth}, need 6n + 2, for n blocks in each of three "
            f"stages; write depth={6 * n + 2}"
        )
    check_choice("resnet_cifar", "shortcut", shortcut, ["A", "B"])
    shortcut_fn = {"A": _subsampled, "B": projection}[shortcut]

    def stage(features: int, stride: int) -> Layer:
        blocks = {}
        for n in range((depth - 2) // 6):
            first = not n and stride > 1
            blocks[f"block{n + 1}"] = basic_block(
                features,
                stride if first else 1,
                shortcut_fn(features, stride) if first else None,
                0.0 if zero_init_residual else 1.0,
            )
        return serial(**blocks)

    return serial(
        conv1=conv(16, 3, padding=1, bias=False),
        bn1=batch_norm(),
        relu=relu(),
        stage1=stage(16, 1),
        stage2=stage(32, 2),
        stage3=stage(64, 2),
        avgpool=global_avg_pool(),
        fc=dense(classes),
    )


def wide_resnet(
    classes: int, *, depth: int = 28, widen_factor: int = 10, dropout: float = 0.0
) -> Layer:
    """Make Wide ResNet for images of about 32x32: WRN-28-10 by default.

    Blocks as in He et al., arXiv:1603.05027, norm and ReLU before each convolution, k times as
    wide: 16k, 32k and 64k channels.

    Parameters for 10 classes: 36,479,194 (28-10), 10,961,370 (16-8) and 8,949,210 (40-4).

    Args:
        classes: K, the number of outputs (logits).
        depth: 6n + 4: n blocks in each of three stages, the stem and the shortcuts.
        widen_factor: k.
        dropout: its rate, between the convolutions of a block; 0.3 in the paper where it has some.
    """
    check_positive("wide_resnet", depth=depth, widen_factor=widen_factor)
    if depth < 10 or depth % 6 != 4:
        n = max(1, round((depth - 4) / 6))
        raise ValueError(
            f"wide_resnet: bad depth: got {depth}, need 6n + 4, for n blocks in each of three "
            f"stages; write depth={6 * n + 4}"
        )

    def stage(features: int, stride: int) -> Layer:
        blocks = {"block1": _preactivated(features, stride, features != 16, dropout)}
        for n in range(1, (depth - 4) // 6):
            blocks[f"block{n + 1}"] = _preactivated(features, 1, False, dropout)
        return serial(**blocks)

    return serial(
        conv1=conv(16, 3, padding=1, bias=False),
        stage1=stage(16 * widen_factor, 1),
        stage2=stage(32 * widen_factor, 2),
        stage3=stage(64 * widen_factor, 2),
        bn=batch_norm(),
        relu=relu(),
        avgpool=global_avg_pool(),
        fc=dense(classes),
    )


def basic_block(
    features: int,
    stride: int,
    shortcut: Layer | None,
    last_scale: float = 1.0,
    norm: Norm = NORMS["batch"],
) -> Layer:
    """Make a block of two 3x3 convolutions, the first with the stride."""
    return residual_block(
        conv1=conv(features, 3, stride=stride, padding=1, bias=False),
        **{f"{norm.name}1": norm.layer(features)},
        relu1=relu(),
        conv2=conv(features, 3, padding=1, bias=False),
        **{f"{norm.name}2": norm.layer(features, scale_init=last_scale)},
        shortcut=shortcut,
        activation=relu(),
    )


def _bottleneck(
    features: int,
    stride: int,
    shortcut: Layer | None,
    last_scale: float,
    norm: Norm,
    groups: int,
    width_per_group: int,
) -> Layer:
    """Make the branch that goes to a quarter of the channels, 3x3 in groups, and back."""
    inner = groups * max(1, features * width_per_group // 64)
    return residual_block(
        conv1=conv(inner, 1, bias=False),
        **{f"{norm.name}1": norm.layer(inner)},
        relu1=relu(),
        conv2=conv(inner, 3, stride=stride, padding=1, groups=groups, bias=False),
        **{f"{norm.name}2": norm.layer(inner)},
        relu2=relu(),
        conv3=conv(4 * features, 1, bias=False),
        **{f"{norm.name}3": norm.layer(4 * features, scale_init=last_scale)},
        shortcut=shortcut,
        activation=relu(),
    )


def _preactivated(features: int, stride: int, project: bool, rate: float) -> Layer:
    """Make a block of norm and ReLU first, before the shortcut too where the shape changes."""
    before = {"bn1": batch_norm(), "relu1": relu()}
    rest = {
        "conv1": conv(features, 3, stride=stride, padding=1, bias=False),
        "bn2": batch_norm(),
        "relu2": relu(),
        **({"dropout": dropout(rate)} if rate else {}),
        "conv2": conv(features, 3, padding=1, bias=False),
    }
    if not project:
        return residual_block(**before, **rest)
    shortcut = conv(features, 1, stride=stride, bias=False)
    return serial(**before, **{INLINE: residual_block(shortcut=shortcut, **rest)})


def projection(features: int, stride: int, norm: Norm = NORMS["batch"]) -> Layer:
    """Make shortcut B: a 1x1 convolution."""
    return serial(
        conv=conv(features, 1, stride=stride, bias=False), **{norm.name: norm.layer(features)}
    )


def _subsampled(features: int, stride: int) -> Layer:
    """Make shortcut A: every other pixel, and zeros for the channels that are new."""

    def shortcut(x):
        x = x[(slice(None), *[slice(None, None, stride)] * (x.ndim - 2))]
        return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, features - x.shape[-1])])

    return stateless("subsample", shortcut, Window(1, stride))
