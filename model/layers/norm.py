"""The normalizing layers: each is an op of `convax.ops` with its parameters and statistics.

For summaries they look at one element each: that the statistics come from the whole image is left
out of receptive fields, as is usual.
"""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple, TypeAlias

import jax.numpy as jnp
from jax import Array

from ... import ops
from ...ops.common.dtypes import accum_dtype
from ..layer import (
    POINTWISE,
    FrozenStatistics,
    Layer,
    LayerInfo,
    Params,
    Shape,
    State,
    infer_shape,
    stateless,
)
from .arguments import check_positive


def batch_norm(
    *,
    momentum: float = 0.1,
    eps: float = 1e-5,
    scale: bool = True,
    bias: bool = True,
    scale_init: float = 1.0,
    track_running_stats: bool = True,
) -> Layer:
    """Normalize over the batch, with running statistics for evaluation; see `ops.batch_norm`.

    Args:
        momentum: the weight of the new batch in the running statistics, PyTorch's convention.
        eps: added to the variance.
        scale: whether each channel has a scale.
        bias: whether each channel has a bias, zero at first; a layer just before needs none then.
        scale_init: what each scale is at first; 0 at the end of a residual branch makes the block
            the identity to begin with (Goyal et al., arXiv:1706.02677, section 5.1).
        track_running_stats: whether there are running statistics; without, those of the batch are
            taken in evaluation too, and `momentum` has no effect. What comes out of an image then
            depends on the others of its batch, and on what fills up a last one: a config has no
            such key. `group_norm` and `instance_norm` look at one image.

    Where `model.FrozenStatistics` freezes mean and var, they normalize as in evaluation, also in
    training, and stay as they are.
    """
    normalize = partial(ops.batch_norm, momentum=momentum, eps=eps)
    evaluate = partial(_evaluate, normalize)
    if isinstance(momentum, float) and isinstance(eps, float):
        _check_numbers(momentum, eps)  # once, of all the layers of a network
    else:
        infer_shape(evaluate, (1, 1))

    if not track_running_stats:
        of_batch = partial(_by_batch, normalize)
        one = {"scale_init": scale_init, "try_on": (2, 1)}
        return _normalizing("batch_norm", of_batch, scale, bias, **one)

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        del key
        out_shape, C = infer_shape(evaluate, in_shape), in_shape[-1]
        return out_shape, _scale_and_bias((C,), scale, bias, scale_init), _fresh(C)

    def apply(params, state, x, *, train=False, key=None):
        del key
        if not {"mean", "var"} <= state.keys():
            raise ValueError(
                f"batch_norm: no running statistics: got a state of {sorted(state)}, need mean and "
                f"var; pass the state that init returned, and after each step the one from apply"
            )
        if isinstance(train, FrozenStatistics):
            train = not train.freezes(state)
        y, (mean, var) = normalize(x, state["mean"], state["var"], **params, train=train)
        return y, {"mean": mean, "var": var}

    affine = partial(_affine, eps)
    return Layer(init, apply, LayerInfo("batch_norm", POINTWISE, affine=affine))


def layer_norm(
    *, axes: int | list[int] = -1, eps: float = 1e-5, scale: bool = True, bias: bool = True
) -> Layer:
    """Normalize over the last axes, at each place; see `ops.layer_norm`.

    Args:
        axes: the axis or axes, the channels by default.
        eps: added to the variance.
        scale: whether each element of the axes has a scale, one at first.
        bias: whether each element of the axes has a bias, zero at first.
    """
    return _over_last("layer_norm", ops.layer_norm, axes, eps, scale, bias)


def rms_norm(*, axes: int | list[int] = -1, eps: float = 1e-6, scale: bool = True) -> Layer:
    """Divide by the root mean square over the last axes, at each place; see `ops.rms_norm`.

    Args:
        axes: the axis or axes, the channels by default.
        eps: added to the mean square.
        scale: whether each element of the axes has a scale, one at first.
    """
    return _over_last("rms_norm", ops.rms_norm, axes, eps, scale, False)


def group_norm(
    groups: int,
    *,
    eps: float = 1e-5,
    scale: bool = True,
    bias: bool = True,
    scale_init: float = 1.0,
) -> Layer:
    """Normalize groups of channels in each example; see `ops.group_norm`.

    Args:
        groups: a divisor of the channels.
        eps: added to the variance.
        scale: whether each channel has a scale.
        bias: whether each channel has a bias, zero at first.
        scale_init: what each scale is at first, as for `batch_norm`.
    """
    check_positive("group_norm", groups=groups)
    function = partial(ops.group_norm, groups=groups, eps=eps)
    try_on = (1, 2, groups)
    return _normalizing("group_norm", function, scale, bias, scale_init=scale_init, try_on=try_on)


def instance_norm(*, eps: float = 1e-5, scale: bool = True, bias: bool = True) -> Layer:
    """Normalize each channel in each example; see `ops.instance_norm`.

    Args:
        eps: added to the variance.
        scale: whether each channel has a scale, one at first.
        bias: whether each channel has a bias, zero at first.
    """
    return _normalizing("instance_norm", partial(ops.instance_norm, eps=eps), scale, bias)


def local_response_norm(
    *, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0
) -> Layer:
    """Let neighboring channels compete; see `ops.local_response_norm`, whose alpha is AlexNet's."""
    check_positive("local_response_norm", size=size)
    function = partial(ops.local_response_norm, size=size, alpha=alpha, beta=beta, k=k)
    infer_shape(function, (1, 1))
    return stateless("local_response_norm", function, POINTWISE)


class Norm(NamedTuple):
    """A normalization that an architecture offers by name.

    Attributes:
        name: the stem of its layers' names in parameters.
        layer: ``layer(features, *, scale_init=1.0, eps=1e-5)``.
    """

    name: str
    layer: Callable[..., Layer]


def _batch_norm(features: int, **options: Any) -> Layer:
    del features
    return batch_norm(**options)


def _group_norm(features: int, **options: Any) -> Layer:
    """Normalize 32 groups, or so many that each has eight channels: a divisor of both."""
    return group_norm(math.gcd(32, features // 8 or 1, features), **options)


NormName: TypeAlias = Literal["batch", "group"]
NORMS = {"batch": Norm("bn", _batch_norm), "group": Norm("gn", _group_norm)}


def _over_last(
    kind: str,
    op: Callable[..., Array],
    axes: int | list[int],
    eps: float,
    scale: bool,
    bias: bool,
) -> Layer:
    """Make the layer of an op over the last axes, of which none may be that of the batch."""
    last = (axes,) if isinstance(axes, int) else tuple(axes)
    function = partial(op, axes=last, eps=eps)

    def of_examples(x: Array, **params: Any) -> Array:
        if len(last) >= x.ndim:
            raise ValueError(
                f"{kind}: the batch is no axis to normalize over: got axes={axes} for x "
                f"{x.shape}, need fewer; write {list(range(1, x.ndim))} for all the others"
            )
        return function(x, **params)

    rank = min(max((len(last), *last)) + 1, 8)  # the least of which these can be the last axes
    return _normalizing(kind, of_examples, scale, bias, axes=len(last), try_on=(2,) * rank)


def _normalizing(
    kind: str,
    function: Callable[..., Array],
    scale: bool,
    bias: bool,
    *,
    axes: int = 1,
    scale_init: float = 1.0,
    try_on: Shape = (1, 2, 1),
) -> Layer:
    """Make a layer without running statistics, of a scale and a bias over the last `axes` axes."""
    infer_shape(function, try_on)  # refuses wrong numbers here and now

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        del key
        out_shape = infer_shape(function, in_shape)
        shape = in_shape[len(in_shape) - axes :]
        return out_shape, _scale_and_bias(shape, scale, bias, scale_init), {}

    def apply(params, state, x, *, train=False, key=None):
        del train, key
        return function(x, **params), state

    return Layer(init, apply, LayerInfo(kind, POINTWISE))


def _affine(eps: float, params: Params, state: State) -> tuple[Array, Array]:
    """Return what each channel is multiplied by in evaluation, and what is added then."""
    mean, var = (state[name].astype(accum_dtype(state[name].dtype)) for name in ("mean", "var"))
    factor = 1 / (var + eps) ** 0.5
    if "scale" in params:
        factor = factor * params["scale"].astype(factor.dtype)
    term = -mean * factor
    return factor, params["bias"].astype(term.dtype) + term if "bias" in params else term


def _by_batch(normalize: Callable[..., Any], x: Array, **params: Any) -> Array:
    return normalize(x, None, None, **params, train=True)[0]


def _evaluate(normalize: Callable[..., Any], x: Array) -> Array:
    state = _fresh(x.shape[-1])
    return normalize(x, state["mean"], state["var"], train=False)[0]


@lru_cache
def _check_numbers(momentum: float, eps: float) -> None:
    """Refuse wrong numbers before there is an input: tracing takes 10 ms."""
    normalize = partial(ops.batch_norm, momentum=momentum, eps=eps)
    infer_shape(partial(_evaluate, normalize), (1, 1))


def _scale_and_bias(shape: Shape, scale: bool, bias: bool, scale_init: float) -> Params:
    return ({"scale": jnp.full(shape, scale_init, jnp.float32)} if scale else {}) | (
        {"bias": jnp.zeros(shape, jnp.float32)} if bias else {}
    )


def _fresh(C: int) -> State:
    return {"mean": jnp.zeros(C, jnp.float32), "var": jnp.ones(C, jnp.float32)}
