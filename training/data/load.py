"""From the ``[data]`` table of a config to a dataset."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from ..common.pixel_range import PixelType
from ..common.text import encodings_of_name, plain_line
from ..common.waiting import detail
from .archive import ARCHIVES
from .cifar import load_cifar
from .color_table import Color
from .csv_table import load_table
from .dataset import SPLITS, Dataset, split
from .detection import (
    CocoFiles,
    Rules,
    Scenes,
    load_coco,
    load_instances,
    load_scenes,
    load_voc,
    load_yolo,
)
from .digits import load_digits
from .each_file import OnUnreadable
from .errors import DataError
from .fetch import DATASETS, default_directory
from .folder import load_folder
from .idx import load_idx
from .masks import MaskKind, load_masks
from .npz import load_npz
from .pixels import pixel_format

# The sources that read archives in place of folders.
PACKED = ("folder", "masks", "coco", "voc", "yolo")
_MOST_NAMED = 5  # files in a note
MADE = ("scenes",)  # the sources that make their splits, each as large as is asked


def load(
    source: str,
    *,
    path: str | None = None,
    size: Sequence[int] | None = None,
    channels: int | None = None,
    dtype: PixelType = "uint8",
    value_range: Sequence[float] | None = None,
    stream: bool = False,
    num_workers: int | None = None,
    images: str = "images",
    masks: str = "masks",
    mask_kind: MaskKind = "classes",
    classes: Sequence[str] = (),
    annotations: str = "",
    validation_annotations: str | None = None,
    test_annotations: str | None = None,
    columns: Sequence[str] = (),
    file_column: str = "file",
    split_column: str | None = None,
    group_column: str | None = None,
    labels: str = "class",
    letterbox: bool = False,
    objects: int | None = None,
    crowded: Literal["error", "largest"] = "error",
    clip: bool = False,
    smallest: float = 1.0,
    train: int = 0,
    scale: Sequence[float] = (0.5, 1.6),
    overlap: float = 0.25,
    noise: int = 12,
    scene_seed: int = 0,
    validation: int | float = 0,
    test: int | float = 0,
    stratify: bool = True,
    fold: str | None = None,
    unreadable: OnUnreadable = "error",
    colors: Sequence[Color] | None = None,
    ignored_colors: Sequence[Color] = (),
    seed: int,
    config_dir: Path | None = None,
) -> Dataset:
    """Read a dataset and split it.

    Args:
        source: "digits" (`load_digits`), "idx" (`load_idx`), "cifar" (`load_cifar`), "folder"
            (`load_folder`), "csv" (`load_table`), "npz" (`load_npz`), "masks" (`load_masks`,
            `load_instances`), "coco" (`load_coco`), "voc" (`load_voc`), "yolo" (`load_yolo`) or
            "scenes" (`load_scenes`).
        path: where it is (see `locate`); not for "digits".
        size, channels, dtype: how image files are read, as bytes in color by default. The other
            sources are arrays, which keep their own.
        value_range: see `pixel_format`.
        stream, num_workers: see `load_folder`, and `Rules` of boxes.
        images, masks, mask_kind, classes, colors, ignored_colors: see `load_masks`.
        annotations, validation_annotations, test_annotations: see `CocoFiles`.
        columns, file_column, split_column, group_column: see `load_table`.
        labels: what is to be learned of an image: its "class", several "classes", "values", a
            "mask", "boxes", or "instances", which are boxes with masks; for sources that can give
            more than one.
        letterbox: keep the aspect of images that are resized, see `read_image`.
        objects, crowded, clip, smallest: of boxes, see `training.data.detection.objects.Rules`.
        train, scale, overlap, noise, scene_seed: of scenes, see `Scenes`.
        validation, test, stratify, fold: how much to set aside, and how, see `split`.
        unreadable: what becomes of files that are no whole image, see `load_folder`.
        seed: of the split.
        config_dir: see `locate`.

    Raises:
        DataError: what `locate`, the source's function or `split` raise; a folder that cannot be
            read.

    Example:
        >>> digits = load("digits", validation=0.1, test=0.2, seed=0)
        >>> [len(part.labels) for part in digits[:3]]
        [1258, 180, 359]
    """
    pixels = pixel_format(channels or 3, dtype, None if source == "npz" else value_range)
    rules = Rules(
        size or (),
        channels or 3,
        letterbox,
        labels == "instances",
        objects,
        crowded,
        clip,
        smallest,
        stream,
        num_workers,
        unreadable,
    )
    scenes = Scenes(
        size or (), objects or 1, scale, overlap, noise, labels == "instances", scene_seed
    )
    readers: dict[str, Callable[[Path], Dataset]] = {
        "idx": load_idx,
        "cifar": load_cifar,
        "folder": lambda found: load_folder(
            found,
            size=size,
            channels=pixels,
            stream=stream,
            num_workers=num_workers,
            several=labels == "classes",
            letterbox=letterbox,
            unreadable=unreadable,
        ),
        "csv": lambda found: load_table(
            found,
            columns=columns,
            file_column=file_column,
            split_column=split_column,
            group_column=group_column,
            kind=labels,
            size=size,
            channels=pixels,
            stream=stream,
            num_workers=num_workers,
            letterbox=letterbox,
            unreadable=unreadable,
        ),
        "npz": lambda found: load_npz(found, value_range=value_range),
        "masks": lambda found: (
            load_instances(found, images=images, masks=masks, classes=classes, rules=rules)
            if labels in ("boxes", "instances")
            else load_masks(
                found,
                images=images,
                masks=masks,
                mask_kind=mask_kind,
                classes=classes,
                size=size or (),
                channels=pixels,
                letterbox=letterbox,
                unreadable=unreadable,
                colors=colors,
                ignored_colors=ignored_colors,
            )
        ),
        "coco": lambda found: load_coco(
            found, CocoFiles(annotations, validation_annotations, test_annotations), rules
        ),
        "voc": lambda found: load_voc(found, classes, rules),
        "yolo": lambda found: load_yolo(found, classes, rules),
        "scenes": lambda found: load_scenes(
            found, scenes, train=train, validation=int(validation), test=int(test)
        ),
    }
    began = time.monotonic()
    if source == "digits":
        dataset = load_digits()
    elif source not in readers:
        known = ", ".join(("digits", *readers))
        raise DataError(f"data.source: got {source!r}, need one of {known}")
    elif path is None:
        raise DataError(f"data.path: missing; source = {source!r} needs one")
    else:
        found = locate(path, config_dir=config_dir, packed=source in PACKED)
        try:
            dataset = _said_what_is_left_out(readers[source](found), found)
        except OSError as error:  # of a folder, or of what a link in it leads to
            place = plain_line(str(error.filename or found), 300)
            raise DataError(
                f"{place}: cannot be read: {error.strerror or error}; allow it, or take it away"
            ) from None
    count = sum(getattr(dataset, part).count for part in SPLITS)
    detail(f"data: {count:,} images of {source!r} read in {time.monotonic() - began:.1f} s")
    if source in MADE:
        return dataset
    return split(dataset, validation=validation, test=test, seed=seed, stratify=stratify, fold=fold)


def _said_what_is_left_out(dataset: Dataset, root: Path) -> Dataset:
    """Return the dataset with a note of what is unreadable, each file named from the root on."""
    if not dataset.unreadable:
        return dataset
    files = tuple(
        left._replace(
            file=plain_line(name_below(left.file, root), 200), reason=plain_line(left.reason)
        )
        for left in dataset.unreadable
    )
    of = len(files) + sum(getattr(dataset, part).count for part in SPLITS)
    names = ", ".join(left.file for left in files[:_MOST_NAMED])
    more = f" and {len(files) - _MOST_NAMED:,} more" if len(files) > _MOST_NAMED else ""
    note = f'{len(files):,} of {of:,} images left out (data.unreadable = "skip"): {names}{more}'
    return dataset._replace(unreadable=files, notes=(*dataset.notes, note))


def name_below(file: str, root: Path) -> str:
    """Return what follows the folder, the archive or the folder of a table in a file's name."""
    for start in (f"{root}/", f"{root}: ", f"{root.parent}/"):
        if file.startswith(start):
            return file[len(start) :]
    return file


def locate(
    path: str, *, config_dir: Path | None, packed: bool = False, key: str = "data.path"
) -> Path:
    """Find the file or folder that a config means by `path`.

    An absolute path is itself. Any other is looked for beside the config, then in the current
    directory, then in `default_directory`.

    Args:
        path: as the config has it; ``~`` is the home directory.
        config_dir: the config file's folder, where it has one.
        packed: whether an archive of that name will do: ``path.zip``, ``path.tar.gz``.
        key: what errors call it.

    Raises:
        DataError: it is in none of these places; for a dataset that `fetch` knows, the message
            says how to get it.
    """
    tried = []
    for candidate in _candidates(at_home(path), config_dir):
        endings = ("", *ARCHIVES) if packed and candidate.name else ("",)
        for ending in endings:
            for found in map(Path, encodings_of_name(f"{candidate}{ending}")):
                if is_there(found):
                    return found
        tried.append(str(candidate))
    name = Path(path).name
    remedy = f"`convax fetch {name}` downloads it" if name in DATASETS else f"correct {key}"
    where = plain_line(", ".join(tried))
    raise DataError(f"{key}: {plain_line(path, 200)} is not there: tried {where}; {remedy}")


def is_there(path: Path) -> bool:
    """Return whether a path names something; one that the system refuses as a name does not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def at_home(path: str) -> Path:
    """Replace ``~`` and ``~user`` in a path; leave it as it is if there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def _candidates(path: Path, config_dir: Path | None) -> Iterator[Path]:
    if path.is_absolute():
        yield path
        return
    if config_dir is not None:
        yield config_dir / path
    yield Path.cwd() / path
    yield default_directory() / path
