"""The command that begins: a first config for a folder of data."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import JsonOption, app, fail, show, validate_choice

MOST_NAMED = 20  # files that cannot be read


@app.command()
def new(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="Images with what is to be learned of them; or a .csv file."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="The config to write; NAME.toml by default.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="The task, where the data would do for several.")
    ] = None,
    pretrained: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Begin with published weights that `pretrained` lists."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a config for your own data.

    Looks at the data, chooses network, schedule and augmentation, and says why.
    """
    from convax.training.scaffold.draft import draft_config
    from convax.training.scaffold.write import to_toml_value
    from convax.training.tasks.registry import TASKS
    from convax.training.weights.published import PUBLISHED

    if task is not None:
        validate_choice("--task", task, tuple(TASKS))
    if pretrained is not None:
        validate_choice("--pretrained", pretrained, tuple(PUBLISHED))
    name = folder.resolve().name if folder.is_dir() else folder.stem
    out = out or Path(f"{name}.toml")
    _check_out(out, folder)
    draft = draft_config(folder, out, task, pretrained)
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(draft.text)
    except FileExistsError:
        _refuse(out)
    lines = [f"found   {line}" for line in (draft.layout.what, *draft.found.lines())]
    unreadable = draft.found.unreadable
    lines += [f"        {file}: {reason}" for file, reason in unreadable[:MOST_NAMED]]
    lines += [f"note    {remark}" for remark in draft.remarks]
    lines += [
        f"chose   {key} = {to_toml_value(value)}: {why}"
        for key, (value, why) in draft.choices.items()
    ]
    said = "\n".join([*lines, f"wrote   {out}", f"next    convax train {shlex.quote(str(out))}"])
    record: dict[str, Any] = {
        "path": str(out),
        "task": draft.task,
        "layout": draft.layout.what,
        "counts": draft.found.counts,
        "classes": draft.found.classes,
        "unreadable": [each._asdict() for each in unreadable],
        "notes": draft.remarks,
        "chosen": {key: why._asdict() for key, why in draft.choices.items()},
    }
    show(said, record, as_json=as_json)


def _check_out(out: Path, folder: Path) -> None:
    """Refuse what cannot be written, before any data is read."""
    if out.exists():
        _refuse(out)
    if out.suffix != ".toml":
        fail(f"--out: got {str(out)!r}, need a name that ends with .toml")
    if not out.parent.is_dir():
        fail(f"--out: got {out}, but there is no folder {out.parent}; make it")
    if folder.is_dir() and folder.resolve() in (out.resolve().parent, *out.resolve().parents):
        fail(
            f"{out}: would lie in the data, and so would its runs; stand outside of {folder}, or "
            "write --out"
        )


def _refuse(out: Path) -> None:
    fail(f"{out}: already there; write another --out, or take it away")
