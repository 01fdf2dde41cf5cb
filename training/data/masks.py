"""Images with a mask each: for every pixel, which class or which object it belongs to."""

from collections.abc import Callable, Container, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias

import numpy as np

from ..common.colors import Color
from ..common.text import encodings_of_name, plain_line, text_of_name
from .archive import ARCHIVES, Place, is_archive, read_archive, source_of
from .color_table import ColorTable, classes_of_colors, color_table
from .dataset import Dataset, Split
from .decoded_cache import Entry, decoded_once
from .each_file import (
    OnUnreadable,
    check_classes_kept,
    parts_kept,
    read_readable,
    rows_kept,
)
from .errors import DataError
from .image import EXTENSIONS, by, decode, on_canvas, resize_image, resize_raster
from .labels import IGNORED
from .listing import images_below, listed
from .mask_file import decode_color_mask, decode_mask, resize_nearest
from .notes import Notes
from .pixels import Channels, PixelFormat, format_of
from .placement import place

MaskKind: TypeAlias = Literal["classes", "instances"]


def load_masks(
    root: str | Path,
    *,
    images: str,
    masks: str,
    mask_kind: MaskKind,
    classes: Sequence[str],
    size: Sequence[int],
    channels: Channels = 3,
    letterbox: bool = False,
    unreadable: OnUnreadable = "error",
    colors: Sequence[Color] | None = None,
    ignored_colors: Sequence[Color] = (),
) -> Dataset:
    """Read ``root/IMAGES/x.*`` with ``root/MASKS/x.*``, ``x_mask.*`` or ``x_label.*``.

    Photograph and mask are resized together: bilinear and antialiased the one, to the nearest
    pixel the other. The examples are sorted by name. Folders below the two are read likewise; an
    image and its mask are in folders of the same name. Files that are no images are passed over:
    the dataset's notes say how many.

    Args:
        root: a folder, or an archive (.zip, .tar, .tar.gz) that has the two folders anywhere in it.
        images, masks: the names of the two folders; or twice that of one, "." for the root, in
            which a mask is beside its image, and has one of the two endings.
        mask_kind: what the numbers in a mask are: "classes" from 0, where 255 means no class at
            all; or "instances", where 0 is the background and all other numbers are objects of one
            class, as in Penn-Fudan.
        classes: their names; the background first, for "instances".
        size: ``(H, W)`` that all are resized to.
        channels: 1 for gray, 3 for color, or a `PixelFormat`.
        letterbox: keep the aspect, see `training.data.placement`; pixels beside an image are of no
            class.
        unreadable: see `load_folder`; an image and its mask are left out together.
        colors: where the pixels of a mask are colors: red, green and blue of each class.
        ignored_colors: those of pixels of no class.

    Returns:
        images ``(N, H, W, channels)``, of the format's dtype, with labels ``(N, H, W)`` uint8, all
        in the training part.

    Raises:
        DataError: no images, an image without a mask or with two, one whose mask has another
            size, a mask that is no image of whole numbers (or, with `colors`, of colors) or whose
            format may have changed them, one with a class out of range or a color that is not in
            the table, or no pixel of any class but the first.
    """
    if mask_kind == "instances" and len(classes) != 2:
        raise DataError(
            f"data.classes: masks of instances have two classes, the background and the object: "
            f'got {len(classes)}; write classes = ["background", "object"]'
        )
    notes = Notes()
    pairs = mask_pairs(Path(root), images, masks, notes)
    pixels = format_of(channels)
    how = {"size": list(size), "pixels": pixels, "letterbox": letterbox, "on": unreadable}
    table = None if colors is None else color_table(colors, ignored_colors, classes=len(classes))

    def make() -> Entry:
        read_mask = partial(_read_mask, mask_kind=mask_kind, K=len(classes), table=table)
        return _decode_pairs(pairs, read_mask, size, pixels, letterbox, unreadable)

    files = [file for pair in pairs for file in pair]
    made = {"made": f"masks of {mask_kind}", "classes": len(classes)}
    made |= {} if table is None else {"colors": table}
    (photographs, labels, has), kept = decoded_once(files, made | how, make)
    parts_kept({"train": len(pairs)}, kept)
    check_classes_kept(has[:, : len(classes)], classes, kept)
    values = np.flatnonzero(has[kept.indices].any(axis=0))
    if mask_kind == "classes" and not np.isin(values, np.arange(1, len(classes))).any():
        _raise_all_of_one_class(root, values, classes, of_colors=table is not None)
    everything = Split(photographs, labels)
    nothing = Split(photographs[:0], labels[:0])
    return Dataset(everything, nothing, nothing, tuple(classes), notes.lines(), kept.unreadable)


def _decode_pairs(
    pairs: Sequence[tuple[Place, Place]],
    read_mask: Callable[[Place], np.ndarray],
    size: Sequence[int],
    pixels: PixelFormat,
    letterbox: bool,
    unreadable: OnUnreadable,
) -> Entry:
    """Return photographs and labels of pairs, ``(N, H, W, C)`` and ``(N, H, W)``.

    And, of all pairs, those left out too, which values their masks have, ``(N, 256)`` bool.
    """
    height, width = size
    photographs = np.empty((len(pairs), height, width, pixels.channels), pixels.dtype)
    labels = np.full((len(pairs), height, width), IGNORED, np.uint8)
    has = np.zeros((len(pairs), IGNORED + 1), bool)

    def read(i: int) -> None:
        photograph, mask = pairs[i]
        of_class = read_mask(mask)
        has[i, np.unique(of_class)] = True  # should its photograph be unreadable
        photo = decode(source_of(photograph), size=None, channels=pixels, name=str(photograph))
        check_mask_size(of_class, mask, photo.shape[:2], photograph)
        h, w = place(photo.shape[:2], size, letterbox=letterbox).placed
        its = resize_nearest(of_class, (h, w))
        has[i] = np.isin(np.arange(len(has[i])), its)
        labels[i, :h, :w] = its
        photographs[i] = on_canvas(_resized(photo, (h, w), pixels), size, pixels)

    _, kept = read_readable(read, len(pairs), unreadable)
    return Entry((rows_kept(photographs, kept), rows_kept(labels, kept), has), kept)


def _resized(photo: np.ndarray, size: tuple[int, int], pixels: PixelFormat) -> np.ndarray:
    if not pixels.is_photograph:
        return resize_raster(photo, size, pixels)
    flat = photo[..., 0] if pixels.channels == 1 else photo
    return resize_image(flat, size).reshape(*size, pixels.channels)


def _read_mask(mask: Place, *, mask_kind: MaskKind, K: int, table: ColorTable | None) -> np.ndarray:
    """Return the class of each pixel of a mask, uint8."""
    source, name = source_of(mask), str(mask)
    if table is not None:
        return classes_of_colors(decode_color_mask(source, name=name), table, name).astype(np.uint8)
    return _classes_of(decode_mask(source, name=name), mask_kind, K, name)


# What the name of a mask may have behind that of its image.
BESIDE = ("_mask", "_label")
ENDINGS = ("", *BESIDE)


def is_beside(stem: str, stems: Container[str]) -> bool:
    """Return whether a file is the mask of an image beside it, by the names there."""
    return any(stem.endswith(end) and stem.removesuffix(end) in stems for end in BESIDE)


def check_mask_size(
    numbers: np.ndarray, mask: Place, size: tuple[int, int], photograph: Place
) -> None:
    """Raise unless a mask has a number for each pixel of its image."""
    if numbers.shape != size:
        raise DataError(
            f"{mask} is {by(numbers)} but {photograph} is {size[0]}x{size[1]}; "
            "a mask needs one number for each pixel of its image"
        )


def _classes_of(numbers: np.ndarray, mask_kind: MaskKind, K: int, name: str) -> np.ndarray:
    """Compute each pixel's class, uint8."""
    if mask_kind == "instances":
        return (numbers > 0).astype(np.uint8)
    wrong = numbers[((numbers < 0) | (numbers >= K)) & (numbers != IGNORED)]
    if wrong.size:
        raise DataError(
            f"{name}: class {wrong[0]} where data.classes names {K}, 0 to {K - 1} (and "
            f"{IGNORED} for no class); name every class, or write "
            'data.mask_kind = "instances" if the numbers tell objects apart'
        )
    return numbers.astype(np.uint8)


def _raise_all_of_one_class(
    root: str | Path, values: np.ndarray, classes: Sequence[str], *, of_colors: bool
) -> None:
    """Raise for masks without a pixel of any class but the first: there is nothing to learn."""
    found = " and ".join(map(str, values))
    remedy = f'write data.mask_kind = "instances" if {IGNORED} is the object'
    if IGNORED not in values or len(classes) != 2:
        remedy = f"number the classes in the masks from 0 to {len(classes) - 1}"
    if of_colors:
        remedy = "write in data.colors the colors that these classes have"
    raise DataError(
        f"{root}: no mask has a pixel of {', '.join(map(repr, classes[1:4]))}: all pixels are "
        f"{found}, where {IGNORED} is no class; {remedy}"
    )


def mask_pairs(root: Path, images: str, masks: str, notes: Notes) -> list[tuple[Place, Place]]:
    """Return every photograph with its mask, sorted by name."""
    found = _image_files(root, (images, masks), notes)
    by_stem: dict[str, list[Place]] = {}
    for where, file in found[masks]:
        by_stem.setdefault(stem_of(where, file), []).append(file)
    pairs, used = [], set()
    endings = BESIDE if images == masks else ENDINGS
    photographs = [
        (stem, file)
        for where, file in found[images]
        if not (is_beside(stem := stem_of(where, file), by_stem) and images == masks)
    ]
    for stem, photograph in photographs:
        candidates = [f for end in endings for f in by_stem.get(f"{stem}{end}", [])]
        if not candidates:
            *others, last = (f"{stem}{end}.png" for end in endings)
            raise DataError(
                f"{photograph}: no mask for this image: need {', '.join(others)} or {last} in "
                f"{masks}; add it, or take the image away"
            )
        if len(candidates) > 1:
            raise DataError(
                f"{photograph}: two masks for this image, {candidates[0]} and "
                f"{candidates[1]}; keep one"
            )
        pairs.append((photograph, candidates[0]))
        used.add(candidates[0])
    alone = len(found[masks]) - len(used) - (len(pairs) if images == masks else 0)
    notes.pass_over("mask(s) without an image", alone)
    return pairs


def stem_of(where: str, file: Place) -> str:
    """Return what an image and its mask have in common: the folder below, the name, no ending."""
    return text_of_name(str(PurePosixPath(where, PurePosixPath(file.name).stem)))


def _image_files(
    root: Path, folders: tuple[str, ...], notes: Notes
) -> dict[str, list[tuple[str, Place]]]:
    """Return the images in each of two folders and below, and where there; sorted by name."""
    folders = tuple(dict.fromkeys(folders))
    if root.is_dir():
        places = [_folder(root, folder) for folder in folders]
        inside = [place for place in places if place is not None]
        found = {
            folder: [] if place is None else list(images_below(place, notes, without=inside))
            for folder, place in zip(folders, places, strict=True)
        }
    elif is_archive(root):
        found = _in_archive(root, folders, notes)
    else:
        what = "a file" if root.exists() else "no such folder"
        raise DataError(
            f"{root}: {what}; data.path should be a folder, or an archive ({', '.join(ARCHIVES)}), "
            "of images and masks"
        )
    for folder, files in found.items():
        if not files:
            raise DataError(
                f"{root}: no images in a folder {plain_line(folder, 80)}; data.images and "
                "data.masks should name the two folders in data.path"
            )
    return {folder: sorted(files, key=lambda at: str(at[1])) for folder, files in found.items()}


def _folder(root: Path, name: str) -> Path | None:
    """Return a folder in the root, however its accents are encoded; None if there is none."""
    try:
        return next((p for n in encodings_of_name(name) if (p := root / n).is_dir()), None)
    except OSError:  # a name that the system refuses
        return None


def _in_archive(
    root: Path, folders: tuple[str, ...], notes: Notes
) -> dict[str, list[tuple[str, Place]]]:
    """Return the two folders, wherever in the archive they are."""
    found: dict[str, list[tuple[str, Place]]] = {folder: [] for folder in folders}
    called = {text_of_name(folder): folder for folder in folders}
    places: list[Place] = []
    waiting: list[Place] = [read_archive(root, EXTENSIONS, notes)]
    while waiting:
        inside = listed(waiting.pop(), Notes()).folders
        places += [folder for folder in inside if text_of_name(folder.name) in called]
        waiting += inside
    for folder in places:
        found[called[text_of_name(folder.name)]] += images_below(folder, notes, without=places)
    return found
