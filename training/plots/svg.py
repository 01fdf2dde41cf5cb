"""Charts as SVG that takes its colors from the page it stands on, for light and dark."""

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from . import figures
from .attempt import attempt
from .figures import BLUE, GRAY, GREEN, INK, LIGHT, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What a color of a figure is called in the page's stylesheet.
NAMES = {
    BLUE: "--blue",
    ORANGE: "--orange",
    GREEN: "--green",
    INK: "--ink",
    GRAY: "--quiet",
    LIGHT: "--edge",
    figures.STYLE["grid.color"]: "--line",
    "#ffffff": "--card",
}


class Chart(NamedTuple):
    """A chart, and in words what it shows."""

    title: str
    svg: str  # an <svg> element; text in it is escaped
    alt: str


def chart_of(title: str, draw: Callable[["Axes"], None], alt: str, height: float = 3.1) -> Chart:
    """Return an <svg> element of the figure that `draw` draws into the axes.

    One that cannot be drawn is a warning, and says so in its place.

    Args:
        title: what stands above.
        draw: is given the axes.
        alt: what the chart shows, in words.
        height: in inches; it is 4.2 wide.
    """
    return attempt(title, lambda: _chart(title, draw, alt, height), Chart(title, _MISSING, alt))


_MISSING = (
    '<svg viewBox="0 0 302 30" aria-hidden="true" focusable="false">'
    '<text x="4" y="20" font-size="10">could not be drawn</text></svg>'
)


def _chart(title: str, draw: Callable[["Axes"], None], alt: str, height: float) -> Chart:
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # Text stays text; what is defined in one chart has other names than in the next.
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": title, "font.size": 10.5}
    content = io.StringIO()
    with figures.style(), rc_context(settings):
        figure = Figure((4.2, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.subplots())
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    return Chart(title, _inline(content.getvalue()), alt)


def _inline(svg: str) -> str:
    """Make an SVG file an element of a page, in its colors, hidden from a screen reader."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<g) id="[^"]*"', r"\1", svg)  # the same in each chart
    box = re.search(r'viewBox="[^"]*"', svg)
    assert box is not None
    svg = re.sub(
        r"<svg[^>]*>", f'<svg {box[0]} aria-hidden="true" focusable="false">', svg, count=1
    )
    svg = svg.replace("xlink:href", "href")
    for color, name in NAMES.items():
        svg = re.sub(rf"(?<=: ){color}\b", f"var({name})", svg, flags=re.IGNORECASE)
    return svg.strip()
