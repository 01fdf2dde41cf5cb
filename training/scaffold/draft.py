"""From a folder to the text of a config: recognized, looked at, chosen, validated, written."""

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from textwrap import wrap
from typing import Any, NamedTuple

from ..common.text import is_utf8, plain_line
from ..config.schema import validate
from ..config.usual_values import with_usual_values
from ..data import DataError
from ..tasks.registry import spec_of
from ..tasks.spec import LabelKind
from .boxes import boxes, instances
from .layouts import Layout, recognize
from .pixels import class_of_pixels
from .pretrained import begin_with
from .recipe import Because, Recipe, choices, plain
from .survey import Survey, survey
from .whole_images import one_class, several_classes, values
from .write import to_commented_toml

RECIPES: dict[LabelKind, Callable[[Layout, Survey], Recipe]] = {
    "class": one_class,
    "classes": several_classes,
    "values": values,
    "mask": class_of_pixels,
    "boxes": boxes,
    "instances": instances,
}


class Draft(NamedTuple):
    """A config that is not written yet.

    Attributes:
        text: the file.
        layout: what the data is.
        found: what is in it.
        task: the name of the task.
        choices: each value that was chosen, by its key.
        remarks: what people should check.
    """

    text: str
    layout: Layout
    found: Survey
    task: str
    choices: dict[str, Because]
    remarks: tuple[str, ...]


def draft_config(
    path: Path, out: Path, task: str | None = None, pretrained: str | None = None
) -> Draft:
    """Look at data, and choose a config for it.

    Args:
        path: a folder, or a CSV file, as the user has written it.
        out: the file that the config will be; a relative path of the data is as from its folder.
        task: the name of a task; None where the data decides.
        pretrained: the name of published weights to begin with; None for none.

    Raises:
        DataError: the data is not recognized, ambiguous or damaged, or published weights are not
            for such data.
    """
    layout, task = recognize(path, task)
    spec = spec_of(task)
    if not spec.outputs_per_class:
        raise DataError(
            f"{path}: no config is written for --task {task}; begin with one that `convax configs` "
            "lists"
        )
    if pretrained is not None and spec.labels not in ("class", "classes", "values"):
        raise DataError(
            f"--pretrained: for images as a whole, got {layout.what}, task {task}; leave it out"
        )
    _check_text(layout)
    found = survey(layout, spec.labels)
    recipe = RECIPES[spec.labels](layout._replace(path=_as_from(out, layout.path)), found)
    if pretrained is not None:
        recipe = begin_with(pretrained, recipe, found)
    recipe = {"seed": 0, "task": Because(task, layout.what)} | recipe
    completed = _with_reasons(with_usual_values(plain(recipe)), recipe)
    validate(plain(completed), str(out))
    remarks = (*layout.remarks, *found.notes)
    lines = [*found.lines(), *(f"note: {plain_line(remark, 300)}" for remark in remarks)]
    heading = [
        f"{plain_line(layout.path.name, 80)}: {layout.what}.",
        "",
        *(wrapped for line in lines for wrapped in wrap(line, 110, subsequent_indent="  ")),
        "",
        "Written by `convax new`, to be changed: docs/training.md says what each key means. Keys",
        "without a comment have their usual values.",
        "",
        f"    convax train {shlex.quote(out.name)}",
    ]
    text = to_commented_toml(completed, heading)
    return Draft(text, layout, found, task, dict(choices(recipe)), remarks)


def _check_text(layout: Layout) -> None:
    """Raise unless the names of files and folders can be written into a config."""
    for name in (str(layout.path), *layout.data.values()):
        if isinstance(name, str) and not is_utf8(name):
            raise DataError(f"{plain_line(name)}: not UTF-8, which a config cannot hold; rename it")


def _as_from(out: Path, path: Path) -> Path:
    """Return the path of data as a config has it: absolute, or relative to the config's folder."""
    if path.is_absolute():
        return path
    relative = Path(os.path.relpath(path, out.parent))
    try:  # a link on the way may lead elsewhere
        same = (out.parent / relative).samefile(path)
    except OSError:
        same = False
    return relative if same else path.resolve()


def _with_reasons(completed: Any, recipe: Any) -> Any:
    """Return a completed config with the reasons of the recipe that it was made of."""
    if isinstance(recipe, Because):
        return Because(completed, recipe.why)
    if isinstance(recipe, dict):
        return {key: _with_reasons(its, recipe.get(key)) for key, its in completed.items()}
    return completed
