r"""LeNet-5 as it was in 1998.

LeCun et al., Gradient-Based Learning Applied to Document Recognition, Proceedings of the IEEE
86(11), section II.B. Its output units measure distances, and its loss is

.. math:: E = \frac{1}{P} \sum_p \Big( y_{D^p} + \log\big(e^{-j} + \sum_i e^{-y_i}\big) \Big)

(equation 9). With logits z = -y this is the cross-entropy of the softmax over the K classes and one
more, "rubbish", whose logit is the constant -j:

    z = jnp.concatenate([logits, jnp.full_like(logits[:, :1], -j)], axis=-1)
    loss = ops.softmax_cross_entropy(z, labels)

Without the rubbish class (j to infinity) it is the usual loss of the logits that `lenet5_1998`
gives. What the extra term adds: distances of wrong classes that are beyond j are left alone.
"""

from collections.abc import Callable
from functools import partial
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ... import ops
from ..combinators import serial
from ..layer import GLOBAL, POINTWISE, Layer, LayerInfo, Params, Shape, State, Window, stateless
from ..layers.arguments import check_positive
from ..layers.conv import conv
from ..layers.dense import dense, flatten

# Table I: the maps of S2 that each map of C3 sees.
C3 = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)


def lenet5_1998(classes: int) -> Layer:
    r"""Make LeNet-5 with all that later readings leave out.

    60,000 trainable parameters for 10 classes and 32x32x1 images: 156 + 12 + 1,516 + 32 + 48,120 +
    10,164, layer by layer as the paper counts them. C3 connects each of its maps to some of S2's
    (table I); S2 and S4 have a trainable coefficient and bias for each map; every layer up to F6
    ends in the squashing function 1.7159 tanh(2x/3); the outputs are the squared distances of F6
    to fixed codes, the smaller the better, and the logits minus those.

    Args:
        classes: K. The codes of ten classes are drawings of the digits, 7x12 pixels of +-1, as in
            figure 3; of another number of classes they are drawn at random, to which the paper
            sees no objection. Codes are part of the state, and are not trained.

    Note:
        The paper's images have -0.1 for the background and 1.175 for the ink. Weights and biases
        start uniform in +-2.4 / fan_in, as in the paper. The drawings are the transcript of figure
        3 that is in circulation, not compared with the printed page. C3 is computed as a full
        convolution with zeros where there is no connection, and so counts as one in summaries.
    """
    check_positive("lenet5_1998", classes=classes)
    return serial(
        c1=conv(6, 5, kernel_init=_uniform(25), bias_init=_uniform(25)),  #     28x28x6
        act1=_squash(),
        s2=subsample(),  #                                                      14x14x6
        act2=_squash(),
        c3=connected_conv(C3, 5),  #                                            10x10x16
        act3=_squash(),
        s4=subsample(),  #                                                      5x5x16
        act4=_squash(),
        c5=conv(120, 5, kernel_init=_uniform(400), bias_init=_uniform(400)),  # 1x1x120
        act5=_squash(),
        flatten=flatten(),
        f6=dense(84, kernel_init=_uniform(120), bias_init=_uniform(120)),
        act6=_squash(),
        output=rbf(classes),
    )


def subsample() -> Layer:
    r"""Sum each 2x2 window, times a coefficient, plus a bias: one of each for a map.

    .. math:: y_{i,j,c} = w_c \sum_{u,v < 2} x_{2i+u,\,2j+v,\,c} + b_c
    """

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        C = _image_shape("subsample", in_shape)[-1]
        draw, keys = _uniform(4), jax.random.split(key)
        params = {name: draw(k, (C,)) for name, k in zip(("scale", "bias"), keys, strict=True)}
        return ops.pool_output_shape(in_shape, 2), params, {}

    def apply(params, state, x, *, train=False, key=None):
        del train, key
        scale, bias = (params[name].reshape(1, 1, 1, -1) for name in ("scale", "bias"))
        return 4 * ops.avg_pool(x, 2) * scale + bias, state

    return Layer(init, apply, LayerInfo("subsample", Window(2, 2)))


def connected_conv(table: tuple[tuple[int, ...], ...], window: int) -> Layer:
    """Convolve in two dimensions, output map o of the input maps ``table[o]`` alone.

    Its kernel ``(window, window, connections)`` has a slice for each connection, in the order of
    the table.
    """
    channels = max(map(max, table)) + 1
    ins = np.asarray([i for row in table for i in row], np.int32)
    outs = np.asarray([o for o, row in enumerate(table) for _ in row], np.int32)

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        _image_shape("connected_conv", in_shape)
        if in_shape[-1] != channels:
            raise ValueError(
                f"connected_conv: channels do not match: got {in_shape}, need {channels}, as many "
                "as the table connects"
            )
        limits = np.asarray([2.4 / (window * window * len(row)) for row in table], np.float32)
        weights, biases = jax.random.split(key)
        draw = partial(jax.random.uniform, dtype=jnp.float32, minval=-1.0)
        shape = (window, window, len(ins))
        params = {
            "kernel": draw(weights, shape) * limits[outs][None, None],
            "bias": draw(biases, (len(table),)) * limits,
        }
        kernel = (window, window, channels, len(table))
        return ops.conv_output_shape(in_shape, kernel, padding="VALID"), params, {}

    def apply(params, state, x, *, train=False, key=None):
        del train, key
        packed = params["kernel"]
        kernel = jnp.zeros((window, window, x.shape[-1], len(table)), packed.dtype)
        kernel = kernel.at[:, :, ins, outs].set(packed)
        return ops.conv(x, kernel, params["bias"], padding="VALID"), state

    return Layer(init, apply, LayerInfo("connected_conv", Window(window)))


def rbf(classes: int) -> Layer:
    r"""Give minus the squared distance to each class's code: logits of radial basis functions.

    .. math:: z_i = -\sum_j (x_j - w_{ij})^2

    with w fixed: in the state, under ``codes``.
    """

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        N, C = in_shape
        if classes == len(_DIGITS) and prod(_SIZE) == C:
            signs = [[1.0 if pixel == "#" else -1.0 for pixel in d] for d in _DIGITS]
            codes = jnp.asarray(signs, jnp.float32)
        else:
            codes = jax.random.rademacher(key, (classes, C), jnp.float32)
        return (N, classes), {}, {"codes": codes}

    def apply(params, state, x, *, train=False, key=None):
        del params, train, key
        difference = x[:, None, :] - state["codes"].astype(x.dtype)[None]
        return -jnp.sum(difference**2, axis=-1), state

    return Layer(init, apply, LayerInfo("rbf", GLOBAL))


def _image_shape(function: str, shape: Shape) -> Shape:
    if len(shape) != 4:
        raise ValueError(f"{function}: wrong rank: got {shape}, need (N, H, W, C), 2-D images")
    return shape


def _squash() -> Layer:
    """Apply A tanh(S x), A = 1.7159, S = 2/3, so that f(1) = 1 and f(-1) = -1 (appendix A)."""
    return stateless("squash", lambda x: 1.7159 * ops.tanh(x * (2 / 3)), POINTWISE)


def _uniform(fan_in: int) -> Callable[..., Array]:
    def draw(key: Array, shape: Shape, dtype=jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -2.4 / fan_in, 2.4 / fan_in)

    return draw


_SIZE = (12, 7)
# Figure 3, row after row; digits of old style, some under a bar.
_DRAWN = """
.#####. ...##.. .#####. ####### .#####. .#####. ..####. ####### .#####. .#####.
....... ..###.. ....... .....## ....... ....... .##.... .....## ##...## ##..###
..###.. .####.. .#####. ....##. ....... ####### ##..... .....## ##...## ##...##
.##.##. ...##.. ##...## ...##.. .##..## ##..... ##..... ....##. ##...## ##...##
##...## ...##.. #....## ..####. .##..## ##..... ######. ...##.. .#####. ##..###
##...## ...##.. ....##. .....## ###..## .####.. ###..## ...##.. ##...## .######
##...## ...##.. ..###.. .....## ##...## ..####. ##...## ..##... ##...## .....##
##...## ...##.. .##.... .....## ##...## .....## ##...## ..##... ##...## .....##
.##.##. ...##.. ##..... ##...## ##..### ##...## ###..## ..##... ##...## ....##.
..###.. .###### ####### .#####. .###### .#####. .#####. ..##... .#####. .####..
....... ....... ....... ....... .....## ....... ....... ....... ....... .......
....... ....... ....... ....... .....## ....... ....... ....... ....... .......
"""
_DIGITS = ["".join(rows) for rows in zip(*map(str.split, _DRAWN.split("\n")[1:-1]), strict=True)]
