"""An explanation as a figure: six panels, each of which says how to read it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..training.plots import figures
from ..training.plots.figures import GRAY
from .explanation import STEPS, Explanation
from .overlays import (
    draw_box,
    draw_faded,
    draw_field,
    draw_heat,
    draw_image,
    draw_signed,
    draw_strength,
    end_of,
    show,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SKY = "#56B4E9"
PANEL = 2.75  # inches wide
MOST_CHANNELS = 10
Panel = Callable[["Axes", Explanation], str]


def explanation_figure(found: Explanation, *, title: str, subtitle: str) -> "Figure":
    """Draw the image and everything that was found about it.

    To be called within `figures.style`.
    """
    H, W = found.image.shape[:2]
    high = PANEL * min(max(H / W, 0.4), 1.8)
    figure = figures.titled_figure(3 * PANEL + 0.5, 2 * (high + 0.75), title, subtitle)
    panels: list[tuple[str, Panel]] = [
        ("the image", _draw_image),
        ("saliency", _draw_saliency),
        ("integrated gradients", _draw_attribution),
        ("Grad-CAM", _draw_heat),
        ("occlusion", _draw_occlusion),
        ("receptive field", _draw_field),
    ]
    for ax, (name, draw) in zip(figure.subplots(2, 3).flat, panels, strict=True):
        finish_panel(ax, name, draw(ax, found))
    return figure


def finish_panel(ax: "Axes", name: str, note: str) -> None:
    """Write what a panel is above it, and how to read it below."""
    ax.set_title(name, weight="bold")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    ax.set_xlabel(note, loc="left", fontsize=8.5, color=GRAY)


def draw_grad_cam(ax: "Axes", heat: np.ndarray | None, image: np.ndarray, layer: str | None) -> str:
    """Draw the map of Grad-CAM over the image; return how to read it."""
    if heat is None:
        draw_faded(ax, image)
        return "this network has no maps of features\nto weigh: use the other panels"
    draw_heat(ax, heat, image)
    if not heat.any():
        return f"nothing in the maps of {end_of(layer, 24)}\nspeaks for it"
    return f"warm: where the maps of\n{end_of(layer, 30)} speak for it"


def feature_map_figure(maps: dict[str, np.ndarray], *, title: str, subtitle: str) -> "Figure":
    """Draw the maps of some layers, a row for each: the channels that respond most come first.

    To be called within `figures.style`.

    Args:
        maps: by the layer's path, ``(H', W', C')``.
        title, subtitle: what stands above.
    """
    h, w, _ = next(iter(maps.values())).shape
    tile_wide, tile_high = figures.tile_size((h, w))
    columns, cell, gap = MOST_CHANNELS, 0.92, 0.07
    room = 0.34  # for a row's name, in units of a cell
    rows, wide = len(maps), columns * (1 + gap) - gap
    figure = figures.titled_figure(
        cell * wide + 0.4, cell * rows * (tile_high + room) + 0.15, title, subtitle
    )
    ax = figure.subplots()
    for row, (path, found) in enumerate(maps.items()):
        y = -row * (tile_high + room)
        mean = np.abs(found).mean(axis=(0, 1))
        order = np.argsort(-mean, kind="stable")[:columns]
        for column, channel in enumerate(order):
            x = column * (1 + gap)
            show(
                ax,
                found[..., channel],
                extent=(x, x + tile_wide, y, y + tile_high),
                cmap="viridis",
                interpolation="nearest",
            )
        dead = int((mean == 0).sum())
        h, w, C = found.shape
        text = f"{path}   {h}x{w}, {len(order)} of {C} channels" + f", {dead} silent" * bool(dead)
        ax.text(0, y + tile_high + 0.05, text, fontsize=9, va="bottom")
    ax.set_xlim(0, wide)
    ax.set_ylim(-(rows - 1) * (tile_high + room) - 0.02, tile_high + room)
    ax.set_aspect("equal")
    ax.set_anchor("NW")
    ax.axis("off")
    return figure


def neighbors_figure(
    image: np.ndarray,
    others: np.ndarray,
    captions: list[str],
    *,
    title: str,
    subtitle: str,
) -> "Figure":
    """Draw an image, and those that lie nearest to it.

    To be called within `figures.style`.

    Args:
        image: ``(H, W, C)`` uint8.
        others: ``(k, H, W, C)`` uint8.
        captions: of each of the others.
        title, subtitle: what stands above.
    """
    return figures.mistakes(
        np.concatenate([image[None], others]),
        ["this image", *captions],
        title=title,
        subtitle=subtitle,
        columns=6,
    )


def _draw_image(ax: "Axes", found: Explanation) -> str:
    draw_image(ax, found.image)
    H, W, C = found.image.shape
    if found.drawn:
        return f"{H}x{W}; {found.drawn}"
    return f"as the network sees it: {H}x{W}, {'gray' if C == 1 else 'in color'}"


def _draw_saliency(ax: "Axes", found: Explanation) -> str:
    draw_strength(ax, found.saliency)
    return "bright: pixels whose change\nwould change the score most"


def _draw_attribution(ax: "Axes", found: Explanation) -> str:
    draw_signed(ax, found.attribution)
    return (
        "each pixel's share: red for, blue against;\n"
        f"together {found.attribution.sum():.3g} of {found.difference:.3g} ({STEPS} steps)"
    )


def _draw_heat(ax: "Axes", found: Explanation) -> str:
    return draw_grad_cam(ax, found.heat, found.image, found.layer)


def _draw_occlusion(ax: "Axes", found: Explanation) -> str:
    draw_signed(ax, found.occlusion)
    side = found.window
    return f"the score lost (red) or gained (blue)\nwhere a {side}x{side} patch covers the image"


def _draw_field(ax: "Axes", found: Explanation) -> str:
    field = found.field
    if field is None:
        draw_faded(ax, found.image)
        return "every unit of this network\nsees the whole image"
    draw_field(ax, field.strength, found.image)
    (top, bottom), (left, right) = field.box
    draw_box(ax, (left, top, right + 1, bottom + 1), SKY)
    H, W = found.image.shape[:2]
    ax.set_xlim(-0.5, W - 0.5)
    ax.set_ylim(H - 0.5, -0.5)
    size = "?" if field.size is None else "x".join(map(str, field.size))
    at = f"({field.at[0]}, {field.at[1]}) of {end_of(found.layer, 20)}"
    return f"what element {at}\nsees: {size} (frame); the bright pixels most"
