"""Sampling at places beyond the proof: PyTorch's conventions, kinks, NaN, identities, errors."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import ops

WAYS = [
    *product(["bilinear"], ["zeros", "border", "reflection"], [False, True]),
    ("nearest", "zeros", False),
    ("nearest", "reflection", True),
]


def sampling(method, padding_mode, align_corners):
    return partial(
        ops.grid_sample, method=method, padding_mode=padding_mode, align_corners=align_corners
    )


def row(*numbers):
    return jnp.asarray(numbers, jnp.float32)[None, :, None]


@pytest.mark.parametrize(
    ("size", "places", "ways"),
    [((4, 5), (6, 7), WAYS), ((2, 4, 3), (3, 2, 4), WAYS[::3])],
    ids=["2-D", "3-D"],
)
def test_every_way_is_pytorchs(size, places, ways, torch, rng):
    """Values and gradients, far beyond the image and at whole positions, in one program."""
    x = rng.standard_normal((2, *size, 2))
    grid = rng.uniform(-3, 3, (2, *places, len(size)))
    grid[0, 0] = np.round(2 * grid[0, 0]) / 2
    wanted = []
    for method, padding_mode, align_corners in ways:
        theirs = [torch.tensor(np.moveaxis(x, -1, 1)), torch.tensor(grid)]
        _ = [a.requires_grad_() for a in theirs]
        y = torch.nn.functional.grid_sample(*theirs, method, padding_mode, align_corners)
        y.sum().backward()
        y, gx = (np.moveaxis(a.detach().numpy(), 1, -1) for a in (y, theirs[0].grad))
        wanted.append((y, (gx, theirs[1].grad.numpy())))

    @jax.jit
    def found(x, grid):
        pairs = [jax.vjp(sampling(*way), x, grid) for way in ways]
        return [(y, vjp(jnp.ones_like(y))) for y, vjp in pairs]

    with jax.enable_x64(True):
        ours = found(x, grid)
    for way, a, b in zip(ways, ours, wanted, strict=True):
        for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12, err_msg=str(way))


@pytest.mark.parametrize("size", [(5,), (4, 3), (2, 3, 4)])
@pytest.mark.parametrize("align_corners", [False, True])
def test_the_identity_is_the_image(size, align_corners, rng):
    x = rng.standard_normal((2, *size, 3), np.float32)
    d = len(size)
    theta = jnp.broadcast_to(jnp.eye(d, d + 1), (2, d, d + 1))
    grid = ops.affine_grid(theta, size, align_corners=align_corners)
    y = ops.grid_sample(x, grid, align_corners=align_corners)
    np.testing.assert_allclose(y, x, rtol=1e-5, atol=1e-5)


def test_a_grid_has_the_last_axis_first():
    theta = jnp.array([[[0.5, 0.0, 0.25], [0.0, 2.0, 0.0]]])
    grid = ops.affine_grid(theta, (2, 3), align_corners=True)[0]
    np.testing.assert_array_equal(grid[0, :, 0], [-0.25, 0.25, 0.75])  # x
    np.testing.assert_array_equal(grid[:, 0, 1], [-2, 2])  # y
    x = jnp.arange(6.0).reshape(1, 2, 3, 1)
    place = jnp.array([1.0, -1.0]).reshape(1, 1, 1, 2)  # to the right, at the top
    assert ops.grid_sample(x, place, align_corners=True) == 2


def test_one_element_of_aligned_corners_is_the_middle():
    theta = jnp.array([[[1.0, 0.25]]])
    np.testing.assert_array_equal(ops.affine_grid(theta, 1, align_corners=True), [[[0.25]]])
    for padding_mode in ("border", "reflection"):
        y = ops.grid_sample(row(7), row(0.3, 9), padding_mode=padding_mode, align_corners=True)
        np.testing.assert_array_equal(y[0, :, 0], [7, 7])


def test_what_lies_beyond_equals_hand_arithmetic():
    """Positions -1, -1/4 and 3 of three elements."""
    grid, x = row(-4 / 3 + 1 / 3, -5 / 6, 4 / 3), row(4, 8, 16)
    at = lambda **how: ops.grid_sample(x, grid, **how)[0, :, 0]  # noqa: E731
    np.testing.assert_allclose(at(), [4 / 2, 4 * 3 / 4, 0], atol=1e-5)
    np.testing.assert_allclose(at(padding_mode="border"), [4, 4, 16], rtol=1e-6)
    np.testing.assert_allclose(at(padding_mode="reflection"), [4, 4, 16], rtol=1e-6)
    np.testing.assert_array_equal(at(method="nearest"), [4, 4, 0])


@pytest.mark.parametrize("method", ["bilinear", "nearest"])
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
def test_nan_and_infinity(method, padding_mode):
    """A coordinate that is NaN is seen; what lies beyond does not count, whatever the ends are."""
    sample = partial(ops.grid_sample, method=method, padding_mode=padding_mode)
    y = sample(row(1, 2, 3), row(jnp.nan, 0))[0, :, 0]
    np.testing.assert_array_equal(y, [jnp.nan, 2])
    if padding_mode == "zeros":
        far = row(jnp.inf, -jnp.inf, 5)
        y, vjp = jax.vjp(lambda grid: sample(row(jnp.inf, 2, jnp.nan), grid), far)
        np.testing.assert_array_equal(y, jnp.zeros((1, 3, 1)))
        np.testing.assert_array_equal(vjp(y + 1)[0], jnp.zeros((1, 3, 1)))
        far = jnp.array([jnp.inf, 0.0]).reshape(1, 1, 1, 2)  # along one of two axes
        slope = jax.grad(lambda grid: sample(jnp.ones((1, 2, 2, 1)), grid).sum())(far)
        np.testing.assert_array_equal(slope, jnp.zeros((1, 1, 1, 2)))
    elif padding_mode == "border":
        y = sample(row(1, 2, 3), row(-jnp.inf, jnp.inf))[0, :, 0]
        np.testing.assert_array_equal(y, [1, 3])


def test_an_empty_batch():
    theta = jnp.zeros((0, 2, 3))
    y = ops.grid_sample(jnp.zeros((0, 3, 3, 2)), ops.affine_grid(theta, (2, 4)))
    assert y.shape == (0, 2, 4, 2)


def test_dtypes_may_differ():
    x, grid = row(0, 10, 20).astype(jnp.bfloat16), row(0.1)
    y = ops.grid_sample(x, grid, align_corners=True)
    assert y.dtype == jnp.bfloat16 and y == jnp.bfloat16(11)
    gx, ggrid = jax.grad(lambda *a: ops.grid_sample(*a).sum(), (0, 1))(x, grid)
    assert (gx.dtype, ggrid.dtype) == (jnp.bfloat16, jnp.float32)


X, GRID = jnp.zeros((2, 4, 4, 3)), jnp.zeros((2, 3, 3, 2))
ERRORS = {
    "rank": (lambda: ops.grid_sample(X[0, 0], GRID), r"grid_sample: wrong rank: got x \(4, 3\)"),
    "batch": (
        lambda: ops.grid_sample(X, GRID[:1]),
        r"grid_sample: shapes do not match: got x \(2, 4, 4, 3\) and grid \(1, 3, 3, 2\), need a "
        r"grid \(2, \*spatial_out, 2\) with 2 spatial axes; write one place, \('x', 'y'\), for",
    ),
    "coordinates": (lambda: ops.grid_sample(X, GRID[..., :1]), r"shapes do not match"),
    "axes": (lambda: ops.grid_sample(X, GRID[:, 0]), r"shapes do not match"),
    "method": (
        lambda: ops.grid_sample(X, GRID, method="bicubic"),
        r"grid_sample: unknown method: got 'bicubic', need one of \('bilinear', 'nearest'\); write "
        r"'bilinear' for the usual one",
    ),
    "padding mode": (
        lambda: ops.grid_sample(X, GRID, padding_mode="reflect"),
        r"grid_sample: unknown padding mode: got 'reflect', need one of \('zeros', 'border', ",
    ),
    "theta": (
        lambda: ops.affine_grid(jnp.zeros((2, 3)), (4, 4)),
        r"affine_grid: wrong shape: got theta \(2, 3\), need \(N, d, d \+ 1\).*write theta\[None\]",
    ),
    "columns of theta": (
        lambda: ops.affine_grid(jnp.zeros((1, 2, 2)), (4, 4)),
        r"affine_grid: wrong shape: got theta \(1, 2, 2\)",
    ),
    "size": (
        lambda: ops.affine_grid(jnp.zeros((1, 2, 3)), (4, 4, 4)),
        r"affine_grid: bad size: got \(4, 4, 4\)",
    ),
}


@pytest.mark.parametrize("call, message", ERRORS.values(), ids=ERRORS.keys())
def test_what_cannot_be_sampled(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: ops.grid_sample(X.astype(jnp.int32), GRID), "grid_sample: x"),
        (lambda: ops.grid_sample(X, GRID.astype(jnp.int32)), "grid_sample: grid"),
        (lambda: ops.affine_grid(jnp.zeros((1, 2, 3), jnp.int32), 4), "affine_grid: theta"),
    ],
)
def test_integers_are_refused(call, what):
    with pytest.raises(TypeError, match=f"{what} is not floating point: got int32"):
        call()
