"""Networks as pairs of pure functions: the layer contract, layers, combinators, architectures."""

from .architectures.alexnet import alexnet, alexnet_2012
from .architectures.convnext import convnext
from .architectures.dilated import context_module, dilated, dilated_stack
from .architectures.fcn import fcn
from .architectures.lenet import lenet5
from .architectures.lenet_1998 import lenet5_1998
from .architectures.mlp import mlp
from .architectures.mobilenet import mobilenet_v1, mobilenet_v2
from .architectures.resnet import resnet, resnet_cifar, wide_resnet
from .architectures.siamese import siamese, unit_length
from .architectures.spp_net import spp_net, zf5
from .architectures.unet import unet
from .architectures.vgg import vgg
from .combinators import identity, parallel, residual, residual_block, serial
from .intermediates import backbone, replace, tap
from .kernels import kernels
from .layer import (
    EVERYWHERE,
    INLINE,
    POINTWISE,
    About,
    Layer,
    LayerError,
    LayerTypeError,
    LayerValueError,
    Window,
    init_shapes,
    stateless,
)
from .layers.activation import (
    activation,
    elu,
    gelu,
    leaky_relu,
    maxout,
    prelu,
    relu,
    relu6,
    sigmoid,
    silu,
    softmax,
    tanh,
)
from .layers.conv import conv, conv_transpose, depthwise_conv
from .layers.crop_or_pad import as_large_as_input
from .layers.dense import dense, flatten
from .layers.norm import batch_norm, group_norm, instance_norm, layer_norm, local_response_norm
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
    upsample,
)
from .layers.regularization import dropout, layer_scale, stochastic_depth
from .output_checks import init_classifier, init_embedder, init_regressor, init_segmenter
from .registry import ARCHITECTURES, LAYERS, build, from_layers
from .summary import Summary, summarize

__all__ = [
    "ARCHITECTURES",
    "EVERYWHERE",
    "INLINE",
    "LAYERS",
    "POINTWISE",
    "About",
    "Layer",
    "LayerError",
    "LayerTypeError",
    "LayerValueError",
    "Summary",
    "Window",
    "activation",
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "alexnet",
    "alexnet_2012",
    "as_large_as_input",
    "avg_pool",
    "backbone",
    "batch_norm",
    "build",
    "context_module",
    "conv",
    "conv_transpose",
    "convnext",
    "dense",
    "depthwise_conv",
    "dilated",
    "dilated_stack",
    "dropout",
    "elu",
    "fcn",
    "flatten",
    "from_layers",
    "gelu",
    "global_avg_pool",
    "global_max_pool",
    "group_norm",
    "identity",
    "init_classifier",
    "init_embedder",
    "init_regressor",
    "init_segmenter",
    "init_shapes",
    "instance_norm",
    "kernels",
    "layer_norm",
    "layer_scale",
    "leaky_relu",
    "lenet5",
    "lenet5_1998",
    "local_response_norm",
    "lp_pool",
    "max_pool",
    "maxout",
    "mixed_pool",
    "mlp",
    "mobilenet_v1",
    "mobilenet_v2",
    "parallel",
    "prelu",
    "relu",
    "relu6",
    "replace",
    "residual",
    "residual_block",
    "resnet",
    "resnet_cifar",
    "serial",
    "siamese",
    "sigmoid",
    "silu",
    "softmax",
    "spatial_pyramid_pool",
    "spp_net",
    "stateless",
    "stochastic_depth",
    "stochastic_pool",
    "summarize",
    "tanh",
    "tap",
    "unet",
    "unit_length",
    "upsample",
    "vgg",
    "wide_resnet",
    "zf5",
]
