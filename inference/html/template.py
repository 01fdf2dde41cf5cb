"""The pages that Jinja2 fills: HTML files beside this one."""

from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template


def template(name: str) -> "Template":
    """Load a page of this package. What it is given is escaped; what it lacks is an error."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files("convax.inference.html").joinpath(name)
    return environment.from_string(source.read_text(encoding="utf-8"))
