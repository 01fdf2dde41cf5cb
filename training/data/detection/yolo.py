"""YOLO: a text file beside each image, a line for each object: class, center, width, height.

All are shares of the image. A longer line is a polygon.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ...common.text import plain_line, text_of_name
from ..archive import Place
from ..dataset import SPLITS, Dataset
from ..errors import DataError
from ..folder import SPLIT_FOLDERS
from ..listing import files_below, images_below
from ..notes import Notes, numbered
from .ground_truth import read_annotated
from .objects import (
    Annotated,
    Object,
    Rules,
    check_class_name,
    folder_or_archive,
    polygons_of,
)

_TEXTS = (".txt", ".yaml", ".yml")
_DOUBT = "its numbers look like two corners, where YOLO has the center, width and height"


class _Line(NamedTuple):
    """An object, in shares of the image: a box, or the points of a polygon."""

    called: str
    k: int
    box: tuple[float, float, float, float]  # x1, y1, x2, y2
    polygon: list[float]


def load_yolo(root: str | Path, classes: Sequence[str], rules: Rules) -> Dataset:
    """Read ``images/x.jpg`` with ``labels/x.txt``, in any folders below a folder.

    The text file of an image has its path, with "labels" in the place of the last "images"; or it
    lies beside it. A folder ``train``, ``val`` or ``test`` (see `load_folder`) above or below that
    says which split an image is of; without one, all are for training. An image without a text
    file has no objects.

    Args:
        root: a folder, or an archive.
        classes: their names; those of ``data.yaml`` or ``classes.txt`` where there are none.
        rules: how images and objects become arrays.

    Returns:
        images with `GroundTruth`; of a polygon the box is that around it.

    Raises:
        DataError: a line is none such, nobody names the classes; or see `read_annotated`.
    """
    notes = Notes(expected=_TEXTS)
    top = folder_or_archive(Path(root), _TEXTS, notes)
    texts = {_path(where, file): file for where, file in files_below(top, (".txt",))}
    names = _names(top, classes)
    parts: dict[str, list[Annotated]] = {split: [] for split in SPLITS}
    used: set[str] = set()
    without = 0
    for where, image in images_below(top, notes):
        path = _path(where, image)
        label = _label_of(path, texts)
        lines = [] if label is None else _lines(texts[label], len(names))
        without += label is None
        used |= set() if label is None else {label}
        its = frozenset(line.k for line in lines)
        annotated = Annotated(image, path, _objects(lines, rules), its)
        parts[_split_of(where)].append(annotated)
    if not parts["train"]:
        raise DataError(f"{top}: no images to train on; put them into images/ or images/train/")
    if not used:
        raise DataError(
            f"{top}: no image has a text file: need labels/x.txt for images/x.jpg; add them"
        )
    if without:
        what = "image(s) without a text file, taken for image(s) without objects"
        notes.add(numbered(numbered(f"{without:,} {what}", without), without))
    spare = [p for p in texts.keys() - used if "labels" in p.split("/")[:-1]]
    spare = [p for p in spare if p.rpartition("/")[2] != "classes"]
    notes.pass_over("text file(s) without an image", len(spare))
    return read_annotated(root, parts, names, rules, notes)


def yolo_classes(root: str | Path, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the classes of `load_yolo`, without decoding any image."""
    return _names(folder_or_archive(Path(root), _TEXTS, Notes()), classes)


def has_yolo(root: Path) -> bool:
    """Return whether an image below a folder has a text file whose first line is an object."""
    texts = {_path(where, file): file for where, file in files_below(root, (".txt",))}
    for where, image in images_below(root, Notes()) if texts else ():
        label = _label_of(_path(where, image), texts)
        try:
            first = _text(texts[label]).strip().partition("\n")[0] if label else ""
            numbers = [_number(cell, first) for cell in first.split()]
        except DataError:
            return False
        if numbers:
            return len(numbers) >= 5
    return False


def _label_of(path: str, texts: Mapping[str, Place]) -> str | None:
    """Return the path of an image's text file; None if it has none."""
    return next((p for p in (_label_path(path), path) if p in texts), None)


def _path(where: str, file: Place) -> str:
    """Return the path of a file below the top, without its ending."""
    return text_of_name(str(PurePosixPath(where, PurePosixPath(file.name).stem)))


def _label_path(path: str) -> str:
    """Return the path of an image's text file.

    Example:
        >>> _label_path("train/images/a"), _label_path("images/val/a")
        ('train/labels/a', 'labels/val/a')
    """
    *folders, name = path.split("/")
    if "images" in folders:
        last = len(folders) - 1 - folders[::-1].index("images")
        folders[last] = "labels"
    return "/".join([*folders, name])


def _split_of(where: str) -> str:
    """Return the split that a folder of the path names; the training images otherwise."""
    named = (SPLIT_FOLDERS.get(folder.lower()) for folder in where.split("/"))
    return next((split for split in named if split), "train")


def _lines(file: Place, classes: int) -> list[_Line]:
    """Return the objects of a text file."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{file}: not a UTF-8 text file; save it as one") from None
    rows = [(n, line.split()) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    read = [_line(f"{file}, line {n}", cells, classes) for n, cells in rows]
    if read and all(min(line.polygon or _cells(line.box)) > 1 for line in read):
        raise DataError(
            f"{file}: all numbers are above 1, which looks like pixels; need shares of the image's "
            "width and height"
        )
    return read


def _cells(box: tuple[float, float, float, float]) -> list[float]:
    """Return the center and the sides of a box, as they were written."""
    x1, y1, x2, y2 = box
    return [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]


def _line(called: str, cells: Sequence[str], classes: int) -> _Line:
    numbers = [_number(cell, called) for cell in cells]
    k, *shares = numbers
    if len(cells) < 5 or (len(cells) > 5 and (len(cells) < 7 or len(shares) % 2)):
        more = ", or is there a score behind the box?" if len(cells) == 6 else ""
        raise DataError(
            f"{called}: got {len(cells)} numbers, need 5, the class, x and y of the center, width "
            f"and height; or the class and three points or more{more}; correct it"
        )
    if k != int(k) or not 0 <= k < classes:
        raise DataError(
            f"{called}: class {cells[0]} where there are {classes}, 0 to {classes - 1}; name every "
            "class, or correct it"
        )
    if len(cells) == 5:
        x, y, width, height = shares
        if width < 0 or height < 0:
            raise DataError(
                f"{called}: got {' '.join(cells[1:])}, need x and y of the center, width and "
                "height, of which the last two are not negative; correct it"
            )
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        return _Line(called, int(k), box, [])
    xs, ys = shares[::2], shares[1::2]
    return _Line(called, int(k), (min(xs), min(ys), max(xs), max(ys)), shares)


def _number(cell: str, called: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not abs(value) < 1e9:
        raise DataError(f"{called}: got {plain_line(cell, 80)!r}, need a number")
    return value


def _objects(lines: Sequence[_Line], rules: Rules) -> Callable[[tuple[int, int]], list[Object]]:
    def objects(size: tuple[int, int]) -> list[Object]:
        h, w = size
        found = []
        for line in lines:
            x1, y1, x2, y2 = line.box
            mask = None
            if rules.masks and line.polygon:
                points = [v * (h if i % 2 else w) for i, v in enumerate(line.polygon)]
                mask = polygons_of([points], size, line.called, rules)
            x, y, width, height = _cells(line.box)
            corners = not line.polygon and x < width <= 1 and y < height <= 1
            found.append(
                Object(
                    line.called,
                    (x1 * w, y1 * h, x2 * w, y2 * h),
                    line.k,
                    mask=mask,
                    doubt=_DOUBT if corners else "",
                )
            )
        return found

    return objects


def _names(top: Place, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the classes: those given, or those that a file names."""
    if classes:
        return tuple(classes)
    found = list(files_below(top, (".yaml", ".yml")))
    for _, file in sorted(found, key=lambda at: (at[1].name != "data.yaml", str(at[1]))):
        text = _text(file)
        try:
            names = _names_of_yaml(text)
        except ValueError as error:
            raise DataError(f"{file}: {error}; correct it") from None
        if names:
            _check_count(text, len(names), file)
            return _distinct(names, file)
    for _, file in files_below(top, (".txt",)):
        if file.name == "classes.txt":
            return _distinct([n.strip() for n in _text(file).splitlines() if n.strip()], file)
    raise DataError(
        f"{top}: nobody names the classes: need names in data.yaml, a name a line in classes.txt, "
        "or data.classes"
    )


def _distinct(names: Sequence[str], file: Place) -> tuple[str, ...]:
    texts = tuple(text_of_name(name) for name in names)
    if not texts or len(set(texts)) < len(texts) or "" in texts:
        raise DataError(
            f"{file}: names no class, or one twice: got {plain_line(', '.join(texts), 200)}; "
            "correct it"
        )
    for text in texts:
        check_class_name(text, str(file))
    return texts


def _check_count(text: str, names: int, file: Place) -> None:
    """Raise where a YAML file says how many classes there are, and names as many others."""
    said = re.search(r"^nc\s*:\s*(\d+)\s*(#.*)?$", text, re.MULTILINE)
    if said is not None and int(said[1]) != names:
        raise DataError(
            f"{file}: nc is {plain_line(said[1], 80)}, but names are {names}; correct one of them"
        )


def _text(file: Place) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{file}: not a UTF-8 text file; save it as one") from None


def _names_of_yaml(text: str) -> list[str]:
    """Return ``names`` of a YAML file: a list in brackets, a list, or numbered from 0.

    Raises:
        ValueError: it is written in another way, or damaged.

    Example:
        >>> _names_of_yaml("nc: 2\\nnames: [cat, 'big dog']  # two")
        ['cat', 'big dog']
        >>> _names_of_yaml("names:\\n  0: cat\\n  1: dog\\nval: x")
        ['cat', 'dog']
    """
    lines = [re.sub(r"(^|\s)#.*", "", line) for line in text.splitlines()]
    start = next((i for i, line in enumerate(lines) if re.match(r"names\s*:", line)), None)
    if start is None:
        return []
    first, rest = lines[start].partition(":")[2].strip(), lines[start + 1 :]
    if first.startswith(("[", "{")):
        whole = " ".join([first, *rest])
        inside, closed, _ = whole[1:].partition("]" if first[0] == "[" else "}")
        if not closed:
            raise ValueError(f"the {first[0]} behind names is not closed")
        items = [item.strip() for item in inside.split(",") if item.strip()]
        numbered = first[0] == "{"
    elif first:
        raise ValueError(f"names are {plain_line(first, 80)}, need a list of them")
    else:
        inside = takewhile(lambda line: not line.strip() or re.match(r"\s|-(?!--)", line), rest)
        items = [line.strip() for line in inside if line.strip()]
        numbered = bool(items) and not items[0].startswith("-")
        items = items if numbered else [_behind("-", item) for item in items]
    if numbered:
        items = [_behind(f"{i}:", item) for i, item in enumerate(items)]
    return [_plain(item) for item in items]


def _behind(mark: str, item: str) -> str:
    """Return what follows the mark of a name in a list."""
    if not re.match(re.escape(mark) + r"\s", item):
        raise ValueError(f"names: got {plain_line(item, 80)}, need {mark!r} and a name")
    return item[len(mark) :]


def _plain(item: str) -> str:
    """Return a text without its quotes."""
    item = item.strip()
    if item[:1] not in ("'", '"'):
        return item
    if len(item) < 2 or item[-1] != item[0]:
        raise ValueError(f"names: the quote of {plain_line(item, 80)} is not closed")
    return item[1:-1]
