"""Window arithmetic shared by convolution and pooling: strides, padding and output sizes.

Along one axis, an input of size i padded by (low, high) and a window of k taps that are d apart,
moved in steps of s, gives

    o = floor((i + low + high - d (k - 1) - 1) / s) + 1

outputs. In ceil mode the division is rounded up: a last window reaches beyond the padding, if it
begins inside the input or the padding before it. "VALID" pads nothing; "SAME" pads so that
o = ceil(i / s), an odd element on the high side;
"FULL" pads d (k - 1) on both sides, so that every window that meets the input counts.
Everything here works on shapes, never on arrays, and so costs nothing under jit.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Pairs = tuple[tuple[int, int], ...]
Padding = str | int | Sequence[int] | Sequence[tuple[int, int]]


class Windows(NamedTuple):
    """Where the windows lie, one entry per spatial axis: hashable, so a static argument."""

    stride: tuple[int, ...]
    padding: Pairs
    dilation: tuple[int, ...]
    output: tuple[int, ...]


def resolve_windows(
    name: str,
    size: Sequence[int],
    window: Sequence[int],
    *,
    stride: int | Sequence[int],
    padding: Padding,
    dilation: int | Sequence[int],
    ceil_mode: bool = False,
) -> Windows:
    """Check the hyper-parameters of function `name` and write them out per axis."""
    rank = len(size)
    if any(k < 1 for k in window):
        raise ValueError(
            f"{name}: the window is empty: got {tuple(window)}, need at least one element along "
            f"each axis; write a window such as {(3,) * rank}"
        )
    if any(i < 1 for i in size):
        raise ValueError(
            f"{name}: no elements: got spatial shape {tuple(size)}, need at least one element "
            f"along each axis; feed larger inputs"
        )
    strides = per_axis(name, "stride", stride, rank)
    dilations = per_axis(name, "dilation", dilation, rank)
    extent = tuple(d * (k - 1) + 1 for d, k in zip(dilations, window, strict=True))
    pads = padding_pairs(name, padding, size, extent, strides)
    output = tuple(
        _count(i, e, s, *pair, ceil_mode)
        for i, e, s, pair in zip(size, extent, strides, pads, strict=True)
    )
    if any(o < 1 for o in output):
        raise ValueError(
            f"{name}: the window is larger than the padded input: got window {extent} (dilation "
            f"counted in) on spatial shape {tuple(size)} with padding {pads}, need at least one "
            f"whole window per axis; write padding='SAME', a smaller window, or feed larger inputs"
        )
    return Windows(strides, pads, dilations, output)


def _count(size, extent, stride, low, high, ceil_mode):
    """Count the windows along one axis."""
    room = size + low + high - extent
    if not ceil_mode:
        return room // stride + 1
    output = -(-room // stride) + 1
    return output - ((output - 1) * stride >= size + low)


def per_axis(name: str, what: str, value: int | Sequence[int], rank: int) -> tuple[int, ...]:
    """Write `value` out as one positive int per spatial axis."""
    values = value if isinstance(value, Sequence) else (value,) * rank
    if len(values) != rank or not all(is_int(v) and v >= 1 for v in values):
        raise ValueError(
            f"{name}: bad {what}: got {value!r}, need a positive int, or {rank} of them, one per "
            f"spatial axis; write {what}={(1,) * rank}, for example"
        )
    return tuple(int(v) for v in values)


def padding_pairs(
    name: str,
    padding: Padding,
    size: Sequence[int],
    extent: Sequence[int],
    stride: Sequence[int],
) -> Pairs:
    """Write `padding` out as one pair (low, high) per axis, for windows of this `extent`."""
    rank = len(size)
    if isinstance(padding, str):
        if padding.upper() == "VALID":
            return ((0, 0),) * rank
        if padding.upper() == "SAME":
            axes = zip(size, extent, stride, strict=True)
            totals = [max((-(-i // s) - 1) * s + e - i, 0) for i, e, s in axes]
            return tuple((total // 2, total - total // 2) for total in totals)
        if padding.upper() == "FULL":
            return tuple((e - 1, e - 1) for e in extent)
    else:
        sides = padding if isinstance(padding, Sequence) else (padding,) * rank
        pairs = [side if isinstance(side, Sequence) else (side, side) for side in sides]
        if len(pairs) == rank and all(
            len(pair) == 2 and all(is_int(p) and p >= 0 for p in pair) for pair in pairs
        ):
            return tuple((int(low), int(high)) for low, high in pairs)
    raise ValueError(
        f"{name}: bad padding: got {padding!r}, need 'SAME', 'VALID', 'FULL', an int >= 0, {rank} "
        f"of them, or {rank} pairs (low, high); write padding={((1, 1),) * rank}, for example"
    )


def is_int(value: object) -> bool:
    """Return whether `value` is an integer, of Python's or NumPy's, and not a truth value."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
