"""Images that are listed in a CSV file, each with numbers: values, or 0 and 1 for classes."""

import csv
import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..common.text import encodings_of_name, plain_line, text_of_name
from .dataset import Dataset, Split, undivided
from .each_file import OnUnreadable, check_classes_kept, parts_kept
from .errors import DataError
from .folder import read_all, streamed_readable
from .image import EXTENSIONS


def load_table(
    path: str | Path,
    *,
    columns: Sequence[str],
    file_column: str = "file",
    kind: str = "values",
    size: Sequence[int] | None = None,
    channels: int = 3,
    stream: bool = False,
    num_workers: int | None = None,
    letterbox: bool = False,
    unreadable: OnUnreadable = "error",
) -> Dataset:
    """Read a CSV file with a line of column names, and the images that its lines name.

    Args:
        path: the file; the images' names are relative to its folder.
        columns: the names of the columns that are to be learned.
        file_column: the name of that with the images' files.
        kind: what the columns hold: "values", any finite numbers; or "classes", 1 where the
            image is of the class that the column is named for, and 0 where it is not.
        size: ``(H, W)`` that every image is resized to; None where all have the same.
        channels: 1 for gray, 3 for color.
        stream, num_workers, letterbox, unreadable: see `load_folder`.

    Returns:
        images ``(N, H, W, channels)`` with labels ``(N, V)``, float32 values or uint8 classes, all
        in the training part; its classes are the names of the columns.

    Raises:
        DataError: the file cannot be read, or has no such column; or a line of it, which is named,
            has too few cells, no such file, or a cell that is no number.
    """
    path = Path(path)
    lines = list(_lines(path, [file_column, *columns]))
    if not lines:
        raise DataError(f"{path}: no lines below the names of its columns; add one for each image")
    parse = {"values": _value, "classes": _class}[kind]
    files, labels = [], np.empty((len(lines), len(columns)), np.float64)
    for i, (number, (name, *cells)) in enumerate(lines):
        where = f"{path}, line {number}"
        files.append(_file(path.parent, name, where))
        labels[i] = [parse(cell, f"{where}: {c}") for c, cell in zip(columns, cells, strict=True)]
    if stream:
        images, kept = streamed_readable(
            files, path.parent, size, channels, num_workers, letterbox, unreadable
        )
    else:
        images, kept = read_all(
            files, size=size, channels=channels, letterbox=letterbox, unreadable=unreadable
        )
    parts_kept({"train": len(files)}, kept)
    check_classes_kept(labels > 0 if kind == "classes" else None, columns, kept)
    dtype = np.uint8 if kind == "classes" else np.float32
    everything = Split(images, labels[kept.indices].astype(dtype))
    return undivided(everything, tuple(columns))._replace(unreadable=kept.unreadable)


class Columns(NamedTuple):
    """What the columns of a CSV file hold, those apart that number its lines.

    Attributes:
        file: that with the images' files.
        classes: those of nothing but 0 and 1.
        values: those of other numbers.
        others: those of anything else.
    """

    file: str
    classes: tuple[str, ...]
    values: tuple[str, ...]
    others: tuple[str, ...]


def describe_columns(path: Path) -> Columns | None:
    """Say what the columns of a CSV file hold; None if none names an image in each line.

    Raises:
        DataError: the file cannot be read, or a line has too few cells.
    """
    (_, names), *lines = _rows(path)
    columns = dict(zip(names, zip(*(cells for _, cells in lines), strict=True), strict=False))
    files = [name for name, cells in columns.items() if _are_images(path.parent, cells)]
    if not files:
        return None
    kinds = {name: _kind(cells) for name, cells in columns.items() if name != files[0]}
    of = {k: tuple(n for n, kind in kinds.items() if kind == k) for k in kinds.values()}
    return Columns(files[0], *(of.get(kind, ()) for kind in ("classes", "values", "others")))


def _are_images(folder: Path, cells: Sequence[str]) -> bool:
    """Return whether cells have the endings of images, of which the first is there."""
    try:
        return all(c.lower().endswith(EXTENSIONS) for c in cells) and bool(
            _file(folder, cells[0], "")
        )
    except DataError:
        return False


def _kind(cells: Sequence[str]) -> str:
    """Return what the cells of a column are, as `Columns` has it; "number" of a running one."""
    if set(cells) <= {"0", "1"}:
        return "classes"
    try:
        values = [_value(cell, "") for cell in cells]
    except DataError:
        return "others"
    counting = all(b - a == 1 for a, b in pairwise(values)) and values[0] in (0, 1)
    return "number" if counting and len(values) > 2 else "values"


def _lines(path: Path, wanted: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of each line, and its cells in the wanted columns."""
    lines = _rows(path)
    _, names = next(lines)
    places = [_place(path, names, text_of_name(column)) for column in wanted]
    for number, cells in lines:
        yield number, [cells[place] for place in places]


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each line, the names of the columns first."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            names = [text_of_name(name.strip()) for name in next(reader, [])]
            yield 1, names
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(names):
                    raise DataError(
                        f"{path}, line {reader.line_num}: got {len(cells)} cells, need "
                        f"{len(names)}, one for each column; quote a cell that has a comma"
                    )
                yield reader.line_num, [cell.strip() for cell in cells]
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror}; data.path should be a CSV file"
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        what = "not UTF-8" if isinstance(error, UnicodeDecodeError) else error
        raise DataError(f"{path}: not a CSV file: {what}; save it as CSV in UTF-8") from None


def _place(path: Path, names: Sequence[str], column: str) -> int:
    if names.count(column) != 1:
        what = "two columns" if column in names else "no column"
        known = plain_line(", ".join(names), 200) or "nothing"
        raise DataError(
            f"{path}, line 1: {what} {column!r}: got {known}; correct data.columns or "
            "data.file_column"
        )
    return names.index(column)


def _file(folder: Path, name: str, where: str) -> Path:
    """Return the file of an image, whichever way its accents and its folders are written."""
    tried = [folder / n for n in encodings_of_name(name)]
    tried += [folder / n for n in encodings_of_name(name.replace("\\", "/"))]
    file = next((file for file in tried if file.is_file()), None)
    if not name.lower().endswith(EXTENSIONS) or file is None:
        what = "no such image" if name else "no image named"
        raise DataError(f"{where}: {what}: got {plain_line(name, 200)!r}; correct its name")
    return file


def _value(cell: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not abs(value) <= np.finfo(np.float32).max:
        raise DataError(f"{where}: got {plain_line(cell, 80)!r}, need a number that float32 holds")
    return value


def _class(cell: str, where: str) -> float:
    if cell not in ("0", "1"):
        raise DataError(
            f"{where}: got {plain_line(cell, 80)!r}, need 1 where the image is of that class, "
            "and 0 where it is not"
        )
    return float(cell)
