"""Pascal VOC: an XML file with the boxes of each image, and lists of the images of each split."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from ...common.text import plain_line, text_of_name
from ..archive import Place
from ..dataset import Dataset
from ..errors import DataError
from ..listing import files_below, images_below, listed
from ..notes import Notes
from .ground_truth import read_annotated
from .objects import (
    Annotated,
    Object,
    Rules,
    check_annotated_size,
    check_class_name,
    folder_or_archive,
)

_MOST_COUNTED = 20  # classes in a note
_LISTS = {"train": ("train", "trainval"), "validation": ("val",), "test": ("test",)}


class _File(NamedTuple):
    """What an XML file says: corners, counted from 1 and both within the object."""

    called: str
    size: tuple[int, int] | None  # (h, w)
    objects: list[tuple[str, tuple[float, float, float, float], bool]]  # class, corners, difficult


def load_voc(root: str | Path, classes: Sequence[str], rules: Rules) -> Dataset:
    """Read ``JPEGImages/x.jpg`` with ``Annotations/x.xml``, anywhere below a folder.

    ``ImageSets/Main/train.txt``, ``val.txt`` and ``test.txt`` name the images of each split, where
    they are; without them all are for training. A difficult object is ignored.

    Args:
        root: a folder, or an archive.
        classes: their names; where there are none those of the training objects, sorted, which a
            note counts: a misspelled one would be a class of its own.
        rules: how images and objects become arrays.

    Returns:
        images with `GroundTruth`.

    Raises:
        DataError: a file is no such XML, or names an image or a class that is not there; or see
            `read_annotated`.
    """
    notes = Notes(expected=(".xml", ".txt"))
    parts, names = _contents(Path(root), classes, notes)
    number = {name: k for k, name in enumerate(names)}
    annotated = {
        split: [
            Annotated(
                image,
                text_of_name(stem),
                _objects(file, image, number),
                frozenset(number[name] for name, *_ in file.objects),
            )
            for stem, image, file in part
        ]
        for split, part in parts.items()
    }
    return read_annotated(root, annotated, names, rules, notes)


def voc_classes(root: str | Path, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the classes of `load_voc`, without decoding any image."""
    return _contents(Path(root), classes, Notes())[1]


def has_voc(root: Path) -> bool:
    """Return whether a folder, or one below it, is laid out as `load_voc` reads it."""
    try:
        return any(files_below(_folder(root) / "Annotations", (".xml",)))
    except DataError:
        return False


def _contents(
    root: Path, classes: Sequence[str], notes: Notes
) -> tuple[dict[str, list[tuple[str, Place, _File]]], tuple[str, ...]]:
    """Return the images of each split, each with its name and file; and the classes."""
    folder = _folder(folder_or_archive(root, (".xml", ".txt"), notes))
    images = _by_stem(images_below(folder / "JPEGImages", notes))
    files = _by_stem(files_below(folder / "Annotations", (".xml",)))
    if not files:
        raise DataError(f"{folder / 'Annotations'}: no .xml files; add one for each image")
    parts = {}
    for split, stems in _stems(folder, list(files)).items():
        parts[split] = []
        for stem in stems:
            if stem not in files:
                raise DataError(
                    f"{folder}: {plain_line(stem, 200)} of {split} has no Annotations/"
                    f"{plain_line(stem, 200)}.xml; add it, or take it off the list"
                )
            if stem not in images:
                raise DataError(
                    f"{files[stem]}: no image {plain_line(stem, 200)} in {folder / 'JPEGImages'}; "
                    "add it, or take the file away"
                )
            parts[split].append((stem, images[stem], _read_xml(files[stem])))
    used = {stem for part in parts.values() for stem, *_ in part}
    notes.pass_over("image(s) without annotations, or on no list", len(images.keys() - used))
    found = {split: _classes(part) for split, part in parts.items()}
    names = tuple(classes) or tuple(sorted(found["train"]))
    if not names:
        raise DataError(f"{folder}: no objects in any training image; annotate some")
    if not classes:
        notes.add(_counted(parts["train"]))
    for split, its in found.items():
        unknown = sorted(its.keys() - set(names))
        if unknown:
            where = "data.classes names" if classes else "the training images have"
            raise DataError(
                f"{its[unknown[0]]}: class {plain_line(unknown[0], 80)!r} in {split}, which is "
                f"none that {where}; correct it"
            )
    return parts, names


def _classes(part: Sequence[tuple[str, Place, _File]]) -> dict[str, str]:
    """Return every class in a split, with an object of it as errors call it."""
    found: dict[str, str] = {}
    for _, _, file in part:
        for i, (name, _, _) in enumerate(file.objects):
            found.setdefault(name, f"{file.called}: object {i + 1}")
    return found


def _counted(part: Sequence[tuple[str, Place, _File]]) -> str:
    """Return a line on the classes of a split: the rarest first, which may be misspelled."""
    counts = Counter(sorted(name for _, _, file in part for name, _, _ in file.objects))
    rarest = sorted(counts, key=counts.__getitem__)
    shown = [f"{plain_line(name, 40)} ({counts[name]:,})" for name in rarest[:_MOST_COUNTED]]
    more = len(rarest) - len(shown)
    listed = ", ".join([*shown, *([f"{more} more"] if more else [])])
    return f"data.classes names none; the classes of the training objects are: {listed}"


def _objects(
    file: _File, image: Place, number: dict[str, int]
) -> Callable[[tuple[int, int]], list[Object]]:
    def objects(size: tuple[int, int]) -> list[Object]:
        if file.size is not None:
            check_annotated_size(file.called, file.size, image, size)
        return [
            Object(f"{file.called}: object {i + 1}", box, number[name], ignored)
            for i, (name, box, ignored) in enumerate(file.objects)
        ]

    return objects


def _folder(top: Place) -> Place:
    """Return the folder that has both JPEGImages and Annotations."""
    waiting = [top]
    while waiting:
        place = waiting.pop(0)
        if (place / "JPEGImages").is_dir() and (place / "Annotations").is_dir():
            return place
        waiting += listed(place, Notes(), links=False).folders
    raise DataError(
        f"{top}: no folder with JPEGImages and Annotations in it; put the images into the one and "
        "their .xml files into the other"
    )


def _by_stem(files: Any) -> dict[str, Place]:
    """Return files by what an image and its annotations have in common: the path, no ending."""
    found: dict[str, Place] = {}
    for where, file in files:
        stem = text_of_name(str(PurePosixPath(where, PurePosixPath(file.name).stem)))
        if stem in found:
            raise DataError(f"{found[stem]} and {file}: two of one name; keep one")
        found[stem] = file
    return found


def _stems(folder: Place, everything: list[str]) -> dict[str, list[str]]:
    """Return the names of each split's images, in order."""
    lists = folder / "ImageSets" / "Main"
    found: dict[str, list[str]] = {}
    for split, names in _LISTS.items():
        file = next((f for name in names if (f := lists / f"{name}.txt").is_file()), None)
        if file is not None:
            found[split] = [line for line in _lines(file) if line]
            if len(set(found[split])) < len(found[split]):
                raise DataError(f"{file}: names an image twice; take one line away")
    if "train" not in found and found:
        raise DataError(
            f"{lists}: no train.txt beside those of other splits; add it, or take them away"
        )
    for name, others in (("validation", ["train"]), ("test", ["train", "validation"])):
        seen = set(found.get(name, ())) & {s for other in others for s in found.get(other, ())}
        if seen:
            raise DataError(f"{lists}: {min(seen)} is in {name} and in another split; keep one")
    return found or {"train": everything}


def _lines(file: Place) -> list[str]:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{file}: not a UTF-8 text file; save it as one") from None
    return [text_of_name(line.strip()) for line in text.splitlines()]


def _read_xml(file: Place) -> _File:
    root = _parsed(file)
    called = str(file)
    width, height = (_number(root, f"size/{side}") for side in ("width", "height"))
    said = width is not None and height is not None and width > 0 and height > 0
    size = (int(height or 0), int(width or 0)) if said else None  # some programs write zeros
    objects = []
    for i, element in enumerate(root.iter("object")):
        name = text_of_name((element.findtext("name") or "").strip())
        if not name:
            raise DataError(f"{called}: object {i + 1}: no name; write its class")
        check_class_name(name, f"{called}: object {i + 1}")
        corners = [_number(element, f"bndbox/{k}") for k in ("xmin", "ymin", "xmax", "ymax")]
        if None in corners:
            raise DataError(
                f"{called}: object {i + 1}: bndbox: need xmin, ymin, xmax and ymax, a number each; "
                "correct it"
            )
        x1, y1, x2, y2 = (v for v in corners if v is not None)
        difficult = (element.findtext("difficult") or "0").strip()
        if difficult not in ("0", "1"):
            shown = plain_line(repr(difficult), 80)
            raise DataError(f"{called}: object {i + 1}: difficult: got {shown}, need 0 or 1")
        objects.append((name, (x1 - 1, y1 - 1, x2, y2), difficult == "1"))
    return _File(called, size, objects)


def _number(element: Element, path: str) -> float | None:
    """Return the number in an element below; None if there is none."""
    try:
        value = float(element.findtext(path) or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _parsed(file: Place) -> Element:
    """Parse an XML file, in which nothing refers to anything outside of it."""
    builder, parser = TreeBuilder(), expat.ParserCreate()

    def refuse(*_: Any) -> None:
        raise DataError(f"{file}: has a DOCTYPE, which is not read; take it out")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(file.read_bytes(), True)
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None
    except (expat.ExpatError, ValueError, LookupError) as error:
        if isinstance(error, DataError):
            raise
        reason = plain_line(str(error), 200)
        raise DataError(f"{file}: not XML: {reason}; write it anew") from None
    root = builder.close()
    if root.tag != "annotation":
        raise DataError(
            f"{file}: its root is {plain_line(root.tag, 80)}, need annotation, as Pascal VOC has it"
        )
    return root
