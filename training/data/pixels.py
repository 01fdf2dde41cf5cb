"""The format of an image's pixels: how many channels, of which numbers, in which range.

One `PixelFormat` says what files are read as, what arrays in memory hold, what the card of a run
keeps, and what a trained network takes. A value v of a pixel is, to all that comes after reading,

    u = (v - low) / (high - low), in [0, 1]:

statistics, normalization and augmentation know nothing else of the format. Nothing is cut to fewer
bits, and no value outside of the range is let in: both are errors.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ..common.pixel_range import RANGES, PixelType, pixel_range
from .errors import DataError
from .placement import margin

_HAIR = 1e-5  # a few hundredths of a step of 1 / 255 are thousands of roundings of float32


class FormatError(DataError):
    """An image, whole as it may be, is of another format than the one that is read."""


class PixelFormat(NamedTuple):
    """How many channels an image has, what its values are, and which of them are 0 and 1.

    Attributes:
        channels: 1 is gray, 3 is red, green, blue; others are whatever they are.
        dtype: of the values.
        low, high: which value counts as 0, and which as 1.
    """

    channels: int
    dtype: PixelType = "uint8"
    low: float = 0.0
    high: float = 255.0

    @property
    def is_photograph(self) -> bool:
        """Return whether it is what viewers show: bytes, gray or in color.

        Any image file is brought to these: palettes, transparency and colors are converted. All
        other formats are read as they are stored.
        """
        return self.dtype == "uint8" and self.channels in (1, 3)

    @property
    def margin(self) -> float:
        """Return the value of a canvas beside an image."""
        value = self.low + (self.high - self.low) * (margin(self.channels) / 255)
        return value if self.dtype == "float32" else round(value)

    def __str__(self) -> str:
        channels = f"{self.channels} channel{'s' if self.channels > 1 else ''}"
        return f"{channels} of {self.dtype} in {self.low:.10g} to {self.high:.10g}"

    def blank(self, *shape: int) -> np.ndarray:
        """Return images of this shape, all of the least value."""
        return np.full(shape, self.low, self.dtype)

    def unit(self, values: Any, numbers: Any = np) -> Any:
        """Return values of this format in [0, 1], float32; other floating-point ones are in it.

        Args:
            values: an array of `dtype`; or, unless that is float32, floating point in [0, 1].
            numbers: NumPy or `jax.numpy`, whichever the array is of.
        """
        if self.dtype != "float32" and numbers.issubdtype(values.dtype, numbers.floating):
            return values.astype(numbers.float32)
        x = values.astype(numbers.float32)
        if self.low:
            x = x - numbers.float32(self.low)
        return x / numbers.float32(self.high - self.low)

    def inverted(self, values: np.ndarray) -> np.ndarray:
        """Swap black and white of values that `unit` takes."""
        if self.dtype != "float32" and values.dtype.kind == "f":
            return 1 - values
        return (self.low + self.high - values).astype(values.dtype)


Channels: TypeAlias = int | PixelFormat  # a number is of bytes
GRAY, COLOR = PixelFormat(1), PixelFormat(3)


def pixel_format(
    channels: int, dtype: PixelType = "uint8", value_range: Sequence[float] | None = None
) -> PixelFormat:
    """Make the format of ``[data]``.

    Args:
        channels: 1 or more.
        dtype: of the values in files.
        value_range: the values that are 0 and 1; by default all of the dtype, which floating point
            has none of.

    Raises:
        DataError: there is no such format; names the key.

    Example:
        >>> str(pixel_format(5, "uint16"))
        '5 channels of uint16 in 0 to 65535'
    """
    if isinstance(channels, bool) or channels < 1:
        raise DataError(f"data.channels: got {channels}, need 1 (gray), 3 (color) or another count")
    try:
        return PixelFormat(channels, dtype, *pixel_range(dtype, value_range))
    except ValueError as error:
        raise DataError(f"data.{error}") from None


def format_of(channels: Channels) -> PixelFormat:
    """Return the format itself; of a number of channels, that of bytes.

    Raises:
        DataError: a number of channels that photographs do not have.
    """
    if isinstance(channels, PixelFormat):
        return channels
    if channels not in (1, 3):
        raise DataError(f"channels: got {channels}, need 1 (gray), 3 (color) or a PixelFormat")
    return PixelFormat(channels)


def check_values(values: np.ndarray, pixels: PixelFormat) -> None:
    """Raise a FormatError where values of a format are not in its range."""
    if not values.size or (pixels.low, pixels.high) == RANGES.get(pixels.dtype):
        return
    low, high = values.min(), values.max()
    if not (pixels.low <= low <= high <= pixels.high):  # NaN is nowhere
        found = f"values of {low:.6g} to {high:.6g}"
        if not np.isfinite(values).all():
            found = "values that are no finite numbers"
        raise FormatError(
            f"{found}, need {pixels.low:.10g} to {pixels.high:.10g}; correct data.value_range, or "
            "the values"
        )


def check_pixels(array: np.ndarray, pixels: PixelFormat) -> np.ndarray:
    """Return an array that a network of a format takes: values of it, or floating point in [0, 1].

    Of bytes and uint16, floating point is brought to float32; what rounding has left outside of
    [0, 1] by a hair, as resizing and arithmetic in half precision do, is brought back.

    Raises:
        TypeError: any other dtype.
        ValueError: values outside of the range.
    """
    floating = np.issubdtype(array.dtype, np.floating)
    if array.dtype == pixels.dtype or (floating and pixels.dtype == "float32"):
        array = array.astype(pixels.dtype, copy=False)
        try:
            check_values(array, pixels)
        except FormatError as error:
            raise ValueError(f"predict: images: {error}") from None
        return array
    if not floating:
        other = "float32" if pixels.dtype == "uint8" else "float32 in [0, 1]"
        need = "float32" if pixels.dtype == "float32" else f"{pixels.dtype} or {other}"
        raise TypeError(f"predict: wrong dtype: got {array.dtype}, need {need}")
    hair = max(float(np.finfo(array.dtype).eps), _HAIR)
    if array.size and not (array.min() >= -hair and array.max() <= 1 + hair):
        raise ValueError(
            f"predict: float images must lie in [0, 1]: got {array.min():.6g} to "
            f"{array.max():.6g}; pass {pixels.dtype}, or divide by {pixels.high:.10g}"
        )
    return np.clip(array.astype(np.float32), 0, 1)
