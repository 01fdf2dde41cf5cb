"""The loss of the R-CNN family: by hand, against a loop, and of what has no objects."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax.model.detection.structures import DetectorOutput, GroundTruth, RoIOutput, RPNOutput
from convax.training.experiment import COMPILE_QUICKLY
from convax.training.tasks.detection.losses import rcnn
from convax.training.tasks.detection.metrics import batch_metrics, metric_sums, split_losses

DEFAULTS = dict.fromkeys(
    ("objectness_weight", "rpn_box_reg_weight", "classifier_weight", "box_reg_weight"), 1.0
) | {"mask_weight": 1.0}
NAMES = (
    "loss_objectness",
    "loss_rpn_box_reg",
    "loss_classifier",
    "loss_box_reg",
    "loss_mask",
)

quick = jax.jit(rcnn, compiler_options=COMPILE_QUICKLY)


def truth_of(N):
    """No image has an object: the loss looks at what the network was given, not at this."""
    return GroundTruth(
        jnp.zeros((N, 1, 4)),
        jnp.full((N, 1), -1),
        jnp.zeros((N, 1), bool),
        jnp.zeros((N, 0, 0), jnp.uint8),
    )


def outputs_of(seed=0, N=3, A=7, S=5, P=3, K=2, m=4, empty=False) -> Any:
    """Random outputs; with `empty` no anchor and no region has an object."""
    rng = np.random.default_rng(seed)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    anchors = rng.integers(-1, 1 if empty else 2, (N, A))
    regions = -np.sort(-rng.integers(-1, 1 if empty else K + 1, (N, S)), axis=1)
    return DetectorOutput(
        None,
        RPNOutput(normal(N, A), normal(N, A, 4), jnp.asarray(anchors), normal(N, A, 4)),
        RoIOutput(
            normal(N, S, 4),
            normal(N, S, K + 1),
            normal(N, S, K + 1, 4),
            jnp.asarray(regions),
            normal(N, S, 4),
            normal(N, P, m, m, K + 1),
            jnp.asarray(rng.integers(0, 2, (N, P, m, m)), jnp.float32),
        ),
    )


def smooth_l1(error, beta=1 / 9):
    error = abs(float(error))
    return 0.5 * error**2 / beta if error < beta else error - 0.5 * beta


def bce(z, t):
    return float(np.logaddexp(0, z) - t * z)


def by_loop(outputs):
    """The five parts as the formulas have them, one number at a time, in float64."""
    rpn, roi = (jax.tree.map(np.asarray, part) for part in (outputs.rpn, outputs.regions))
    parts, n_a, n_s, n_m = dict.fromkeys(NAMES, 0.0), 0, 0, 0
    for n, a in np.ndindex(rpn.labels.shape):
        if rpn.labels[n, a] < 0:
            continue
        n_a += 1
        parts["loss_objectness"] += bce(rpn.logits[n, a], rpn.labels[n, a])
        if rpn.labels[n, a] == 1:
            errors = rpn.deltas[n, a] - rpn.targets[n, a]
            parts["loss_rpn_box_reg"] += sum(map(smooth_l1, errors))
    for n, s in np.ndindex(roi.labels.shape):
        k = roi.labels[n, s]
        if k < 0:
            continue
        n_s += 1
        z = roi.logits[n, s].astype(np.float64)
        parts["loss_classifier"] += float(np.log(np.exp(z).sum()) - z[k])
        if k > 0:
            parts["loss_box_reg"] += sum(map(smooth_l1, roi.deltas[n, s, k] - roi.targets[n, s]))
            if s < roi.masks.shape[1]:
                n_m += roi.mask_targets[n, s].size
                cells = zip(roi.masks[n, s, ..., k].flat, roi.mask_targets[n, s].flat, strict=True)
                parts["loss_mask"] += sum(bce(z, t) for z, t in cells)
    for name, n in zip(NAMES, (n_a, n_a, n_s, n_s, n_m), strict=True):
        parts[name] /= max(n, 1)
    return parts


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_parts_are_those_of_a_loop(seed):
    outputs = outputs_of(seed)
    found = quick(outputs, truth_of(3))
    expected = by_loop(outputs)
    assert set(found.parts) == set(NAMES)
    for name, part in found.parts.items():
        np.testing.assert_allclose(part.mean, expected[name], rtol=2e-6, err_msg=name)
    np.testing.assert_allclose(found.loss, sum(expected.values()), rtol=2e-6)


def test_parts_by_hand():
    """Two anchors and a third not sampled; one region with an object, one without."""
    none, half = jnp.zeros((1, 3, 4)), jnp.zeros((1, 2, 3, 4)).at[0, 0, 2].set(0.5)
    outputs = DetectorOutput(
        None,
        RPNOutput(
            jnp.array([[0.0, 0.0, 9.0]]),
            none.at[0, 0, 0].set(1 / 18).at[0, 0, 1].set(-1.0).at[0, 1].set(7.0),
            jnp.array([[1, 0, -1]]),
            none,
        ),
        RoIOutput(
            jnp.zeros((1, 2, 4)),
            jnp.zeros((1, 2, 3)),
            half,
            jnp.array([[2, 0]]),
            jnp.zeros((1, 2, 4)),
            jnp.zeros((1, 1, 2, 2, 3)).at[0, 0, 0, 0, 2].set(np.log(3)),
            jnp.ones((1, 1, 2, 2)),
        ),
    )
    means = {name: float(part.mean) for name, part in quick(outputs, truth_of(1)).parts.items()}
    assert means == pytest.approx(
        {
            "loss_objectness": np.log(2),
            # 1/18 is half of beta: 0.5 / 18^2 * 9; 1 is beyond: 1 - 1/18; of two anchors sampled
            "loss_rpn_box_reg": (4.5 / 324 + 17 / 18) / 2,
            "loss_classifier": np.log(3),
            "loss_box_reg": 4 * (0.5 - 1 / 18) / 2,
            "loss_mask": (3 * np.log(2) + np.log(4 / 3)) / 4,
        }
    )


def test_weights_weigh_the_loss_and_no_part():
    outputs = outputs_of()
    plain, heavy = (quick(outputs, truth_of(3), mask_weight=w) for w in (1.0, 3.0))
    np.testing.assert_allclose(heavy.loss - plain.loss, 2 * plain.parts["loss_mask"].mean, 1e-5)
    assert heavy.parts["loss_mask"] == plain.parts["loss_mask"]


def test_without_objects_all_is_finite_and_boxes_and_masks_learn_nothing():
    outputs = outputs_of(empty=True)
    # What is not sampled may hold anything.
    away = outputs.regions.labels < 0
    logits = jnp.where(away[..., None], jnp.nan, outputs.regions.logits)
    outputs = outputs._replace(regions=outputs.regions._replace(logits=logits))

    def loss(free):
        (logits, deltas), (scores, offsets, masks) = free
        rpn = outputs.rpn._replace(logits=logits, deltas=deltas)
        regions = outputs.regions._replace(logits=scores, deltas=offsets, masks=masks)
        return rcnn(outputs._replace(rpn=rpn, regions=regions), truth_of(3)).loss

    rpn, roi = outputs.rpn, outputs.regions
    free = ((rpn.logits, rpn.deltas), (roi.logits, roi.deltas, roi.masks))
    value, slopes = jax.jit(jax.value_and_grad(loss), compiler_options=COMPILE_QUICKLY)(free)
    (logits, deltas), (scores, offsets, masks) = slopes
    assert np.isfinite(value) and value > 0
    assert all(np.isfinite(slope).all() for slope in jax.tree.leaves(slopes))
    assert not any(np.any(slope) for slope in (deltas, offsets, masks))
    assert np.any(logits) and np.any(scores)


def test_nothing_sampled_at_all_is_a_loss_of_zero():
    outputs = outputs_of()
    nobody = outputs._replace(
        rpn=outputs.rpn._replace(labels=jnp.full((3, 7), -1)),
        regions=outputs.regions._replace(labels=jnp.full((3, 5), -1)),
    )
    assert float(quick(nobody, truth_of(3)).loss) == 0
    assert float(batch_metrics(nobody, truth_of(3), terms=quick)["positive_regions"]) == 0


def test_a_network_lacks_the_parts_that_it_does_not_have():
    outputs = outputs_of()
    regions = outputs.regions._replace(masks=None, mask_targets=None)
    without = quick(DetectorOutput(None, None, regions), truth_of(3))
    assert without.parts.keys() == without.weights.keys() == {"loss_classifier", "loss_box_reg"}


def test_the_loss_of_a_split_is_of_all_that_was_sampled_in_it():
    """Cut into batches, the last with an image that does not count: as in one."""
    outputs, weights = outputs_of(N=4), DEFAULTS | {"mask_weight": 2.0, "classifier_weight": 0.5}
    step = partial(metric_sums, terms=partial(quick, **weights))
    rows = lambda images: jax.tree.map(lambda a: a[jnp.array(images)], outputs)  # noqa: E731
    parts = (
        step(rows([0, 1]), truth_of(2), jnp.array([True, True])),
        step(rows([2, 3]), truth_of(2), jnp.array([True, False])),
    )
    sums = jax.tree.map(lambda *leaves: np.sum(leaves), *parts)
    assert sums["count"] == 3
    whole = quick(rows([0, 1, 2]), truth_of(3), **weights)
    found = split_losses(sums, weights)
    assert found["loss"] == pytest.approx(float(whole.loss), rel=1e-5)
    for name, part in whole.parts.items():
        assert found[name] == pytest.approx(float(part.mean), rel=1e-5)
    # A mean of the batches' losses would be another number.
    apart = [split_losses(part, weights)["loss"] for part in parts]
    assert abs(np.mean(apart) - found["loss"]) > 1e-3


def test_metrics_of_a_batch():
    outputs = outputs_of()
    found = batch_metrics(outputs, truth_of(3), terms=quick)
    labels = np.asarray(outputs.regions.labels)
    assert found["positive_regions"] == pytest.approx((labels > 0).sum() / (labels >= 0).sum())
    assert found.keys() == {*NAMES, "positive_regions"}


def test_errors_name_the_weight_and_the_missing_truth():
    with pytest.raises(ValueError, match=r"rcnn: box_reg_weight: got -1, need 0 or more; write"):
        rcnn(outputs_of(), truth_of(3), box_reg_weight=-1)
    with pytest.raises(ValueError, match=r"rcnn: no sampled regions: .*DetectorInput\(images, tr"):
        rcnn(DetectorOutput(), truth_of(3))
