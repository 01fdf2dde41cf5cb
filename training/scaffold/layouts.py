"""What a folder is: which source reads it, and what can be learned from it.

The readers themselves say what they recognize.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ..common.text import plain_line
from ..config.sources import Coco, Folder, Masks, Voc, Yolo
from ..data import (
    DataError,
    decode_mask,
    describe_columns,
    find_coco_files,
    find_mask_folders,
    folder_classes,
    has_voc,
    has_yolo,
    mask_pairs,
)
from ..data.archive import Place, is_archive, source_of
from ..data.each_file import read_readable
from ..data.errors import UnreadableError
from ..data.labels import IGNORED
from ..data.listing import listed
from ..data.notes import Notes
from ..tasks.registry import listed as or_listed
from ..tasks.registry import spec_of, tasks_where
from ..tasks.spec import LabelKind
from .class_names import Named, is_background, names_beside
from .mask_colors import colors_of, has_levels, palettes_differ, table_of_colors

# What an error says of the layouts that are recognized.
KNOWN = (
    "one folder of images a class, with or without train/ and test/ above; a folder of images "
    "beside one of masks, of numbers or colors; COCO's .json files; Pascal VOC's JPEGImages/ and "
    "Annotations/; YOLO's images/ and labels/; a .csv file that lists images beside numbers"
)
MOST_MASKS = 500  # whose numbers are looked at
MOST_UNSEEN = 8  # numbers that masks may have before it is asked whether smoothing made some
_CLASS = re.compile("class|label|categor|target", re.IGNORECASE)  # of a column


class Layout(NamedTuple):
    """What a folder is.

    Attributes:
        what: in words.
        path: where the data is, as ``data.path`` has it.
        data: the keys of ``[data]`` that the layout decides.
        kinds: what can be learned of an image, the first if nothing else is asked for.
        remarks: what people should check.
        reasons: why some of these keys are as they are.
    """

    what: str
    path: Path
    data: dict[str, Any]
    kinds: tuple[LabelKind, ...]
    remarks: tuple[str, ...] = ()
    reasons: Mapping[str, str] = MappingProxyType({})


def recognize(path: Path, task: str | None = None) -> tuple[Layout, str]:
    """Return what a folder is, and the task: that which is asked for, or the obvious one.

    Args:
        path: the folder, or a CSV file.
        task: the name of a task; None where the data decides.

    Raises:
        DataError: nothing is recognized, or several things are that the task does not tell apart.
    """
    if not path.is_dir() and path.suffix.lower() != ".csv":
        what = "no such folder" if not path.exists() else "a file"
        remedy = "unpack it" if is_archive(path) else "need a folder of images, or a .csv file"
        raise DataError(f"{path}: {what}; {remedy}")
    problems: list[str] = []
    found = _candidates(path, problems)
    if not found:
        raise DataError(_unknown(path, problems))
    wanted = None if task is None else spec_of(task).labels
    fitting = [layout for layout in found if wanted is None or wanted in layout.kinds]
    whats = " and ".join(layout.what for layout in found)
    tasks = [name for layout in found for name in tasks_of(layout)]
    if not fitting:
        raise DataError(f"{path}: {whats}: need --task {or_listed(tasks)}; got {task!r}")
    if len(fitting) > 1:
        if task is None and len({layout.kinds[0] for layout in fitting}) > 1:
            firsts = [tasks_of(layout)[0] for layout in fitting]
            raise DataError(f"{path}: {whats}: write --task {' or --task '.join(firsts)}")
        raise DataError(f"{path}: {whats}: leave one of them in the folder")
    (layout,) = fitting
    task = task or tasks_of(layout)[0]
    if "mask_kind" in layout.data and spec_of(task).labels != "mask":
        of_objects = {"classes": layout.data["classes"][1:]}  # the background is none
        layout = layout._replace(data=layout.data | of_objects, remarks=())
    return layout, task


def tasks_of(layout: Layout) -> tuple[str, ...]:
    """Return the names of the tasks that a layout has the labels for, its own first."""
    return tuple(
        name for kind in layout.kinds for name in tasks_where(lambda spec, k=kind: spec.labels == k)
    )


def _candidates(path: Path, problems: list[str]) -> list[Layout]:
    """Return all that a folder may be; what speaks against the rest is added to `problems`."""
    if path.is_file():
        return list(_of_table(path, problems))
    found = [*_of_boxes(path), *_of_masks(path)]
    for file in sorted(file for file in path.iterdir() if file.suffix.lower() == ".csv"):
        found += _of_table(file, problems)
    if not any(layout.kinds[0] in ("boxes", "mask") for layout in found):
        found += _of_classes(path, problems)
    inside = listed(path, Notes())
    if not found and not inside.images and len(inside.folders) == 1:
        return _candidates(path / inside.folders[0].name, [])
    return found


def _of_boxes(path: Path) -> Iterator[Layout]:
    if (files := find_coco_files(path)) is not None:
        keys = ("annotations", "validation_annotations", "test_annotations")
        table = {key: file for key, file in zip(keys, files, strict=True) if file is not None}
        what = f"COCO's boxes ({', '.join(table.values())})"
        yield Layout(what, path, {"source": "coco"} | table, Coco.labels)
    if has_voc(path):
        yield Layout("Pascal VOC's boxes", path, {"source": "voc"}, Voc.labels)
    if has_yolo(path):
        yield Layout("YOLO's boxes", path, {"source": "yolo"}, Yolo.labels)


def _of_masks(path: Path) -> Iterator[Layout]:
    folders = find_mask_folders(path)
    if folders is None:
        return
    images, masks = folders
    what = f"images in {images}/ with masks in {masks}/"
    if images == masks:
        what = f"images with masks beside them{'' if images == '.' else f' in {images}/'}"
    table = {"source": "masks", "images": images, "masks": masks}
    pairs = mask_pairs(path, images, masks, Notes())
    named, problem = names_beside(path, masks)
    each = _numbers_in_masks(pairs)
    numbers = np.unique(np.concatenate([*each, np.zeros(1, np.int32)]))
    of_objects = {"mask_kind": "instances", "classes": ["background", "object"]}
    most = int(numbers[numbers != IGNORED].max(initial=0))
    unfit = set(numbers) != {0, IGNORED} and not 1 <= most <= 4 * len(numbers)
    if not each or unfit or palettes_differ(spread(pairs)):
        if each and not has_levels(pairs[0][1]):
            shown = plain_line(", ".join(map(str, numbers)), 80)
            raise DataError(
                f"{path / masks}: the masks have the numbers {shown}: need 0 for the background "
                "and 1, 2, 3 ... for classes or objects; number them anew"
            )
        data, reasons, said = table_of_colors(colors_of(pairs, path / masks), named)
        remarks = (*filter(None, [problem]), *said)
        yield Layout(f"{what}, in colors", path, table | data, ("mask",), remarks, reasons)
    elif _counts_objects(each):
        remark = (
            f"the numbers in each mask run from 1 on, to {most} at most, so they are taken for "
            'objects; if they are classes, write mask_kind = "classes", and name them in classes'
        )
        yield Layout(what, path, table | of_objects, Masks.labels, (remark,))
    elif set(numbers) == {0, IGNORED}:
        yield Layout(what, path, table | of_objects, ("mask",))
    else:
        if len(numbers) > MOST_UNSEEN and has_levels(pairs[0][1]):
            colors_of(pairs, path / masks)  # which raises where smoothed edges made some
        names, why, remark = _names_of_numbers(most, named)
        remarks = tuple(filter(None, [problem, remark]))
        data = {"mask_kind": "classes", "classes": names}
        yield Layout(what, path, table | data, ("mask",), remarks, why)


def spread(pairs: list[tuple[Place, Place]]) -> list[tuple[Place, Place]]:
    """Return so many pairs as are looked at, spread evenly over all."""
    return pairs[:: 1 + len(pairs) // MOST_MASKS]


def _numbers_in_masks(pairs: list[tuple[Place, Place]]) -> list[np.ndarray]:
    """Return which numbers each mask has; none where the first has colors."""
    chosen = spread(pairs)

    def numbers(i: int) -> np.ndarray:
        _, mask = chosen[i]
        return np.unique(decode_mask(source_of(mask), name=str(mask)))

    try:
        numbers(0)
    except UnreadableError:
        pass
    except DataError:
        return []
    return read_readable(numbers, len(chosen), "skip")[0]


def _names_of_numbers(most: int, named: Named | None) -> tuple[list[str], dict[str, str], str]:
    """Return the names of the classes from 0 to `most`, the reason, and what is to be checked."""
    if most == 1 and named is None:
        return ["background", "object"], {}, ""
    names = [f"class {k}" for k in range(1, most + 1)]
    if named is None:
        return ["background", *names], {}, "the classes of the masks have no names: write them"
    own = list(named.names)
    has_background = any(map(is_background, own))
    if len(own) > most:
        sure = has_background or len(own) == most + 1
        check = f"{named.file} names {len(own)}, and no background: check that 0 is {own[0]}"
        why = {"classes": f"as {named.file} names the numbers"}
        return own, why, "" if sure else check
    if len(own) == most and not has_background:
        why = f"0, and the {most} that {named.file} names"
        return ["background", *own], {"classes": why}, ""
    remark = f"{named.file} names {len(own)}, and the masks have numbers up to {most}: write names"
    return ["background", *names], {}, remark


def _counts_objects(each: list[np.ndarray]) -> bool:
    """Return whether the numbers in masks are 1, 2, 3 ... in each, up to different ones."""
    most = [int(numbers.max()) for numbers in each]
    return all(len(np.setdiff1d(n, 0)) == m for n, m in zip(each, most, strict=True)) and (
        len(set(most)) >= 3 and max(most) >= 3
    )


def _of_table(file: Path, problems: list[str]) -> Iterator[Layout]:
    try:
        columns = describe_columns(file)
    except DataError as error:
        problems.append(str(error))
        return
    if columns is None:
        problems.append(f"{file.name} names no images in any column")
        return
    remarks = []
    if columns.others:
        names = plain_line(", ".join(columns.others), 200)
        remarks.append(f"columns that are no numbers are left out: {names}")
    for name in filter(_CLASS.search, columns.values):
        remarks.append(
            f"if the numbers in {name!r} are those of classes, put the images of each class into a "
            "folder instead"
        )
    if not columns.classes and not columns.values:
        problems.append(
            f"{file.name} has no numbers beside the images in {columns.file!r}: put the images of "
            "each class into a folder; or make a column of 0 and 1 for each class"
        )
    found: dict[LabelKind, tuple[str, ...]] = {
        "values": columns.values,
        "classes": columns.classes,
    }
    for kind, its in found.items():
        if its:
            table = {"source": "csv", "file_column": columns.file, "columns": list(its)}
            what = (
                f"{file.name}, which lists images with {kind} ({plain_line(', '.join(its), 200)})"
            )
            yield Layout(what, file, table, (kind,), tuple(remarks))


def _of_classes(path: Path, problems: list[str]) -> Iterator[Layout]:
    try:
        classes = folder_classes(path)
    except DataError as error:
        problems.append(str(error))
        return
    if len(classes) > 1:
        what = "images in class folders"
        yield Layout(what, path, {"source": "folder"}, Folder.labels)
    else:
        problems.append(f"one folder of images, {''.join(classes)}/")


def _unknown(path: Path, problems: list[str]) -> str:
    inside = listed(path, Notes()) if path.is_dir() else None
    found = "; ".join(dict.fromkeys(problem.removeprefix(f"{path}: ") for problem in problems))
    if inside is not None and not inside.images and not inside.folders:
        found = "no images in it"
    return f"{path}: not recognized ({plain_line(found, 400)}); need {KNOWN}"
