"""Fonts for names in any script: DejaVu Sans, and what the system has for what that lacks."""

import logging
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAIN = "DejaVu Sans"  # matplotlib brings it: Latin, Greek, Cyrillic, Arabic, Hebrew, ...
# Others by name, as Linux, macOS and Windows have them; the first that has a character draws it.
FALLBACKS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK TC", "Noto Sans CJK KR"),
    *("Source Han Sans SC", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback"),
    *("PingFang SC", "Hiragino Sans", "Heiti TC", "Apple SD Gothic Neo", "Arial Unicode MS"),
    *("Microsoft YaHei", "Yu Gothic", "MS Gothic", "Malgun Gothic", "Nirmala UI"),
    *("Leelawadee UI", "Segoe UI Symbol", "Segoe UI Emoji", "Noto Sans", "Noto Sans Devanagari"),
    *("Noto Sans Bengali", "Noto Sans Tamil", "Noto Sans Telugu", "Noto Sans Thai"),
    *("Noto Sans Ethiopic", "Noto Sans Khmer", "Noto Sans Sinhala", "Noto Sans Symbols2"),
    *("Noto Emoji", "Symbola", "FreeSans", "FreeSerif", "Unifont"),
)
_LOG = logging.getLogger(__name__)
_EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "FULLWIDTH")
_told: set[str] = set()


@cache
def families() -> list[str]:
    """Return the fonts to draw text with, the first first; all of them are installed."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return [MAIN, *(name for name in FALLBACKS if name in installed)]


@contextmanager
def quiet_fonts() -> Iterator[None]:
    """Keep matplotlib from telling, within the block, that a fallback font has no bold face."""
    log = logging.getLogger("matplotlib.font_manager")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def lacking(texts: Iterable[str]) -> str:
    """Return the characters that no font of `families` has, in order."""
    wanted = {ord(c) for text in texts for c in text if c.isprintable()}
    for family in families():
        if wanted:
            wanted -= _characters(family)
    return "".join(map(chr, sorted(wanted)))


def hint(characters: str) -> str:
    """Say which characters are drawn as boxes, and what to install."""
    from matplotlib import get_cachedir
    from matplotlib.font_manager import FontManager

    shown = characters if len(characters) <= 10 else f"{characters[:10]} ..."
    packages = sorted({_package(c) for c in characters})
    kept = Path(get_cachedir()) / f"fontlist-v{FontManager.__version__}.json"
    return (
        f"figures: boxes in place of {shown}, which no font here has; install one (Debian, Ubuntu: "
        f"apt install {' '.join(packages)}), remove {kept}, and draw again: convax report RUN"
    )


def tell_lacking(figure: "Figure") -> None:
    """Log, once for the same characters, what of the text in a figure that was drawn is boxes."""
    from matplotlib.text import Text

    found = lacking(text.get_text() for text in figure.findobj(Text))  # type: ignore[attr-defined]
    if found and found not in _told:
        _told.add(found)
        _LOG.warning(hint(found))


def file_for(text: str) -> str:
    """Return the file of the first font of `families` that has all of a text, or of the main one.

    For whoever draws without matplotlib, with one font for a text.
    """
    from matplotlib.font_manager import FontProperties, findfont

    wanted = {ord(c) for c in text if c.isprintable()}
    fitting = (family for family in families() if wanted <= _characters(family))
    return findfont(FontProperties(family=next(fitting, MAIN)))


@cache
def _characters(family: str) -> set[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return set(get_font(findfont(FontProperties(family=family))).get_charmap())


def _package(character: str) -> str:
    if unicodedata.name(character, "").startswith(_EAST_ASIAN):
        return "fonts-noto-cjk"
    return "fonts-symbola" if unicodedata.category(character) == "So" else "fonts-noto-core"
