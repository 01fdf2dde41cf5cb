"""How the figures of a run are drawn: numbers in, matplotlib figures out; see `report.figures`.

Matplotlib is imported when the first figure is drawn, is used through its objects alone, and
leaves no trace in the caller's settings.
"""

import io
import math
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..common import atomic_io
from ..common.text import text_of_name
from .fonts import families, quiet_fonts, tell_lacking
from .pictures import drawn, pictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"  # Okabe and Ito: told apart by everyone
COLORS = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#E69F00", "#000000")
INK, GRAY, LIGHT, PALE = "#222222", "#707070", "#B0B0B0", "#E9EDF1"
TALLEST = 3  # times as high as wide: taller images are drawn narrower
MOST_CLASSES_WITH_COUNTS = 30  # beyond, the colors of a confusion matrix must do
STYLE = {
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$"
    "axes.edgecolor": LIGHT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "grid.color": "#E8E8E8",
    "xtick.color": LIGHT,
    "ytick.color": LIGHT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "image.interpolation": "nearest",
    "savefig.dpi": 150,
}


@contextmanager
def style() -> Iterator[None]:
    """Apply our settings over matplotlib's defaults, whatever the user's are, within the block."""
    from matplotlib import style as styles

    settings = STYLE | {"font.family": families()}
    with styles.context(settings, after_reset=True), warnings.catch_warnings(), quiet_fonts():
        # `write` says once which characters are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def write(figure: "Figure", path: Path) -> Path:
    """Write a figure as PNG; it replaces the old one in one go."""
    path.parent.mkdir(exist_ok=True)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    tell_lacking(figure)
    atomic_io.atomic_write(path, content.getvalue())
    return path


def curves(
    series: Mapping[str, Mapping[str, np.ndarray]],
    *,
    error: str = "error rate",
    best_step: int | None,
    title: str,
    subtitle: str,
) -> "Figure":
    """Plot loss, error rate and learning rate over the steps.

    Args:
        series: the columns "step", "epoch", "loss", "error" and "learning_rate" of "train",
            "validation" and "test".
        error: what the "error" is called.
        best_step: where the best checkpoint is.
        title, subtitle: what stands above.
    """
    train = series["train"]
    figure = titled_figure(8.5, 6.8, title, subtitle)
    panels = figure.subplots(3, 1, sharex=True, height_ratios=(4, 4, 1.5))
    for ax, name, unit in zip(panels, ("loss", "error"), ("", "%"), strict=False):
        draw_curve(ax, series, name, best_step, unit)
    panels[0].set_title("loss")
    panels[1].set_title(error)
    if panels[0].get_legend_handles_labels()[0]:
        panels[0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, borderaxespad=0.2)

    rate = panels[2]
    own = len(train["step"]) and not np.isfinite(train["learning_rate"]).any()
    rate.set_title("learning rate: the optimizer's own" if own else "learning rate")
    rate.plot(train["step"], train["learning_rate"], color=GRAY, linewidth=1.2)
    rate.set_ylim(bottom=0)
    rate.set_xlim(left=0)
    rate.locator_params(axis="y", nbins=3)
    rate.yaxis.set_major_formatter("{x:.6g}")
    rate.xaxis.set_major_formatter("{x:,.0f}")
    rate.xaxis.get_major_locator().set_params(integer=True)
    rate.set_xlabel(_steps_and_epochs(train))
    return figure


def draw_curve(ax: "Axes", series, name: str, best_step: int | None, unit: str) -> None:
    """Draw one metric of training, validation and test, as `curves` has them."""
    factor = 100 if unit else 1
    values = {kind: factor * columns[name] for kind, columns in series.items()}
    limits = log_limits(np.concatenate(list(values.values())))
    floor = limits[0] if limits else -math.inf
    looks = {
        "train": {"color": BLUE, "alpha": 0.45, "linewidth": 0.9},
        "validation": {"color": ORANGE, "linewidth": 1.4, "marker": "o", "markersize": 3.5},
        "test": {
            "color": GREEN,
            "linestyle": "none",
            "marker": "D",
            "markersize": 7,
            "markeredgecolor": "w",
        },
    }
    if best_step is not None:
        ax.axvline(
            best_step, color=LIGHT, linewidth=1, linestyle=(0, (4, 3)), label="best checkpoint"
        )
    for kind, look in looks.items():
        steps, y = series[kind]["step"], np.maximum(values[kind], floor)
        if len(steps) == 1:
            look |= {"marker": look.get("marker", "o"), "alpha": 1}
        elif len(steps) > 60:
            look |= {"marker": ""}
        if len(steps):
            ax.plot(steps, y, label=kind, clip_on=False, zorder=3, **look)
    ax.grid(axis="y")
    if limits:
        _log_axis(ax, limits, unit, any((v == 0).any() for v in values.values()))
    else:
        ax.yaxis.set_major_formatter(f"{{x:.6g}}{unit}")


def confusion(
    counts: np.ndarray,
    shares: np.ndarray,
    classes: Sequence[str],
    *,
    title: str,
    subtitle: str,
) -> "Figure":
    """Plot a confusion matrix in which errors alone are colored.

    Args:
        counts: ``(K, K)``, of the true class (row) taken for another (column).
        shares: the same as shares of the row, NaN on the diagonal.
        classes: the K names.
        title, subtitle: what stands above.
    """
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm

    K = len(classes)
    few = K <= MOST_CLASSES_WITH_COUNTS
    side = max(4.2, 0.44 * K) if few else 10.0
    names = [shortened(name, 20 if few else 14) for name in classes]
    size = min(9.5, max(5.5, 0.75 * 72 * side / K))
    length = 0.0083 * size * max(map(len, names))  # of the longest name, in inches
    turned = length > 0.9 * side / K
    figure = titled_figure(side + length + 2.4, side + turned * length + 0.6, title, subtitle)
    ax = figure.subplots()
    colors = LinearSegmentedColormap.from_list("errors", ["white", "#FDBF6F", ORANGE, "#67001F"])
    # No less than 10% is the darkest, so that a good network looks like one; and the square root
    # lets an error be seen beside one a hundred times as common.
    worst = max(0.1, np.nanmax(shares, initial=0))
    norm = PowerNorm(0.5, 0, worst)
    image = ax.imshow(shares, cmap=colors.with_extremes(bad=PALE), norm=norm)
    ax.set_xlabel("taken for")
    ax.set_ylabel("true class")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0, labelsize=size)
    shown = range(0, K, math.ceil(K * 7 / (72 * side)))
    ax.set_xticks(shown, [names[i] for i in shown], rotation=90 if turned else 0)
    ax.set_yticks(shown, [names[i] for i in shown])
    if few:
        _write_counts(ax, counts, shares / worst)
    ticks = [0.0, *log_ticks(worst / 40, worst, most=5)]
    bar = figure.colorbar(image, ax=ax, shrink=0.5, aspect=28, panchor=False, ticks=ticks)
    bar.ax.set_yticklabels([f"{100 * tick:g}%" for tick in ticks])
    bar.set_label("share of the true class")
    bar.outline.set_visible(False)
    return figure


def mistakes(
    images: np.ndarray,
    captions: Sequence[str],
    *,
    title: str,
    subtitle: str,
    columns: int | None = None,
    cell: float = 1.45,
) -> "Figure":
    """Plot images with a caption each.

    Args:
        images: ``(N, H, W, C)``, uint8 or of another format: see `pictures`.
        captions: N texts of one or two lines.
        title, subtitle: what stands above.
        columns: how many stand in a row; so many that they fill a square, if left out.
        cell: how wide each is, in inches.
    """
    said = drawn(images.shape[-1], images.dtype.name)
    subtitle = f"{subtitle}; {said}" if said else subtitle
    images = pictures(images)
    images = images if images.shape[-1] == 3 else images[..., 0] / 255
    lines = 1 + max(caption.count("\n") for caption in captions)
    room = (0.15 * lines + 0.12) / cell
    columns = columns or min(6, max(4, math.ceil(math.sqrt(len(images)))))
    figure, ax = tiled(images, columns, cell, (0.14, room), title, subtitle)
    _, high = tile_size(images.shape[1:])
    for index, caption in enumerate(captions):
        x, y = tile_corner(index, columns, high, (0.14, room))
        ax.text(x, y + high + 0.02, caption, fontsize=8, va="bottom", linespacing=1.15)
    return figure


def kernels(images: np.ndarray, *, title: str, subtitle: str) -> "Figure":
    """Plot kernels on one common scale: zero is white, or mid-gray where they are in color.

    Args:
        images: ``(N, KH, KW, C)``; other than one or three channels are averaged.
        title, subtitle: what stands above.
    """
    color = images.shape[-1] == 3
    tiles = images if color else images.mean(axis=-1)
    largest = float(np.abs(tiles).max()) or 1.0
    if color:
        tiles, look = 0.5 + tiles / (2 * largest), {}
    else:
        look = {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest}
    fewest = max(6, math.ceil(math.sqrt(len(images))))
    columns = min(range(fewest, 2 * fewest + 1), key=lambda c: -len(images) % c)  # full rows
    cell = max(0.6, min(1.2, 9 / columns))
    figure, ax = tiled(tiles, columns, cell, (0.1, 0.1), title, subtitle, **look)
    if look:
        bar = figure.colorbar(ax.images[0], ax=ax, aspect=20, panchor=False)
        bar.outline.set_visible(False)
    return figure


def color_of(index: int, count: int) -> Any:
    """Return the color of one of `count` lines: by name while those suffice, then by scale."""
    if count <= len(COLORS):
        return COLORS[index]
    from matplotlib import colormaps

    return colormaps["viridis"](0.95 * index / (count - 1))


def log_limits(values: np.ndarray) -> tuple[float, float] | None:
    """Return the ends of a logarithmic axis, or None where a linear one reads better.

    Logarithmic from a factor of 10 between the positive values upwards; the lower end leaves
    room below the smallest, for a zero to be drawn there.
    """
    positive = values[np.isfinite(values) & (values > 0)]
    if not positive.size or positive.max() < 10 * positive.min():
        return None
    return float(positive.min()) / 2, float(positive.max()) * 1.3


def log_ticks(low: float, high: float, most: int = 10) -> list[float]:
    """Round numbers between the ends: 1, 2, 5 of each decade, or fewer where those are too many."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits, every in ((1, 2, 5), 1), *(((1,), n) for n in range(1, len(decades) + 1)):
        candidates = [float(f"{d}e{k}") for k in decades[::every] for d in digits]
        ticks = [tick for tick in candidates if 1.2 * low < tick <= high]
        if len(ticks) <= most:
            return ticks
    return []


def shortened(text: str, width: int) -> str:
    """Shorten text to one line of at most `width` characters."""
    line = " ".join(text_of_name(text).split())
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"


def titled_figure(width: float, height: float, title: str, subtitle: str) -> "Figure":
    """Make an empty figure of so many inches, with room for a title on top of that."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    titles = textwrap.wrap(text_of_name(title), int(8 * width) - 1)
    lines = textwrap.wrap(text_of_name(subtitle), int(13 * width) - 1, break_on_hyphens=False)
    below = 0.19 + 0.23 * len(titles)
    room = below + 0.17 * len(lines) + 0.06
    height += room
    figure = Figure((width, height))
    FigureCanvasAgg(figure)
    rect = (0, 0, 1, 1 - room / height)
    figure.set_layout_engine("constrained", rect=rect, w_pad=0.12, h_pad=0.08)
    left, top = 0.15 / width, 1 - 0.14 / height
    figure.text(left, top, "\n".join(titles), va="top", fontsize=13, weight="bold")
    figure.text(left, 1 - below / height, "\n".join(lines), va="top", color=GRAY)
    return figure


def log_x(ax: "Axes") -> None:
    """Make the axis of x logarithmic, once all is drawn, with labels of plain text.

    Matplotlib's own are formulas, which `style` has nobody read.
    """
    from matplotlib.ticker import FixedLocator, NullLocator

    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(log_ticks(*ax.get_xlim())))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(NullLocator())


def _log_axis(ax: "Axes", limits: tuple[float, float], unit: str, zeros: bool) -> None:
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    ax.set_yscale("log")
    ax.set_ylim(*limits)
    ticks = log_ticks(*limits)
    labels = [f"{tick:g}{unit}" for tick in ticks]
    if zeros:
        room = limits[0] * (limits[1] / limits[0]) ** 0.1  # what the label of zero takes
        ticks = [limits[0], *(tick for tick in ticks if tick > room)]
        labels = [f"0{unit}", *(f"{tick:g}{unit}" for tick in ticks[1:])]
    ax.yaxis.set_major_locator(FixedLocator(ticks))
    ax.yaxis.set_major_formatter(FixedFormatter(labels))
    ax.yaxis.set_minor_locator(NullLocator())


def _steps_and_epochs(train: Mapping[str, np.ndarray]) -> str:
    if not len(train["step"]) or not train["epoch"][-1] > 0:
        return "step"
    return f"step  ({train['step'][-1] / train['epoch'][-1]:,.4g} make an epoch)"


def _write_counts(ax: "Axes", counts: np.ndarray, darkness: np.ndarray) -> None:
    """Write the count into each cell, and beside each row its share of correct predictions."""
    K = len(counts)
    digits = len(str(counts.max()))
    size = min(9.5, 36 / max(digits, 1))
    for i, j in zip(*np.nonzero(counts), strict=True):
        color = "white" if darkness[i, j] > 0.45 else INK
        ax.text(j, i, f"{counts[i, j]}", ha="center", va="center", size=size, color=color)
    for edge in np.arange(K + 1) - 0.5:
        ax.axhline(edge, color=PALE, linewidth=0.6)
        ax.axvline(edge, color=PALE, linewidth=0.6)
    right = ax.secondary_yaxis("right")
    totals = counts.sum(axis=1)
    shares = [f"{c / n:.1%}" if n else "none" for c, n in zip(np.diag(counts), totals, strict=True)]
    right.set_yticks(range(K), shares)
    right.tick_params(length=0, labelcolor=GRAY)
    right.spines[:].set_visible(False)
    right.set_ylabel("right answers", color=GRAY)


def tile_size(shape: Sequence[int]) -> tuple[float, float]:
    """Return how wide and high an image ``(H, W, ...)`` is drawn, in units of its cell's width.

    Example:
        >>> tile_size((4, 400)), tile_size((30, 1))
        ((1.0, 0.01), (0.1, 3.0))
    """
    aspect = shape[0] / shape[1]
    high = min(aspect, float(TALLEST))
    return high / aspect, high


def tile_corner(
    index: int, columns: int, high: float, gap: tuple[float, float]
) -> tuple[float, float]:
    """Return the lower left corner of a tile, in units of a cell's width, rows going down."""
    row, column = divmod(index, columns)
    return column * (1 + gap[0]), -row * (high + gap[1])


def tiled(
    tiles: np.ndarray,
    columns: int,
    cell: float,
    gap: tuple[float, float],
    title: str,
    subtitle: str,
    **look: Any,
) -> tuple["Figure", "Axes"]:
    """Plot images in rows of cells `cell` inches wide; the gaps are in units of that."""
    tile_wide, tile_high = tile_size(tiles.shape[1:])
    rows = math.ceil(len(tiles) / columns)
    wide, high = columns * (1 + gap[0]), rows * (tile_high + gap[1]) + gap[1]
    margin = 1.1 if look else 0.3  # a color bar tells what a look of its own means
    figure = titled_figure(cell * wide + margin, cell * high + 0.1, title, subtitle)
    ax = figure.subplots()
    look = {"cmap": "gray", "vmin": 0, "vmax": 1} | look
    for index, tile in enumerate(tiles):
        x, y = tile_corner(index, columns, tile_high, gap)
        ax.imshow(tile, extent=(x, x + tile_wide, y, y + tile_high), **look)
    ax.set_xlim(0, wide - gap[0])
    ax.set_ylim(-(rows - 1) * (tile_high + gap[1]), tile_high + gap[1])
    ax.set_anchor("NW")
    ax.axis("off")
    return figure, ax
