"""Names of the classes of masks, from the text file that annotation tools put beside these.

Each line is of one of these forms, as are all others of the file:

    64 128 64    Animal          CamVid's label_colors.txt: red, green, blue, name
    Animal:64,128,64::           CVAT's labelmap.txt
    Animal,64,128,64             class_dict.csv
    3, Animal                    Roboflow's _classes.csv: number, name
    Animal                       classes.txt
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..common.text import plain_line

FILES = (
    *("label_colors.txt", "labelmap.txt", "class_dict.csv", "_classes.csv"),
    *("classes.txt", "class_names.txt", "labels.txt"),
)
_MOST = 2**20  # bytes of such a file
_COLOR = r"(?P<r>\d{1,3})[\s,]+(?P<g>\d{1,3})[\s,]+(?P<b>\d{1,3})"
_FORMS = (
    re.compile(rf"{_COLOR}[\s,]+(?P<name>\S.*)"),
    re.compile(rf"(?P<name>[^:]+):{_COLOR}(:.*)?"),
    re.compile(rf"(?P<name>[^,]+),\s*{_COLOR}"),
    re.compile(r"(?P<number>\d{1,5})\s*[\s,:;]\s*(?P<name>\S.*)"),
    re.compile(r"(?P<name>\S.*)"),
)


class Named(NamedTuple):
    """What a file says of classes.

    Attributes:
        file: its name.
        names: in its order; or by their numbers, where it has some.
        colors: one for each, ``0xRRGGBB``; empty where the file has none.
    """

    file: str
    names: tuple[str, ...]
    colors: tuple[int, ...]


def names_beside(root: Path, masks: str) -> tuple[Named | None, str]:
    """Look for a file of names in the folder of the masks, and in those above it up to the root.

    Returns:
        What it says, None without such a file; and what speaks against it, if anything does.
    """
    inside = [root / masks, *(root / masks).parents]
    folders = [folder for folder in inside if folder == root or folder.is_relative_to(root)]
    for name in FILES:
        for folder in folders:
            file = folder / name
            if file.is_file() and file.stat().st_size <= _MOST:
                found = _read(file)
                if found is None:
                    return None, f"{name} is not understood: write the names of the classes"
                return found, ""
    return None, ""


def is_background(name: str) -> bool:
    """Return whether a name is that of what belongs to no class."""
    return name.strip("_").lower() in ("background", "bg", "none", "nothing")


def _read(file: Path) -> Named | None:
    """Return what a file says; None where it is of no form, or names a class twice."""
    text = file.read_text(encoding="utf-8-sig", errors="replace")
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    least = 1 if file.suffix == ".csv" else 2  # lines that are not one table alone
    for form in _FORMS:
        matched = [form.fullmatch(line) for line in lines]
        found = [match for match in matched if match is not None]
        heads = len(lines) - len(found)  # none, or the line of a table that names its columns
        if found and (heads == 0 or (heads == 1 and matched[0] is None and len(lines) > least)):
            return _named(file.name, found)
    return None


def _named(file: str, found: Sequence[re.Match[str]]) -> Named | None:
    parts = [match.groupdict() for match in found]
    if "number" in parts[0]:
        parts.sort(key=lambda part: int(part["number"]))
        if [int(part["number"]) for part in parts] != list(range(len(parts))):
            return None
    names = tuple(plain_line(part["name"].strip().strip("\"'"), 100) for part in parts)
    colors: tuple[int, ...] = ()
    if "r" in parts[0]:
        each = [[int(part[c]) for c in "rgb"] for part in parts]
        if any(level > 255 for color in each for level in color):
            return None
        colors = tuple((r << 16) | (g << 8) | b for r, g, b in each)
    distinct = len(set(names)) == len(names) and len(set(colors)) == len(colors)
    return Named(file, names, colors) if distinct and all(names) else None
