r"""Dilated convolutions: Yu & Koltun, Multi-Scale Context Aggregation, arXiv:1511.07122.

A stack of 3x3 convolutions whose dilations double sees exponentially far with no pooling, and so
with no loss of resolution:

.. math:: r_l = r_{l-1} + 2 d_l, \qquad d = 1, 2, 4, \ldots, 2^{l-1}
    \;\Rightarrow\; r = 3, 7, 15, \ldots, 2^{l+1} - 1
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from ..combinators import serial
from ..layer import Layer
from ..layers.activation import relu
from ..layers.arguments import check_positive
from ..layers.conv import conv
from ..layers.dense import dense
from ..layers.initialization import Initializer
from ..layers.pool import global_avg_pool

_CONTEXT = (1, 1, 2, 4, 8, 16, 1)  # dilations: table 1 of the paper
_LARGE = (2, 2, 4, 8, 16, 32, 32)  # times the channels, in the large form


def dilated(classes: int, *, features: int, dilations: list[int]) -> Layer:
    """Make a classifier of a stack of dilated convolutions, a global mean and a dense layer.

    With dilations 1, 2 and 4 a pixel of its layers sees 3x3, 7x7 and 15x15 of the image.

    Args:
        classes: K, the number of outputs (logits).
        features: channels of each convolution.
        dilations: one for each convolution.

    Note:
        The paper predicts a label for each pixel: see `context_module` for its network.
    """
    stack = dilated_stack([features] * len(dilations), dilations)
    return serial(stack=stack, avgpool=global_avg_pool(), fc=dense(classes))


def dilated_stack(
    features: Sequence[int], dilations: Sequence[int], *, kernel_init: Initializer = "he_normal"
) -> Layer:
    """Stack 3x3 convolutions of one resolution, each followed by ReLU.

    Args:
        features: channels of each convolution.
        dilations: one for each.
        kernel_init: as in `conv`.
    """
    check_positive("dilated", features=list(features), dilations=list(dilations))
    layers = {}
    for n, (C, dilation) in enumerate(zip(features, dilations, strict=True), 1):
        layers[f"conv{n}"] = conv(C, 3, dilation=dilation, padding="SAME", kernel_init=kernel_init)
        layers[f"act{n}"] = relu()
    return serial(**layers)


def context_module(channels: int, *, large: bool = False) -> Layer:
    """Make the paper's module for dense prediction: maps of class scores in, better ones out.

    Seven 3x3 convolutions with dilations 1, 1, 2, 4, 8, 16 and 1, each followed by ReLU, and one of
    1x1: each output sees 67x67. The basic form has 64 C^2 + 8 C parameters; 28,392 for the 21
    classes of Pascal VOC.

    Args:
        channels: C, in and out.
        large: wider towards the end, 32 C at most.

    Note:
        Kernels start as the identity, and the large form's as near it as its widths allow (the
        paper's equations 4 and 5, with noise of a hundredth). The paper pads the image by
        reflection beforehand; here each convolution pads with zeros.
    """
    check_positive("context_module", channels=channels)
    widths = [channels * factor for factor in (_LARGE if large else (1,) * len(_CONTEXT))]
    draw = _passing_on(channels, noise=0.01 if large else 0.0)
    return serial(
        context=dilated_stack(widths, _CONTEXT, kernel_init=draw),
        last=conv(channels, 1, kernel_init=draw),
    )


def _passing_on(C: int, *, noise: float):
    r"""Make kernels that hand on what they get: equation 5, or 4 where all have C channels."""

    def draw(key: jax.Array, shape: tuple[int, ...], dtype) -> jax.Array:
        *window, Ci, Co = shape
        a, b = jnp.arange(Ci) * C // Ci, jnp.arange(Co) * C // Co
        center = jnp.zeros(window, bool).at[tuple(size // 2 for size in window)].set(True)
        same = (a[:, None] == b[None, :]).reshape(*[1] * len(window), Ci, Co)
        chosen = center[..., None, None] & same
        other = noise * C / Co * jax.random.normal(key, shape, dtype)
        return jnp.where(chosen, jnp.asarray(C / Co, dtype), other)

    return draw
