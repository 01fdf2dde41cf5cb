"""Images read at places that are data, and the grids of affine maps."""

import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from convax import ops
from tests.reference import grid_sample as reference

from .entry import Entry, Problem, normal
from .random import DTYPES, rng_of


def plain_sample(method, padding_mode, align_corners):
    """By a matrix for each axis: the triangle of every place at every element."""

    def along(s, n):
        s = ((s + 1) * n - 1) / 2 if not align_corners else (s + 1) * (n - 1) / 2
        if padding_mode == "reflection":  # at the middle of the first element, or of its edge
            low, span = (0, n - 1) if align_corners else (-0.5, n)
            s = low + span - jnp.abs((s - low) % (2 * span) - span)
        if padding_mode != "zeros":
            s = jnp.clip(s, 0, n - 1)
        s = jnp.round(s) if method == "nearest" else s
        return jnp.maximum(1 - jnp.abs(s[..., None] - jnp.arange(n, dtype=s.dtype)[None, None]), 0)

    def function(x, grid):
        spatial, d = "hwd"[: x.ndim - 2], x.ndim - 2
        places = grid.reshape(x.shape[0], -1, d)
        matrices = [along(places[..., -1 - k], n) for k, n in enumerate(x.shape[1:-1])]
        terms = ",".join(f"np{axis}" for axis in spatial)
        y = jnp.einsum(f"n{spatial}c,{terms}->npc", x, *matrices)
        return y.reshape(*grid.shape[:-1], x.shape[-1])

    return function


def torch_sample(method, padding_mode, align_corners):
    def function(torch, x, grid):
        y = torch.nn.functional.grid_sample(
            torch.movedim(x, -1, 1), grid, method, padding_mode, align_corners
        )
        return torch.movedim(y, 1, -1)

    return function


def sample_entry(method, padding_mode, align_corners, shape, places):
    how = method, padding_mode, align_corners

    def draw(rng):  # beyond the image on all sides
        return rng.standard_normal(shape), rng.uniform(-2, 2, (shape[0], *places, len(places)))

    return Entry(
        *("grid_sample", f"{method}, {padding_mode}"),
        lambda x, grid: ops.grid_sample(
            x, grid, method=method, padding_mode=padding_mode, align_corners=align_corners
        ),
        draw,
        plain_sample(*how),
        lambda x, grid: reference.grid_sample(x, grid, *how),
        lambda g, x, grid: reference.grid_sample_grad(g, x, grid, *how),
        torch_sample(*how),
    )


def plain_affine(size, align_corners):
    """One matrix product with the coordinates of all places."""

    def function(theta):
        ends = [1.0 if align_corners else 1 - 1 / n for n in size]
        axes = [np.linspace(-end, end, n) for end, n in zip(ends, size, strict=True)]
        places = np.meshgrid(*axes, indexing="ij")[::-1]
        p = np.stack([*places, np.ones(size)], -1).reshape(-1, len(size) + 1)
        return jnp.einsum("pk,nek->npe", jnp.asarray(p, theta.dtype), theta).reshape(
            -1, *size, len(size)
        )

    return function


def torch_affine(size, align_corners):
    def function(torch, theta):
        shape = (theta.shape[0], 1, *size)
        return torch.nn.functional.affine_grid(theta, shape, align_corners)

    return function


def affine_entry(size, align_corners):
    how = size, align_corners
    return Entry(
        *("affine_grid", ""),
        lambda theta: ops.affine_grid(theta, size, align_corners=align_corners),
        normal((2, len(size), len(size) + 1)),
        plain_affine(*how),
        lambda theta: reference.affine_grid(theta, *how),
        lambda g, theta: (reference.affine_grid_grad(g, theta, *how),),
        torch_affine(*how),
    )


ENTRIES = [
    sample_entry("bilinear", "zeros", False, (1, 3, 4, 2), (2, 2)),
    sample_entry("bilinear", "reflection", True, (1, 2, 3, 1), (2, 1)),
    sample_entry("nearest", "border", False, (1, 2, 3, 1), (1, 3)),
    affine_entry((2, 3), False),
]


@st.composite
def problems(draw):
    """Two axes or three, as PyTorch has them, places far beyond the image among them."""
    rank = draw(st.sampled_from([2, 2, 2, 3]))  # programs of three are long
    sizes = lambda most: tuple(draw(st.integers(1, most)) for _ in range(rank))  # noqa: E731
    dtype, align_corners, N = (
        draw(st.sampled_from(DTYPES)),
        draw(st.booleans()),
        draw(st.integers(1, 2)),
    )
    rng, places = rng_of(draw), sizes(4)
    if draw(st.booleans()):
        places = tuple(max(n, 2) for n in places)  # of a single element PyTorch warns
        theta = rng.standard_normal((N, rank, rank + 1))
        function = lambda theta: ops.affine_grid(theta, places, align_corners=align_corners)  # noqa: E731
        text = f"affine_grid of {places} {align_corners} {dtype}"
        return Problem(function, (theta,), torch_affine(places, align_corners), dtype, text)
    method = draw(st.sampled_from(["bilinear", "nearest"]))
    padding_mode = draw(st.sampled_from(["zeros", "border", "reflection"]))
    x = rng.standard_normal((N, *sizes(5), draw(st.integers(1, 3))))
    grid = rng.uniform(-3, 3, (N, *places, rank))

    def sample(x, grid):
        return ops.grid_sample(
            x, grid, method=method, padding_mode=padding_mode, align_corners=align_corners
        )

    torch = torch_sample(method, padding_mode, align_corners)
    text = f"{x.shape} at {grid.shape} {method} {padding_mode} {align_corners} {dtype}"
    return Problem(sample, (x, grid), torch, dtype, text)
