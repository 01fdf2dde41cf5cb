"""A choice with its reason; and what the configs of all tasks have in common.

A recipe is a config as nested dicts, whose chosen values are `Because` of something. What it leaves
out has the usual value, see `training.config.usual_values`.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

from .layouts import Layout
from .survey import Survey

Recipe: TypeAlias = dict[str, Any]
MOST_IN_MEMORY = 4e9  # bytes of images; more are streamed


class Because(NamedTuple):
    """A value that was chosen, and why."""

    value: Any
    why: str


def choices(recipe: Recipe, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Because]]:
    """Yield each value that was chosen for these data, with its dotted key."""
    for key, value in recipe.items():
        if isinstance(value, Because) and not is_tables(value.value):
            yield ".".join((*path, key)), value
        elif isinstance(value, dict):
            yield from choices(value, (*path, key))


def is_tables(value: Any) -> bool:
    """Return whether a value is a list of tables."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def plain(recipe: Any) -> Any:
    """Return a recipe without its reasons: a config as it is read."""
    if isinstance(recipe, Because):
        return recipe.value
    if isinstance(recipe, dict):
        return {key: plain(value) for key, value in recipe.items()}
    return recipe


def data_table(layout: Layout, survey: Survey, size: tuple[int, int] | None) -> Recipe:
    """Return ``[data]``.

    Args:
        layout, survey: the data.
        size: ``(H, W)`` that images are brought to; None where they stay as they are.
    """
    source = layout.data["source"]
    table: Recipe = {"source": source, "path": str(layout.path)} | layout.data
    if "mask_kind" in table:
        objects = table["mask_kind"] == "instances"
        why = "0 is the background, all else an object" if objects else "a number is a class"
        reasons = {"mask_kind": why, "classes": "call them as you like"} | dict(layout.reasons)
        table |= {key: Because(table[key], why) for key, why in reasons.items()}
    if size is not None:
        table["size"] = list(size)
    why = "all images are gray" if survey.channels == 1 else "the images are in color"
    if survey.channels not in (1, 3):
        why = f"the images have {survey.channels} channels"
    table["channels"] = Because(survey.channels, why)
    if survey.dtype != "uint8":
        table["dtype"] = Because(survey.dtype, "the images have 16 bits; state value_range if less")
    H, W = size or survey.size
    if survey.total * H * W * survey.channels > MOST_IN_MEMORY and source != "masks":
        why = "too large for memory; needs pip install 'convax[stream]'"
        table["stream"] = Because(True, why)
    if survey.unreadable:
        why = f'unreadable files: {len(survey.unreadable):,}; "error" stops at them'
        table["unreadable"] = Because("skip", why)
    return table | _held_out(survey)


def _held_out(survey: Survey) -> dict[str, Because]:
    """Return what is held out of the training images, where the data has no such parts."""
    share = 0.1 if survey.total >= 200 else 0.2
    table = {"validation": Because(0, "the data has a part for validation")}
    if not survey.counts["validation"]:
        table["validation"] = _part(survey, share, "validation")
    if not survey.counts["test"]:
        table["test"] = _part(survey, 0.2, "the test")
    return table


def _part(survey: Survey, share: float, what: str) -> Because:
    """Return a share of the training images."""
    count = round(share * survey.counts["train"])
    return Because(share, f"no part for {what}: {count:,} of the training images, by the seed")


def count_to_train_on(survey: Survey) -> int:
    """Return how many images are left to train on."""
    total = survey.counts["train"]
    return max(total - sum(round(part.value * total) for part in _held_out(survey).values()), 1)


def optimizer_table(learning_rate: float, **more: Any) -> Recipe:
    """Return ``[optimizer]``: AdamW without decay of biases and of the scales of norms."""
    why = "no weight decay on biases and on the scales of norms"
    groups = Because([{"match": ".*/(bias|scale)", "weight_decay": 0.0}], why)
    return {"name": "adamw", "learning_rate": learning_rate} | more | {"groups": groups}


def schedule_table() -> Recipe:
    """Return ``[schedule]``: one cycle, which wants no tuning of its length."""
    return {"name": "onecycle", "warmup": 0.2}


def training_table(survey: Survey, *, seen: int, least: int, most: int, batch: int) -> Recipe:
    """Return ``[training]``.

    Args:
        survey: the data.
        seen: how many images to train on, each as often as it comes; within the bounds of
        least, most: epochs.
        batch: images in a batch, at most.
    """
    count = count_to_train_on(survey)
    epochs = min(max(round(seen / count), least), most)
    size = 8
    while size < batch and size * 64 < count:
        size *= 2
    return {
        "batch_size": Because(min(size, batch), f"for {count:,} images"),
        "epochs": Because(epochs, f"{epochs * count:,} images all in all; longer is often better"),
    }


def multiple(side: float, of: int, *, least: int, most: int) -> int:
    """Return the multiple of a number that is nearest to a side, within bounds."""
    return min(max(round(side / of) * of, least), most)
