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
- weight decay reaches every leaf, biases too, as in PyTorch. `partition` spares some;
- with `maximize` the gradient is climbed, :math:`g \leftarrow -g`, before all else is done with it;
  weight decay shrinks the weights all the same, as in PyTorch.

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
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from .arithmetic import (
    add,
    cast,
    decayed,
    descend,
    divide,
    increment,
    moments,
    power,
    rate_at,
    running_mean,
    safe_sqrt,
    scale,
)
from .checks import (
    check_decays,
    check_floating,
    check_match,
    check_mu_dtype,
    check_numbers,
    may_be_nonzero,
    wide_gradient,
)
from .schedules.common import Schedule

Tree = Any  # nested dicts, lists and tuples of arrays
MuDtype = Literal["float32", "bfloat16"]
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
    mu: Tree  # as the parameters, float32 at least, or of mu_dtype: running mean of g, m
    nu: Tree  # as the parameters, float32 at least: running mean of g^2, v


class AmsgradState(NamedTuple):
    """AMSGrad adds three arrays per parameter."""

    count: jax.Array  # type: ignore[override]  # shape (), int32: updates made so far, t
    mu: Tree  # as `AdamState`
    nu: Tree  # as `AdamState`
    nu_max: Tree  # as nu: the largest that it ever was


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
    dampening: float = 0.0,
    maximize: bool = False,
) -> Optimizer:
    r"""Make gradient descent, without momentum, with Polyak's or with Nesterov's.

    .. math::
        g &\leftarrow g + \lambda w \\
        v &\leftarrow \mu v + (1 - d)\, g \qquad (v = g \text{ at the first update}) \\
        w &\leftarrow w - \eta_t\, v \qquad\text{or, with Nesterov,}\quad w - \eta_t\, (g + \mu v)

    Batch, mini-batch or stochastic is a matter of what the gradient is of.

    Args:
        learning_rate: :math:`\eta`, a number >= 0 or a schedule.
        momentum: :math:`\mu`, the part of the velocity that survives a step, in [0, 1). Where it
            is 0 no velocity is kept.
        nesterov: take the gradient's step from where the velocity is about to lead.
        weight_decay: :math:`\lambda`; the gradient of :math:`\tfrac{\lambda}{2} \sum w^2`.
        dampening: :math:`d`, the part of a gradient that the velocity does not take in, in [0, 1);
            only with momentum, and not with Nesterov's.
        maximize: climb the gradient.

    Returns:
        An `Optimizer` with state `SgdState` or, with momentum, `MomentumState`.

    Raises:
        ValueError: a hyper-parameter is out of range, or of no effect; a gradient does not match
            its parameter; `weight_decay` is not 0 and `update` got no `params`.
        TypeError: a hyper-parameter is not a number; parameter or gradient has a wrong dtype.

    Note:
        This is the form of PyTorch and `optax.sgd`: the learning rate stands outside the velocity,
        so a change of it acts at once. Sutskever et al. have it inside,
        :math:`v \leftarrow \mu v - \eta g;\ w \leftarrow w + v`: the same path while the learning
        rate is constant. `dampening` is PyTorch's; optax has none. Nesterov's gradient is taken at
        `w`, not at :math:`w + \mu v`: `w` here stands for the point looked ahead to, as in PyTorch
        and optax.

    References:
        Polyak, 1964, doi:10.1016/0041-5553(64)90137-5. Nesterov, 1983.
        Sutskever, Martens, Dahl, Hinton, ICML 2013.
    """
    check_numbers(
        "sgd",
        learning_rate=learning_rate,
        momentum=momentum,
        weight_decay=weight_decay,
        dampening=dampening,
    )
    with_velocity, dampened = may_be_nonzero(momentum), may_be_nonzero(dampening)
    if dampened and (nesterov or not with_velocity):
        raise ValueError(
            f"sgd: dampening is for momentum, and not for Nesterov's: got dampening={dampening}, "
            f"momentum={momentum}, nesterov={nesterov}; write dampening=0.0"
        )

    def init(params):
        check_floating("sgd", params)
        check_decays("sgd", params, momentum=momentum)
        count = jnp.zeros((), jnp.int32)
        return MomentumState(count, moments(params)) if with_velocity else SgdState(count)

    def update(grads, state, params=None, **extra_args):
        del extra_args
        velocity = (state.velocity,) if with_velocity else ()
        g = wide_gradient("sgd", grads, params, weight_decay, *velocity)
        g = scale(-1, g) if maximize else g
        g = decayed(g, weight_decay, params)
        rate, count = rate_at(learning_rate, state.count), increment(state.count)
        if not with_velocity:
            return descend(g, rate, grads), SgdState(count)
        taken = scale(jnp.where(state.count == 0, 1, 1 - dampening), g) if dampened else g
        v = add(taken, momentum, state.velocity)
        direction = add(g, momentum, v) if nesterov else v
        return descend(direction, rate, grads), MomentumState(count, v)

    return Optimizer(init, update)


def adam(
    learning_rate: ScalarOrSchedule,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
    mu_dtype: MuDtype | None = None,
    maximize: bool = False,
) -> Optimizer:
    r"""Make Adam: each weight steps by its mean gradient over its root mean square gradient.

    .. math::
        g &\leftarrow g + \lambda w \\
        \mu &\leftarrow \beta_1 \mu + (1 - \beta_1)\, g \\
        \nu &\leftarrow \beta_2 \nu + (1 - \beta_2)\, g^2 \\
        \hat\mu &= \mu / (1 - \beta_1^t), \quad \hat\nu = \nu / (1 - \beta_2^t) \\
        w &\leftarrow w - \eta_t\, \hat\mu / (\sqrt{\hat\nu} + \epsilon)

    AMSGrad divides by the largest mean square so far, which forgets no large gradient:

    .. math:: \nu_\text{max} \leftarrow \max(\nu_\text{max}, \nu), \qquad
        \hat\nu = \nu_\text{max} / (1 - \beta_2^t)

    The paper's `m` and `v` are `mu` and `nu` here, as in optax; `t` is 1 at the first update.

    Args:
        learning_rate: :math:`\eta`, a number >= 0 or a schedule.
        b1: decay of the mean of the gradient, in [0, 1).
        b2: decay of the mean of its square, in [0, 1).
        eps: added outside the square root, > 0.
        weight_decay: :math:`\lambda`; the gradient of :math:`\tfrac{\lambda}{2} \sum w^2`, coupled:
            it passes through the moments. See `adamw` for the decoupled kind.
        amsgrad: divide by the largest mean square so far.
        mu_dtype: the dtype in which :math:`\mu` is kept between updates; "bfloat16" halves its
            memory. What an update computes with is not rounded. None keeps the parameters' dtype,
            float32 at least.
        maximize: climb the gradient.

    Returns:
        An `Optimizer` with state `AdamState`, with amsgrad `AmsgradState`.

    Raises:
        ValueError, TypeError: as `sgd`.

    Note:
        Algorithm 1 of the paper, with `eps` added to the *corrected* root, as in PyTorch and optax.
        (The paper's faster variant adds it to the uncorrected one; Keras does.)
        PyTorch has the same coupled `weight_decay`; `optax.adam` has none. As in optax the bias
        corrections are computed on the device: in float32 :math:`1 - 0.999^t` is good to about
        1e-5 in the first steps, where PyTorch has Python's float64.
        PyTorch and Keras take AMSGrad's largest of the uncorrected mean squares, as here;
        `optax.amsgrad` takes that of the corrected ones, whose first are of a gradient or two.
        `mu_dtype` is optax's; PyTorch has none.

    References:
        Kingma & Ba, ICLR 2015, arXiv:1412.6980. Reddi, Kale & Kumar, ICLR 2018, arXiv:1904.09237.
    """
    numbers = {"b1": b1, "b2": b2, "eps": eps, "weight_decay": weight_decay}
    options = {"amsgrad": amsgrad, "mu_dtype": mu_dtype, "maximize": maximize}
    return _adam("adam", learning_rate, **numbers, **options, decoupled=False)


def adamw(
    learning_rate: ScalarOrSchedule,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    amsgrad: bool = False,
    mu_dtype: MuDtype | None = None,
    maximize: bool = False,
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
        amsgrad, mu_dtype, maximize: as `adam`.

    Returns:
        As `adam`.

    Raises:
        ValueError, TypeError: as `sgd`.

    Note:
        The default weight decay is PyTorch's 1e-2; optax has 1e-4. Both multiply it by the learning
        rate, as here. In the paper it is multiplied by the schedule alone: its :math:`\lambda` is
        the peak learning rate times this one.

    References:
        Loshchilov & Hutter, ICLR 2019, arXiv:1711.05101.
    """
    numbers = {"b1": b1, "b2": b2, "eps": eps, "weight_decay": weight_decay}
    options = {"amsgrad": amsgrad, "mu_dtype": mu_dtype, "maximize": maximize}
    return _adam("adamw", learning_rate, **numbers, **options, decoupled=True)


# What a config may name; the keywords of its table are those of the function.
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": sgd,
    "adam": adam,
    "adamw": adamw,
}


def _adam(
    function, learning_rate, *, b1, b2, eps, weight_decay, amsgrad, mu_dtype, maximize, decoupled
):
    check_numbers(
        function, learning_rate=learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay
    )
    check_mu_dtype(function, mu_dtype)

    def init(params):
        check_floating(function, params)
        check_decays(function, params, b1=b1, b2=b2)
        state = AdamState(jnp.zeros((), jnp.int32), moments(params, mu_dtype), moments(params))
        return AmsgradState(*state, moments(params)) if amsgrad else state

    def update(grads, state, params=None, **extra_args):
        del extra_args
        g = wide_gradient(function, grads, params, weight_decay, state.mu)
        g = scale(-1, g) if maximize else g
        if not decoupled:
            g = decayed(g, weight_decay, params)
        t = increment(state.count)
        mu = running_mean(b1, state.mu, g)
        nu = running_mean(b2, state.nu, jax.tree.map(jnp.square, g))
        largest = jax.tree.map(jnp.maximum, state.nu_max, nu) if amsgrad else nu
        mu_hat = divide(mu, 1 - power(b1, t))
        nu_hat = divide(largest, 1 - power(b2, t))
        direction = jax.tree.map(
            lambda m, v: m / (safe_sqrt(v) + jnp.asarray(eps, v.dtype)), mu_hat, nu_hat
        )
        if decoupled:
            direction = decayed(direction, weight_decay, params)
        updates = descend(direction, rate_at(learning_rate, state.count), grads)
        after = AdamState(t, cast(mu, mu_dtype), nu)
        return updates, AmsgradState(*after, largest) if amsgrad else after

    return Optimizer(init, update)
