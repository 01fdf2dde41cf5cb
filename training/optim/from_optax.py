"""Optimizers of optax by name, ``optax.lion``, as functions of what a config can write.

A keyword is kept where its default is a number, a text, true or false, or where it may be a number;
masks, dtypes and functions are optax's defaults (so Muon orthogonalizes matrices alone; Adam has
the rest). Left out are those whose update needs more than gradient, state and parameters, whose
learning rate cannot follow a schedule, or whose parameters are not those to predict with.
"""

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import cache, wraps
from typing import Any, Optional

from .optimizer import OPTIMIZERS

PREFIX = "optax."
_UNFIT = {
    "lbfgs": "a line search evaluates the loss",
    "noisy_sgd": "it draws random numbers of its own",
    "optimistic_adam": "it is deprecated",
    "rprop": "its learning rate is a number",
    "sm3": "its learning rate is a number",
    "contrib.cocob": "it has no learning rate",
    "contrib.dpsgd": "it takes the gradient of each example",
    "contrib.galore": "it is a wrapper of another optimizer",
    "contrib.momo": "it takes the value of the loss",
    "contrib.momo_adam": "it takes the value of the loss",
    "contrib.schedule_free_adamw": "its parameters are not those to predict with",
    "contrib.schedule_free_sgd": "its parameters are not those to predict with",
    "contrib.sophia": "it evaluates the loss",
}


@cache
def optax_optimizers() -> dict[str, Callable[..., Any]]:
    """Return optax's optimizers by name, those of ``optax.contrib`` among them.

    Example:
        >>> lion = optax_optimizers()["optax.lion"]
        >>> list(inspect.signature(lion).parameters)
        ['learning_rate', 'b1', 'b2', 'weight_decay']
    """
    import optax
    import optax.contrib

    found = {}
    for module, within in ((optax, ""), (optax.contrib, "contrib.")):
        for name in sorted(vars(module)):
            make = getattr(module, name)
            if _is_optimizer(make) and not name.startswith("_") and within + name not in _UNFIT:
                found[f"{PREFIX}{within}{name}"] = _plain(make)
    return found


def _is_optimizer(make: Any) -> bool:
    if not inspect.isfunction(make) or make.__name__.startswith("scale_by_"):
        return False
    return next(iter(inspect.signature(make).parameters), "") == "learning_rate"


def _plain(make: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of the keywords that a config can write, with their types."""

    @wraps(make)
    def optimizer(learning_rate: Any, **keywords: Any) -> Any:
        return make(learning_rate, **keywords)

    kept = dict(_writable(make))
    rate = inspect.Parameter("learning_rate", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (default, kind) in kept.items()
    ]
    del optimizer.__wrapped__  # type: ignore[attr-defined] -- its signature is another
    optimizer.__signature__ = inspect.Signature([rate, *parameters])  # type: ignore[attr-defined]
    optimizer.__annotations__ = {name: kind for name, (_, kind) in kept.items()}
    return optimizer


def _writable(make: Callable[..., Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield name, default and type of each keyword that a config can write."""
    for name, parameter in list(inspect.signature(make).parameters.items())[1:]:
        default, kinds = parameter.default, typing.get_args(parameter.annotation)
        if typing.get_origin(parameter.annotation) is typing.Literal:
            yield name, (default, parameter.annotation)
        elif type(default) in (bool, int, float, str):
            yield name, (default, type(default))
        elif default is None and float in kinds and not name.endswith("dimension_numbers"):
            yield name, (None, Optional[float])  # noqa: UP045


def optimizers_for(name: Any) -> Mapping[str, Callable[..., Any]]:
    """Return all optimizers by name, those of optax where the name given is one of theirs."""
    theirs = isinstance(name, str) and name.startswith(PREFIX)
    return OPTIMIZERS | optax_optimizers() if theirs else OPTIMIZERS


def is_off(parameter: inspect.Parameter) -> bool:
    """Return whether a keyword of theirs decides nothing unless a config has it."""
    return parameter.default is None or type(parameter.default) in (bool, str)
