"""The kernels that people wrote down before networks learned theirs, applied by `ops.conv`."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import jax.numpy as jnp
import numpy as np
from jax import Array

from .. import ops


def _kernel(rows: Sequence[Sequence[float]], divisor: float = 1) -> np.ndarray:
    kernel = np.array(rows, np.float32) / np.float32(divisor)
    kernel.flags.writeable = False
    return kernel


_BINOMIAL = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]).tolist()
CLASSIC: Mapping[str, np.ndarray] = MappingProxyType(
    {
        "identity": _kernel([[0, 0, 0], [0, 1, 0], [0, 0, 0]]),
        "box blur": _kernel([[1] * 5] * 5, 25),
        "binomial blur": _kernel(_BINOMIAL, 256),
        "sharpen": _kernel([[0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
        "Sobel, across": _kernel([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
        "Sobel, down": _kernel([[-1, -2, -1], [0, 0, 0], [1, 2, 1]]),
        "Laplacian": _kernel([[0, 1, 0], [1, -4, 1], [0, 1, 0]]),
        "emboss": _kernel([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]),
    }
)


def apply_kernel(images: Array, kernel: Array | np.ndarray) -> Array:
    """Convolve each channel of each image with one kernel, as large as before; edges are continued.

    .. math:: y_{n,i,j,c} = \\sum_{u,v} k_{uv}\\, x_{n,\\,i+u-(KH-1)/2,\\,j+v-(KW-1)/2,\\,c}

    Cross-correlation, as in all of convax: "Sobel, across" is positive where it grows brighter to
    the right.

    Args:
        images: ``(N, H, W, C)``.
        kernel: ``(KH, KW)``, both odd: one of `CLASSIC`, or any other.

    Returns:
        The shape of `images`.

    Raises:
        ValueError: an even kernel, or one without two axes.

    Example:
        >>> ramp = jnp.arange(4.0).reshape(1, 1, 4, 1)
        >>> apply_kernel(ramp, CLASSIC["Sobel, across"]).ravel()
        Array([4., 8., 8., 4.], dtype=float32)
    """
    if len(kernel.shape) != 2 or not all(n % 2 for n in kernel.shape):
        raise ValueError(f"apply_kernel: kernel: got {kernel.shape}, need two odd sizes")
    N, H, W, C = images.shape
    KH, KW = kernel.shape
    planes = jnp.moveaxis(images, -1, 1).reshape(N * C, H, W, 1)
    around = ((0, 0), (KH // 2, KH // 2), (KW // 2, KW // 2), (0, 0))
    filtered = ops.conv(
        jnp.pad(planes, around, mode="edge"),
        jnp.asarray(kernel, images.dtype)[..., None, None],
        padding="VALID",
    )
    return jnp.moveaxis(filtered.reshape(N, C, H, W), 1, -1)
