"""Transposed convolution: the linear map of `conv`, transposed, as a layer of its own."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from ..common.channels import add_bias
from ..common.dtypes import check_same_dtype
from ..common.padding import Padding, is_int, padding_pairs, per_axis
from .geometry import Geometry, check_shapes
from .primitive import bind, input_grad_p
from .xla import swap_in_and_out


def conv_transpose(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    output_padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> jax.Array:
    r"""Convolve transposed, channels last: each input element adds its copy of the kernel.

    .. math:: y_{n,j,o} = b_o + \sum_{i,u\,:\;si+du-p=j}\; \sum_c x_{n,i,c}\; k_{u,c,o}

    It is the gradient of a convolution from Co to Ci channels of the same stride s, dilation d and
    padding p in its input: where that shrinks s times, this grows s times. Also called fractionally
    strided convolution and, wrongly, deconvolution: it does not invert a convolution.

    Args:
        x: input, ``(N, *spatial, Ci)`` with one to three spatial axes, floating point.
        kernel: weights, ``(*window, Ci // groups, Co)``, dtype of `x`: Ci counts the channels that
            come in here.
        bias: ``(Co,)``, dtype of `x`, or None.
        stride: how far apart the copies lie, one int for all spatial axes or one for each.
        padding: of the convolution that this transposes, so what is cut off the output here:
            "VALID" (nothing), "SAME" (so much that the output has stride times the size of the
            input), an int, one per spatial axis, or a pair (low, high) per spatial axis.
        output_padding: how many elements longer the output is at its high end, to say which of the
            sizes is meant that a strided convolution maps to one; an int for all spatial axes or
            one for each, smaller than stride or dilation. What no copy of the kernel reaches is 0.
        dilation: distance between the taps of the window, one int or one per spatial axis.
        groups: split Ci and Co into this many groups, each by itself.

    Returns:
        ``(N, *spatial_out, Co)``, dtype of `x`; added up in float32 at least. Along each axis
        o = (i - 1) s - low - high + d (k - 1) + output_padding + 1.

    Raises:
        ValueError: rank, channels, groups or any of the hyper-parameters are wrong, or nothing is
            left of the output; the message names the shapes.
        TypeError: `x` is not floating point, or the dtypes differ.

    Example:
        >>> x = jnp.array([1.0, 10.0]).reshape(1, 2, 1)
        >>> k = jnp.array([1.0, 2.0, 3.0]).reshape(3, 1, 1)
        >>> conv_transpose(x, k, stride=2, padding="VALID").ravel()
        Array([ 1.,  2., 13., 20., 30.], dtype=float32)

    Note:
        Values and shapes are those of PyTorch's `conv_transpose1d` to `3d`, whose weight is
        ``(Ci, Co // groups, *window)`` and whose default padding is 0, ours "SAME".
        `jax.lax.conv_transpose` with an explicit padding means the padding of the stretched input,
        and unless told so does not flip the kernel: shapes can agree where values do not.

        The derivatives are the primitives of `conv`, so every order of them is.

    References:
        Dumoulin & Visin, arXiv:1603.07285, chapter 4. Zeiler et al., Deconvolutional networks,
        CVPR 2010. Long et al., arXiv:1411.4038.
    """
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    name = "conv_transpose"
    geometry = _geometry(
        name, x.shape, kernel.shape, stride, padding, output_padding, dilation, groups
    )
    check_same_dtype(name, "x", x, "kernel", kernel)
    y = bind(input_grad_p, x, swap_in_and_out(kernel, groups), geometry)
    return add_bias(name, x, y, bias)


def conv_transpose_output_shape(
    input_shape: Sequence[int],
    kernel_shape: Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    output_padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> tuple[int, ...]:
    """Return the shape of `conv_transpose(x, kernel)`, from the shapes; raises as that does.

    Example:
        >>> conv_transpose_output_shape((8, 7, 7, 32), (4, 4, 32, 16), stride=2, padding=1)
        (8, 14, 14, 16)
    """
    name = "conv_transpose_output_shape"
    geometry = _geometry(
        name, input_shape, kernel_shape, stride, padding, output_padding, dilation, groups
    )
    return (input_shape[0], *geometry.size, kernel_shape[-1])


def _geometry(name, x, kernel, stride, padding, output_padding, dilation, groups) -> Geometry:
    """Return the geometry of the convolution that takes the output here to the input here."""
    check_shapes(name, x, kernel, groups)
    inputs, window = tuple(x[1:-1]), tuple(kernel[:-2])
    rank = len(inputs)
    stride = per_axis(name, "stride", stride, rank)
    dilation = per_axis(name, "dilation", dilation, rank)
    per_axis(name, "window", window, rank)
    extra = _output_padding(name, output_padding, padding, stride, dilation)
    extent = tuple(d * (k - 1) + 1 for d, k in zip(dilation, window, strict=True))
    whole = tuple((i - 1) * s + e for i, s, e in zip(inputs, stride, extent, strict=True))
    grown = tuple(i * s for i, s in zip(inputs, stride, strict=True))
    pads = padding_pairs(name, padding, grown, extent, stride)
    if _is_same(padding):
        output = grown
    else:
        ends = zip(whole, pads, extra, strict=True)
        output = tuple(w - low - high + more for w, (low, high), more in ends)
    if any(o < 1 for o in output):
        raise ValueError(
            f"{name}: nothing is left of the output: got x {tuple(x)} and kernel {tuple(kernel)} "
            f"with stride={stride} and padding={pads}, which cuts the output down to {output}; "
            f"write a smaller padding, or padding='SAME' for {grown}"
        )
    # The high padding that makes the convolution end with the last element of x exactly.
    exact = tuple((low, w - o - low) for w, o, (low, _) in zip(whole, output, pads, strict=True))
    return Geometry(output, window, inputs, stride, dilation, exact, groups)


def _output_padding(name, value, padding, stride, dilation) -> tuple[int, ...]:
    rank = len(stride)
    values = tuple(value) if isinstance(value, Sequence) else (value,) * rank
    limits = tuple(map(max, stride, dilation))
    if len(values) != rank or not all(
        is_int(v) and 0 <= v < limit for v, limit in zip(values, limits, strict=False)
    ):
        raise ValueError(
            f"{name}: bad output_padding: got {value!r} with stride={stride} and dilation="
            f"{dilation}, need ints >= 0 and smaller than one of the two; write output_padding=0, "
            f"or raise the stride"
        )
    if _is_same(padding) and any(values):
        raise ValueError(
            f"{name}: output_padding with padding='SAME': got {value!r}, need 0, as 'SAME' fixes "
            f"the output to stride times the input; write the padding as ints"
        )
    return values


def _is_same(padding: Padding) -> bool:
    return isinstance(padding, str) and padding.upper() == "SAME"
