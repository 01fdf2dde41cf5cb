"""Resampling: nearest, bilinear and bicubic."""

from math import floor

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from convax import ops
from tests.reference import resize as reference

from .entry import Entry, Problem, channels_first, normal
from .random import DTYPES, rng_of


def plain(size, method, align_corners):
    """Positions as floats, along one axis after the other."""

    def function(x):
        for axis, (I, O) in enumerate(zip(x.shape[1:-1], size, strict=True), start=1):
            o = np.arange(O)
            if method == "nearest":
                x = jnp.take(x, o * I // O, axis)
                continue
            position = o * ((I - 1) / max(O - 1, 1))
            if not align_corners:
                position = np.maximum((o + 0.5) * (I / O) - 0.5, 0)
            i = np.minimum(position.astype(int), I - 1)
            f = (position - i).reshape(-1, *(1,) * (x.ndim - axis - 1))
            f = jnp.asarray(np.broadcast_to(f, (*x.shape[:axis], O, *x.shape[axis + 1 :])), x.dtype)
            x = (1 - f) * jnp.take(x, i, axis) + f * jnp.take(x, np.minimum(i + 1, I - 1), axis)
        return x

    return function


def plain_of_jax(size, method="bilinear", antialias=False):
    """JAX's own, a matrix product, which has no aligned corners."""
    return lambda x: jax.image.resize(
        x, (x.shape[0], *size, x.shape[-1]), method, antialias=antialias
    )


def torch_resize(method, align_corners, antialias=False, **size):
    def function(torch, x):
        linear = ("linear", "bilinear", "trilinear")[x.ndim - 3]
        options = {} if "nearest" in method else {"align_corners": align_corners}
        mode = linear if method == "bilinear" else method
        options |= {"antialias": True} if antialias else {}
        return torch.nn.functional.interpolate(x, mode=mode, **size, **options)

    return channels_first(function)


def entry(op, case, shape, size, function, method, plain_form=None, **options):
    how = {"align_corners": False} | options
    return Entry(
        *(op, case, function, normal(shape)),
        plain_form or plain(size, method, **how),
        lambda x: reference.resize(x, size, method, **how),
        lambda g, x: (reference.resize_grad(g, x, size, method, **how),),
        torch_resize(method, size=size, **how),
    )


def resize_entry(case, shape, size, method, plain_form=None, **options):
    function = lambda x: ops.resize(x, size, method=method, **options)  # noqa: E731
    return entry("resize", case, shape, size, function, method, plain_form, **options)


ENTRIES = [
    resize_entry("bilinear, up", (1, 3, 4, 2), (6, 5), "bilinear"),
    resize_entry(
        "bilinear, down", (1, 7, 5, 1), (3, 4), "bilinear", plain_form=plain_of_jax((3, 4))
    ),
    resize_entry("bilinear, three axes", (1, 2, 3, 2, 1), (3, 2, 4), "bilinear"),
    resize_entry("aligned corners", (1, 3, 5, 2), (5, 3), "bilinear", align_corners=True),
    resize_entry(
        *("bicubic, antialiased", (1, 5, 2, 1), (2, 3), "bicubic"),
        plain_of_jax((2, 3), "bicubic", antialias=True),
        antialias=True,
    ),
    resize_entry("nearest", (1, 3, 5, 2), (5, 3), "nearest"),
    # more terms than are written out
    resize_entry("from one element", (2, 1, 2), (40,), "bilinear"),
    entry(
        *("upsample", "nearest", (1, 3, 2, 2), (6, 6)),
        lambda x: ops.upsample(x, (2, 3)),
        "nearest",
    ),
    entry(
        *("upsample", "bilinear", (1, 4, 2), (6,)),
        lambda x: ops.upsample(x, 1.5, method="bilinear"),
        "bilinear",
    ),
]


@st.composite
def problems(draw):
    """To a size or by a scale, up or down, from one to three axes."""
    rank = draw(st.integers(1, 3))
    largest = 12 if rank < 3 else 5
    per_axis = lambda numbers: tuple(draw(numbers) for _ in range(rank))  # noqa: E731
    old = per_axis(st.integers(1, largest))
    shape = (draw(st.integers(1, 2)), *old, draw(st.integers(1, 3)))
    both = ["bicubic"] * (rank == 2)  # of what PyTorch has for two axes alone
    method = draw(st.sampled_from(["nearest", "nearest-exact", "bilinear", *both]))
    align_corners = "nearest" not in method and draw(st.booleans())
    averaged = rank == 2 and "nearest" not in method and not align_corners
    antialias = averaged and draw(st.booleans())
    options = {"method": method, "align_corners": align_corners, "antialias": antialias}
    if draw(st.booleans()):
        size = per_axis(st.integers(1, largest))
        function = lambda x: ops.resize(x, size, **options)  # noqa: E731
        torch = torch_resize(**options, size=size)
        how = f"to {size}"
    else:
        numbers = st.sampled_from([1, 2, 3, 4]) if draw(st.booleans()) else st.floats(0.4, 3.0)
        scale = per_axis(numbers)
        scale = tuple(s if floor(s * n) else 1.0 for s, n in zip(scale, old, strict=True))
        function = lambda x: ops.upsample(x, scale, **options)  # noqa: E731
        torch = torch_resize(**options, scale_factor=scale, recompute_scale_factor=True)
        how = f"by {scale}"
    dtype = draw(st.sampled_from(DTYPES))
    x = rng_of(draw).standard_normal(shape)
    return Problem(function, (x,), torch, dtype, f"{shape} {how}, {options} {dtype}")
