"""Make linear maps that take the place of a detector's last layer once fitted: R-CNN, SPP-Net.

Girshick et al., Rich feature hierarchies, arXiv:1311.2524, section 2.3 and appendices B and C. They
are no part of the training: they are fitted behind it (`training.tasks.detection.svm`), are zero
until then, and take the place of the predictor once they are there.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array

from ... import ops
from ..layer import POINTWISE, Layer, LayerInfo, Params, Shape, State


@dataclass(frozen=True)
class SVMOptions:
    """The numbers that the linear maps are fitted by.

    Attributes:
        C: the weight of an example's loss in an SVM.
        bg_iou_thresh: a proposal is a negative of a class below this IoU with all its objects.
        negatives: of each class and image, at most.
        rounds: how often hard negatives are added, at most.
        box_iou_thresh: a proposal is refined to an object from this IoU on.
        ridge: the weight of the squared norm in the regression of boxes.
    """

    C: float = 0.001
    bg_iou_thresh: float = 0.3
    negatives: int = 2000
    rounds: int = 3
    box_iou_thresh: float = 0.6
    ridge: float = 1000.0

    def __post_init__(self):
        for key, value in vars(self).items():
            if key.endswith("_thresh"):
                need = "a number above 0, at most 1" if not 0 < value <= 1 else None
            elif type(value) is int:
                need = "an integer of 1 or more" if value < 1 else None
            else:
                need = "a number above 0" if not value > 0 else None
            if need:
                raise ValueError(f"svm: bad {key}: got {value}, need {need}")


def fitted_linear(features: int) -> Layer:
    """Make a linear map that is fitted behind the training: zero, and of scale 0, until then.

    Parameters: ``kernel`` of `features` columns, ``bias``, and ``scale``, which the input is
    multiplied by; it is positive once the map is there.
    """

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        del key
        shapes = {"kernel": (in_shape[-1], features), "bias": (features,), "scale": ()}
        params = {name: jnp.zeros(shape) for name, shape in shapes.items()}
        return (*in_shape[:-1], features), params, {}

    def apply(params, state, x, *, train=False, key=None):
        del train, key
        return ops.dense(x * params["scale"], params["kernel"], params["bias"]), state

    return Layer(init, apply, LayerInfo("dense", POINTWISE))
