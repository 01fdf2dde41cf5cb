"""Convolution in all its forms, its two gradients, and transposed convolution."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from jax import lax

from convax import ops
from tests.reference import conv as reference

from .entry import Entry, Problem, normal
from .random import DTYPES, rng_of

Pairs = tuple[tuple[int, int], ...]


class Options(NamedTuple):
    """Hyper-parameters written out per spatial axis, as every oracle takes them."""

    stride: tuple[int, ...]
    padding: Pairs
    dilation: tuple[int, ...]
    groups: int = 1


def options(rank: int, *, stride=1, padding=0, dilation=1, groups=1) -> Options:
    """Write one number for all axes out."""
    one = lambda a: a if isinstance(a, tuple) else (a,) * rank  # noqa: E731
    pads = tuple(p if isinstance(p, tuple) else (p, p) for p in one(padding))
    return Options(one(stride), pads, one(dilation), groups)


# ------------------------------------------------------------------------------------- oracles


def torch_conv(o: Options, flip=False):
    def function(torch, x, k, *bias):
        rank = x.ndim - 2
        x = torch.movedim(x, -1, 1)
        x = torch.nn.functional.pad(x, [p for pads in o.padding[::-1] for p in pads])
        k = torch.flip(k, tuple(range(rank))) if flip else k
        k = torch.movedim(k, (-1, -2), (0, 1)).contiguous()
        call = getattr(torch.nn.functional, f"conv{rank}d")
        y = call(x, k, *bias, stride=o.stride, dilation=o.dilation, groups=o.groups)
        return torch.movedim(y, 1, -1)

    return function


def torch_input_grad(o: Options, shape):
    def function(torch, g, k):
        x = torch.zeros(shape, dtype=g.dtype, requires_grad=True)
        return torch.autograd.grad(torch_conv(o)(torch, x, k), x, g, create_graph=True)[0]

    return function


def torch_kernel_grad(o: Options, shape):
    def function(torch, x, g):
        k = torch.zeros(shape, dtype=g.dtype, requires_grad=True)
        return torch.autograd.grad(torch_conv(o)(torch, x, k), k, g, create_graph=True)[0]

    return function


def torch_transpose(o: Options, output_padding):
    def function(torch, x, k, b):
        *window, Cg, Co = k.shape
        rank, G = len(window), o.groups
        k = k.reshape(*window, Cg, G, Co // G)
        k = torch.movedim(k, (-2, -3, -1), (0, 1, 2)).reshape(G * Cg, Co // G, *window)
        k = (
            k.contiguous()
        )  # or PyTorch fails for some kernels: "grad_weight needs to be contiguous"
        y = getattr(torch.nn.functional, f"conv_transpose{rank}d")(
            torch.movedim(x, -1, 1),
            k,
            b,
            stride=o.stride,
            padding=tuple(low for low, _ in o.padding),
            output_padding=output_padding,
            dilation=o.dilation,
            groups=G,
        )
        return torch.movedim(y, 1, -1)

    return function


def xla_conv(o: Options):
    """One lax call, which JAX differentiates by itself."""

    def function(x, k):
        spatial = "DHW"[5 - x.ndim :]
        return lax.conv_general_dilated(
            x,
            k,
            o.stride,
            o.padding,
            rhs_dilation=o.dilation,
            dimension_numbers=(f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"),
            feature_group_count=o.groups,
        )

    return function


def _biased(f):
    return lambda x, k, b: f(x, k) + b.reshape((1,) * (x.ndim - 1) + b.shape)


def _biased_grads(f):
    return lambda g, x, k, b: (*f(x, k, g), np.sum(g, axis=tuple(range(g.ndim - 1))))


# ------------------------------------------------------------------------------------- entries


def conv_entry(case: str, x, kernel, o: Options) -> Entry:
    return Entry(
        "conv",
        case,
        lambda x, k, b: ops.conv(x, k, b, **o._asdict()),
        normal(x, kernel, kernel[-1:]),
        plain=_biased(xla_conv(o)),
        loops=_biased(lambda x, k: reference.conv(x, k, *o)),
        loops_grad=_biased_grads(lambda x, k, g: reference.conv_grads(x, k, g, *o)),
        torch=torch_conv(o),
    )


def grad_entries(case: str, x, kernel, o: Options) -> list[Entry]:
    """The two gradients as functions: linear in g, so their own gradients are each other's forms."""
    g = ops.conv_output_shape(x, kernel, **o._asdict())

    def xla_input_grad(g, k):
        return jax.vjp(lambda x: xla_conv(o)(x, k), jnp.zeros(x, g.dtype))[1](g)[0]

    def xla_kernel_grad(x, g):
        return jax.vjp(lambda k: xla_conv(o)(x, k), jnp.zeros(kernel, g.dtype))[1](g)[0]

    return [
        Entry(
            "conv_input_grad",
            case,
            lambda g, k: ops.conv_input_grad(g, k, x, **o._asdict()),
            normal(g, kernel),
            plain=xla_input_grad,
            loops=lambda g, k: reference.conv_grads(np.zeros(x), k, g, *o)[0],
            loops_grad=lambda gx, g, k: (
                reference.conv(gx, k, *o),
                reference.conv_grads(gx, k, g, *o)[1],
            ),
            torch=torch_input_grad(o, x),
        ),
        Entry(
            "conv_kernel_grad",
            case,
            lambda x, g: ops.conv_kernel_grad(x, g, kernel, **o._asdict()),
            normal(x, g),
            plain=xla_kernel_grad,
            loops=lambda x, g: reference.conv_grads(x, np.zeros(kernel), g, *o)[1],
            loops_grad=lambda gk, x, g: (
                reference.conv_grads(x, gk, g, *o)[0],
                reference.conv(x, gk, *o),
            ),
            torch=torch_kernel_grad(o, kernel),
        ),
    ]


def transpose_entry(case: str, x, kernel, o: Options, output_padding=0) -> Entry:
    def call(x, k, b):
        return ops.conv_transpose(x, k, b, output_padding=output_padding, **o._asdict())

    shape = ops.conv_transpose_output_shape(x, kernel, output_padding=output_padding, **o._asdict())
    low = tuple(p for p, _ in o.padding)
    loops = (o.stride, low, shape[1:-1], o.dilation, o.groups)

    def plain(x, k):
        """The transpose, which JAX finds, of the convolution from the output to the input."""
        *window, Cg, Co = k.shape
        k = k.reshape(*window, Cg, o.groups, Co // o.groups)
        k = jnp.swapaxes(k, -1, -3).reshape(*window, Co // o.groups, Cg * o.groups)
        inside = tuple(slice(n) for n in x.shape[1:-1])  # output_padding may make it longer
        conv = lambda y: xla_conv(o)(y, k)[:, *inside]  # noqa: E731
        return jax.vjp(conv, jnp.zeros(shape, x.dtype))[1](x)[0]

    return Entry(
        "conv_transpose",
        case,
        call,
        normal(x, kernel, kernel[-1:]),
        plain=_biased(plain),
        loops=_biased(lambda x, k: reference.conv_transpose(x, k, *loops)),
        loops_grad=_biased_grads(lambda x, k, g: reference.conv_transpose_grads(x, k, g, *loops)),
        torch=torch_transpose(o, output_padding),
    )


_DOWN = options(2, stride=2, padding=((1, 0), (0, 1)))
_GROUPS = options(2, stride=(2, 1), padding=((1, 0), (0, 2)), dilation=(1, 2), groups=2)
_SEPARABLE = options(2, stride=(1, 2), padding=1)


def _separable_loops(x, k, w):
    y = reference.conv(x, k, *_SEPARABLE._replace(groups=x.shape[-1]))
    return reference.conv(y, w, *options(2))


def _separable_grads(g, x, k, w):
    depthwise = _SEPARABLE._replace(groups=x.shape[-1])
    y = reference.conv(x, k, *depthwise)
    gy, gw = reference.conv_grads(y, w, g, *options(2))
    return *reference.conv_grads(x, k, gy, *depthwise), gw


ENTRIES = [
    conv_entry("1-D", (2, 7, 2), (3, 2, 3), options(1, padding=1)),
    conv_entry("stride", (1, 5, 4, 2), (3, 2, 2, 2), _DOWN),
    conv_entry("dilation", (1, 5, 5, 1), (2, 3, 1, 2), options(2, dilation=2, padding=2)),
    conv_entry("groups", (1, 4, 4, 4), (2, 2, 2, 2), _GROUPS),
    conv_entry("rows", (2, 4, 5, 1), (3, 2, 1, 3), options(2, padding=((1, 0), (2, 1)))),
    conv_entry("3-D", (1, 3, 2, 3, 2), (2, 2, 2, 2, 2), options(3, stride=(1, 2, 2), padding=1)),
    *grad_entries("rows", (1, 4, 4, 2), (3, 3, 2, 2), options(2, padding=1)),
    *grad_entries("stride", (1, 5, 4, 2), (3, 3, 2, 2), options(2, stride=2, padding=1)),
    *grad_entries("groups", (1, 5, 4, 4), (3, 2, 2, 2), _GROUPS),
    *grad_entries("1-D", (2, 7, 2), (3, 2, 2), options(1, stride=3, dilation=2, padding=2)),
    Entry(
        "convolve",
        "",
        lambda x, k, b: ops.convolve(x, k, b, **_GROUPS._asdict()),
        normal((1, 4, 4, 4), (2, 2, 2, 2), (2,)),
        plain=_biased(lambda x, k: xla_conv(_GROUPS)(x, k[::-1, ::-1])),
        loops=_biased(lambda x, k: reference.convolve(x, k, *_GROUPS)),
        loops_grad=_biased_grads(lambda x, k, g: reference.convolve_grads(x, k, g, *_GROUPS)),
        torch=torch_conv(_GROUPS, flip=True),
    ),
    Entry(
        "depthwise_conv",
        "",
        lambda x, k, b: ops.depthwise_conv(x, k, b, stride=2, padding=((1, 0), (0, 1))),
        normal((1, 4, 5, 2), (3, 2, 1, 4), (4,)),
        plain=_biased(xla_conv(_DOWN._replace(groups=2))),
        loops=_biased(lambda x, k: reference.conv(x, k, *_DOWN._replace(groups=2))),
        loops_grad=_biased_grads(
            lambda x, k, g: reference.conv_grads(x, k, g, *_DOWN._replace(groups=2))
        ),
        torch=torch_conv(_DOWN._replace(groups=2)),
    ),
    Entry(
        "separable_conv",
        "",
        lambda x, k, w: ops.separable_conv(x, k, w, stride=(1, 2), padding=1),
        normal((1, 4, 4, 2), (3, 3, 1, 4), (1, 1, 4, 3)),
        plain=lambda x, k, w: xla_conv(options(2))(
            xla_conv(_SEPARABLE._replace(groups=2))(x, k), w
        ),
        loops=_separable_loops,
        loops_grad=_separable_grads,
        torch=lambda torch, x, k, w: torch_conv(options(2))(
            torch, torch_conv(_SEPARABLE._replace(groups=2))(torch, x, k), w
        ),
    ),
    transpose_entry("1-D", (2, 4, 2), (3, 2, 2), options(1, stride=2, padding=1), 1),
    transpose_entry("stride 1", (1, 3, 3, 2), (3, 3, 2, 2), options(2, padding=1)),
    transpose_entry("tiles", (1, 3, 2, 2), (2, 2, 2, 2), options(2, stride=2)),
    transpose_entry(
        "groups",
        (1, 3, 2, 4),
        (3, 2, 2, 2),
        options(2, stride=(2, 1), dilation=(1, 3), padding=1, groups=2),
        (1, 2),
    ),
    transpose_entry("3-D", (1, 2, 2, 2, 2), (2, 3, 1, 2, 2), options(3, stride=2, padding=0)),
]


# -------------------------------------------------------------------------------------- drawn


@st.composite
def problems(draw) -> Problem:
    """Any of the forms, in one to three dimensions, with at least one output."""
    rank = draw(st.sampled_from([1, 2, 2, 3]))
    per_axis = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(rank))  # noqa: E731
    form = draw(st.sampled_from(list(_FORMS)))
    window, stride, dilation = per_axis(1, 3), per_axis(1, 3), per_axis(1, 2)
    groups, per_group = draw(st.sampled_from([1, 1, 2, 3])), draw(st.integers(1, 2))
    if form in ("depthwise_conv", "separable_conv"):
        groups, per_group = groups * per_group, 1
    Ci, Co, N = groups * per_group, groups * draw(st.integers(1, 2)), draw(st.integers(1, 3))
    kernel = (*window, per_group, Co)
    extent = [d * (w - 1) + 1 for w, d in zip(window, dilation, strict=True)]
    if form == "conv_transpose":
        inputs = per_axis(1, 4)
        limits = [
            ((i - 1) * s + e - 1) // 2 for i, s, e in zip(inputs, stride, extent, strict=True)
        ]
        padding = tuple((p, p) for p in (draw(st.integers(0, min(m, 3))) for m in limits))
        size = inputs
    else:
        padding = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(rank))
        size = tuple(
            max(e - sum(pads), 1) + draw(st.integers(0, 4))
            for e, pads in zip(extent, padding, strict=True)
        )
    o = Options(stride, padding, dilation, groups)
    extra = tuple(
        draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)
    )
    x = (N, *size, Ci)
    function, torch, shapes = _FORMS[form](x, kernel, o, extra)
    return Problem(
        function,
        normal(*shapes)(rng_of(draw)),
        torch,
        draw(st.sampled_from(DTYPES)),
        f"{form} x={x} kernel={kernel} {o} output_padding={extra}",
        rounded=2 if shapes[2:] == (kernel[-1:],) else None,  # a bias
    )


def _form_conv(x, kernel, o, _):
    call = lambda x, k, b: ops.conv(x, k, b, **o._asdict())  # noqa: E731
    return call, torch_conv(o), (x, kernel, kernel[-1:])


def _form_convolve(x, kernel, o, _):
    call = lambda x, k, b: ops.convolve(x, k, b, **o._asdict())  # noqa: E731
    return call, torch_conv(o, flip=True), (x, kernel, kernel[-1:])


def _form_depthwise(x, kernel, o, _):
    call = lambda x, k, b: ops.depthwise_conv(  # noqa: E731
        x, k, b, stride=o.stride, padding=o.padding, dilation=o.dilation
    )
    return call, torch_conv(o), (x, kernel, kernel[-1:])


def _form_separable(x, kernel, o, _):
    rank = len(o.stride)
    call = lambda x, k, w: ops.separable_conv(  # noqa: E731
        x, k, w, stride=o.stride, padding=o.padding, dilation=o.dilation
    )
    torch = lambda torch, x, k, w: torch_conv(options(rank))(  # noqa: E731
        torch, torch_conv(o)(torch, x, k), w
    )
    return call, torch, (x, kernel, (*(1,) * rank, kernel[-1], 3))


def _form_input_grad(x, kernel, o, _):
    call = lambda g, k: ops.conv_input_grad(g, k, x, **o._asdict())  # noqa: E731
    return call, torch_input_grad(o, x), (_output(x, kernel, o), kernel)


def _form_kernel_grad(x, kernel, o, _):
    call = lambda x, g: ops.conv_kernel_grad(x, g, kernel, **o._asdict())  # noqa: E731
    return call, torch_kernel_grad(o, kernel), (x, _output(x, kernel, o))


def _form_transpose(x, kernel, o, extra):
    call = lambda x, k, b: ops.conv_transpose(  # noqa: E731
        x, k, b, output_padding=extra, **o._asdict()
    )
    return call, torch_transpose(o, extra), (x, kernel, kernel[-1:])


def _output(x, kernel, o):
    return ops.conv_output_shape(x, kernel, **o._asdict())


_FORMS: dict[str, Any] = {
    "conv": _form_conv,
    "convolve": _form_convolve,
    "depthwise_conv": _form_depthwise,
    "separable_conv": _form_separable,
    "conv_input_grad": _form_input_grad,
    "conv_kernel_grad": _form_kernel_grad,
    "conv_transpose": _form_transpose,
}
