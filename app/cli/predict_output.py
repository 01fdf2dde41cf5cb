"""What `convax predict` shows: lines, JSON or CSV on standard output, progress beside it."""

import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

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
                print(output.text, flush=True)
            elif form == "json":
                print(json.dumps(output.record), flush=True)
            else:
                rows = output.columns if isinstance(output.columns, list) else [output.columns]
                for row in rows:
                    if table is None:
                        table = csv.DictWriter(sys.stdout, list(row), lineterminator="\n")
                        table.writeheader()
                    table.writerow({key: _shown(value) for key, value in row.items()})
                sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        yield each


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


def _shown(value: object) -> object:
    """Return a value as text: a file's name may hold bytes that are none."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
