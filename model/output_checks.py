"""The first parameters of a network, with the check that it gives what its task needs."""

from collections.abc import Callable

from jax import Array

from .detection.structures import DetectorOutput
from .layer import Layer, LayerValueError, Params, Shape, State


def init_classifier(net: Layer, key: Array, in_shape: Shape, classes: int) -> tuple[Params, State]:
    """Initialize a network that gives one logit for each class.

    Raises:
        LayerValueError: it gives something else.
    """
    return _init(
        net,
        key,
        in_shape,
        lambda out: out == (in_shape[0], classes),
        f"but the data has {classes} classes: need ({classes},); end with flatten and a dense "
        f"layer of {classes} features",
    )


def init_regressor(net: Layer, key: Array, in_shape: Shape, values: int) -> tuple[Params, State]:
    """Initialize a network that gives so many values.

    Raises:
        LayerValueError: it gives something else.
    """
    return _init(
        net,
        key,
        in_shape,
        lambda out: out == (in_shape[0], values),
        f"but the data has {values} value(s): need ({values},); end with flatten and a dense "
        f"layer of {values} feature(s)",
    )


def init_segmenter(net: Layer, key: Array, in_shape: Shape, classes: int) -> tuple[Params, State]:
    """Initialize a network that gives each pixel one logit for each class.

    Raises:
        LayerValueError: it gives something else.
    """
    return _init(
        net,
        key,
        in_shape,
        lambda out: out == (*in_shape[:-1], classes),
        f"but there are {classes} classes for each of its pixels: need "
        f"{(*in_shape[1:-1], classes)}; end with as much upsampling as there is pooling and a 1x1 "
        f'conv of {classes} features, or write name = "unet"',
    )


def init_embedder(net: Layer, key: Array, in_shape: Shape, classes: int) -> tuple[Params, State]:
    """Initialize a network that gives one vector, of any length; `classes` is not used.

    Raises:
        LayerValueError: it gives something else.
    """
    del classes
    return _init(
        net,
        key,
        in_shape,
        lambda out: len(out) == 2,
        "but an embedding is one vector: need (D,); end with flatten and a dense layer of D "
        "features",
    )


def init_detector(
    net: Layer, key: Array, in_shape: Shape, classes: int, *, masks: bool = False
) -> tuple[Params, State]:
    """Initialize a network that gives a `DetectorOutput`; `classes` is not used.

    Args:
        net: one of `architectures.rcnn` or `architectures.faster_rcnn`.
        key: of the parameters.
        in_shape: ``(N, H, W, C)``.
        classes: how many there are.
        masks: whether its detections must have masks.

    Raises:
        LayerValueError: it gives something else.
    """
    del classes
    out, params, state = net.init(key, in_shape)
    found = out.detections if isinstance(out, DetectorOutput) else None
    if found is None or (masks and found.masks is None):
        need, name = ("boxes and masks", "mask_rcnn") if masks else ("boxes", "faster_rcnn")
        raise LayerValueError(
            "model", f"the network gives no {need} of objects; write name = {name!r}"
        )
    return params, state


def _init(
    net: Layer, key: Array, in_shape: Shape, fits: Callable[[Shape], bool], otherwise: str
) -> tuple[Params, State]:
    out_shape, params, state = net.init(key, in_shape)
    if not fits(out_shape):
        raise LayerValueError(
            "model", f"the last layer gives {out_shape[1:]} an image, {otherwise}"
        )
    return params, state
