"""Explained objects as figures: where they are, and a row of panels for each."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..training.plots import figures
from ..training.plots.figures import shortened
from ..training.tasks.task import ExplainedObject
from .objects import MASKS, ObjectExplanation, ObjectExplanations
from .overlays import draw_box, draw_image, draw_signed, draw_strength
from .panels import PANEL, draw_grad_cam, finish_panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE = 6.5  # inches of the image with all objects
BOX = "#56B4E9"


def numbered_figure(
    image: np.ndarray,
    objects: Sequence[ExplainedObject],
    classes: int,
    *,
    title: str,
    subtitle: str,
) -> "Figure":
    """Draw objects on their image, each with its number.

    To be called within `figures.style`.

    Args:
        image: ``(H, W, C)`` in [0, 1], as the network sees it.
        objects: best first, which is drawn on top.
        classes: how many there are, each with a color.
        title, subtitle: what stands above.
    """
    figure = figures.titled_figure(WIDE + 0.3, WIDE * _aspect(image) + 0.2, title, subtitle)
    ax = figure.subplots()
    draw_image(ax, image)
    for each in reversed(objects):
        color = figures.color_of(each.k, classes)
        draw_box(ax, each.box, color)
        label = f"{each.row + 1}  {shortened(each.text, 24)}"
        look = {"facecolor": color, "edgecolor": "none", "pad": 1.5}
        x, y = (float(v) - 0.5 for v in each.box[:2])
        ax.text(
            x,
            y,
            label,
            fontsize=8.5,
            color="white",
            va="bottom" if y > image.shape[0] / 12 else "top",
            bbox=look,
        )
    ax.axis("off")
    return figure


def objects_figure(
    found: ObjectExplanations, objects: Sequence[ExplainedObject], *, title: str, subtitle: str
) -> "Figure":
    """Draw everything that was found about some objects, a row for each.

    To be called within `figures.style`.

    Args:
        found: of the objects, in their order.
        objects: at least one.
        title, subtitle: what stands above.
    """
    high, rows = PANEL * _aspect(found.image), len(objects)
    figure = figures.titled_figure(4 * PANEL + 0.5, rows * (high + 0.75), title, subtitle)
    axes = figure.subplots(rows, 4, squeeze=False)
    for row, each, reasons in zip(axes, objects, found.objects, strict=True):
        for ax, (name, note) in zip(row, _draw(row, found, each, reasons), strict=True):
            draw_box(ax, each.box, BOX)
            finish_panel(ax, name, note)
    return figure


def _draw(
    row: Sequence["Axes"], found: ObjectExplanations, each: ExplainedObject, of: ObjectExplanation
) -> list[tuple[str, str]]:
    """Draw the panels of an object; return the name of each, and how to read it."""
    draw_image(row[0], found.image)
    draw_strength(row[1], of.saliency)
    note = draw_grad_cam(row[2], of.heat, found.image, found.layer)
    draw_signed(row[3], of.rise)
    name = f"{each.row + 1}  {shortened(each.text, 24)}"
    return [
        (name, f"as the network sees it;\nits logit is {of.score:.3g}"),
        ("saliency", "bright: pixels whose change\nwould change the logit most"),
        ("Grad-CAM", note),
        ("D-RISE", f"red: seen where it is found,\nblue: where not; {MASKS} random masks"),
    ]


def _aspect(image: np.ndarray) -> float:
    return float(min(max(image.shape[0] / image.shape[1], 0.4), 1.8))
