"""Maps over an image, as panels of figures show them: one way to draw each kind.

To be called within `figures.style`.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALL = 64  # pixels along the longer side: images up to it are enlarged with their pixels visible


def draw_image(ax: "Axes", image: np.ndarray) -> None:
    """Draw an image ``(H, W, C)`` in [0, 1], in color where it has some."""
    show(ax, _colors(image), interpolation=_smooth(image))


def draw_faded(ax: "Axes", image: np.ndarray) -> None:
    """Draw an image as if through mist: where there is nothing to lay over it."""
    show(ax, 0.75 + 0.25 * _gray(image), interpolation=_interpolation(image))


def draw_strength(ax: "Axes", values: np.ndarray) -> None:
    """Draw values ``(H, W)`` of zero and more, the larger the brighter, without the image."""
    values, top = np.asarray(values), top_of(values)
    show(ax, values, cmap="inferno", vmin=0, vmax=top, interpolation=_interpolation(values))


def draw_signed(ax: "Axes", values: np.ndarray) -> None:
    """Draw values ``(H, W)``: red above zero, blue below, white at it; without the image."""
    from matplotlib.patches import Rectangle

    top = top_of(np.abs(values))
    show(ax, values, cmap="RdBu_r", vmin=-top, vmax=top, interpolation=_interpolation(values))
    # A frame, as the white edge would run into the page.
    frame = Rectangle((0, 0), 1, 1, transform=ax.transAxes, fill=False, edgecolor="#D0D0D0")
    ax.add_patch(frame)


def draw_heat(ax: "Axes", heat: np.ndarray, image: np.ndarray) -> None:
    """Lay a map ``(H, W)`` of zero and more over a gray image: the larger, the warmer."""
    show(ax, _gray(image), interpolation=_smooth(image))
    heat = np.clip(heat / (heat.max() or 1), 0, 1)
    show(ax, heat, cmap="inferno", vmin=0, vmax=1, alpha=0.8 * heat, interpolation="bilinear")


def draw_field(ax: "Axes", strength: np.ndarray, image: np.ndarray) -> None:
    """Lay the strength ``(H, W)`` of each pixel over a gray image: the larger, the brighter."""
    show(ax, _gray(image), interpolation=_smooth(image))
    strength = np.clip(strength / top_of(strength), 0, 1)
    look = {"cmap": "viridis", "vmin": 0, "vmax": 1, "interpolation": _interpolation(image)}
    show(ax, strength, alpha=0.85 * strength, **look)


def draw_box(ax: "Axes", box: Any, color: Any) -> None:
    """Draw a box (x1, y1, x2, y2): pixel i reaches from i to i + 1, and is drawn around i."""
    from matplotlib.patches import Rectangle

    x1, y1, x2, y2 = (float(v) - 0.5 for v in box)
    look = {"fill": False, "linewidth": 1.8, "clip_on": False}
    ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, edgecolor=color, **look))


def show(ax: "Axes", values: np.ndarray, **look: Any) -> None:
    """Draw an array as an image; gray from its least to its largest value unless told."""
    ax.imshow(values, **{"cmap": "gray", "vmin": None, "vmax": None} | look)


def top_of(values: np.ndarray) -> float:
    """Return where colors end: above all but one pixel in 200, which would darken the others."""
    top = float(np.quantile(values, 0.995)) if values.size > 400 else float(values.max())
    return top or float(values.max()) or 1.0


def end_of(path: str | None, width: int) -> str:
    """Return the end of a long path.

    Example:
        >>> end_of("stage1/block2/conv1", 12)
        '…lock2/conv1'
    """
    path = path or ""
    return path if len(path) <= width else "…" + path[1 - width :]


def _interpolation(image: np.ndarray) -> str:
    return "nearest" if max(image.shape[:2]) <= SMALL else "antialiased"


def _smooth(image: np.ndarray) -> str:
    """Photographs are enlarged smoothly."""
    return "nearest" if max(image.shape[:2]) <= SMALL else "bicubic"


def _colors(image: np.ndarray) -> np.ndarray:
    """Return ``(H, W, 3)``, of one channel, too."""
    return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image


def _gray(image: np.ndarray) -> np.ndarray:
    """Return an image without its colors."""
    gray = _colors(image) @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.repeat(np.clip(gray, 0, 1)[..., None], 3, axis=-1)
