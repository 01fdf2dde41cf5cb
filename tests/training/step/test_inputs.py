"""A network that is given more than images: their truth too, in training and for a loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax.model import Layer, LayerInfo
from convax.model.detection.structures import DetectorInput, GroundTruth
from convax.training.step.train_step import (
    StepSpec,
    init_train_state,
    make_eval_step,
    make_train_step,
)

SEEN = {}


def apply(params, state, x, *, train=False, key=None):
    SEEN["images"], SEEN["boxes"] = x.images.dtype, x.truth.boxes.dtype
    boxes = x.truth.boxes.astype(jnp.float32)[:, 0, 0]  # fine in float32 alone
    return params["w"].astype(jnp.float32) * boxes + 0 * x.images.mean().astype(jnp.float32), state


NET = Layer(lambda key, shape: None, apply, LayerInfo("toy"))


def truth_of(boxes):
    N = len(boxes)
    return GroundTruth(
        jnp.asarray(boxes, jnp.float32)[:, None, None] * jnp.ones((1, 1, 4)),
        jnp.zeros((N, 1), jnp.int32),
        jnp.zeros((N, 1), bool),
        jnp.zeros((N, 0, 0), jnp.uint8),
    )


class Descent:
    """Plain descent."""

    init = staticmethod(lambda params: ())
    update = staticmethod(lambda grads, state, params: (jax.tree.map(jnp.negative, grads), state))


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_inputs_are_made_of_images_and_targets_as_they_are_learned_from(compute, accumulate):
    """257 + 1/4 has no bfloat16: coordinates stay as they are, images do not."""
    images, labels = jnp.zeros((4, 2, 2, 1)), truth_of([257.25, 1.0, 2.0, 3.0])
    spec = StepSpec(
        NET,
        lambda outputs, targets: outputs,
        Descent(),
        preprocess=lambda images: images,
        targets=lambda labels: labels._replace(boxes=2 * labels.boxes),
        augment=lambda key, x, targets, images, step: (
            x,
            targets._replace(boxes=targets.boxes + 1),
        ),
        inputs=DetectorInput,
        accumulate=accumulate,
        compute=compute,
    )
    state = init_train_state({"w": jnp.float32(1)}, {}, Descent(), jax.random.key(0))
    state, metrics = make_train_step(spec)(state, images, labels)
    mean = (2 * (257.25 + 1 + 2 + 3) + 4) / 4  # doubled, and moved by one
    assert float(metrics["loss"]) == mean
    assert float(state.params["w"]) == pytest.approx(1 - mean, rel=1e-2)  # rounded with `w`
    assert {"images": compute, "boxes": "float32"} == SEEN


def test_an_evaluation_gives_the_truth_as_well():
    labels = truth_of([1.0, 2.0, 5.0])
    step = make_eval_step(
        NET,
        lambda outputs, targets: outputs,
        lambda outputs, targets, counted, loss: {"sum": jnp.where(counted, outputs, 0).sum()},
        lambda images: images,
        lambda outputs: outputs,
        targets=lambda labels: labels._replace(boxes=2 * labels.boxes),
        inputs=DetectorInput,
    )
    weights = jnp.array([1.0, 1.0, 0.0])
    sums, kept = step({"w": jnp.float32(1)}, {}, jnp.zeros((3, 2, 2, 1)), labels, weights)
    np.testing.assert_array_equal(kept, [2, 4, 10])
    assert float(sums["sum"]) == 6
