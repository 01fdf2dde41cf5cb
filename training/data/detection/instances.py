"""Images with a mask each, whose numbers tell objects of one class apart."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...common.text import text_of_name
from ..archive import Place, source_of
from ..dataset import Dataset
from ..errors import DataError
from ..mask_file import decode_mask
from ..masks import check_mask_size, mask_pairs
from ..notes import Notes
from .ground_truth import read_annotated
from .objects import Annotated, Object, Rules, tight_box


def load_instances(
    root: str | Path, *, images: str, masks: str, classes: Sequence[str], rules: Rules
) -> Dataset:
    """Read images and masks; each number in a mask but 0 is an object.

    Args:
        root, images, masks: see `training.data.load_masks`.
        classes: the name of the objects' one class.
        rules: how they become arrays.

    Returns:
        images with `GroundTruth`, all in the training part; an object's box is that around its
        pixels.

    Raises:
        DataError: see there, and `read_annotated`.
    """
    if len(classes) != 1:
        raise DataError(
            f"data.classes: objects that masks tell apart are of one class, and the background is "
            f'none: got {len(classes)}; write classes = ["object"]'
        )
    notes = Notes()

    def annotated(photograph: Place, mask: Place) -> Annotated:
        def objects(size: tuple[int, int]) -> list[Object]:
            numbers = decode_mask(source_of(mask), name=str(mask))
            check_mask_size(numbers, mask, size, photograph)
            found = []
            for number in np.unique(numbers[numbers != 0]):
                its = numbers == number
                area, called = float(its.sum()), f"{mask}: object {number}"
                found.append(Object(called, tight_box(its), 0, area=area, mask=its))
            return found

        return Annotated(photograph, text_of_name(photograph.name), objects, frozenset((0,)))

    pairs = [annotated(*pair) for pair in mask_pairs(Path(root), images, masks, notes)]
    return read_annotated(root, {"train": pairs}, classes, rules, notes)
