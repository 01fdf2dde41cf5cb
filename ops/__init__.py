"""Pure functions on arrays, channels last: what networks are made of.

The letters of shapes, here and in every docstring:

    N             batch
    H, W          spatial axes; with one or three of them (W,) or (D, H, W): "*spatial"
    KH, KW        the window over them: "*window"
    Ho, Wo        spatial axes of the output: "*spatial_out"
    Ci, Co        channels in and out; C where there is one number
    G             groups
    K             classes

So images are (N, H, W, Ci) and kernels (KH, KW, Ci // G, Co). Every function differentiates to any
order, forward and backward, and goes through `jit`, `vmap` and `scan`; dtypes are never mixed
silently, and types below float32 are added up in float32.
"""

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
