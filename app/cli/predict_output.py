"""What `convax predict` shows: lines, JSON or CSV on standard output, progress beside it."""

import csv
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from convax.training.common.text import printable

from .options import say

if TYPE_CHECKING:
    from convax.inference.predict_files import PredictionResult

FORMATS = ("table", "json", "csv")
Item = TypeVar("Item")


def write_results(results: Iterable["PredictionResult"], form: str) -> Iterator["PredictionResult"]:
    """Print each result, as it goes by, in one of `FORMATS`; of CSV, column names stand above.

    A reader of standard output that goes away, as `head` does, is no error: it gets no more.
    """
    table: csv.DictWriter[str] | None = None
    for each in results:
        output = each.output
        try:
            if form == "table":
                say(output.text, flush=True)
            elif form == "json":
                print(json.dumps(output.record), flush=True)
            else:
                rows = output.columns if isinstance(output.columns, list) else [output.columns]
                if table is None:
                    heads = [_shown(head) for head in output.heads or rows[0]]
                    table = csv.DictWriter(sys.stdout, heads, lineterminator="\n")
                    table.writeheader()
                for row in rows:
                    table.writerow({_shown(key): _shown(value) for key, value in row.items()})
                sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        yield each


def with_coco(
    results: Iterable["PredictionResult"], path: Path, on_error: Callable[[str], None]
) -> Iterator["PredictionResult"]:
    """Yield the results, and write the objects of all in COCO's results format after the last.

    Args:
        results: of a task that finds objects.
        path: the JSON file to make, or to replace.
        on_error: called with a line about an image whose id another one has: the file lacks its
            objects.

    Raises:
        OSError: it cannot be written.
    """
    from convax.training.common import atomic_io

    names: dict[int | str, str] = {}
    objects: list[str] = []
    for each in results:
        name, found = each.output.record["file"], each.output.coco
        image_id: Any = found[0]["image_id"] if found else None
        if image_id in names:
            on_error(
                f"{_shown(name)}: left out of {path}: its id there would be {image_id!r}, as that "
                f"of {_shown(names[image_id])}; give it another name"
            )
        elif found:
            objects += map(json.dumps, found)
            names[image_id] = name
        yield each
    atomic_io.atomic_write(path, ("[" + ",\n".join(objects) + "]\n").encode())


def with_progress(items: Iterable[Item], total: int) -> Iterator[Item]:
    """Yield the items, with a bar on standard error where a person sees nothing else of them.

    That is where it is a terminal and standard output is none.
    """
    if not sys.stderr.isatty() or sys.stdout.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(items, "images", total=total, console=console, transient=True)


def _shown(value: Any) -> Any:
    """Return a value as text: a file's name may hold bytes that are none, or control a terminal."""
    return printable(value) if isinstance(value, str) else value
