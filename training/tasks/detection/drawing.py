"""Objects drawn on their image: boxes with names, and masks as a tint."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...plots.figures import color_of, shortened
from ...plots.fonts import file_for
from .masks import Rle, decode_mask
from .objects import FoundObjects, TrueObjects

LEAST = 400  # pixels of the longer side; a smaller image is enlarged, so that names can be read
TINT = 0.45  # of a mask's color over the image


class Mark(NamedTuple):
    """An object to be drawn: its box, in pixels of the image, its class and a name."""

    box: Any
    k: int
    text: str
    mask: Rle | None = None


def marks_found(found: FoundObjects, classes: Sequence[str]) -> list[Mark]:
    """Return marks of what was found, with their scores; the best last, which is drawn on top."""
    masks = found.masks or (None,) * len(found.classes)
    rows: Any = zip(found.boxes, found.classes, found.scores, masks, strict=True)
    return [
        Mark(box, int(k), f"{shortened(classes[int(k)], 20)} {score:.0%}", mask)
        for box, k, score, mask in list(rows)[::-1]
    ]


def marks_true(truth: TrueObjects, classes: Sequence[str]) -> list[Mark]:
    """Return marks of what is there; of what is ignored in parentheses."""
    masks = truth.masks or (None,) * len(truth.classes)
    rows = zip(truth.boxes, truth.classes, truth.ignored, masks, strict=True)
    names = [shortened(name, 20) for name in classes]
    return [
        Mark(box, int(k), f"({names[k]})" if ignored else names[k], mask)
        for box, k, ignored, mask in rows
    ]


def draw_marks(
    image: np.ndarray,
    marks: Iterable[Mark],
    classes: int,
    *,
    least: int = LEAST,
    thickness: float = 1 / 300,
) -> np.ndarray:
    """Draw objects on an image.

    Args:
        image: ``(H, W, C)`` uint8; of other than three channels the mean is shown.
        marks: the later on top of those before.
        classes: how many there are, each with a color.
        least: pixels of the longer side that the drawing has at least.
        thickness: of lines, as a share of the longer side.

    Returns:
        ``(s H, s W, 3)`` uint8, s a whole number: 1 of an image that is large enough.
    """
    from PIL import Image, ImageDraw, ImageFont

    if image.shape[-1] != 3:
        image = np.repeat(np.round(image.mean(axis=-1, keepdims=True)).astype(np.uint8), 3, axis=-1)
    s = max(1, math.ceil(least / max(image.shape[:2])))
    marks = list(marks)
    for mark in marks:
        if mark.mask is not None:
            there = decode_mask(mark.mask)
            image = image.copy()
            tinted = (1 - TINT) * image[there] + TINT * np.array(_color(mark.k, classes))
            image[there] = np.round(tinted).astype(np.uint8)
    canvas = Image.fromarray(np.repeat(np.repeat(image, s, axis=0), s, axis=1))
    draw, side = ImageDraw.Draw(canvas), max(canvas.size)
    line, size = max(1, round(side * thickness)), max(11, round(side / 44))
    for box, k, _, _ in marks:
        x1, y1, x2, y2 = (s * float(v) for v in box)
        # Continuous corners: the last pixel of a box that ends at 10 is 9.
        right, bottom = (max(math.ceil(end) - 1, start) for end, start in ((x2, x1), (y2, y1)))
        draw.rectangle((x1, y1, right, bottom), outline=_color(k, classes), width=line)
    for box, k, text, _ in marks:  # over all boxes
        color = _color(k, classes)
        x1, y1 = (s * float(v) for v in box[:2])
        font = ImageFont.truetype(file_for(text), size)
        _, _, wide, high = (math.ceil(v) for v in draw.textbbox((0, 0), text, font=font))
        x = max(0, min(x1, canvas.width - wide - 4))
        y = y1 - high - 4 if y1 >= high + 4 else min(y1 + line, canvas.height - high - 4)
        draw.rectangle((x, y, x + wide + 3, y + high + 3), fill=color)
        ink = "white" if sum(color) < 420 else "black"
        draw.text((x + 2, y + 1), text, fill=ink, font=font)
    return np.asarray(canvas)


def _color(k: int, classes: int) -> tuple[int, int, int]:
    from matplotlib.colors import to_rgb

    red, green, blue = (round(255 * v) for v in to_rgb(color_of(k, classes)))
    return red, green, blue
