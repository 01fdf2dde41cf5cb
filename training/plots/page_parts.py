"""What the pages of a run are made of: tables, images and examples, each a tuple of text."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from .image_encoding import data_uri, encoded
from .pictures import pictures
from .svg import Chart

NOTHING = "\N{EN DASH}"  # where a share has no meaning
LARGEST = 320  # pixels of a side; beyond, an image is made smaller
SMALL = 96  # pixels of a side; below, they are shown as squares

Heatmap: TypeAlias = Callable[[np.ndarray, int], np.ndarray]


class Cell(NamedTuple):
    """A cell of the confusion matrix."""

    count: int  # type: ignore[override] -- tuple has a method of that name
    text: str  # what stands in it
    right: bool
    heat: float  # in [0, 1]: how much of the color of errors it has
    words: str  # for whoever cannot see the table


class Table(NamedTuple):
    """Rows of text under the names of their columns."""

    caption: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    last: tuple[str, ...] | None = None  # a row that sums them up
    names: int = 1  # how many columns hold names, not numbers


class HtmlImage(NamedTuple):
    """An <img>."""

    source: str  # a data: URI
    alt: str
    width: int
    height: int
    over: str | None = None  # a second one, laid over it

    @property
    def small(self) -> bool:
        """Return whether its pixels are to be seen."""
        return max(self.width, self.height) < SMALL


class Example(NamedTuple):
    """Images that belong together, each under its name, and a line on them."""

    images: list[tuple[str, HtmlImage]]
    caption: str


class Confusion(NamedTuple):
    """Which classes are taken for which."""

    cells: list[list[Cell]]  # none where there are too many classes,
    chart: Chart | None  # which has colors in their place
    pairs: Table
    names: Sequence[str]  # of the rows, and of the columns


class Calibration(NamedTuple):
    """Whether the network is as often right as it is sure."""

    chart: Chart
    sentence: str


class Examples(NamedTuple):
    """Examples worth looking at."""

    heading: str
    sentence: str
    examples: list[Example]


class PageParts(NamedTuple):
    """What a task has to show of an evaluated run; a part that is None has no place on the page."""

    confusion: Confusion | None = None
    per_class: Table | None = None
    per_class_title: str = "Classes"
    calibration: Calibration | None = None
    charts: Sequence[Chart] = ()
    charts_title: str = "Charts"
    examples: Examples | None = None


def html_image(image: np.ndarray, alt: str, over: bytes | None = None) -> HtmlImage:
    """Encode an image ``(H, W)`` uint8, or ``(H, W, C)`` of any format: see `pictures`."""
    from PIL import Image

    if image.ndim == 3:
        image = pictures(image)
        image = image if image.shape[-1] == 3 else image[..., 0]
    shown = Image.fromarray(image)
    shown.thumbnail((LARGEST, LARGEST))
    return HtmlImage(data_uri(encoded(shown)), alt, *shown.size, data_uri(over) if over else None)


def overlay(heat: np.ndarray) -> bytes:
    """Color a heat map ``(H, W)`` in [0, 1], clear where cold, as a PNG to lay over an image."""
    from matplotlib import colormaps
    from PIL import Image

    heat = np.clip(np.nan_to_num(heat), 0, 1)
    colors = colormaps["inferno"](heat)  # (H, W, 4)
    colors[..., 3] = 0.75 * heat
    return encoded(Image.fromarray((255 * colors).round().astype(np.uint8)))


def percent(share: float) -> str:
    """Format a share as percent.

    Example:
        >>> percent(0.98765), percent(float("nan"))
        ('98.8%', '–')
    """
    return f"{share:.1%}" if math.isfinite(share) else NOTHING
