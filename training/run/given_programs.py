"""The programs that were given in Python, which a run knows again by the digest of their trace."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ...model import Layer, init_shapes
from ..common import waiting
from ..common.errors import ConvaxError
from ..common.program_digest import program_digest
from ..common.text import named_error
from ..config.errors import ConfigError
from ..config.given import given_digests, given_tables
from ..config.schema import Config
from .directory import DatasetCard, Run, RunError
from .provenance import code_hash, provenance

if TYPE_CHECKING:
    from ..tasks.task import Task

_EXAMPLES = 2  # of the batch that a program is traced with


def remember_programs(
    config: Config, card: DatasetCard, net: Layer, task: "Task", params: Any, labels: Any
) -> None:
    """Have the tables of a config know the digests of the programs that they hold.

    Args:
        config: the experiment.
        card: of its data.
        net, task: made of both.
        params: those that the optimizer is given, as shapes.
        labels: of the training split.

    Raises:
        ConfigError: a loss is not of each example.
    """
    shape = (*card.preprocessing.size, card.image_shape[-1])
    for what, table in given_tables(config):
        if not table.is_there:
            continue
        given = table.object
        if what == "net":
            remember_net(config, shape)
        elif what == "optimizer":
            table.remember(_digest(what, lambda p, g=given: g.update(p, g.init(p), p), params))
        elif what == "augment":
            image = jax.ShapeDtypeStruct(shape, "float32")
            table.remember(_digest(what, given, jax.random.key(0), image))
        else:
            outputs, *_ = init_shapes(net, (_EXAMPLES, *shape))
            batch = jax.ShapeDtypeStruct(outputs, "float32"), _targets(task, card, labels)
            table.remember(_loss_digest(given, batch))


def remember_net(config: Config, shape: tuple[int, ...]) -> None:
    """Have a config know the digest of its network, where that was given.

    It is that of training, with the gradient, and of evaluation.

    Args:
        config: the experiment.
        shape: of what the network sees, ``(H, W, C)``.
    """
    for what, table in given_tables(config):
        if what == "net" and table.is_there:
            net: Layer = table.object

            def both_modes(key: Any, x: Any, net: Layer = net) -> Any:
                params, state = net.init(key, x.shape)[1:]
                trained = partial(net.apply, train=True, key=key)
                gradients = _with_gradients(lambda p, x: trained(p, state, x), params, x)
                return params, gradients, net.apply(params, state, x, train=False)

            x = jax.ShapeDtypeStruct((_EXAMPLES, *shape), "float32")
            table.remember(_digest(what, both_modes, jax.random.key(0), x))


def check_programs(run: Run, config: Config) -> None:
    """Raise a RunError unless programs that are given are those that a run was trained with.

    Where convax or JAX are others than then, the same function may be traced otherwise: it is said
    that nothing can be told.

    Args:
        run: its run directory.
        config: its config, whose tables know their digests.
    """
    now = given_digests(config)
    then = run.info().get("provenance", {}) if now else {}
    known = then.get("plugins", {})
    others = [name.partition(".")[2] for name in now if known.get(name, now[name]) != now[name]]
    if not others:
        return
    names, versions = ", ".join(others), provenance(config, "")["versions"]
    if then.get("code") != code_hash() or then.get("versions") != versions:
        waiting.note(f"note: {names}: trained by another convax or JAX: it may be another by now")
        return
    raise RunError(
        f"{run.path}: {names}: not what this run was trained with: its traced program differs; "
        "give the same again"
    )


def _targets(task: "Task", card: DatasetCard, labels: Any) -> Any:
    """Return the targets of a batch, as shapes."""
    some = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((_EXAMPLES, *np.shape(leaf)[1:]), leaf.dtype), labels
    )
    return jax.eval_shape(lambda given: task.targets(given, spec=card.preprocessing), some)


def _loss_digest(loss: Any, batch: tuple[Any, Any]) -> str:
    """Return the digest of a loss; raise unless it is of each example."""

    def whole(outputs: Any, targets: Any) -> Any:
        if not isinstance(loss, Layer):
            return _with_gradients(lambda outputs: (loss(outputs, targets), None), outputs)
        _, params, state = loss.init(jax.random.key(0), outputs.shape)
        seen = [
            _with_gradients(
                lambda p, outputs, train=train: loss.apply(
                    p, state, (outputs, targets), train=train
                ),
                params,
                outputs,
            )
            for train in (True, False)
        ]
        return *seen[0], params, seen[1]

    made = _named("loss", lambda: jax.eval_shape(whole, *batch))[0]
    shape, dtype = getattr(made, "shape", None), getattr(made, "dtype", jnp.int32)
    if shape != (_EXAMPLES,) or not jnp.issubdtype(dtype, jnp.floating):
        what = type(made).__name__ if shape is None else f"{dtype} {shape}"
        raise ConfigError(
            f"loss: returned {what} for {_EXAMPLES} examples; need a float for each, ({_EXAMPLES},)"
        )
    return _digest("loss", whole, *batch)


def _with_gradients(function: Callable[..., Any], *arrays: Any) -> tuple[Any, Any, Any]:
    """Return an output, what comes beside it, and the gradients of the output's sum."""
    output, back, beside = jax.vjp(function, *arrays, has_aux=True)
    return output, beside, back(jax.tree.map(jnp.ones_like, output))


def _digest(what: str, function: Callable[..., Any], *arguments: Any) -> str:
    return _named(what, lambda: program_digest(function, *arguments))


def _named(what: str, trace: Callable[[], Any]) -> Any:
    """Trace what was given in Python; raise a ConfigError that names it if that fails."""
    try:
        return trace()
    except ConvaxError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{what}: given in Python, it cannot be traced: {named_error(error)}"
        ) from error
