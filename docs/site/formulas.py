"""Markdown as GitHub and docstrings have it: formulas, which become MathML here, and doctests."""

import re
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
        '<mo>&#x0005E;</mo></mover></mrow></math>'
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


_FENCE = re.compile(r"^( *)(`{3,})(\w*)\n(.*?)^ *\2 *$", re.DOTALL | re.MULTILINE)
_DIRECTIVE = re.compile(r"^( *)\.\. math::(.*(?:\n\1 +\S.*)*)", re.MULTILINE)
_DOCTEST = re.compile(r"^( *)>>> .*(?:\n\1\S.*|\n\1 +\S.*)*", re.MULTILINE)


class _Blocks(Preprocessor):
    def run(self, lines: list[str]) -> list[str]:
        text, done, at = "\n".join(lines), "", 0
        for fence in _FENCE.finditer(text):
            indent, _, kind, code = fence.groups()
            done += self._prose(text[at : fence.start()])
            done += self._display(indent, code) if kind == "math" else fence.group(0)
            at = fence.end()
        return (done + self._prose(text[at:])).split("\n")

    def _prose(self, text: str) -> str:
        text = _DIRECTIVE.sub(lambda found: self._display(*found.groups()), text)
        return _DOCTEST.sub(r"\1```pycon\n\g<0>\n\1```", text)

    def _display(self, indent: str, latex: str) -> str:
        # Kept aside until the page is done: Markdown must not read it.
        return f"{indent}{self.md.htmlStash.store(mathml(latex, 'block'))}\n"
