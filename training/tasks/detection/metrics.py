"""The losses of a batch and of a split, each in its parts."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jax import Array

from ....model.detection.structures import DetectorOutput, GroundTruth
from ..task import Numbers
from .losses import RCNNLoss, weight_of, weighted

UNITS = "_units"  # behind the name of a part: how many anchors, regions or pixels it is a mean of


def batch_metrics(
    outputs: DetectorOutput, targets: GroundTruth, *, terms: Callable[..., RCNNLoss]
) -> dict[str, Array]:
    """Return each part of the loss, and the share of sampled regions that have an object."""
    found = terms(outputs, targets)
    parts = {name: part.mean for name, part in found.parts.items()}
    return parts | {"positive_regions": found.positive_regions.mean}


def metric_sums(
    outputs: DetectorOutput,
    targets: GroundTruth,
    counted: Array,
    *,
    terms: Callable[..., RCNNLoss],
    loss: Any = None,
) -> dict[str, Array]:
    """Return the sums over the images that are counted, of the `terms` of the `loss`."""
    del loss
    sums = {"count": counted.sum(dtype=jnp.int32)}
    for name, part in terms(outputs, targets, counted).parts.items():
        sums |= {name: part.total, name + UNITS: part.units}
    return sums


def split_losses(sums: Numbers, keywords: Mapping[str, Any]) -> dict[str, float]:
    """Return the "loss" of a split and its parts, means over all that was sampled of it.

    Args:
        sums: of `metric_sums`, added up over the batches.
        keywords: of the loss, as a config has them: the weights of its parts.

    Example:
        >>> sums = {"loss_box_reg": 6.0, "loss_box_reg_units": 3}
        >>> split_losses(sums, {"box_reg_weight": 0.5})
        {'loss': 1.0, 'loss_box_reg': 2.0}
    """
    names = [name.removesuffix(UNITS) for name in sums if name.endswith(UNITS)]
    parts = {name: float(sums[name]) / max(int(sums[name + UNITS]), 1) for name in names}
    weights = {name: keywords[weight_of(name)] for name in names}
    return {"loss": float(weighted(parts, weights)), **parts}
