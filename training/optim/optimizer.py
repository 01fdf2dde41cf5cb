r"""Optimizers, written from their equations: SGD with and without momentum, Adam, AdamW.

An optimizer is a pair of pure functions with optax's signature, so that ours and optax's are
interchangeable, alone or inside `optax.chain`:

    state = optimizer.init(params)
    updates, state = optimizer.update(grads, state, params)
    params = apply_updates(params, updates)

Conventions, the same for all of them:

- updates are *added* to the parameters: they already carry the minus sign of descent;
- `learning_rate` is a number or a schedule, a function of the number of updates made so far
  (0 at the first update, as in optax; PyTorch counts its scheduler's own steps);
- arithmetic and moments are float32 at least, and float64 for float64 parameters; updates have the
  dtype of the gradient. For bfloat16 and float16 parameters optax keeps the moments in that
  dtype, where Adam's b2 = 0.999 rounds to 1 and the second moment never decays;
- a gradient that does not match the parameters in tree, shape or dtype is an error that names the
  leaf. Without `params` the moments stand in for them, and SGD has nothing to compare with;
- weight decay reaches every leaf, biases too, as in PyTorch. `partition` spares some.

Example:
    >>> from convax.training.optim.optimizer import apply_updates, sgd
    >>> params = {"w": jnp.array([1.0, -2.0])}
    >>> optimizer = sgd(0.5)
    >>> state = optimizer.init(params)
    >>> grads = {"w": jnp.array([2.0, -4.0])}
    >>> updates, state = optimizer.update(grads, state, params)
    >>> print(apply_updates(params, updates)["w"])
    [0. 0.]
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .checks import (
    cast_like,
    check_decays,
    check_floating,
    check_match,
    check_numbers,
    may_be_nonzero,
    wide_dtype,
    wide_gradient,
)
from .schedules.common import Schedule

Tree = Any  # nested dicts, lists and tuples of arrays
ScalarOrSchedule = float | jax.Array | Schedule


class Optimizer(NamedTuple):
    """`init(params) -> state` and `update(grads, state, params=None) -> (updates, state)`.

    `update` takes further keywords, as optax's optimizers do, and ignores them.
    """

    init: Callable[[Tree], Any]
    update: Callable[..., tuple[Tree, Any]]


class SgdState(NamedTuple):
    """Gradient descent remembers only its place in the schedule."""

    count: jax.Array  # type: ignore[override]  # shape (), int32: updates made so far


class MomentumState(NamedTuple):
    """Momentum adds one array per parameter."""

    count: jax.Array  # type: ignore[override]  # shape (), int32: updates made so far
    velocity: Tree  # as the parameters, float32 at least: v


class AdamState(NamedTuple):
    """Adam adds two arrays per parameter."""

    count: jax.Array  # type: ignore[override]  # shape (), int32: updates made so far, t
    mu: Tree  # as the parameters, float32 at least: running mean of g, m
    nu: Tree  # as the parameters, float32 at least: running mean of g^2, v


def apply_updates(params: Tree, updates: Tree) -> Tree:
    """Add ``params + updates``, leaf by leaf, in the dtype of the parameters.

    Args:
        params: tree of arrays.
        updates: a tree of the same structure and shapes; the dtypes may differ.

    Returns:
        A tree like `params`.

    Raises:
        ValueError: an update does not match its parameter; the message names the leaf.
    """
    check_match("apply_updates", "update", updates, params)
    return jax.tree.map(lambda p, u: p + jnp.asarray(u, jnp.result_type(p)), params, updates)


def sgd(
    learning_rate: ScalarOrSchedule,
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> Optimizer:
    r"""Make gradient descent, without momentum, with Polyak's or with Nesterov's.

    .. math::
        g &\leftarrow g + \lambda w \\
        v &\leftarrow \mu v + g \\
        w &\leftarrow w - \eta_t\, v \qquad\text{or, with Nesterov,}\quad w - \eta_t\, (g + \mu v)

    Batch, mini-batch or stochastic is a matter of what the gradient is of.

    Args:
        learning_rate: :math:`\eta`, a number >= 0 or a schedule.
        momentum: :math:`\mu`, the part of the velocity that survives a step, in [0, 1). Where it
            is 0 no velocity is kept.
        nesterov: take the gradient's step from where the velocity is about to lead.
        weight_decay: :math:`\lambda`; the gradient of :math:`\tfrac{\lambda}{2} \sum w^2`.

    Returns:
        An `Optimizer` with state `SgdState` or, with momentum, `MomentumState`.

    Raises:
        ValueError: a hyper-parameter is out of range; a gradient does not match its parameter;
            `weight_decay` is not 0 and `update` got no `params`.
        TypeError: a hyper-parameter is not a number; parameter or gradient has a wrong dtype.

    Note:
        This is the form of PyTorch and `optax.sgd`: the learning rate stands outside the velocity,
        so a change of it acts at once. Sutskever et al. have it inside,
        :math:`v \leftarrow \mu v - \eta g;\ w \leftarrow w + v`: the same path while the learning
        rate is constant. PyTorch's `dampening` is 0. Nesterov's gradient is taken at `w`, not at
        :math:`w + \mu v`: `w` here stands for the point looked ahead to, as in PyTorch and optax.

    References:
        Polyak, 1964, doi:10.1016/0041-5553(64)90137-5. Nesterov, 1983.
        Sutskever, Martens, Dahl, Hinton, ICML 2013.
    """
    check_numbers("sgd", learning_rate=learning_rate, momentum=momentum, weight_decay=weight_decay)
    with_velocity = may_be_nonzero(momentum)

    def init(params):
        check_floating("sgd", params)
        check_decays("sgd", params, momentum=momentum)
        count = jnp.zeros((), jnp.int32)
        return MomentumState(count, _moments(params)) if with_velocity else SgdState(count)

    def update(grads, state, params=None, **extra_args):
        del extra_args
        velocity = (state.velocity,) if with_velocity else ()
        g = wide_gradient("sgd", grads, params, weight_decay, *velocity)
        g = _decayed(g, weight_decay, params)
        rate, count = _value(learning_rate, state.count), _increment(state.count)
        if not with_velocity:
            return _descend(g, rate, grads), SgdState(count)
        v = _add(g, momentum, state.velocity)
        direction = _add(g, momentum, v) if nesterov else v
        return _descend(direction, rate, grads), MomentumState(count, v)

    return Optimizer(init, update)


def adam(
    learning_rate: ScalarOrSchedule,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Optimizer:
    r"""Make Adam: each weight steps by its mean gradient over its root mean square gradient.

    .. math::
        g &\leftarrow g + \lambda w \\
        \mu &\leftarrow \beta_1 \mu + (1 - \beta_1)\, g \\
        \nu &\leftarrow \beta_2 \nu + (1 - \beta_2)\, g^2 \\
        \hat\mu &= \mu / (1 - \beta_1^t), \quad \hat\nu = \nu / (1 - \beta_2^t) \\
        w &\leftarrow w - \eta_t\, \hat\mu / (\sqrt{\hat\nu} + \epsilon)

    The paper's `m` and `v` are `mu` and `nu` here, as in optax; `t` is 1 at the first update.

    Args:
        learning_rate: :math:`\eta`, a number >= 0 or a schedule.
        b1: decay of the mean of the gradient, in [0, 1).
        b2: decay of the mean of its square, in [0, 1).
        eps: added outside the square root, > 0.
        weight_decay: :math:`\lambda`; the gradient of :math:`\tfrac{\lambda}{2} \sum w^2`, coupled:
            it passes through the moments. See `adamw` for the decoupled kind.

    Returns:
        An `Optimizer` with state `AdamState`.

    Raises:
        ValueError, TypeError: as `sgd`.

    Note:
        Algorithm 1 of the paper, with `eps` added to the *corrected* root, as in PyTorch and optax.
        (The paper's faster variant adds it to the uncorrected one; Keras does.)
        PyTorch has the same coupled `weight_decay`; `optax.adam` has none. As in optax the bias
        corrections are computed on the device: in float32 :math:`1 - 0.999^t` is good to about
        1e-5 in the first steps, where PyTorch has Python's float64.

    References:
        Kingma & Ba, ICLR 2015, arXiv:1412.6980.
    """
    return _adam("adam", learning_rate, b1, b2, eps, weight_decay, decoupled=False)


def adamw(
    learning_rate: ScalarOrSchedule,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
) -> Optimizer:
    r"""Make Adam with decoupled weight decay, which does not pass through the moments.

    .. math:: w \leftarrow w - \eta_t \bigl(\hat\mu / (\sqrt{\hat\nu} + \epsilon) + \lambda w\bigr)

    with the moments of `adam` on the plain gradient.

    Args:
        learning_rate: :math:`\eta`, a number >= 0 or a schedule.
        b1: decay of the mean of the gradient, in [0, 1).
        b2: decay of the mean of its square, in [0, 1).
        eps: added outside the square root, > 0.
        weight_decay: :math:`\lambda`; a weight without gradient shrinks by
            :math:`1 - \eta_t \lambda` a step.

    Returns:
        An `Optimizer` with state `AdamState`.

    Raises:
        ValueError, TypeError: as `sgd`.

    Note:
        The default weight decay is PyTorch's 1e-2; optax has 1e-4. Both multiply it by the learning
        rate, as here. In the paper it is multiplied by the schedule alone: its :math:`\lambda` is
        the peak learning rate times this one.

    References:
        Loshchilov & Hutter, ICLR 2019, arXiv:1711.05101.
    """
    return _adam("adamw", learning_rate, b1, b2, eps, weight_decay, decoupled=True)


# What a config may name; the keywords of its table are those of the function.
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": sgd,
    "adam": adam,
    "adamw": adamw,
}


def _adam(function, learning_rate, b1, b2, eps, weight_decay, *, decoupled):
    check_numbers(
        function, learning_rate=learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay
    )

    def init(params):
        check_floating(function, params)
        check_decays(function, params, b1=b1, b2=b2)
        return AdamState(jnp.zeros((), jnp.int32), _moments(params), _moments(params))

    def update(grads, state, params=None, **extra_args):
        del extra_args
        g = wide_gradient(function, grads, params, weight_decay, state.mu)
        if not decoupled:
            g = _decayed(g, weight_decay, params)
        t = _increment(state.count)
        mu = _running_mean(b1, state.mu, g)
        nu = _running_mean(b2, state.nu, jax.tree.map(jnp.square, g))
        mu_hat = _divide(mu, 1 - _power(b1, t))
        nu_hat = _divide(nu, 1 - _power(b2, t))
        direction = jax.tree.map(
            lambda m, v: m / (safe_sqrt(v) + jnp.asarray(eps, v.dtype)), mu_hat, nu_hat
        )
        if decoupled:
            direction = _decayed(direction, weight_decay, params)
        updates = _descend(direction, _value(learning_rate, state.count), grads)
        return updates, AdamState(t, mu, nu)

    return Optimizer(init, update)


@jax.custom_jvp
def safe_sqrt(x: jax.Array) -> jax.Array:
    """Compute the root of x >= 0 with derivatives 0 at 0, where they are infinite.

    A derivative through an update, as in meta-learning, is finite where a gradient is zero.
    """
    return jnp.sqrt(x)


@safe_sqrt.defjvp
def _safe_sqrt_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    root = safe_sqrt(x)
    return root, jnp.where(x == 0, 0, dx / (2 * jnp.where(x == 0, 1, root)))


# Arithmetic of trees. A factor is a Python number or a traced scalar of any dtype (a schedule's
# value, a hyper-parameter under vmap); it is cast to each leaf's dtype, never the other way round.


def _scale(factor, tree):
    return jax.tree.map(lambda x: jnp.asarray(factor, x.dtype) * x, tree)


def _divide(tree, divisor):
    return jax.tree.map(lambda x: x / jnp.asarray(divisor, x.dtype), tree)


def _add(tree, factor, other):
    """Compute ``tree + factor * other``, in the dtypes of `tree`."""
    return jax.tree.map(
        lambda x, y: x + jnp.asarray(factor, x.dtype) * jnp.asarray(y, x.dtype), tree, other
    )


def _running_mean(b, mean, tree):
    """Compute ``b * mean + (1 - b) * tree``."""
    return _add(_scale(1 - b, tree), b, mean)


def _decayed(tree, weight_decay, params):
    return _add(tree, weight_decay, params) if may_be_nonzero(weight_decay) else tree


def _descend(direction, rate, grads):
    return cast_like(_scale(-rate, direction), grads)


def _moments(params):
    return jax.tree.map(lambda p: jnp.zeros_like(p, wide_dtype(p)), params)


def _increment(count):
    """Add 1 to `count`, which stays at the largest integer rather than turn negative."""
    return jnp.minimum(count, jnp.iinfo(count.dtype).max - 1) + 1


def _power(base, count):
    exponent = count.astype(float)
    return jnp.asarray(base, exponent.dtype) ** exponent


def _value(learning_rate, count):
    rate: Any = learning_rate(count) if callable(learning_rate) else learning_rate
    if jnp.shape(rate) != ():
        raise ValueError(
            f"learning_rate: not a scalar: got shape {jnp.shape(rate)}, need (); "
            "for many learning rates at once, vmap the training step"
        )
    return rate
