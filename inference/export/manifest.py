"""Share between writing a bundle and verifying one: its manifest, its errors."""

from collections.abc import Collection

import jax.export

from ...training.common.errors import ConvaxError

FORMAT = 1
MANIFEST = "manifest.json"
PLATFORMS = ("cpu", "cuda", "tpu")


class BundleError(ConvaxError, ValueError):
    """A bundle cannot be made, or is not what was made; one line."""


def runs_here(platforms: Collection[str]) -> bool:
    """Return whether what is made for these platforms runs on this machine."""
    return jax.export.default_export_platform() in platforms
