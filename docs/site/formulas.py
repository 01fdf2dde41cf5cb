"""Markdown as GitHub and docstrings have it: formulas, which become MathML here, and doctests."""

import re
from collections.abc import Callable
from typing import Any

from latex2mathml.converter import convert
from markdown import Extension, Markdown
from markdown.inlinepatterns import InlineProcessor
from markdown.preprocessors import Preprocessor
from mkdocs.exceptions import PluginError


def mathml(latex: str, display: str = "inline") -> str:
    r"""Return a formula as MathML, which browsers show without a script.

    Raises:
        PluginError: it is not valid, or has a command that the converter does not know.

    Example:
        >>> mathml(r"\hat x")[-40:]
        '<mi>x</mi><mo>&#x0005E;</mo></mover></mrow></math>'
    """
    latex = re.sub(r"\\text\{[^}]*\}", lambda text: text.group(0).replace(r"\_", "_"), latex)
    # Of what is tall the converter knows brackets alone.
    latex = re.sub(r"\\[bB]ig+[lr](?=\s*\\[lr](?:floor|ceil))", "", latex)
    if r"\\" in latex and r"\begin" not in latex:  # lines, as Sphinx takes them
        latex = rf"\begin{{split}}{latex}\end{{split}}"
    try:
        text = convert(latex.replace("{aligned}", "{split}"), display=display)
    except Exception as error:
        raise PluginError(f"formula {latex.strip()!r}: {error or type(error).__name__}") from error
    if unknown := re.findall(r"\\\w+|<mi>&</mi>", text):
        raise PluginError(f"formula {latex.strip()!r}: {unknown[0]} is not known")
    return text


class Formulas(Extension):
    """Formulas as GitHub has them and as Sphinx has them, and doctests."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 -- Markdown's name
        """Register what reads them, before code is looked for."""
        md.preprocessors.register(_Blocks(md), "formulas", 28)  # fences are looked for at 25
        md.inlinePatterns.register(_Inline(r"\$`([^`]+)`\$", md), "formulas", 195)  # code at 190
        md.inlinePatterns.register(_Inline(r":math:`([^`]+)`", md), "rst-formulas", 195)


class _Inline(InlineProcessor):
    def handleMatch(self, m: re.Match[str], data: str) -> Any:  # noqa: N802
        return self.md.htmlStash.store(mathml(m.group(1))), m.start(0), m.end(0)


_MATH_FENCE = re.compile(r"^( *)```math\n(.*?)\n *```$", re.DOTALL | re.MULTILINE)
_DIRECTIVE = re.compile(r"^( *)\.\. math::(.*(?:\n\1 +\S.*)*)", re.MULTILINE)
_DOCTEST = re.compile(r"^( *)>>> .*(?:\n\1\S.*|\n\1 +\S.*)*", re.MULTILINE)


class _Blocks(Preprocessor):
    def run(self, lines: list[str]) -> list[str]:
        text = "\n".join(lines)
        for pattern in (_MATH_FENCE, _DIRECTIVE):
            text = pattern.sub(self._display, text)
        return _outside_fences(text, lambda part: _DOCTEST.sub(_fenced, part)).split("\n")

    def _display(self, match: re.Match[str]) -> str:
        # Kept aside until the page is done: Markdown must not read it.
        kept = self.md.htmlStash.store(mathml(match.group(2), "block"))
        return f"{match.group(1)}{kept}\n"


def _fenced(match: re.Match[str]) -> str:
    indent = match.group(1)
    return f"{indent}```pycon\n{match.group(0)}\n{indent}```"


def _outside_fences(text: str, change: Callable[[str], str]) -> str:
    """Apply `change` to what stands outside ```` ``` ````."""
    parts = re.split(r"(^ *```.*?^ *```$)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if i % 2 else change(part) for i, part in enumerate(parts))
