"""The networks and layers that a config names."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .architectures.alexnet import alexnet, alexnet_2012
from .architectures.convnext import convnext
from .architectures.dilated import dilated
from .architectures.efficientnet import efficientnet
from .architectures.faster_rcnn import faster_rcnn, mask_rcnn
from .architectures.fcn import fcn
from .architectures.lenet import lenet5
from .architectures.lenet_1998 import lenet5_1998
from .architectures.mlp import mlp
from .architectures.mobilenet import mobilenet_v1, mobilenet_v2
from .architectures.rcnn import fast_rcnn, rcnn, spp_detector
from .architectures.resnet import resnet, resnet_cifar, wide_resnet
from .architectures.siamese import siamese
from .architectures.spp_net import spp_net
from .architectures.unet import unet
from .architectures.vgg import vgg
from .combinators import identity, serial
from .layer import Layer
from .layers import activation as _activation
from .layers import conv as _conv
from .layers import dense as _dense
from .layers import norm as _norm
from .layers import pool as _pool
from .layers import regularization as _regularization
from .layers import resize as _resize
from .layers import unfold as _unfold

ARCHITECTURES: dict[str, Callable[..., Layer]] = {
    "lenet5": lenet5,
    "lenet5_1998": lenet5_1998,
    "mlp": mlp,
    "alexnet": alexnet,
    "alexnet_2012": alexnet_2012,
    "vgg": vgg,
    "spp_net": spp_net,
    "dilated": dilated,
    "resnet": resnet,
    "resnet_cifar": resnet_cifar,
    "wide_resnet": wide_resnet,
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "convnext": convnext,
    "efficientnet": efficientnet,
    "unet": unet,
    "fcn": fcn,
    "siamese": siamese,
    "rcnn": rcnn,
    "spp_detector": spp_detector,
    "fast_rcnn": fast_rcnn,
    "faster_rcnn": faster_rcnn,
    "mask_rcnn": mask_rcnn,
}

LAYERS: dict[str, Callable[..., Layer]] = {
    "conv": _conv.conv,
    "conv_transpose": _conv.conv_transpose,
    "depthwise_conv": _conv.depthwise_conv,
    "dense": _dense.dense,
    "max_pool": _pool.max_pool,
    "avg_pool": _pool.avg_pool,
    "lp_pool": _pool.lp_pool,
    "mixed_pool": _pool.mixed_pool,
    "stochastic_pool": _pool.stochastic_pool,
    "global_max_pool": _pool.global_max_pool,
    "global_avg_pool": _pool.global_avg_pool,
    "adaptive_max_pool": _pool.adaptive_max_pool,
    "adaptive_avg_pool": _pool.adaptive_avg_pool,
    "spatial_pyramid_pool": _pool.spatial_pyramid_pool,
    "upsample": _resize.upsample,
    "pad": _resize.pad,
    "pixel_shuffle": _resize.pixel_shuffle,
    "pixel_unshuffle": _resize.pixel_unshuffle,
    "channel_shuffle": _resize.channel_shuffle,
    "unfold": _unfold.unfold,
    "fold": _unfold.fold,
    "flatten": _dense.flatten,
    "identity": identity,
    "relu": _activation.relu,
    "relu6": _activation.relu6,
    "leaky_relu": _activation.leaky_relu,
    "prelu": _activation.prelu,
    "maxout": _activation.maxout,
    "elu": _activation.elu,
    "sigmoid": _activation.sigmoid,
    "tanh": _activation.tanh,
    "softmax": _activation.softmax,
    "gelu": _activation.gelu,
    "silu": _activation.silu,
    "mish": _activation.mish,
    "selu": _activation.selu,
    "celu": _activation.celu,
    "softplus": _activation.softplus,
    "hardtanh": _activation.hardtanh,
    "hardsigmoid": _activation.hardsigmoid,
    "hardswish": _activation.hardswish,
    "glu": _activation.glu,
    "dropout": _regularization.dropout,
    "stochastic_depth": _regularization.stochastic_depth,
    "layer_scale": _regularization.layer_scale,
    "batch_norm": _norm.batch_norm,
    "layer_norm": _norm.layer_norm,
    "rms_norm": _norm.rms_norm,
    "group_norm": _norm.group_norm,
    "instance_norm": _norm.instance_norm,
    "local_response_norm": _norm.local_response_norm,
}


def build(spec: Mapping[str, Any], classes: int) -> Layer:
    """Build the network that a config's ``[model]`` table describes.

    Args:
        spec: ``{"name": ARCHITECTURE, **its keywords}``, or ``{"layers": [...]}`` where each
            entry is ``{"type": LAYER, **its keywords}``.
        classes: K, the number of outputs a named architecture gets.
    """
    if "layers" in spec:
        return from_layers(spec["layers"])
    keywords = {key: value for key, value in spec.items() if key != "name"}
    return ARCHITECTURES[spec["name"]](classes, **keywords)


def from_layers(specs: Sequence[Mapping[str, Any]]) -> Layer:
    """Build a network spelled out layer by layer, named as `serial` names them."""
    parts = []
    for spec in specs:
        keywords = {key: value for key, value in spec.items() if key != "type"}
        parts.append(LAYERS[spec["type"]](**keywords))
    return serial(*parts)
