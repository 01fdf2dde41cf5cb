"""Pooling against loops, PyTorch, plain lax and finite differences."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export, lax

from convax import ops
from tests.reference import pool as reference


class Case(NamedTuple):
    x: tuple[int, ...]
    window: Any
    options: dict[str, Any]
    written: tuple[Any, Any, Any]  # window, stride and padding, written out per spatial axis


CASES = {
    "2d tiles": Case((2, 4, 6, 3), 2, {}, ((2, 2), (2, 2), ((0, 0), (0, 0)))),
    "2d tiles with a rest": Case((2, 5, 8, 2), (2, 3), {}, ((2, 3), (2, 3), ((0, 0), (0, 0)))),
    "2d large tiles": Case((1, 6, 10, 2), (3, 10), {}, ((3, 10), (3, 10), ((0, 0), (0, 0)))),
    "2d whole image": Case((2, 9, 5, 2), (9, 5), {}, ((9, 5), (9, 5), ((0, 0), (0, 0)))),
    "2d padded tiles": Case(
        (2, 5, 6, 2), 2, {"padding": "SAME"}, ((2, 2), (2, 2), ((0, 1), (0, 0)))
    ),
    "2d overlapping": Case((2, 7, 8, 2), 3, {"stride": 2}, ((3, 3), (2, 2), ((0, 0), (0, 0)))),
    "2d overlapping, padded": Case(
        (2, 7, 8, 2), 3, {"stride": 2, "padding": 1}, ((3, 3), (2, 2), ((1, 1), (1, 1)))
    ),
    "2d stride 1": Case(
        (1, 5, 4, 2), 3, {"stride": 1, "padding": "same"}, ((3, 3), (1, 1), ((1, 1), (1, 1)))
    ),
    "2d gaps": Case((1, 9, 8, 2), 2, {"stride": (4, 3)}, ((2, 2), (4, 3), ((0, 0), (0, 0)))),
    "2d pairs": Case(
        (1, 6, 5, 2),
        (3, 4),
        {"stride": (1, 2), "padding": ((2, 0), (1, 3))},
        ((3, 4), (1, 2), ((2, 0), (1, 3))),
    ),
    "2d large window": Case(
        (1, 12, 6, 2),
        (10, 3),
        {"stride": 2, "padding": (4, 1)},
        ((10, 3), (2, 2), ((4, 4), (1, 1))),
    ),
    "1d": Case((2, 9, 3), 3, {"stride": 2, "padding": 1}, ((3,), (2,), ((1, 1),))),
    "3d": Case((1, 4, 4, 6, 2), 2, {}, ((2,) * 3, (2,) * 3, ((0, 0),) * 3)),
    "3d overlapping": Case(
        (1, 4, 5, 4, 1), (3, 2, 2), {"stride": (2, 1, 2)}, ((3, 2, 2), (2, 1, 2), ((0, 0),) * 3)
    ),
}
POOLS = {
    "max": (ops.max_pool, {}),
    "avg": (ops.avg_pool, {"count_include_pad": True}),
    "avg inside": (ops.avg_pool, {"count_include_pad": False}),
}


@pytest.fixture(params=CASES.values(), ids=list(CASES))
def case(request) -> Case:
    return request.param


@pytest.fixture(params=POOLS.values(), ids=list(POOLS))
def pool(request):
    """The function under test, and its own options."""
    return request.param


# ------------------------------------------------------------------------------------- values


def test_by_hand():
    x = jnp.array([[1.0, 5.0, 2.0], [4.0, 3.0, 5.0], [0.0, 8.0, 6.0]]).reshape(1, 3, 3, 1)
    y = ops.max_pool(x, 2, stride=1)
    np.testing.assert_array_equal(y[0, :, :, 0], [[5, 5], [8, 8]])
    y = ops.avg_pool(x, 2, stride=1)
    expected = [
        [(1 + 5 + 4 + 3) / 4, (5 + 2 + 3 + 5) / 4],
        [(4 + 3 + 0 + 8) / 4, (3 + 5 + 8 + 6) / 4],
    ]
    np.testing.assert_allclose(y[0, :, :, 0], expected)


def test_max_pool_matches_loops(case: Case, rng):
    x = rng.integers(-3, 3, case.x).astype(np.float32)  # many ties
    expected, _ = reference.max_pool(x, *case.written)
    g = rng.standard_normal(expected.shape).astype(np.float32)
    f = lambda x: ops.max_pool(x, case.window, **case.options)  # noqa: E731
    y, vjp = jax.vjp(f, x)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(y, jax.jit(f)(x))
    np.testing.assert_array_equal(y, f(x))
    np.testing.assert_allclose(
        vjp(g)[0], reference.max_pool_grad(x, g, *case.written), rtol=1e-5, atol=1e-6
    )
    assert y.dtype == x.dtype
    assert ops.pool_output_shape(x.shape, case.window, **case.options) == y.shape


@pytest.mark.parametrize("count_include_pad", [True, False])
def test_avg_pool_matches_loops(case: Case, count_include_pad, rng):
    x = rng.standard_normal(case.x).astype(np.float32)
    expected = reference.avg_pool(x, *case.written, count_include_pad)
    g = rng.standard_normal(expected.shape).astype(np.float32)
    f = lambda x: ops.avg_pool(  # noqa: E731
        x, case.window, **case.options, count_include_pad=count_include_pad
    )
    y, vjp = jax.vjp(f, x)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(y, jax.jit(f)(x), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(
        vjp(g)[0],
        reference.avg_pool_grad(x, g, *case.written, count_include_pad),
        rtol=1e-5,
        atol=1e-6,
    )
    assert y.dtype == x.dtype


@st.composite
def problems(draw):
    """A random pooling that PyTorch has too: symmetric padding of at most half the window."""
    rank = draw(st.integers(1, 3))
    per_axis = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(rank))  # noqa: E731
    window, stride = per_axis(1, 4 if rank < 3 else 2), per_axis(1, 3)
    if rank == 1 and draw(st.booleans()):
        window = (draw(st.integers(9, 12)),)
    padding = tuple(draw(st.integers(0, w // 2)) for w in window)
    size = tuple(w + draw(st.integers(0, 4)) for w in window)
    x = (draw(st.integers(1, 2)), *size, draw(st.integers(1, 3)))
    return x, window, stride, padding, draw(st.booleans()), draw(st.integers(0, 2**32 - 1))


@settings(max_examples=20)
@given(problems())
def test_matches_torch(torch, problem):
    shape, window, stride, padding, count_include_pad, seed = problem
    rng, rank = np.random.default_rng(seed), len(window)
    x = rng.integers(-3, 3, shape).astype(np.float32)
    F = torch.nn.functional
    options = {"kernel_size": window, "stride": stride, "padding": padding}
    tmax = lambda t: getattr(F, f"max_pool{rank}d")(t, **options)  # noqa: E731
    tavg = lambda t: getattr(F, f"avg_pool{rank}d")(  # noqa: E731
        t, **options, count_include_pad=count_include_pad
    )
    ours = {"stride": stride, "padding": padding}
    pairs = (
        (tmax, lambda x: ops.max_pool(x, window, **ours)),
        (tavg, lambda x: ops.avg_pool(x, window, **ours, count_include_pad=count_include_pad)),
    )
    for theirs, f in pairs:
        tx = torch.tensor(np.moveaxis(x, -1, 1), requires_grad=True)
        ty = theirs(tx)
        tg = torch.tensor(rng.standard_normal(ty.shape).astype(np.float32))
        ty.backward(tg)
        y, vjp = jax.vjp(f, x)
        (gx,) = vjp(jnp.asarray(np.moveaxis(tg.numpy(), 1, -1)))
        np.testing.assert_allclose(y, np.moveaxis(ty.detach().numpy(), 1, -1), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(gx, np.moveaxis(tx.grad.numpy(), 1, -1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("window", [2, 3, 9])
def test_ties_go_to_the_first(window):
    x = jnp.zeros((1, 9, 9, 1))
    gx = jax.grad(lambda x: jnp.sum(ops.max_pool(x, window, stride=window)))(x)
    expected = np.zeros((9, 9))
    first = np.arange(0, 9 - window + 1, window)
    expected[np.ix_(first, first)] = 1
    np.testing.assert_array_equal(gx[0, :, :, 0], expected)


@pytest.mark.parametrize("window, stride", [(2, 2), (3, 2), (9, 1)])
def test_nan_propagates(window, stride, torch):
    x = np.zeros((1, 12, 12, 1), np.float32)
    x[0, 4, 6, 0] = x[0, 5, 7, 0] = np.nan
    x[0, 5, 6, 0] = np.inf
    f = lambda x: ops.max_pool(x, window, stride=stride)  # noqa: E731
    y, vjp = jax.vjp(f, x)
    tx = torch.tensor(np.moveaxis(x, -1, 1), requires_grad=True)
    ty = torch.nn.functional.max_pool2d(tx, window, stride)
    np.testing.assert_array_equal(y[0, :, :, 0], ty.detach().numpy()[0, 0])
    np.testing.assert_array_equal(f(x), y)
    ty.sum().backward()
    np.testing.assert_array_equal(vjp(jnp.ones_like(y))[0][0, :, :, 0], tx.grad.numpy()[0, 0])


@pytest.mark.parametrize("window", [3, 9])
def test_padding_never_wins(window):
    """Not even against -inf: the gradient stays inside the input."""
    x = jnp.full((1, 10, 10, 1), -jnp.inf)
    f = lambda x: ops.max_pool(x, window, stride=2, padding=1)  # noqa: E731
    y, vjp = jax.vjp(f, x)
    np.testing.assert_array_equal(y, np.full(y.shape, -np.inf))
    (gx,) = vjp(jnp.ones_like(y))
    assert jnp.sum(gx) == y.size
    np.testing.assert_array_equal(ops.max_pool(jnp.full((1, 3, 1), -5.0), 2, padding=1), -5.0)


@pytest.mark.parametrize("name", ["2d tiles", "2d overlapping, padded", "2d large window"])
def test_gradients_match_finite_differences(name, pool, rng):
    case, (function, own) = CASES[name], pool
    with jax.enable_x64(True):
        x = jnp.asarray(rng.standard_normal(case.x))
        loss = jax.jit(lambda x: jnp.sum(jnp.sin(function(x, case.window, **case.options, **own))))
        gx = jax.grad(loss)(x)
        dx, step = rng.standard_normal(x.shape), 1e-6
        slope = (loss(x + step * dx) - loss(x - step * dx)) / (2 * step)
        np.testing.assert_allclose(np.sum(gx * dx), slope, rtol=1e-6, atol=1e-8)


# ----------------------------------------------------------------------------- transformations


def plain(function, case, own):
    """The same as one `reduce_window`, which JAX differentiates by itself."""
    window, stride, padding = case.written
    arguments = ((1, *window, 1), (1, *stride, 1), ((0, 0), *padding, (0, 0)))
    if function is ops.max_pool:
        return lambda x: lax.reduce_window(x, -jnp.inf, lax.max, *arguments)
    assert own["count_include_pad"]
    size = np.float32(np.prod(window))
    return lambda x: lax.reduce_window(x, 0.0, lax.add, *arguments) / size


def scalar(f):
    return lambda x: jnp.sum(jnp.sin(f(x)))


def scanned(f):
    def body(c, x):
        g = lax.cond(jnp.sum(x) > 0, jax.grad(scalar(f)), jnp.sin, x + c)
        return jnp.mean(g), g

    return lambda x: lax.scan(body, jnp.float32(0), jnp.stack([x, -x, 2 * x]))


TRANSFORMATIONS = {
    "grad": lambda f: jax.grad(scalar(f)),
    "jvp": lambda f: lambda x: jax.jvp(f, (x,), (jnp.sin(x),)),
    "linearize": lambda f: lambda x: jax.linearize(f, x)[1](jnp.cos(x)),
    "grad of grad": lambda f: jax.grad(lambda x: jnp.sum(jax.grad(scalar(f))(x) ** 2)),
    "jvp of grad": lambda f: lambda x: jax.jvp(jax.grad(scalar(f)), (x,), (jnp.cos(x),)),
    "hessian": lambda f: lambda x: jax.hessian(scalar(f))(x[:1, ..., :1]),
    "remat": lambda f: jax.grad(scalar(jax.checkpoint(lambda x: jnp.sin(f(x))))),
    "scan and cond": scanned,
    "vmap": lambda f: lambda x: jax.vmap(f, 2, 1)(jnp.stack([x, -x, 2 * x], 2)),
    "vmap of grad": lambda f: lambda x: jax.vmap(jax.grad(scalar(f)))(jnp.stack([x, -x])),
    "grad of vmap": lambda f: lambda x: jax.grad(scalar(jax.vmap(f)))(jnp.stack([x, -x])),
}


@pytest.mark.parametrize("transformation", TRANSFORMATIONS.values(), ids=TRANSFORMATIONS.keys())
@pytest.mark.parametrize(
    "pool_name, name",
    [  # one for each way of computing it
        ("max", "2d tiles"),
        ("max", "2d pairs"),
        ("max", "2d large window"),
        ("avg", "2d tiles"),
        ("avg", "2d pairs"),
    ],
)
def test_transformations_match_plain_lax(pool_name, name, transformation, rng):
    case, (function, own) = CASES[name], POOLS[pool_name]
    x = jnp.asarray(rng.standard_normal(case.x), jnp.float32)
    ours = jax.jit(transformation(lambda x: function(x, case.window, **case.options, **own)))(x)
    expected = jax.jit(transformation(plain(function, case, own)))(x)
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_second_call_compiles_nothing(pool, rng, caplog):
    function, own = pool

    def everything():
        x = jnp.asarray(rng.standard_normal((1, 6, 7, 2)), jnp.float32)
        function(x, 3, stride=2, **own)

    everything()
    with jax.log_compiles():
        everything()
        assert not [r for r in caplog.records if "ompiling" in r.getMessage()]
        function(jnp.zeros((1, 3, 9, 2)), 3, stride=2, **own)
        assert [r for r in caplog.records if "ompiling" in r.getMessage()], "the log is silent"


@pytest.mark.parametrize("window", [2, 3, 9])
def test_exports_with_a_symbolic_batch(window, pool, rng):
    function, own = pool
    f = jax.value_and_grad(scalar(lambda x: function(x, window, stride=2, **own)))
    x_type = jax.ShapeDtypeStruct((*export.symbolic_shape("n"), 10, 10, 2), jnp.float32)
    exported = export.export(jax.jit(f))(x_type)
    x = jnp.asarray(rng.standard_normal((3, 10, 10, 2)), jnp.float32)
    for a, b in zip(exported.call(x), f(x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


# --------------------------------------------------------------------------- dtypes and limits


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("window", [2, 3, 9])
def test_dtype_is_kept(window, dtype, pool):
    function, own = pool
    x = jnp.ones((1, 12, 12, 1), dtype)
    f = lambda x: function(x, window, stride=2, padding=1, **own)  # noqa: E731
    y, vjp = jax.vjp(f, x)
    assert y.dtype == vjp(y)[0].dtype == dtype


def test_means_are_added_up_in_float32():
    """A running sum of ones would stop at 256 in bfloat16."""
    x = jnp.ones((1, 3000, 1), jnp.bfloat16)
    for options in ({}, {"stride": 1}):
        np.testing.assert_array_equal(
            ops.avg_pool(x, 3000, **options).astype(jnp.float32), np.ones((1, 1, 1))
        )


def test_a_window_of_the_whole_image_compiles_fast():
    """The program must not grow with the window: unrolled, this one takes minutes."""
    x = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    f = jax.jit(jax.grad(lambda x: jnp.sum(ops.max_pool(x, x.shape[1:-1]))))
    assert len(f.lower(x).as_text().splitlines()) < 500


def test_empty_batch(pool):
    function, own = pool
    y, vjp = jax.vjp(lambda x: function(x, 3, stride=2, **own), jnp.zeros((0, 7, 7, 2)))
    assert y.shape == (0, 3, 3, 2)
    assert vjp(y)[0].shape == (0, 7, 7, 2)


ERRORS = {
    "rank": (
        lambda pool: pool(jnp.zeros((4, 4)), 2),
        ValueError,
        r"_pool: wrong rank: got x \(4, 4\), need \(N, \*spatial, C\).*write x\[None\]",
    ),
    "integers": (
        lambda pool: pool(jnp.zeros((1, 4, 4, 1), jnp.uint8), 2),
        TypeError,
        r"_pool: x is not floating point: got uint8, .*write x\.astype\(jnp\.float32\)",
    ),
    "window": (
        lambda pool: pool(jnp.zeros((1, 4, 4, 1)), 0),
        ValueError,
        r"_pool: bad window: got 0, need a positive int, or 2 of them",
    ),
    "window per axis": (
        lambda pool: pool(jnp.zeros((1, 4, 4, 1)), (2, 2, 2)),
        ValueError,
        r"_pool: bad window: got \(2, 2, 2\)",
    ),
    "stride": (
        lambda pool: pool(jnp.zeros((1, 4, 4, 1)), 2, stride=-1),
        ValueError,
        r"_pool: bad stride: got -1",
    ),
    "padding": (
        lambda pool: pool(jnp.zeros((1, 4, 4, 1)), 2, padding="half"),
        ValueError,
        r"_pool: bad padding: got 'half'",
    ),
    "all padding": (
        lambda pool: pool(jnp.zeros((1, 4, 4, 1)), 2, padding=2),
        ValueError,
        r"_pool: a window can lie wholly in the padding: got padding \(\(2, 2\), \(2, 2\)\) with "
        r"window \(2, 2\), need every side smaller than the window; write padding='SAME'",
    ),
    "window too large": (
        lambda pool: pool(jnp.zeros((1, 4, 2, 1)), 3),
        ValueError,
        r"_pool: the window is larger than the padded input: got window \(3, 3\)",
    ),
}


@pytest.mark.parametrize("function", [ops.max_pool, ops.avg_pool])
@pytest.mark.parametrize("call, kind, message", ERRORS.values(), ids=ERRORS.keys())
def test_errors(function, call, kind, message):
    with pytest.raises(kind, match=function.__name__.split("_")[0] + message):
        call(function)


def test_output_shape_errors():
    with pytest.raises(ValueError, match="pool_output_shape: wrong rank"):
        ops.pool_output_shape((4, 4), 2)
