"""Pure functions on arrays, channels last: what networks are made of.

    common/                 what all rooms of operations share: dtypes, checks, padding, mesh, JAX
    conv/, conv/cpu/        convolutions, and their implementations on CPU
    pool/                   pools over windows, bins and whole images
    detection/              boxes, anchors, matching, suppression, regions of feature maps
    loss/                   losses, each with weights and a reduction
    activation.py           relu, gelu, softmax, maxout ...
    dense.py                the fully connected layer
    dropout.py              dropout, stochastic depth
    grid_sample.py          images read at places that are data; affine grids
    initializers.py         first values of parameters
    local_response_norm.py  AlexNet's normalization
    norm.py                 batch, layer, group, instance and RMS normalization
    pad.py                  zeros, reflections, copies of edges around an image
    regularization.py       penalties on parameters
    resize.py               nearest, linear and cubic interpolation
    shuffle.py              pixels from channels and back, channels among groups
    unfold.py               windows as columns, and back
    weight_standardization.py   kernels with mean 0 and variance 1 for each output

An operation may be added or changed here if it stays a pure function of arrays, with its formula,
shapes, errors and source in its docstring, its derivation in docs/mathematics.md and an entry in
tests/conformance. A change of the order of floating point operations changes every trained network.
These rooms import jax and numpy alone, and of each other those before them: common, the files
here, pool, conv, detection, loss; `activation`, `grid_sample`, `resize` and `unfold` stand above
pool.

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
Parameters have the dtype of the input, and types below float32 are added up in float32.
`implementation` switches from the implementations for CPU to XLA's own.
"""

from .activation import (
    celu,
    elu,
    gelu,
    glu,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
    log_softmax,
    maxout,
    mish,
    prelu,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from .common.implementation import implementation
from .conv.conv import conv, conv_output_shape, convolve, depthwise_conv, separable_conv
from .conv.gradients import conv_input_grad, conv_kernel_grad
from .conv.transpose import conv_transpose, conv_transpose_output_shape
from .dense import dense
from .detection.anchors import cell_anchors, grid_anchors
from .detection.boxes import (
    box_area,
    box_clip,
    box_convert,
    box_decode,
    box_encode,
    box_giou,
    box_iou,
    box_scale,
)
from .detection.levels import multilevel_roi_align, roi_levels
from .detection.masks import crop_masks, paste_masks
from .detection.matching import match_boxes, sample_balanced, sample_mask
from .detection.nms import nms, soft_nms
from .detection.roi_align import roi_align
from .detection.roi_pool import roi_pool, roi_pyramid_pool
from .dropout import dropout, stochastic_depth
from .grid_sample import affine_grid, grid_sample
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
from .loss.angular_margin import arcface_loss, cosface_loss
from .loss.binary import binary_cross_entropy, focal_loss
from .loss.boxes import ciou_loss, diou_loss, giou_loss
from .loss.classification import kl_divergence, smooth_labels, softmax_cross_entropy
from .loss.contrastive import contrastive_loss, cosine_embedding_loss, triplet_loss
from .loss.hinge import multi_margin_loss, multiclass_hinge_loss
from .loss.histogram import histogram_loss
from .loss.lda import lda_loss
from .loss.likelihood import kl_div_loss, nll_loss
from .loss.ranking import margin_ranking_loss
from .loss.regression import huber_loss, l1_loss, mse_loss, smooth_l1_loss
from .loss.segmentation import dice_loss
from .loss.triplet_mining import batch_hard_triplet_loss, semi_hard_triplet_loss
from .norm import batch_norm, group_norm, instance_norm, layer_norm, rms_norm
from .pad import pad
from .pool.adaptive import (
    adaptive_avg_pool,
    adaptive_max_pool,
    global_avg_pool,
    global_max_pool,
    spatial_pyramid_pool,
)
from .pool.indices import max_pool_with_indices, max_unpool
from .pool.lp import lp_pool
from .pool.pool import avg_pool, max_pool, pool_output_shape
from .pool.stochastic import mixed_pool, stochastic_pool
from .regularization import l2
from .resize import resize, upsample
from .shuffle import channel_shuffle, pixel_shuffle, pixel_unshuffle
from .unfold import fold, unfold
from .weight_standardization import standardize_weights

__all__ = [
    "INITIALIZERS",
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "affine_grid",
    "arcface_loss",
    "avg_pool",
    "batch_hard_triplet_loss",
    "batch_norm",
    "bilinear",
    "binary_cross_entropy",
    "box_area",
    "box_clip",
    "box_convert",
    "box_decode",
    "box_encode",
    "box_giou",
    "box_iou",
    "box_scale",
    "cell_anchors",
    "celu",
    "channel_shuffle",
    "ciou_loss",
    "contrastive_loss",
    "conv",
    "conv_input_grad",
    "conv_kernel_grad",
    "conv_output_shape",
    "conv_transpose",
    "conv_transpose_output_shape",
    "convolve",
    "cosface_loss",
    "cosine_embedding_loss",
    "crop_masks",
    "dense",
    "depthwise_conv",
    "dice_loss",
    "diou_loss",
    "dropout",
    "elu",
    "focal_loss",
    "fold",
    "gelu",
    "giou_loss",
    "global_avg_pool",
    "global_max_pool",
    "glu",
    "grid_anchors",
    "grid_sample",
    "group_norm",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "he_normal",
    "he_uniform",
    "histogram_loss",
    "huber_loss",
    "implementation",
    "instance_norm",
    "kl_div_loss",
    "kl_divergence",
    "l1_loss",
    "l2",
    "layer_norm",
    "lda_loss",
    "leaky_relu",
    "lecun_normal",
    "lecun_uniform",
    "local_response_norm",
    "log_softmax",
    "lp_pool",
    "margin_ranking_loss",
    "match_boxes",
    "max_pool",
    "max_pool_with_indices",
    "max_unpool",
    "maxout",
    "mish",
    "mixed_pool",
    "mse_loss",
    "multi_margin_loss",
    "multiclass_hinge_loss",
    "multilevel_roi_align",
    "nll_loss",
    "nms",
    "normal",
    "ones",
    "pad",
    "paste_masks",
    "pixel_shuffle",
    "pixel_unshuffle",
    "pool_output_shape",
    "prelu",
    "relu",
    "relu6",
    "resize",
    "rms_norm",
    "roi_align",
    "roi_levels",
    "roi_pool",
    "roi_pyramid_pool",
    "sample_balanced",
    "sample_mask",
    "selu",
    "semi_hard_triplet_loss",
    "separable_conv",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "smooth_labels",
    "soft_nms",
    "softmax",
    "softmax_cross_entropy",
    "softplus",
    "spatial_pyramid_pool",
    "standardize_weights",
    "stochastic_depth",
    "stochastic_pool",
    "tanh",
    "triplet_loss",
    "truncated_normal",
    "unfold",
    "upsample",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]
