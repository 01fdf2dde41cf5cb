"""Pure functions on arrays."""

from .activation import (
    elu,
    gelu,
    leaky_relu,
    log_softmax,
    relu,
    sigmoid,
    silu,
    softmax,
    tanh,
)
from .conv import conv, conv_input_grad, conv_kernel_grad, conv_output_shape
from .dense import dense
from .init import (
    INITIALIZERS,
    he_normal,
    he_uniform,
    lecun_normal,
    ones,
    xavier_normal,
    xavier_uniform,
    zeros,
)
from .loss import mse, softmax_cross_entropy
from .penalty import l2
from .pool import avg_pool, max_pool, pool_output_shape

__all__ = [
    "INITIALIZERS",
    "avg_pool",
    "conv",
    "conv_input_grad",
    "conv_kernel_grad",
    "conv_output_shape",
    "dense",
    "elu",
    "gelu",
    "he_normal",
    "he_uniform",
    "l2",
    "leaky_relu",
    "lecun_normal",
    "log_softmax",
    "max_pool",
    "mse",
    "ones",
    "pool_output_shape",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "softmax_cross_entropy",
    "tanh",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]
