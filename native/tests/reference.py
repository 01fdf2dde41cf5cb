"""The kernels by ctypes, and the loops in float64 that they are held against; without JAX."""

import ctypes
from pathlib import Path
from typing import NamedTuple

import numpy as np

ALGORITHMS = ("direct", "winograd", "depthwise")
KINDS = ("conv", "input_grad", "kernel_grad")
FAULTS = {1: ValueError, 2: MemoryError}


class Axis(NamedTuple):
    """One spatial axis, as in src/kernels.h."""

    size: int
    window: int
    output: int
    stride: int = 1
    dilation: int = 1
    low: int = 0


class Conv(NamedTuple):
    """A convolution, as in src/kernels.h."""

    batch: int
    ci: int
    co: int
    rows: Axis
    columns: Axis
    groups: int = 1

    def depthwise(self) -> "Conv":
        return self._replace(co=self.ci, groups=self.ci)

    def numbers(self) -> np.ndarray:
        return np.array([*self[:3], self.groups, *self.rows, *self.columns], np.int64)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        rows, columns = self.rows, self.columns
        return {
            "x": (self.batch, rows.size, columns.size, self.ci),
            "k": (rows.window, columns.window, self.ci // max(self.groups, 1), self.co),
            "g": (self.batch, rows.output, columns.output, self.co),
        }


ROLES = {"conv": "xkg", "input_grad": "gkx", "kernel_grad": "xgk"}  # operands, result


def load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    pointer = ctypes.c_void_p
    library.convax_kernels_run.argtypes = [
        ctypes.c_int32, ctypes.c_int32, pointer, pointer, pointer, pointer, ctypes.c_int64,
    ]  # fmt: skip
    return library


def run(library, algorithm: str, kind: str, conv: Conv, a, b, threads=1, misaligned=False):
    """Compute one function; with `misaligned`, every array begins where no vector would."""
    result = np.full(conv.shapes()[ROLES[kind][2]], np.nan, np.float32)
    return run_into(result, library, algorithm, kind, conv, a, b, threads, misaligned)


def run_into(result, library, algorithm, kind, conv, a, b, threads=1, misaligned=False):
    """Compute one function into an array of the shape of `result`, and return that."""
    shape = conv.numbers()
    a, b, result = (_placed(array, misaligned) for array in (a, b, result))
    pointers = [array.ctypes.data for array in (shape, a, b, result)]
    which = ALGORITHMS.index(algorithm), KINDS.index(kind)
    if code := library.convax_kernels_run(*which, *pointers, threads):
        raise FAULTS[code]
    return result


def _placed(array, misaligned):
    """Copy an array into memory of its own, which ends where it does."""
    memory = np.empty(array.size + misaligned, np.float32)
    placed = memory[int(misaligned) :].reshape(array.shape)
    placed[...] = array
    return placed


def expected(kind: str, conv: Conv, a, b) -> np.ndarray:
    """The sums of src/kernels.h in float64, tap by tap, over the elements that are there.

    Of groups each channel is a convolution of its own.
    """
    if conv.groups > 1:
        return _expected_of_groups(kind, conv, a, b)
    arrays = dict(zip(ROLES[kind], (a, b), strict=False))
    result = np.zeros(conv.shapes()[ROLES[kind][2]], np.float64)
    x, k, g = (
        (result if role == ROLES[kind][2] else np.asarray(arrays[role], np.float64))
        for role in "xkg"
    )
    for u in range(conv.rows.window):
        rows, of_rows = _places(conv.rows, u)
        for v in range(conv.columns.window):
            columns, of_columns = _places(conv.columns, v)
            at, of = np.ix_(rows, columns), np.ix_(of_rows, of_columns)
            if kind == "conv":
                g[:, *of] += x[:, *at] @ k[u, v]
            elif kind == "input_grad":
                x[:, *at] += g[:, *of] @ k[u, v].T
            else:
                k[u, v] += np.einsum("nijc,nijo->co", x[:, *at], g[:, *of])
    return result


def _expected_of_groups(kind: str, conv: Conv, a, b) -> np.ndarray:
    alone = conv._replace(ci=1, co=1, groups=1)
    channels = (np.s_[..., c : c + 1] for c in range(conv.groups))
    return np.concatenate([expected(kind, alone, a[c], b[c]) for c in channels], -1)


def _places(axis: Axis, u: int):
    """The elements that tap u meets, and the places that meet them."""
    places = np.arange(axis.output)
    elements = places * axis.stride + axis.dilation * u - axis.low
    inside = (elements >= 0) & (elements < axis.size)
    return elements[inside], places[inside]
