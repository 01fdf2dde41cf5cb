"""The training step, many of them in one call, and the evaluation step: pure, each jitted once."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from ...model import Layer
from ..common.train_state import TrainState
from .ema import EmaSpec, init_ema, update_ema
from .freeze import Frozen
from .gradient import Metrics, images_alone, make_gradient
from .gradient_accumulation import accumulated
from .loss_params import Loss, split_loss
from .loss_scaling import (
    LossScaling,
    init_loss_scale,
    is_taken,
    only_if,
    scale_metrics,
    update_loss_scale,
)
from .metrics import l2_norm, largest_update
from .mixed_precision import computing_in

Measures: TypeAlias = Callable[[Array, Array], Metrics]
Step: TypeAlias = Callable[..., tuple[TrainState, Metrics]]

WATCHED = ("loss", "grad_norm", "update_norm")  # a step is fine where these are finite numbers


class GradientTransformation(Protocol):
    """What an optimizer must offer: ours and optax's do."""

    @property
    def init(self) -> Callable[..., Any]: ...  # noqa: D102
    @property
    def update(self) -> Callable[..., Any]: ...  # noqa: D102


class StepSpec(NamedTuple):
    """What a training step is made of.

    Attributes:
        net: the network.
        loss: ``loss(outputs, targets)``, of each example or of the batch as a whole; or a `Layer`,
            see `training.step.loss_params`.
        optimizer: ours or optax's.
        preprocess: from stored images to what the network sees.
        measures: ``measures(outputs, targets) -> {name: scalar}``: what is reported of a batch.
        targets: ``targets(labels)``, where labels need preprocessing too.
        inputs: ``inputs(x, targets)``: what the network is given, where that is more than images.
        augment: ``augment(key, x, targets, images=images, step=step) -> (x, targets)``.
        frozen: ``frozen(path)``: parameters that are constants of the loss, and whose layer's
            statistics stay (see `training.step.freeze`). That they are not moved is the optimizer's
            part: `partition`.
        accumulate: into how many parts a batch is cut, see `training.grad_accum_steps`.
        ema: decay and warm-up of the averages, see `step.ema`; None: there are none.
        compute: the dtype that the network computes in, see `step.mixed_precision`.
        loss_scaling: of "float16", see `step.loss_scaling`.
    """

    net: Layer
    loss: Loss
    optimizer: GradientTransformation
    preprocess: Callable[[Array], Array]
    measures: Measures = lambda outputs, targets: {}
    targets: Callable[[Array], Array] = lambda labels: labels
    inputs: Callable[[Array, Any], Any] = images_alone
    augment: Callable[..., tuple[Array, Any]] | None = None
    frozen: Frozen | None = None
    accumulate: int = 1
    ema: EmaSpec | None = None
    compute: str = "float32"
    loss_scaling: LossScaling | None = None


def init_train_state(
    params: Any,
    state: Any,
    optimizer: GradientTransformation,
    key: Array,
    *,
    ema: bool = False,
    loss_scaling: LossScaling | None = None,
    rate_scale: bool = False,
) -> TrainState:
    """Return the state before the first step.

    Args:
        params: the parameters.
        state: the network's state.
        optimizer: ours or optax's.
        key: the PRNG key of the run.
        ema: whether averages of params and state are kept.
        loss_scaling: that of the step.
        rate_scale: whether the learning rate may be scaled between steps.
    """
    return TrainState(
        params,
        state,
        optimizer.init(params),
        jnp.zeros((), jnp.int32),
        key,
        init_ema(params, state) if ema else None,
        init_loss_scale(loss_scaling),
        jnp.ones((), jnp.float32) if rate_scale else None,
    )


def make_train_step(recipe: StepSpec) -> Step:
    """Make ``train_step(train_state, images, labels) -> (train_state, metrics)``, jitted.

    The buffers of the old state are donated to the new one. The metrics are scalars: the mean
    loss and the measures of the batch before the update, the global l2 norms of gradients, updates
    and parameters, and the largest absolute update of any parameter.
    """
    return jax.jit(_train_step(recipe), donate_argnums=0)


def make_train_steps(recipe: StepSpec, *, out_shardings: Any = None) -> jax.stages.Wrapped:
    """Make ``train_steps(train_state, images, labels, count) -> (train_state, metrics)``, jitted.

    The step of `make_train_step`, `count` times in one call, on the first `count` of K batches:
    images ``(K, N, H, W, C)``, labels ``(K, N, ...)``, metrics ``(K,)`` each,
    zero from `count` on. `count` is traced: one program takes any number of steps up to K, so how a
    run is divided into calls changes no bit of it. (`make_train_step` is another program, and may
    round otherwise.)

    A step whose loss, gradient norm or update norm is not finite is the last: its metrics are
    there, its state is not. What is returned is the state before it, so ``train_state.step`` says
    which step that was.

    `out_shardings` is where state and metrics lie, on a mesh.

    It is also faster than the steps one by one: a call has a price, and on CPU the temporaries of
    a step are allocated once a call. See `training.loop.chunks` for figures, and how large `count`
    is.
    """
    train_step = _train_step(recipe)

    def train_steps(
        old: TrainState, images: Array, labels: Array, count: Array
    ) -> tuple[TrainState, Metrics]:
        def goes_on(carry: tuple[Array, Array, TrainState, Metrics]) -> Array:
            t, fine, _, _ = carry
            return fine & (t < count)

        def body(carry):
            t, _, before, rows = carry
            after, metrics = train_step(before, images[t], _at(t, labels))
            fine = jnp.isfinite(jnp.stack([metrics[name] for name in WATCHED])).all()
            kept = jax.tree.map(lambda new, old: jnp.where(fine, new, old), after, before)
            rows = {name: rows[name].at[t].set(metrics[name]) for name in rows}
            return t + 1, fine, kept, rows

        _, shapes = jax.eval_shape(train_step, old, images[0], _at(0, labels))
        K = len(images)
        rows = {name: jnp.zeros((K, *m.shape), m.dtype) for name, m in shapes.items()}
        start = (jnp.zeros_like(count), jnp.bool_(True), old, rows)
        _, _, train_state, rows = jax.lax.while_loop(goes_on, body, start)
        return train_state, rows

    return jax.jit(train_steps, donate_argnums=0, out_shardings=out_shardings)


def make_eval_step(
    net: Layer,
    loss: Loss,
    totals: Callable[..., Metrics],
    preprocess: Callable[[Array], Array],
    keep: Callable[[Array], Array],
    *,
    targets: Callable[[Array], Array] = lambda labels: labels,
    inputs: Callable[[Array, Any], Any] = images_alone,
) -> Callable[..., tuple[Metrics, Array]]:
    """Make ``eval_step(params, state, images, labels, weights) -> (sums, kept)``, jitted.

    `weights` is 1 for an example and 0 for padding; the sums, ``totals(outputs, targets,
    weights > 0, loss=loss)``, are over examples, so that batches of any size add up to the exact
    figure. A loss that is a `Layer` has its parameters by then.
    """

    def eval_step(params, state, images, labels, weights):
        of_net, compute_loss = split_loss(loss, params)
        wanted = targets(labels)
        outputs, _ = net.apply(of_net, state, inputs(preprocess(images), wanted), train=False)
        return totals(outputs, wanted, weights > 0, loss=compute_loss), keep(outputs)

    return jax.jit(eval_step)


def _train_step(recipe: StepSpec) -> Step:
    """Make the step of `make_train_step`, not yet jitted."""
    net, optimizer = computing_in(recipe.net, recipe.compute), recipe.optimizer
    of_part = make_gradient(net, recipe.loss, recipe.measures, recipe.frozen, recipe.inputs)
    gradient = accumulated(of_part, recipe.accumulate)

    def train_step(old: TrainState, images: Array, labels: Array) -> tuple[TrainState, Metrics]:
        key = step_key(old.key, old.step)
        x, wanted = recipe.preprocess(images), recipe.targets(labels)
        if recipe.augment is not None:
            x, wanted = recipe.augment(augment_key(key), x, wanted, images=images, step=old.step)
        scale = None if old.loss_scale is None else old.loss_scale.scale
        value, measured, grads, state = gradient(old.params, old.state, x, wanted, key, scale)
        updates, opt_state = optimizer.update(grads, old.opt_state, old.params)
        updates = _scaled(updates, old.rate_scale)
        taken = is_taken(old.loss_scale, grads)
        grads, updates = only_if(taken, (grads, updates))
        state, opt_state = only_if(taken, (state, opt_state), (old.state, old.opt_state))
        params, step = jax.tree.map(_moved, old.params, updates), old.step + 1
        metrics = {
            "loss": value,
            **measured,
            "grad_norm": l2_norm(grads),
            "update_norm": l2_norm(updates),
            "param_norm": l2_norm(params),
            "largest_update": largest_update(updates),
            **scale_metrics(old.loss_scale, taken),
        }
        averages = update_ema(old.ema, params, state, step=step, spec=recipe.ema)
        loss_scale = update_loss_scale(old.loss_scale, taken, recipe.loss_scaling)
        kept = (old.key, averages, loss_scale, old.rate_scale)
        return TrainState(params, state, opt_state, step, *kept), metrics

    return train_step


def step_key(key: Array, step: Array | int) -> Array:
    """Derive the key of all that is random in a step from the run's."""
    return jax.random.fold_in(key, step)


def augment_key(key: Array) -> Array:
    """Derive the key of a step's augmentation from the step's; layers fold it with their paths."""
    return jax.random.fold_in(key, 2**31 - 1)


def _at(t: Array | int, batches: Any) -> Any:
    """Return batch t of several."""
    return jax.tree.map(lambda leaf: leaf[t], batches)


def _scaled(updates: Any, rate_scale: Array | None) -> Any:
    """Return updates of a lower learning rate, to which they are proportional."""
    if rate_scale is None:
        return updates
    return jax.tree.map(lambda update: update * rate_scale.astype(update.dtype), updates)


def _moved(param: Array, update: Array) -> Array:
    return param + update.astype(param.dtype)
