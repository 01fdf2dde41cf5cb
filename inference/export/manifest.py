"""Share between writing a bundle and verifying one: its manifest, its errors."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import jax.export
import jax.numpy as jnp
import numpy as np

from ...training.common.errors import ConvaxError

# Of one output; of several; of several inputs: older releases cannot verify the later ones.
FORMATS = (1, 2, 3)
MANIFEST = "manifest.json"
PLATFORMS = ("cpu", "cuda", "tpu")


class BundleError(ConvaxError, ValueError):
    """A bundle cannot be made, or is not what was made; one line."""


def runs_here(platforms: Collection[str]) -> bool:
    """Return whether what is made for these platforms runs on this machine."""
    return jax.export.default_export_platform() in platforms


def format_of(inputs: Collection[Any], outputs: Collection[Any]) -> int:
    """Return the format of a bundle whose program has these inputs and outputs."""
    if len(inputs) > 1:
        return 3
    return 1 if len(outputs) == 1 else 2


def input_names(about: Mapping[str, Any]) -> list[str]:
    """Return the names of what the program takes, in its order; so the self-test has them.

    Args:
        about: of about.json; one of before it listed inputs has images alone.
    """
    return [each["name"] for each in about.get("inputs", ())] or ["images"]


def expected_keys(about: Mapping[str, Any]) -> dict[str, str]:
    """Return where the self-test has what is expected of each output, by the output's name.

    Args:
        about: of about.json; one of before it listed outputs stands for one output.
    """
    names = [output["name"] for output in about.get("outputs", ())]
    if len(names) < 2:
        return dict.fromkeys(names or ["predictions"], "expected")
    return {name: f"expected.{name}" for name in names}


def allowed_difference(outputs: Iterable[np.ndarray], scale: float) -> float:
    """Return by how much what a network says elsewhere may differ: devices round differently.

    Args:
        outputs: what it says; a coarse dtype rounds more.
        scale: of what is compared, see `training.tasks.spec.Comparison`.

    Example:
        >>> allowed_difference([np.zeros(2, np.float32)], 2.0)
        0.002
    """
    floating = [each.dtype for each in outputs if jnp.issubdtype(each.dtype, jnp.floating)]
    coarsest = max((float(jnp.finfo(dtype).eps) for dtype in floating), default=0.0)
    return max(1e-3, 8 * coarsest) * max(scale, 1e-3)
