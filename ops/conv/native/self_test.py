"""A trial of the native kernels without XLA: does this processor run them rightly?"""

import ctypes
from typing import Any

import numpy as np

KINDS = ("conv", "input_grad", "kernel_grad")
_TOLERANCE = 1e-4  # of the largest element: what is wrong is off by far more
# (batch, Ci, Co, groups), and for each axis (size, window, stride, dilation, padding): channels
# that fill vectors and such that do not, whole tiles and parts of them.
_TRIALS = {
    "direct": (
        ((2, 5, 19, 1), (9, 3, 2, 1, 1), (8, 2, 1, 2, 1)),
        ((1, 3, 40, 1), (7, 5, 1, 1, 2), (6, 1, 1, 1, 0)),
    ),
    "winograd": (((2, 17, 35, 1), (9, 3, 1, 1, 1), (6, 3, 1, 1, 0)),),
    "depthwise": (
        ((2, 19, 19, 19), (9, 3, 2, 2, 1), (15, 3, 2, 1, 1)),
        ((1, 40, 40, 40), (7, 7, 1, 1, 3), (11, 7, 1, 1, 3)),
    ),
}


def kernel_failing(library: ctypes.CDLL) -> str | None:
    """Return the name of the first kernel that computes something wrong, or None.

    Args:
        library: with the functions of native/src/c_api.h.
    """
    for number, (algorithm, trials) in enumerate(_TRIALS.items()):
        for trial in trials:
            shape, arrays, wanted = _problem(*trial)
            for kind, operands in enumerate((("x", "k"), ("g", "k"), ("x", "g"))):
                a, b = (arrays[name] for name in operands)
                result = np.full(wanted[kind].shape, np.nan, np.float32)
                pointers = [ctypes.c_void_p(v.ctypes.data) for v in (shape, a, b, result)]
                code = library.convax_kernels_run(number, kind, *pointers, ctypes.c_int64(1))
                error = np.abs(result - wanted[kind]).max() / np.abs(wanted[kind]).max()
                if code or not error < _TOLERANCE:
                    return f"{algorithm} {KINDS[kind]}"
    return None


def _problem(channels, *axes) -> tuple[np.ndarray, dict[str, np.ndarray], list[Any]]:
    """Return the numbers of a convolution, its arrays, and what the three functions should give."""
    N, Ci, Co, groups = channels
    outputs = [(i + 2 * p - d * (w - 1) - 1) // s + 1 for i, w, s, d, p in axes]
    numbers = [(i, w, o, s, d, p) for (i, w, s, d, p), o in zip(axes, outputs, strict=True)]
    size, window, low = ([axis[n] for axis in axes] for n in (0, 1, 4))
    rng = np.random.default_rng(0)
    x, k, g = (
        rng.standard_normal(shape, np.float32)
        for shape in ((N, *size, Ci), (*window, Ci // groups, Co), (N, *outputs, Co))
    )
    pads = [(0, 0), *((p, p) for p in low), (0, 0)]
    padded = np.pad(x.astype(np.float64), pads)
    meet = np.ones((Ci, Co)) if groups == 1 else np.eye(Ci)  # which channels do
    y, gx, gk = np.zeros(g.shape), np.zeros_like(padded), np.zeros(k.shape)
    for tap in np.ndindex(*window):
        of_tap = tuple(
            slice(d * u, d * u + (o - 1) * s + 1, s)
            for u, (_, _, s, d, _), o in zip(tap, axes, outputs, strict=True)
        )
        met = padded[:, *of_tap]
        y += met @ (k[tap] * meet)
        gx[:, *of_tap] += g @ (k[tap] * meet).T
        products = np.tensordot(met, g, ((0, 1, 2), (0, 1, 2))) * meet
        gk[tap] = products.reshape(groups, Ci // groups, Co).sum(0)
    gx = gx[:, *(slice(p, p + i) for p, i in zip(low, size, strict=True))]
    shape = np.array([*channels, *numbers[0], *numbers[1]], np.int64)
    return shape, {"x": x, "k": k, "g": g}, [y, gx, gk]
