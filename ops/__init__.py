"""Pure functions on arrays, channels last: what networks are made of.

The letters of shapes, here and in every docstring:

    N             batch
    H, W          spatial axes; with one or three of them (W,) or (D, H, W): "*spatial"
    KH, KW        the window over them: "*window"
    Ho, Wo        spatial axes of the output: "*spatial_out"
    Ci, Co        channels in and out; C where there is one number
    G             groups
    K             classes

So images are (N, H, W, Ci) and kernels (KH, KW, Ci // G, Co). Every function differentiates forward
and backward, to any order that its derivatives have, and goes through `jit`, `vmap` and `scan`.
Parameters have the dtype of the input, and types below float32 are added up in float32. The
derivations are in docs/mathematics.md.

Families have a prefix: `conv*.py`, of which `conv_primitive.py` is the heart, `conv_plain.py` what
it is lowered to, and `conv_cpu.py` the table of what it is lowered to on CPU instead, form by form;
`pool*.py`, `norm*.py`, `loss*.py`. What they share: `window.py` (strides and padding), `dtype.py`,
`channel.py`, `linear_map.py`; `lowering.py` is the switch back to plain forms.
"""

from .activation import (
    elu,
    gelu,
    leaky_relu,
    log_softmax,
    maxout,
    prelu,
    relu,
    relu6,
    sigmoid,
    silu,
    softmax,
    tanh,
)
from .common.implementation import implementation
from .conv.conv import conv, conv_output_shape, convolve, depthwise_conv, separable_conv
from .conv.gradients import conv_input_grad, conv_kernel_grad
from .conv.transpose import conv_transpose, conv_transpose_output_shape
from .dense import dense
from .dropout import dropout, stochastic_depth
from .initializers import (
    INITIALIZERS,
    bilinear,
    he_normal,
    he_uniform,
    lecun_normal,
    lecun_uniform,
    normal,
    ones,
    truncated_normal,
    xavier_normal,
    xavier_uniform,
    zeros,
)
from .local_response_norm import local_response_norm
from .loss.binary import binary_cross_entropy, focal
from .loss.classification import kl_divergence, smooth_labels, softmax_cross_entropy
from .loss.contrastive import contrastive, triplet
from .loss.hinge import multi_margin, multiclass_hinge
from .loss.histogram import histogram_loss
from .loss.lda import lda_loss
from .loss.regression import huber, mse
from .loss.segmentation import dice
from .loss.triplet_mining import triplet_batch_hard, triplet_semi_hard
from .norm import batch_norm, group_norm, instance_norm, layer_norm
from .pool.adaptive import (
    adaptive_avg_pool,
    adaptive_max_pool,
    global_avg_pool,
    global_max_pool,
    spatial_pyramid_pool,
)
from .pool.lp import lp_pool
from .pool.pool import avg_pool, max_pool, pool_output_shape
from .pool.stochastic import mixed_pool, stochastic_pool
from .regularization import l2
from .resize import resize, upsample

__all__ = [
    "INITIALIZERS",
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "avg_pool",
    "batch_norm",
    "bilinear",
    "binary_cross_entropy",
    "contrastive",
    "conv",
    "conv_input_grad",
    "conv_kernel_grad",
    "conv_output_shape",
    "conv_transpose",
    "conv_transpose_output_shape",
    "convolve",
    "dense",
    "depthwise_conv",
    "dice",
    "dropout",
    "elu",
    "focal",
    "gelu",
    "global_avg_pool",
    "global_max_pool",
    "group_norm",
    "he_normal",
    "he_uniform",
    "histogram_loss",
    "huber",
    "implementation",
    "instance_norm",
    "kl_divergence",
    "l2",
    "layer_norm",
    "lda_loss",
    "leaky_relu",
    "lecun_normal",
    "lecun_uniform",
    "local_response_norm",
    "log_softmax",
    "lp_pool",
    "max_pool",
    "maxout",
    "mixed_pool",
    "mse",
    "multi_margin",
    "multiclass_hinge",
    "normal",
    "ones",
    "pool_output_shape",
    "prelu",
    "relu",
    "relu6",
    "resize",
    "separable_conv",
    "sigmoid",
    "silu",
    "smooth_labels",
    "softmax",
    "softmax_cross_entropy",
    "spatial_pyramid_pool",
    "stochastic_depth",
    "stochastic_pool",
    "tanh",
    "triplet",
    "triplet_batch_hard",
    "triplet_semi_hard",
    "truncated_normal",
    "upsample",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]
