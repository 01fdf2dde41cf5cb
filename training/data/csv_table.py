"""Images that are listed in a CSV or Parquet file, each with its class, or with numbers."""

import csv
import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..common.text import encodings_of_name, plain_line, text_of_name
from .dataset import SPLITS, Dataset, Split
from .each_file import OnUnreadable, check_classes_kept, parts_kept
from .errors import DataError
from .folder import SPLIT_FOLDERS, read_all, streamed_readable
from .image import EXTENSIONS
from .labels import classes_of_each
from .pixels import Channels


def load_table(
    path: str | Path,
    *,
    columns: Sequence[str],
    file_column: str = "file",
    split_column: str | None = None,
    group_column: str | None = None,
    kind: str = "values",
    size: Sequence[int] | None = None,
    channels: Channels = 3,
    stream: bool = False,
    num_workers: int | None = None,
    letterbox: bool = False,
    unreadable: OnUnreadable = "error",
) -> Dataset:
    """Read a CSV file with a line of column names, and the images that its lines name.

    A file that ends in .parquet is read by pyarrow, as if its values were text.

    Args:
        path: the file; the images' names are relative to its folder.
        columns: the names of the columns that are to be learned.
        file_column: the name of that with the images' files.
        split_column: the name of that with the part of each image: train, validation or test, or
            as folders may be called (`load_folder`). Without it all are for training.
        group_column: the name of that with the group of each image: a patient, say. Images of one
            group are all in one part (`split`).
        kind: what the columns hold: "values", any finite numbers; "classes", 1 where the image is
            of the class that the column is named for, and 0 where it is not; or "class", of one
            column, the name of the class.
        size: ``(H, W)`` that every image is resized to; None where all have the same.
        channels: 1 for gray, 3 for color, or a `PixelFormat`.
        stream, num_workers, letterbox, unreadable: see `load_folder`.

    Returns:
        images ``(N, H, W, channels)`` with labels ``(N, V)``, float32 values or uint8 classes,
        whose classes are the names of the columns; or ``(N,)`` int32, an index into the sorted
        names of the classes.

    Raises:
        DataError: the file cannot be read, or has no such column; or a line of it, which is named,
            has too few cells, no such file, or a cell that is no number, no name or no part; or a
            group is in two parts, or a class in none of training.
    """
    path = Path(path)
    more = [column for column in (split_column, group_column) if column is not None]
    lines = list(_lines(path, [file_column, *columns, *more]))
    if not lines:
        raise DataError(f"{path}: no lines below the names of its columns; add one for each image")
    lines = _by_part(path, lines, split_column is not None, len(columns))
    files = [_file(path.parent, line.file, line.where) for line in lines]
    labels, classes = _labels_of(lines, columns, kind)
    if stream:
        images, kept = streamed_readable(
            files, path.parent, size, channels, num_workers, letterbox, unreadable
        )
    else:
        images, kept = read_all(
            files, size=size, channels=channels, letterbox=letterbox, unreadable=unreadable
        )
    parts = {part: sum(line.part == part for line in lines) for part in SPLITS}
    its = parts_kept(parts, kept)
    trained = labels[: parts["train"]]
    check_classes_kept(classes_of_each(trained, len(classes)), classes, kept)
    labels = labels[kept.indices]
    groups = None if group_column is None else _groups_of(path, lines)[kept.indices][its["train"]]
    splits = {part: Split(images[rows], labels[rows]) for part, rows in its.items()}
    train, validation, test = (splits[part] for part in SPLITS)
    return Dataset(train, validation, test, classes, unreadable=kept.unreadable, groups=groups)


class _Line(NamedTuple):
    """A line of a table."""

    where: str
    file: str
    labels: list[str]
    part: str
    group: str


def _by_part(
    path: Path, lines: Sequence[tuple[int, list[str]]], split: bool, columns: int
) -> list[_Line]:
    """Return the lines of a table, those of training first, otherwise in their order."""
    found: dict[str, list[_Line]] = {part: [] for part in SPLITS}
    for number, (file, *cells) in lines:
        where, labels, rest = f"{path}, line {number}", cells[:columns], cells[columns:]
        part = SPLIT_FOLDERS.get(rest[0].lower(), "") if split else "train"
        if part not in found:
            raise DataError(
                f"{where}: got {plain_line(rest[0], 80)!r}, need train, validation or test"
            )
        found[part].append(_Line(where, file, labels, part, rest[-1] if rest else ""))
    if not found["train"]:
        raise DataError(f"{path}: no line is of the training part; write train in some")
    return [line for part in SPLITS for line in found[part]]


def _labels_of(
    lines: Sequence[_Line], columns: Sequence[str], kind: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return what is to be learned of each image, and the names of classes or columns."""
    if kind == "class":
        return _class_each(lines)
    parse = {"values": _value, "classes": _class}[kind]
    labels = [
        [parse(cell, f"{line.where}: {c}") for c, cell in zip(columns, line.labels, strict=True)]
        for line in lines
    ]
    return np.array(labels, np.uint8 if kind == "classes" else np.float32), tuple(columns)


def _class_each(lines: Sequence[_Line]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the class of each image, int32, and the names of classes, sorted."""
    names = [text_of_name(line.labels[0]) for line in lines]
    classes = sorted(
        {name for name, line in zip(names, lines, strict=True) if line.part == "train"}
    )
    number = {name: k for k, name in enumerate(classes)}
    for name, line in zip(names, lines, strict=True):
        if not name:
            raise DataError(f"{line.where}: no class; write its name")
        if name not in number:
            raise DataError(
                f"{line.where}: class {plain_line(repr(name), 80)} is in {line.part} but not in "
                "train; have images of it in both, or take it away"
            )
    return np.array([number[name] for name in names], np.int32), tuple(classes)


def _groups_of(path: Path, lines: Sequence[_Line]) -> np.ndarray:
    """Return the number of each line's group; raise where one is in two parts."""
    part_of: dict[str, str] = {}
    for line in lines:
        if not line.group:
            raise DataError(f"{line.where}: no group; write one, of its own where it has no other")
        if part_of.setdefault(line.group, line.part) != line.part:
            raise DataError(
                f"{line.where}: group {plain_line(repr(line.group), 80)} is in "
                f"{part_of[line.group]} and in {line.part}; put all of it into one part"
            )
    number = {group: n for n, group in enumerate(part_of)}
    return np.array([number[line.group] for line in lines])


def table_classes(path: str | Path, column: str, split_column: str | None) -> tuple[str, ...]:
    """Return the classes of `load_table` of kind "class", without looking at any image.

    Raises:
        DataError: as `load_table`, of the table.
    """
    path, more = Path(path), [] if split_column is None else [split_column]
    lines = [(number, ["", *cells]) for number, cells in _lines(path, [column, *more])]
    return _class_each(_by_part(path, lines, split_column is not None, 1))[1]


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
    if path.suffix.lower() == ".parquet":
        yield from enumerate(_parquet(path), 1)
        return
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


def _parquet(path: Path) -> Iterator[list[str]]:
    """Yield the rows of a Parquet file as text, the names of the columns first."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise DataError(f"{path}: needs pyarrow: pip install 'convax[parquet]'") from None
    try:
        with ParquetFile(path) as file:
            yield [text_of_name(name.strip()) for name in file.schema_arrow.names]
            for batch in file.iter_batches():
                for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    yield ["" if v is None else _text(v) for v in row]
    except (OSError, ArrowException) as error:
        reason = getattr(error, "strerror", None) or plain_line(str(error).partition("\n")[0], 200)
        raise DataError(
            f"{path}: cannot be read: {reason}; data.path should be a Parquet file"
        ) from None


def _text(value: Any) -> str:
    """Return a value as a CSV file would have it: whole numbers and truth values as integers."""
    whole = isinstance(value, bool) or (isinstance(value, float) and value.is_integer())
    return str(int(value) if whole else value).strip()


def _place(path: Path, names: Sequence[str], column: str) -> int:
    if names.count(column) != 1:
        what = "two columns" if column in names else "no column"
        known = plain_line(", ".join(names), 200) or "nothing"
        raise DataError(
            f"{path}, line 1: {what} {column!r}: got {known}; correct the column that "
            "the config names"
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
