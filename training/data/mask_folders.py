"""Where masks are: the folder of a root that has them, by its name and by what is in it."""

import re
from collections.abc import Iterator, Mapping
from itertools import permutations
from pathlib import Path

import numpy as np

from .archive import Place, source_of
from .color_table import packed
from .errors import DataError
from .image import decode, upright_size
from .listing import images_below, listed
from .mask_file import decode_color_mask, decode_mask
from .masks import BESIDE, ENDINGS, is_beside, stem_of
from .notes import Notes

# A folder whose name has one of these is of masks, where what is in it does not tell.
_MASKS = re.compile("mask|label|seg|annot|target|truth|(^|[^a-z])gt", re.IGNORECASE)
MOST_COLORS = 255  # of masks: what a table of colors has room for
_LEAST_OF_EACH = 8  # pixels of a color of a mask, in the middle: photographs have fewer
_PAIRS = 8  # whose sizes are compared


def find_mask_folders(root: Path) -> tuple[str, str] | None:
    """Find a folder of images and another with a mask of each; None if there are no such two.

    Both are in `root` or one folder further down; or they are one, `root` first, in which and below
    there is a mask beside each image. Masks are images of one number or of few colors, in a format
    that keeps them; where the images are such as well, the name of the folder decides. A folder
    that is named so is of masks too where they are as JPEG or smoothing makes them: reading says
    what is wrong with them.

    Returns:
        ``images`` and ``masks`` as `load_masks` takes them.
    """
    above = [("", root), *((f"{f.name}/", f) for f in listed(root, Notes()).folders)]
    folders = {
        f"{where}{inside.name}": inside
        for where, f in above
        for inside in listed(f, Notes()).folders
    }
    files = {name: its for name, folder in folders.items() if (its := dict(_with_stems(folder)))}
    firsts = {name: next(iter(its.values())) for name, its in files.items()}
    gray = {name for name, file in firsts.items() if _has_numbers(file)}
    few = {name for name, file in firsts.items() if name not in gray and _has_few_colors(file)}
    for images, masks in permutations(files, 2):
        named = _MASKS.search(masks) is not None and _MASKS.search(images) is None
        nested = images.startswith(f"{masks}/") or masks.startswith(f"{images}/")
        if nested or (images in gray | few and not named):
            continue
        if not all(any(f"{s}{end}" in files[masks] for end in ENDINGS) for s in files[images]):
            continue
        if masks in gray or (
            (masks in few or (named and _is_nearly_flat(firsts[masks])))
            and _of_one_size(files[images], files[masks])
        ):
            return images, masks
    for name, folder in ({".": root} | folders).items():
        if _has_masks_beside(files.get(name) or dict(_with_stems(folder))):
            return name, name
    return None


def _has_masks_beside(files: Mapping[str, Place]) -> bool:
    """Return whether each image of a folder has a mask beside it."""
    photographs = [stem for stem in files if not is_beside(stem, files)]
    masks = [files[stem] for stem in files if is_beside(stem, files)]
    having = all(any(f"{stem}{end}" in files for end in BESIDE) for stem in photographs)
    return (
        bool(masks)
        and having
        and (_has_numbers(masks[0]) or _has_few_colors(masks[0]) or _is_nearly_flat(masks[0]))
    )


def _with_stems(folder: Place) -> Iterator[tuple[str, Place]]:
    for where, file in images_below(folder, Notes()):
        yield stem_of(where, file), file


def _has_numbers(file: Place) -> bool:
    try:
        decode_mask(source_of(file))
    except DataError:
        return False
    return True


def _has_few_colors(file: Place) -> bool:
    """Return whether an image has few colors, each of many pixels, in a format that keeps them."""
    try:
        keys = packed(decode_color_mask(source_of(file)).astype(np.int32))
    except DataError:
        return False
    return len(np.unique(keys)) <= min(MOST_COLORS, keys.size // _LEAST_OF_EACH)


def _is_nearly_flat(file: Place) -> bool:
    """Return whether an image is of few colors but for what JPEG, or smooth edges, made of them."""
    try:
        image = decode(source_of(file), size=None, channels=3).astype(np.int32)
    except DataError:
        return False
    coarse = np.bincount(packed(image >> 5).ravel())
    many = np.sort(coarse)[::-1][:16].sum() >= 0.9 * coarse.sum()
    steps = np.abs(np.diff(image, axis=0)).max(axis=-1, initial=0) <= 16
    return bool(many and steps.size and steps.mean() >= 0.8)


def _of_one_size(images: Mapping[str, Place], masks: Mapping[str, Place]) -> bool:
    """Return whether the first images have masks of their size."""
    for stem, image in list(images.items())[:_PAIRS]:
        mask = next(masks[f"{stem}{end}"] for end in ENDINGS if f"{stem}{end}" in masks)
        try:
            if upright_size(source_of(image)) != upright_size(source_of(mask)):
                return False
        except DataError:  # reading says what is wrong
            continue
    return True
