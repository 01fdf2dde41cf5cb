"""Share between writing a bundle and verifying one: its manifest, its errors."""

from collections.abc import Collection, Mapping
from typing import Any

import jax.export

from ...training.common.errors import ConvaxError

FORMATS = (1, 2)  # of one output, and of several, which older releases cannot verify
MANIFEST = "manifest.json"
PLATFORMS = ("cpu", "cuda", "tpu")


class BundleError(ConvaxError, ValueError):
    """A bundle cannot be made, or is not what was made; one line."""


def runs_here(platforms: Collection[str]) -> bool:
    """Return whether what is made for these platforms runs on this machine."""
    return jax.export.default_export_platform() in platforms


def format_of(outputs: Collection[Any]) -> int:
    """Return the format of a bundle whose program has these outputs."""
    return 1 if len(outputs) == 1 else 2


def expected_keys(about: Mapping[str, Any]) -> dict[str, str]:
    """Return where the self-test has what is expected of each output, by the output's name.

    Args:
        about: of about.json; one of before it listed outputs stands for one output.
    """
    names = [output["name"] for output in about.get("outputs", ())]
    if len(names) < 2:
        return dict.fromkeys(names or ["predictions"], "expected")
    return {name: f"expected.{name}" for name in names}
