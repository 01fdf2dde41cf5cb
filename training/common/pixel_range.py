"""Which values of an image's pixels count as 0 and as 1, by their dtype."""

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

PixelType: TypeAlias = Literal["uint8", "uint16", "float32"]
RANGES: dict[str, tuple[float, float]] = {"uint8": (0.0, 255.0), "uint16": (0.0, 65535.0)}


def pixel_range(dtype: str, given: Sequence[float] | None) -> tuple[float, float]:
    """Return the least and the largest value of pixels of a dtype: those given, or all of it.

    Raises:
        ValueError: there is no such dtype; floating point without a range; or no range of it.

    Example:
        >>> pixel_range("uint16", None), pixel_range("uint16", [0, 4095])
        ((0.0, 65535.0), (0.0, 4095.0))
    """
    if dtype not in (*RANGES, "float32"):
        raise ValueError(f"dtype: got {dtype}, need uint8, uint16 or float32")
    if given is None:
        if dtype == "float32":
            raise ValueError(
                "value_range: missing; values of float32 need the least and the largest that they "
                "can have, e.g. value_range = [0.0, 1.0]"
            )
        return RANGES[dtype]
    low, high = map(float, given)
    least, most = RANGES.get(dtype, (-math.inf, math.inf))
    if not (least <= low < high <= most and math.isfinite(high - low)):
        raise ValueError(
            f"value_range: got [{low:g}, {high:g}], need two values of {dtype}, the lower one first"
        )
    if dtype != "float32" and not (low.is_integer() and high.is_integer()):
        raise ValueError(f"value_range: got [{low:g}, {high:g}], need whole numbers for {dtype}")
    if dtype == "uint8" and (low, high) != (least, most):
        raise ValueError("value_range: bytes are 0 to 255; leave it out")
    return low, high
