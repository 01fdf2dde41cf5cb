r"""The loss of the R-CNN family: up to five parts, each a mean over what was sampled.

.. math:: \ell = \frac{1}{n_a} \sum_a \mathrm{BCE}(z_a, y_a)
    + \frac{1}{n_a} \sum_{a: y_a = 1} \mathrm{SL}_1(\delta_a - t_a)
    + \frac{1}{n_s} \sum_s \mathrm{CE}(z_s, y_s)
    + \frac{1}{n_s} \sum_{s: y_s > 0} \mathrm{SL}_1(\delta_{s, y_s} - t_s)
    + \frac{1}{n_m} \sum_{s: y_s > 0} \sum_{m \times m} \mathrm{BCE}(z_{s, y_s}, t_s)

of sampled anchors a and sampled regions s, with SL1 the smooth L1 loss summed over the four
offsets. A network that proposes nothing lacks the first two, one without masks the last. What is
evaluated in batches is put together from sums: the mean of a split is over all that was sampled.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from .... import ops
from ....model.detection.structures import DetectorOutput, GroundTruth, RoIOutput, RPNOutput
from ..spec import LossSpec, keywords_of

BETA = 1 / 9  # of the smooth L1 loss of offsets: where the parabola goes over into the line


class Part(NamedTuple):
    """A part of the loss: a sum, and what it is divided by."""

    total: Array  # (), over all that counts
    units: Array  # (), int32: how many anchors, regions or pixels that is

    @property
    def mean(self) -> Any:
        """Return the part itself; 0 where nothing was sampled."""
        return self.total / jnp.maximum(self.units, 1).astype(jnp.float32)


class RCNNLoss(NamedTuple):
    """The loss of a batch, before it is divided.

    Attributes:
        parts: by their names: "loss_objectness", "loss_rpn_box_reg", "loss_classifier",
            "loss_box_reg", "loss_mask"; those that the network has.
        weights: by the same names.
        positive_regions: how many of the sampled regions have an object: a share, as a part is.
    """

    parts: dict[str, Part]
    weights: dict[str, Any]
    positive_regions: Part

    @property
    def loss(self) -> Array:
        """Return the weighted sum of the means of the parts."""
        return jnp.asarray(weighted({k: part.mean for k, part in self.parts.items()}, self.weights))


def rcnn(
    outputs: DetectorOutput,
    targets: GroundTruth,
    counted: Array | None = None,
    *,
    objectness_weight: float = 1.0,
    rpn_box_reg_weight: float = 1.0,
    classifier_weight: float = 1.0,
    box_reg_weight: float = 1.0,
    mask_weight: float = 1.0,
) -> RCNNLoss:
    """Compute the loss of a detector in its parts.

    Args:
        outputs: of a network that was given the truth: `rpn` and `regions` hold what each anchor
            and region should have given.
        targets: the truth itself; not looked at.
        counted: ``(N,)`` bool, which images count; None: all.
        objectness_weight: of whether an anchor has an object.
        rpn_box_reg_weight: of the offsets from an anchor to its object.
        classifier_weight: of the class of a region.
        box_reg_weight: of the offsets from a region to its object.
        mask_weight: of the masks.

    Raises:
        ValueError: a negative weight, or outputs without sampled regions.
    """
    del targets
    weights = {
        "loss_objectness": objectness_weight,
        "loss_rpn_box_reg": rpn_box_reg_weight,
        "loss_classifier": classifier_weight,
        "loss_box_reg": box_reg_weight,
        "loss_mask": mask_weight,
    }
    for name, weight in weights.items():
        _check_weight(weight_of(name), weight)
    if outputs.regions is None:
        raise ValueError(
            "rcnn: no sampled regions: got outputs without `regions`, need those of a network that "
            "was given the truth; apply it to DetectorInput(images, truth)"
        )
    regions = outputs.regions._replace(labels=_counted(outputs.regions.labels, counted))
    parts = _region_parts(regions)
    if outputs.rpn is not None:
        rpn = outputs.rpn._replace(labels=_counted(outputs.rpn.labels, counted))
        parts = _rpn_parts(rpn) | parts
    positive = _count(regions.labels > 0).astype(jnp.float32)
    positive_regions = Part(positive, _count(regions.labels >= 0))
    return RCNNLoss(parts, {name: weights[name] for name in parts}, positive_regions)


def weight_of(part: str) -> str:
    """Return the keyword of a part's weight.

    Example:
        >>> weight_of("loss_box_reg")
        'box_reg_weight'
    """
    return f"{part.removeprefix('loss_')}_weight"


def keywords_of_weights(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return the weight of each part as a config has them, those that it leaves out too."""
    return {name: keywords.get(name, p.default) for name, p in keywords_of(rcnn).items()}


def weighted(means: Mapping[str, Any], weights: Mapping[str, Any]) -> Any:
    """Return the loss of its parts."""
    return sum(weights[name] * mean for name, mean in means.items())


def _rpn_parts(rpn: RPNOutput) -> dict[str, Part]:
    sampled, positive = rpn.labels >= 0, rpn.labels == 1
    objectness = ops.binary_cross_entropy(
        rpn.logits, positive.astype(jnp.float32), weights=sampled, reduction="sum"
    )
    units = _count(sampled)
    return {
        "loss_objectness": Part(objectness, units),
        "loss_rpn_box_reg": Part(_offsets(rpn.deltas, rpn.targets, positive), units),
    }


def _region_parts(regions: RoIOutput) -> dict[str, Part]:
    sampled, positive = regions.labels >= 0, regions.labels > 0
    classes = regions.logits.shape[-1]
    classifier = ops.softmax_cross_entropy(
        regions.logits, regions.labels, weights=sampled, reduction="sum"
    )
    # Selected by a mask: an index would have a scatter for its gradient.
    of_class = jax.nn.one_hot(regions.labels, classes, dtype=bool)  # nowhere for padding
    deltas = jnp.where(of_class[..., None], regions.deltas, 0).sum(axis=-2)
    units = _count(sampled)
    parts = {
        "loss_classifier": Part(classifier, units),
        "loss_box_reg": Part(_offsets(deltas, regions.targets, positive), units),
    }
    if regions.masks is None or regions.mask_targets is None:
        return parts
    P, m = regions.masks.shape[1:3]
    of_class, positive = of_class[:, :P, None, None], positive[:, :P]
    masks = jnp.where(of_class, regions.masks, 0).sum(axis=-1)
    mask = ops.binary_cross_entropy(masks, regions.mask_targets, weights=positive, reduction="sum")
    return parts | {"loss_mask": Part(mask, _count(positive) * m**2)}


def _offsets(deltas: Array, targets: Array, positive: Array) -> Array:
    """Return the sum of the smooth L1 losses of the offsets of what has an object."""
    return ops.smooth_l1_loss(deltas, targets, beta=BETA, weights=positive, reduction="sum")


def _counted(labels: Array, counted: Array | None) -> Array:
    """Return the labels with those of images that do not count as if they were not sampled."""
    return labels if counted is None else jnp.where(counted[:, None], labels, -1)


def _count(there: Array) -> Array:
    return there.sum(dtype=jnp.int32)


def _check_weight(name: str, weight: Any) -> None:
    known = isinstance(weight, int | float)  # a traced one has no value yet
    if known and not weight >= 0:
        raise ValueError(
            f"rcnn: {name}: got {weight}, need 0 or more; write {name} = 1.0, the default"
        )


LOSSES = {"rcnn": LossSpec(rcnn, rcnn, stated=())}
