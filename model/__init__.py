"""Networks as pairs of pure functions: the layer contract, layers, combinators, architectures.

    layer.py          the contract: `Layer`, `LayerInfo`, modes, shapes, errors with a path
    combinators.py    layers made of layers: serial, parallel, residual
    kernels.py        the kernels of a network by path
    output_checks.py  first parameters, where the output fits the task
    intermediates.py  activations by path, backbones, layers replaced
    folding.py        batch norm folded into the layer before it, for evaluation
    summary.py        shapes, parameters, FLOPs, memory and receptive fields
    layers/           the layers: ops with parameters and state
    detection/        what detectors are made of, and the pytrees they take and give
    architectures/    networks, one file for each family
    registry.py       what a config may name
    torch/            the same networks' names and layouts in PyTorch

A new layer or architecture is a file of its folder and a line of the registry. The names of parts
are paths of checkpoints and seeds of parameters: to rename one changes every network that has it.
The room imports `convax.ops`; files here stand below `layers` and `architectures`, but for the
registry and this page.
"""

from .architectures.alexnet import alexnet, alexnet_2012
from .architectures.convnext import convnext
from .architectures.dilated import context_module, dilated, dilated_stack
from .architectures.efficientnet import efficientnet
from .architectures.faster_rcnn import faster_rcnn, mask_rcnn
from .architectures.fcn import fcn
from .architectures.lenet import lenet5
from .architectures.lenet_1998 import lenet5_1998
from .architectures.mlp import mlp
from .architectures.mobilenet import mobilenet_v1, mobilenet_v2
from .architectures.rcnn import fast_rcnn, rcnn, spp_detector
from .architectures.resnet import resnet, resnet_cifar, wide_resnet
from .architectures.siamese import l2_normalize, siamese
from .architectures.spp_net import spp_net, zf5
from .architectures.unet import unet
from .architectures.vgg import vgg
from .combinators import (
    each,
    fork,
    gated,
    identity,
    parallel,
    residual,
    residual_block,
    serial,
)
from .detection.detector import sees_crops, takes_proposals, with_proposals
from .detection.features import RegionFeatures, region_features
from .detection.fpn import fpn
from .detection.options import (
    FastRCNNOptions,
    RCNNOptions,
    RoIOptions,
    RPNOptions,
    SPPOptions,
)
from .detection.structures import (
    Detections,
    DetectorInput,
    DetectorOutput,
    GroundTruth,
    RoIOutput,
    RPNOutput,
)
from .folding import Folded, fold_batch_norm
from .intermediates import backbone, capture_intermediates, replace
from .kernels import kernels
from .layer import (
    GLOBAL,
    INLINE,
    POINTWISE,
    FrozenStatistics,
    Layer,
    LayerError,
    LayerInfo,
    LayerTypeError,
    LayerValueError,
    Window,
    init_shapes,
    stateless,
)
from .layers.activation import (
    activation,
    celu,
    elu,
    gelu,
    glu,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
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
from .layers.conv import conv, conv_transpose, depthwise_conv
from .layers.crop_or_pad import match_input_size
from .layers.dense import dense, flatten
from .layers.norm import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    rms_norm,
)
from .layers.pool import (
    adaptive_avg_pool,
    adaptive_max_pool,
    avg_pool,
    global_avg_pool,
    global_max_pool,
    lp_pool,
    max_pool,
    mixed_pool,
    spatial_pyramid_pool,
    stochastic_pool,
)
from .layers.regularization import dropout, layer_scale, stochastic_depth
from .layers.resize import channel_shuffle, pad, pixel_shuffle, pixel_unshuffle, upsample
from .layers.unfold import fold, unfold
from .output_checks import init_classifier, init_embedder, init_regressor, init_segmenter
from .registry import ARCHITECTURES, LAYERS, build, from_layers
from .summary import Summary, summarize

__all__ = [
    "ARCHITECTURES",
    "GLOBAL",
    "INLINE",
    "LAYERS",
    "POINTWISE",
    "Detections",
    "DetectorInput",
    "DetectorOutput",
    "FastRCNNOptions",
    "Folded",
    "FrozenStatistics",
    "GroundTruth",
    "Layer",
    "LayerError",
    "LayerInfo",
    "LayerTypeError",
    "LayerValueError",
    "RCNNOptions",
    "RPNOptions",
    "RPNOutput",
    "RegionFeatures",
    "RoIOptions",
    "RoIOutput",
    "SPPOptions",
    "Summary",
    "Window",
    "activation",
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "alexnet",
    "alexnet_2012",
    "avg_pool",
    "backbone",
    "batch_norm",
    "build",
    "capture_intermediates",
    "celu",
    "channel_shuffle",
    "context_module",
    "conv",
    "conv_transpose",
    "convnext",
    "dense",
    "depthwise_conv",
    "dilated",
    "dilated_stack",
    "dropout",
    "each",
    "efficientnet",
    "elu",
    "fast_rcnn",
    "faster_rcnn",
    "fcn",
    "flatten",
    "fold",
    "fold_batch_norm",
    "fork",
    "fpn",
    "from_layers",
    "gated",
    "gelu",
    "global_avg_pool",
    "global_max_pool",
    "glu",
    "group_norm",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "identity",
    "init_classifier",
    "init_embedder",
    "init_regressor",
    "init_segmenter",
    "init_shapes",
    "instance_norm",
    "kernels",
    "l2_normalize",
    "layer_norm",
    "layer_scale",
    "leaky_relu",
    "lenet5",
    "lenet5_1998",
    "local_response_norm",
    "lp_pool",
    "mask_rcnn",
    "match_input_size",
    "max_pool",
    "maxout",
    "mish",
    "mixed_pool",
    "mlp",
    "mobilenet_v1",
    "mobilenet_v2",
    "pad",
    "parallel",
    "pixel_shuffle",
    "pixel_unshuffle",
    "prelu",
    "rcnn",
    "region_features",
    "relu",
    "relu6",
    "replace",
    "residual",
    "residual_block",
    "resnet",
    "resnet_cifar",
    "rms_norm",
    "sees_crops",
    "selu",
    "serial",
    "siamese",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "spatial_pyramid_pool",
    "spp_detector",
    "spp_net",
    "stateless",
    "stochastic_depth",
    "stochastic_pool",
    "summarize",
    "takes_proposals",
    "tanh",
    "unet",
    "unfold",
    "upsample",
    "vgg",
    "wide_resnet",
    "with_proposals",
    "zf5",
]
