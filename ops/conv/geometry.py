"""The static side of a convolution: checks of shapes and hyper-parameters, and what they give."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax

from ..common.padding import Padding, is_int, resolve_windows

Impl = Callable[..., jax.Array]  # an implementation of a convolution, or of a gradient of it


class Axis(NamedTuple):
    """One spatial axis of a `Geometry`."""

    size: int
    window: int
    output: int
    stride: int
    dilation: int
    padding: tuple[int, int]


class Geometry(NamedTuple):
    """Hashable, as the parameters of a primitive must be; one entry per spatial axis."""

    size: tuple[int, ...]  # spatial shape of x
    window: tuple[int, ...]  # spatial shape of k
    output: tuple[int, ...]  # spatial shape of g
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]  # a negative number crops
    groups: int

    @property
    def axes(self) -> list[Axis]:
        """Return the same, axis by axis."""
        lists = self.size, self.window, self.output, self.stride, self.dilation, self.padding
        return [Axis(*each) for each in zip(*lists, strict=True)]


def resolve_conv(
    name: str,
    x_shape: Sequence[int],
    kernel_shape: Sequence[int],
    stride: int | Sequence[int],
    padding: Padding,
    dilation: int | Sequence[int],
    groups: int,
) -> Geometry:
    """Check the shapes and hyper-parameters that function `name` was given for a convolution."""
    check_shapes(name, x_shape, kernel_shape, groups)
    size, window = tuple(x_shape[1:-1]), tuple(kernel_shape[:-2])
    windows = resolve_windows(name, size, window, stride=stride, padding=padding, dilation=dilation)
    return Geometry(size, window, groups=groups, **windows._asdict())


def check_shapes(
    name: str, x_shape: Sequence[int], kernel_shape: Sequence[int], groups: int
) -> None:
    """Raise ValueError unless ranks, channels and groups fit together."""
    x, kernel = tuple(x_shape), tuple(kernel_shape)
    got = f"got x {x} and kernel {kernel} with groups={groups!r}"
    if len(x) != len(kernel) or len(x) not in (3, 4, 5):
        raise ValueError(
            f"{name}: wrong rank: {got}, need x (N, *spatial, Ci) and kernel (*window, "
            f"Ci // groups, Co) with the same one to three spatial axes; write x[None] if the "
            f"batch axis is missing, x[..., None] if the channel axis is"
        )
    Ci, Cg, Co = x[-1], kernel[-2], kernel[-1]
    if not is_int(groups) or groups < 1 or Co % groups:
        raise ValueError(
            f"{name}: bad groups: {got}, need a positive int that divides Co={Co}; write groups=1 "
            f"for a full convolution"
        )
    if Ci != Cg * groups:
        if x[1] == Cg * groups:
            remedy = "x looks channels first, write jnp.moveaxis(x, 1, -1)"
        elif Ci % groups:
            remedy = "choose groups that divide Ci"
        else:
            remedy = f"make the kernel {(*kernel[:-2], Ci // groups, Co)}"
        raise ValueError(
            f"{name}: channels do not match: {got}, need x.shape[-1] == kernel.shape[-2] * groups; "
            f"{remedy}"
        )


class Parts(NamedTuple):
    """Of something that is cut."""

    number: int
    size: int


def split_evenly(total: int, most: int) -> Parts:
    """Return the fewest equal parts of at most so many, and their size.

    Together they may exceed the total.

    Example:
        >>> split_evenly(10, 4)
        Parts(number=3, size=4)
        >>> split_evenly(10, 0)
        Parts(number=10, size=1)
    """
    number = -(-total // max(most, 1))
    return Parts(number, -(-total // number))


class Cropped(NamedTuple):
    """A convolution without the outer taps of its window that meet padding alone."""

    geometry: Geometry
    kept: tuple[slice, ...]  # of the window, for each axis
    left_out: tuple[tuple[int, int], ...]  # how many taps before and behind, for each axis


def crop_window(geometry: Geometry) -> Cropped:
    """Leave out the outer taps that meet no element of the image, wherever the window is.

    The 3x3 window on a 1x1 image with a padding of one has one tap left.

    Example:
        >>> cropped = crop_window(resolve_conv("", (1, 1, 4, 8), (3, 3, 8, 8), 1, "SAME", 1, 1))
        >>> cropped.geometry.window, cropped.geometry.padding, cropped.left_out
        ((1, 3), ((0, 0), (1, 1)), ((1, 1), (0, 0)))
    """
    spans = [_met_taps(axis) for axis in geometry.axes]
    left_out = tuple((lo, w - hi) for (lo, hi), w in zip(spans, geometry.window, strict=True))
    padding = tuple(
        (low - d * before, high - d * behind)
        for (low, high), d, (before, behind) in zip(
            geometry.padding, geometry.dilation, left_out, strict=True
        )
    )
    window = tuple(hi - lo for lo, hi in spans)
    kept = tuple(slice(lo, hi) for lo, hi in spans)
    return Cropped(geometry._replace(window=window, padding=padding), kept, left_out)


def _met_taps(axis: Axis) -> tuple[int, int]:
    """Return the first tap that meets an element in some position, and the one behind the last."""
    i, w, o, s, d, (low, _) = axis

    def meets(u: int) -> bool:
        """Return whether s position + d u - low is in the image for one of the positions."""
        first, last = -((d * u - low) // s), (i - 1 + low - d * u) // s
        return max(first, 0) <= min(last, o - 1)

    met = [u for u in range(w) if meets(u)]
    return (met[0], met[-1] + 1) if met else (0, w)


def window_slices(geometry: Geometry) -> list[list[slice]]:
    """Return, for each axis and each tap on it, the slice of a padded x that the tap meets."""
    return [
        [slice(d * u, d * u + (o - 1) * s + 1, s) for u in range(w)]
        for _, w, o, s, d, _ in geometry.axes
    ]
