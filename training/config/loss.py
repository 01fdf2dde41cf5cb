"""The tables ``[loss]`` of a config, each derived from the signatures of the losses."""

import inspect
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from pydantic import Field

from ..tasks.registry import TASKS
from ..tasks.spec import LossSpec, keywords_of
from .from_signature import table
from .table import Table


def all_losses() -> dict[str, tuple[LossSpec, str]]:
    """Return each loss, by name, with the name of the first task that has one of that name.

    Two tasks may share a name, and then its keywords.
    """
    first: dict[str, tuple[LossSpec, str]] = {}
    for task in TASKS.values():
        for name, entry in task.losses.items():
            first.setdefault(name, (entry, task.name))
    return first


def unfit_keyword(table: Table, entry: LossSpec) -> str | None:
    """Return a keyword that a loss does not have in a task, and that is not as if left out."""
    for name, field in type(table).model_fields.items():
        known = name == "name" or name in keywords_of(entry.signature)
        if not known and getattr(table, name) != field.default:
            return name
    return None


def loss_table(name: str, entry: LossSpec, task: str) -> type[Table]:
    """Derive the table of a loss, whose keywords are tried on the example of a task."""
    keywords = keywords_of(entry.signature)
    numbers = [k for k, p in keywords.items() if type(p.default) in (int, float)]
    stated = numbers if entry.stated is None else entry.stated
    left_out = [k for k in inspect.signature(entry.signature).parameters if k not in keywords]
    examples: dict[str, Any] = {k: Field(examples=[keywords[k].default]) for k in stated}
    return table(
        "name",
        name,
        entry.signature,
        left_out=left_out,
        defaults=examples,
        try_with=partial(_try, entry, TASKS[task].example),
    )


def _try(entry: LossSpec, example: tuple[Any, ...], **keywords: Any) -> None:
    """Call a loss, for its checks; nothing is computed."""
    known = inspect.signature(entry.loss).parameters
    keywords |= {"num_classes": 2} if "num_classes" in known else {}
    for value in keywords.values():
        if isinstance(value, list):  # a number for each class: of the example, as many classes
            shapes = [(*a.shape[:1], *(len(value) for _ in a.shape[1:])) for a in example]
            pairs = zip(shapes, example, strict=True)
            example = tuple(jax.ShapeDtypeStruct(shape, a.dtype) for shape, a in pairs)
    loss = partial(entry.loss, **keywords)

    def call(outputs: Any, targets: Any, *others: Any) -> Any:
        if not entry.owns_params:
            return loss(outputs, targets, *others)
        layer = loss()
        _, params, state = layer.init(jax.random.key(0), outputs.shape)
        return layer.apply(params, state, (outputs, targets))[0]

    made = jax.eval_shape(call, *example)
    if entry.own:
        _check_made(made, jax.tree.leaves(example[0])[0].shape[:1], entry.compares)


def _check_made(made: Any, each: tuple[int, ...], compares: bool) -> None:
    """Raise unless a loss of one's own is a number for each example, or one where it may be."""
    shape, dtype = getattr(made, "shape", None), getattr(made, "dtype", jnp.int32)
    if jnp.issubdtype(dtype, jnp.floating) and (shape == each or (shape == () and compares)):
        return
    what = type(made).__name__ if shape is None else f"{dtype} {shape}"
    one = " or (), as it compares them" if compares else ""
    raise ValueError(f"returned {what} for {each[0]} examples; need a float for each, {each}{one}")
