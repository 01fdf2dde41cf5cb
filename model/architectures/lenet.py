"""LeNet-5: LeCun et al., Gradient-Based Learning Applied to Document Recognition, 1998."""

from typing import Literal

from ..combinators import serial
from ..layer import Layer
from ..layers.activation import ActivationName
from ..layers.activation import activation as activation_layer
from ..layers.arguments import check_choice
from ..layers.conv import conv
from ..layers.dense import dense, flatten
from ..layers.pool import avg_pool, max_pool


def lenet5(classes: int, *, activation: ActivationName, pool: Literal["max", "avg"]) -> Layer:
    """Make LeNet-5 in its modern reading: full connections in C3, plain pooling, a linear output.

    61,706 parameters for 10 classes and 32x32x1 images. The names in brackets are the paper's.

    Args:
        classes: K, the number of outputs (logits).
        activation: after each layer but the last; the paper's own was a scaled tanh.
        pool: "max", or "avg" as in the paper (there with trainable scale and bias).
    """
    pools = {"max": max_pool, "avg": avg_pool}
    check_choice("lenet5", "pool", pool, pools)
    act, pooling = activation_layer(activation), pools[pool]
    draw = "xavier_uniform"  # in MNIST's few epochs ahead of He's larger weights, even with ReLU
    return serial(
        conv1=conv(6, 5, kernel_init=draw),  #    32x32x1 -> 28x28x6             (C1)
        act1=act,
        pool1=pooling(2),  #                      14x14x6                        (S2)
        conv2=conv(16, 5, kernel_init=draw),  #   10x10x16                       (C3)
        act2=act,
        pool2=pooling(2),  #                      5x5x16                         (S4)
        flatten=flatten(),
        dense1=dense(120, kernel_init=draw),  #   one 5x5 window over all of it  (C5)
        act3=act,
        dense2=dense(84, kernel_init=draw),  #                                   (F6)
        act4=act,
        dense3=dense(classes, kernel_init=draw),
    )
