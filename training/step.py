"""The training step, many of them in one call, and the evaluation step: pure, each jitted once."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer

from .. import ops
from ..model import Layer
from .accumulate import accumulated
from .augment import Augmentation
from .config import MSE, Averages, Precision, SoftmaxCrossEntropy
from .ema import Ema, init_ema, update_ema
from .freeze import Frozen
from .gradient import Metrics, make_gradient
from .loss_scale import (
    LossScale,
    init_loss_scale,
    is_taken,
    only_if,
    scale_metrics,
    update_loss_scale,
)
from .optimizer import apply_updates
from .precision import computing_in
from .stopping import largest_update

Loss: TypeAlias = Callable[[Array, Array], Array]
Measures: TypeAlias = Callable[[Array, Array], Metrics]
Step: TypeAlias = Callable[..., tuple["TrainState", Metrics]]

WATCHED = ("loss", "grad_norm", "update_norm")  # a step is fine where these are finite numbers


class GradientTransformation(Protocol):
    """What an optimizer must offer: ours and optax's do."""

    @property
    def init(self) -> Callable[..., Any]: ...  # noqa: D102
    @property
    def update(self) -> Callable[..., Any]: ...  # noqa: D102


class TrainState(NamedTuple):
    """Everything that decides how training goes on."""

    params: Any
    state: Any
    opt_state: Any
    step: Array  # (), int32
    key: Array  # (), a PRNG key; never changes: step t draws from fold_in(key, t)
    ema: Ema | None = None  # averages of params and state; None: there are none
    loss_scale: LossScale | None = None  # of float16; None: nothing is scaled

    @property
    def trained(self) -> tuple[Any, Any]:
        """Parameters and state to evaluate and to use: the averages, if there are any."""
        return (self.params, self.state) if self.ema is None else tuple(self.ema)


def init_train_state(
    params: Any,
    state: Any,
    optimizer: GradientTransformation,
    key: Array,
    *,
    ema: Averages | None = None,
    precision: Precision | None = None,
) -> TrainState:
    """The state before the first step; `ema` and `precision` are those of the step."""
    return TrainState(
        params,
        state,
        optimizer.init(params),
        jnp.zeros((), jnp.int32),
        key,
        None if ema is None else init_ema(params, state),
        init_loss_scale(precision),
    )


def make_loss(spec: SoftmaxCrossEntropy | MSE) -> Loss:
    """``loss(logits, labels) -> (N,)``, the loss of each example.

    Labels are classes ``(N,)``, or probabilities ``(N, K)`` where images were mixed.
    """
    if isinstance(spec, SoftmaxCrossEntropy):
        return partial(
            ops.softmax_cross_entropy, label_smoothing=spec.label_smoothing, reduction="none"
        )

    def one_hot_mse(logits: Array, labels: Array) -> Array:
        if labels.ndim < logits.ndim:
            labels = jax.nn.one_hot(labels, logits.shape[-1])
        target = labels.astype(logits.dtype)
        if isinstance(spec.label_smoothing, Tracer) or spec.label_smoothing:
            target = ops.smooth_labels(target, rate=spec.label_smoothing)
        return ops.mse(logits, target, reduction="none").mean(axis=-1)

    return one_hot_mse


def make_probabilities(spec: SoftmaxCrossEntropy | MSE) -> Callable[[Array], Array]:
    """``probabilities(logits) -> (N, K)`` float32: each row sums to 1, the largest logit first.

    Under the mean squared error the network's outputs estimate the probabilities themselves; what
    is below 0 counts as (almost) nothing.
    """

    def probabilities(logits: Array) -> Array:
        logits = logits.astype(jnp.float32)
        shares = jax.nn.softmax(logits)
        if isinstance(spec, SoftmaxCrossEntropy):
            return shares
        estimates = jax.nn.relu(logits) + 1e-6 * shares
        return estimates / estimates.sum(axis=-1, keepdims=True)

    return probabilities


def accuracy(logits: Array, labels: Array) -> Metrics:
    """The share of examples whose largest logit is the label's: the `measures` of classes."""
    return {"accuracy": is_correct(logits, labels).mean(dtype=jnp.float32)}


def make_train_step(
    net: Layer,
    loss: Loss,
    optimizer: GradientTransformation,
    preprocess: Callable[[Array], Array],
    **more: Any,
) -> Step:
    """``train_step(train_state, images, labels) -> (train_state, metrics)``, jitted.

    The buffers of the old state are donated to the new one. The metrics are scalars: the mean
    loss and the measures of the batch before the update, the global l2 norms of gradients, updates
    and parameters, and the largest absolute update of any parameter.

    Args:
        net: the network.
        loss: ``loss(outputs, targets)``, of each example or of the batch as a whole.
        optimizer: ours or optax's.
        preprocess: from stored images to what the network sees.
        **more: ``measures(outputs, targets)``, `accuracy` by default; ``targets(labels)``, where
            labels need preprocessing too; ``augment(key, x, targets, images=images, step=step)``,
            see `training.augment`;
            ``frozen(path)``: parameters that are constants of the loss, and whose layer's
            statistics stay (see `training.freeze`). That they are not moved is the optimizer's
            part: `by_path`. ``accumulate``: into how many parts a batch is cut, see
            `training.accumulate`; ``ema`` and ``precision``: tables of a config, see
            `training.ema`, `training.precision`, `training.loss_scale`.
    """
    return jax.jit(_train_step(net, loss, optimizer, preprocess, **more), donate_argnums=0)


def make_train_steps(
    net: Layer,
    loss: Loss,
    optimizer: GradientTransformation,
    preprocess: Callable[[Array], Array],
    *,
    out_shardings: Any = None,
    **more: Any,
) -> jax.stages.Wrapped:
    """``train_steps(train_state, images, labels, count) -> (train_state, metrics)``, jitted.

    The step of `make_train_step`, whose arguments it takes, `count` times in one call, on the first
    `count` of K batches: images ``(K, N, H, W, C)``, labels ``(K, N, ...)``, metrics ``(K,)`` each,
    zero from `count` on. `count` is traced: one program takes any number of steps up to K, so how a
    run is divided into calls changes no bit of it. (`make_train_step` is another program, and may
    round otherwise.)

    A step whose loss, gradient norm or update norm is not finite is the last: its metrics are
    there, its state is not. What is returned is the state before it, so ``train_state.step`` says
    which step that was.

    `out_shardings` is where state and metrics lie, on a mesh.

    It is also faster than the steps one by one: a call has a price, and on CPU the temporaries of
    a step are allocated once a call. See `training.chunk` for figures, and how large `count` is.
    """
    train_step = _train_step(net, loss, optimizer, preprocess, **more)

    def train_steps(
        old: TrainState, images: Array, labels: Array, count: Array
    ) -> tuple[TrainState, Metrics]:
        def goes_on(carry: tuple[Array, Array, TrainState, Metrics]) -> Array:
            t, fine, _, _ = carry
            return fine & (t < count)

        def body(carry):
            t, _, before, rows = carry
            after, metrics = train_step(before, images[t], labels[t])
            fine = jnp.isfinite(jnp.stack([metrics[name] for name in WATCHED])).all()
            kept = jax.tree.map(lambda new, old: jnp.where(fine, new, old), after, before)
            rows = {name: rows[name].at[t].set(metrics[name]) for name in rows}
            return t + 1, fine, kept, rows

        _, shapes = jax.eval_shape(train_step, old, images[0], labels[0])
        K = len(images)
        rows = {name: jnp.zeros((K, *m.shape), m.dtype) for name, m in shapes.items()}
        start = (jnp.zeros_like(count), jnp.bool_(True), old, rows)
        _, _, train_state, rows = jax.lax.while_loop(goes_on, body, start)
        return train_state, rows

    return jax.jit(train_steps, donate_argnums=0, out_shardings=out_shardings)


def make_eval_step(
    net: Layer,
    totals: Callable[[Array, Array, Array], Metrics],
    preprocess: Callable[[Array], Array],
    keep: Callable[[Array], Array],
    *,
    targets: Callable[[Array], Array] | None = None,
) -> Callable[..., tuple[Metrics, Array]]:
    """``eval_step(params, state, images, labels, weights) -> (sums, kept)``, jitted.

    `weights` is 1 for an example and 0 for padding; the sums, ``totals(outputs, targets,
    weights > 0)``, are over examples, so that batches of any size add up to the exact figure.
    """

    def eval_step(params, state, images, labels, weights):
        outputs, _ = net.apply(params, state, preprocess(images), train=False)
        wanted = labels if targets is None else targets(labels)
        return totals(outputs, wanted, weights > 0), keep(outputs)

    return jax.jit(eval_step)


def _train_step(
    net: Layer,
    loss: Loss,
    optimizer: GradientTransformation,
    preprocess: Callable[[Array], Array],
    *,
    measures: Measures = accuracy,
    targets: Callable[[Array], Array] | None = None,
    augment: Augmentation | None = None,
    frozen: Frozen | None = None,
    accumulate: int = 1,
    ema: Averages | None = None,
    precision: Precision | None = None,
) -> Step:
    """What `make_train_step` promises, not yet jitted."""
    of_part = make_gradient(computing_in(net, precision), loss, measures, frozen)
    gradient = accumulated(of_part, accumulate)

    def train_step(old: TrainState, images: Array, labels: Array) -> tuple[TrainState, Metrics]:
        key = step_key(old.key, old.step)
        x, wanted = preprocess(images), labels if targets is None else targets(labels)
        if augment is not None:
            x, wanted = augment(augment_key(key), x, wanted, images=images, step=old.step)
        scale = None if old.loss_scale is None else old.loss_scale.scale
        value, measured, grads, state = gradient(old.params, old.state, x, wanted, key, scale)
        updates, opt_state = optimizer.update(grads, old.opt_state, old.params)
        taken = is_taken(old.loss_scale, grads)
        grads, updates = only_if(taken, (grads, updates))
        state, opt_state = only_if(taken, (state, opt_state), (old.state, old.opt_state))
        params, step = apply_updates(old.params, updates), old.step + 1
        metrics = {
            "loss": value,
            **measured,
            "grad_norm": _l2_norm(grads),
            "update_norm": _l2_norm(updates),
            "param_norm": _l2_norm(params),
            "largest_update": largest_update(updates),
            **scale_metrics(old.loss_scale, taken),
        }
        averages = update_ema(old.ema, params, state, step=step, spec=ema)
        loss_scale = update_loss_scale(old.loss_scale, taken, precision)
        new = TrainState(params, state, opt_state, step, old.key, averages, loss_scale)
        return new, metrics

    return train_step


def step_key(key: Array, step: Array | int) -> Array:
    """The key of all that is random in a step, of the run's."""
    return jax.random.fold_in(key, step)


def augment_key(key: Array) -> Array:
    """The key of a step's augmentation, of the step's; layers fold it with their paths."""
    return jax.random.fold_in(key, 2**31 - 1)


def is_correct(logits: Array, labels: Array) -> Array:
    """Whether the largest logit is the label's; of several, that of the most probable one."""
    if labels.ndim == logits.ndim:
        labels = jnp.argmax(labels, axis=-1)
    return jnp.argmax(logits, axis=-1) == labels


def _l2_norm(tree: Any) -> Array:
    leaves = [leaf.astype(jnp.float32) for leaf in jax.tree.leaves(tree)]
    return jnp.sqrt(sum((jnp.vdot(leaf, leaf) for leaf in leaves), jnp.float32(0)))
