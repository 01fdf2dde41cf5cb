"""An explanation as a figure: six panels, each of which says how to read it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..training.plots import figures
from ..training.plots.figures import GRAY
from .explanation import STEPS, Explanation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SKY = "#56B4E9"
SMALL = 64  # pixels along the longer side: images up to it are enlarged with their pixels visible
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
        note = draw(ax, found)
        ax.set_title(name, weight="bold")
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(False)
        ax.set_xlabel(note, loc="left", fontsize=8.5, color=GRAY)
    return figure


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
            _show(
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
    _show(ax, _colors(found.image), interpolation=_smooth(found.image))
    H, W, C = found.image.shape
    return f"as the network sees it: {H}x{W}, {'gray' if C == 1 else 'in color'}"


def _draw_saliency(ax: "Axes", found: Explanation) -> str:
    top = _top(found.saliency)
    _show(ax, found.saliency, cmap="inferno", vmin=0, vmax=top, **_nearest(found))
    return "bright: pixels whose change\nwould change the score most"


def _draw_attribution(ax: "Axes", found: Explanation) -> str:
    _signed(ax, found.attribution, found)
    return (
        "each pixel's share: red for, blue against;\n"
        f"together {found.attribution.sum():.3g} of {found.difference:.3g} ({STEPS} steps)"
    )


def _draw_heat(ax: "Axes", found: Explanation) -> str:
    if found.heat is None:
        _show(ax, _faded(found.image), interpolation=_interpolation(found.image))
        return "this network has no maps of features\nto weigh: use the other panels"
    _show(ax, _gray(found.image), interpolation=_smooth(found.image))
    heat = np.clip(found.heat / (found.heat.max() or 1), 0, 1)
    _show(ax, heat, cmap="inferno", vmin=0, vmax=1, alpha=0.8 * heat, interpolation="bilinear")
    if not found.heat.any():
        return f"nothing in the maps of {_tail(found.layer, 24)}\nspeaks for it"
    return f"warm: where the maps of\n{_tail(found.layer, 30)} speak for it"


def _draw_occlusion(ax: "Axes", found: Explanation) -> str:
    _signed(ax, found.occlusion, found)
    side = found.window
    return f"the score lost (red) or gained (blue)\nwhere a {side}x{side} patch covers the image"


def _draw_field(ax: "Axes", found: Explanation) -> str:
    from matplotlib.patches import Rectangle

    field = found.field
    if field is None:
        _show(ax, _faded(found.image), interpolation=_interpolation(found.image))
        return "every unit of this network\nsees the whole image"
    _show(ax, _gray(found.image), interpolation=_smooth(found.image))
    strength = np.clip(field.strength / _top(field.strength), 0, 1)
    _show(ax, strength, cmap="viridis", vmin=0, vmax=1, alpha=0.85 * strength, **_nearest(found))
    (top, bottom), (left, right) = field.box
    ax.add_patch(
        Rectangle(
            (left - 0.5, top - 0.5),
            right - left + 1,
            bottom - top + 1,
            fill=False,
            edgecolor=SKY,
            linewidth=1.8,
            clip_on=False,
        )
    )
    H, W = found.image.shape[:2]
    ax.set_xlim(-0.5, W - 0.5)
    ax.set_ylim(H - 0.5, -0.5)
    size = "?" if field.size is None else "x".join(map(str, field.size))
    at = f"({field.at[0]}, {field.at[1]}) of {_tail(found.layer, 20)}"
    return f"what element {at}\nsees: {size} (frame); the bright pixels most"


def _tail(path: str | None, width: int) -> str:
    """Return the end of a long path."""
    path = path or ""
    return path if len(path) <= width else "…" + path[1 - width :]


def _signed(ax: "Axes", values: np.ndarray, found: Explanation) -> None:
    """Draw values red above zero, blue below, white at it."""
    top = _top(np.abs(values))
    _show(ax, values, cmap="RdBu_r", vmin=-top, vmax=top, **_nearest(found))
    _outline(ax)


def _outline(ax: "Axes") -> None:
    """Frame a map, whose white edge would run into the page."""
    from matplotlib.patches import Rectangle

    frame = Rectangle((0, 0), 1, 1, transform=ax.transAxes, fill=False, edgecolor="#D0D0D0")
    ax.add_patch(frame)


def _show(ax: "Axes", values: np.ndarray, **look: Any) -> None:
    ax.imshow(values, **{"cmap": "gray", "vmin": None, "vmax": None} | look)


def _top(values: np.ndarray) -> float:
    """Return where colors end: above all but one pixel in 200, which would darken the others."""
    top = float(np.quantile(values, 0.995)) if values.size > 400 else float(values.max())
    return top or float(values.max()) or 1.0


def _interpolation(image: np.ndarray) -> str:
    return "nearest" if max(image.shape[:2]) <= SMALL else "antialiased"


def _smooth(image: np.ndarray) -> str:
    """Photographs are enlarged smoothly."""
    return "nearest" if max(image.shape[:2]) <= SMALL else "bicubic"


def _nearest(found: Explanation) -> dict[str, Any]:
    return {"interpolation": _interpolation(found.image)}


def _colors(image: np.ndarray) -> np.ndarray:
    """Return ``(H, W, 3)``, of one channel, too."""
    return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image


def _gray(image: np.ndarray) -> np.ndarray:
    """Return an image without its colors."""
    gray = _colors(image) @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.repeat(np.clip(gray, 0, 1)[..., None], 3, axis=-1)


def _faded(image: np.ndarray) -> np.ndarray:
    return 0.75 + 0.25 * _gray(image)
