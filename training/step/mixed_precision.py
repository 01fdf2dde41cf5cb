"""Computing in 16 bits what is kept in 32.

The parameters, their averages, the optimizer's memory and the running statistics are float32. In a
training step images and parameters are rounded to the short type, the network computes in it,
forward and backward, and what comes out is float32 again: the loss, what is measured, and the
gradients, for which the rounding counts as the identity. Within the network each operation adds up
in float32 and rounds once at its end (`ops`); normalization takes its statistics in float32.

    bfloat16   8 bits of precision, the exponents of float32: nothing else is needed
    float16    11 bits, but nothing below 6e-8 or above 65504: gradients want a scaled loss,
               see `training.step.loss_scaling`

Evaluation and inference compute in float32, with the float32 parameters: a checkpoint is the same
thing whatever it was trained in, and so are its figures. Only what a training step reports of its
own batch is from the short type.

References:
    Micikevicius et al., Mixed Precision Training, ICLR 2018, arXiv:1710.03740.
    Kalamkar et al., A Study of BFLOAT16 for Deep Learning Training, arXiv:1905.12322.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ...model import Layer
from ...model.detection.structures import DetectorInput


def computing_in(net: Layer, dtype: str) -> Layer:
    """Return `net` that computes in `dtype` on float32 arguments; of "float32", as it is.

    Args:
        net: the network.
        dtype: "float32", "bfloat16" or "float16".
    """
    if dtype == "float32":
        return net
    short = jnp.dtype(dtype)

    def apply(
        params: Any, state: Any, x: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Any, Any]:
        y, state = net.apply(_cast(params, short), state, _short(x, short), train=train, key=key)
        return _cast(y, jnp.dtype(jnp.float32)), state

    return net._replace(apply=apply)


def _short(x: Array | DetectorInput, dtype: jnp.dtype) -> Any:
    """Cast images; coordinates of boxes beside them would be off by pixels."""
    if isinstance(x, DetectorInput):
        return x._replace(images=x.images.astype(dtype))
    return x.astype(dtype)


def _cast(tree: Any, dtype: jnp.dtype) -> Any:
    """Cast the floating-point arrays of `tree` to `dtype`."""

    def cast(leaf: Array) -> Array:
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(cast, tree)
