"""Compute what a detector has of boxes before its last layer: to be learned from by other means."""

from functools import partial
from typing import NamedTuple

from jax import Array

from ..intermediates import replace
from ..layer import Layer, Params, State
from .structures import DetectorInput


class RegionFeatures(NamedTuple):
    """Hold what the second stage computes of each box, flattened.

    Attributes:
        pooled: ``(N, R, F)``, what the part ``head`` is given: of R-CNN the backbone's last map.
        features: ``(N, R, D)``, what it gives to the part ``predictor``.
    """

    pooled: Array
    features: Array


def region_features(
    net: Layer, params: Params, state: State, images: Array, boxes: Array
) -> RegionFeatures:
    """Compute the features of given boxes, as in evaluation.

    Args:
        net: a `detector` without a proposal network: `architectures.rcnn`.
        params, state: its own.
        images: ``(N, H, W, C)``, preprocessed.
        boxes: ``(N, R, 4)`` in pixels of these; a row of zeros gives finite numbers.
    """
    found: list[Array] = []
    reading = replace(net, {"head": partial(_recorded, found)})
    reading.apply(params, state, DetectorInput(images, proposals=boxes))
    pooled, features = (x.reshape(*boxes.shape[:2], -1) for x in found)
    return RegionFeatures(pooled, features)


def _recorded(found: list[Array], head: Layer) -> Layer:
    """Return a layer that puts its input and its output in `found`."""

    def apply(params, state, x, *, train=False, key=None):
        y, state = head.apply(params, state, x, train=train, key=key)
        found.extend((x, y))
        return y, state

    return head._replace(apply=apply)
