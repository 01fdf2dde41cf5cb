"""Pooling over windows: what the proof does not cover. Ties, NaN, padding, limits and errors."""

from functools import partial
from math import inf

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from convax import ops
from convax.ops.common.implementation import uses_xla

KEY = jax.random.key(0)
POOLS = {
    "max": ops.max_pool,
    "avg": ops.avg_pool,
    "avg inside": partial(ops.avg_pool, count_include_pad=False),
    "lp": ops.lp_pool,
    "lp, p = inf": partial(ops.lp_pool, p=inf),
    "mixed": partial(ops.mixed_pool, train=True, key=KEY),
    "mixed, evaluation": partial(ops.mixed_pool, train=False),
    "stochastic": partial(ops.stochastic_pool, train=True, key=KEY),
    "stochastic, evaluation": partial(ops.stochastic_pool, train=False),
}


@pytest.fixture(params=POOLS.values(), ids=list(POOLS))
def pool(request):
    """A function of x, window, stride and padding."""
    return request.param


def image(*rows):
    return np.asarray(rows, np.float32)[None, :, :, None]


def with_gradient(f, x):
    """Return f(x) and the gradient of its sum, to be compiled as one program."""
    y, vjp = jax.vjp(f, x)
    return y, vjp(jnp.ones_like(y))[0]


def test_pools_equal_hand_arithmetic():
    x = image([1, 5, 2], [4, 3, 5], [0, 8, 6])
    y = ops.max_pool(x, 2, stride=1)
    np.testing.assert_array_equal(y[0, :, :, 0], [[5, 5], [8, 8]])
    y = ops.avg_pool(x, 2, stride=1)
    expected = [
        [(1 + 5 + 4 + 3) / 4, (5 + 2 + 3 + 5) / 4],
        [(4 + 3 + 0 + 8) / 4, (3 + 5 + 8 + 6) / 4],
    ]
    np.testing.assert_allclose(y[0, :, :, 0], expected)


def test_avg_pool_divisor_equals_hand_arithmetic():
    """Windows of two at the ends of 3, 5, with one element of padding each."""
    x = jnp.array([3.0, 5.0]).reshape(1, 2, 1)
    y = ops.avg_pool(x, 2, padding=1)
    np.testing.assert_array_equal(y[0, :, 0], [(0 + 3) / 2, (5 + 0) / 2])
    y = ops.avg_pool(x, 2, padding=1, count_include_pad=False)
    np.testing.assert_array_equal(y[0, :, 0], [3, 5])


# ------------------------------------------------------------------------- ceil mode and dilation

# window, stride, padding, dilation: of these only the maximum has one
CUT_SHORT = {
    "a window cut short": (2, 2, 0, 1),
    "cut short behind padding": (3, 2, 1, 1),
    "one in the padding alone is none": (2, 3, 1, 1),
    "larger than the input": (10, 3, 0, 1),
    "large windows": (10, 3, 4, 1),
    "steps that leave elements out": ((1, 2), 4, 0, 1),
    "dilated": (3, 2, 1, 2),
    "dilated, as strided": ((2, 3), (3, 2), (1, 0), (3, 2)),
    "dilated large windows": (9, 1, 4, 2),
}


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_ceil_mode_and_dilation_are_pytorchs(ceil_mode, torch, rng):
    """Maxima, their places, gradients and means, in one program."""
    x = rng.integers(-4, 5, (2, 11, 9, 2)).astype(np.float32)
    first = torch.tensor(np.moveaxis(x, -1, 1), requires_grad=True)
    functions, wanted, shapes = {}, {}, {}
    for name, (window, stride, padding, dilation) in CUT_SHORT.items():
        if name == "larger than the input" and not ceil_mode:
            continue  # an error
        ours = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode}
        of_max = {"window": window, "dilation": dilation, **ours}
        y, indices = torch.nn.functional.max_pool2d(
            first, window, stride, padding, dilation, ceil_mode, return_indices=True
        )
        (gx,) = torch.autograd.grad(y.sum(), first)
        functions[name] = partial(ops.max_pool_with_indices, **of_max)
        wanted[name] = [y.detach(), indices, gx]
        shapes[name] = ops.pool_output_shape(x.shape, **of_max)
        for count in (True, False) if dilation == 1 else ():
            mean = torch.nn.functional.avg_pool2d(first, window, stride, padding, ceil_mode, count)
            of_mean = {"window": window, **ours, "count_include_pad": count}
            functions[f"{name}, {count}"] = partial(ops.avg_pool, **of_mean)
            wanted[f"{name}, {count}"] = [mean.detach()]

    @jax.jit
    def found(x):
        return {name: f(x) for name, f in functions.items()}, {
            name: with_gradient(lambda x, name=name: functions[name](x)[0], x)[1] for name in shapes
        }

    values, gradients = found(x)
    for name, expected in wanted.items():
        ours = [*values[name], gradients[name]] if name in shapes else [values[name]]
        for a, b in zip(ours, expected, strict=True):
            b = np.moveaxis(b.numpy(), 1, -1)
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6, err_msg=name)
        assert name not in shapes or ours[0].shape == shapes[name]


def test_ceil_mode_equals_hand_arithmetic():
    x = jnp.array([3.0, 4.0, 12.0]).reshape(1, 3, 1)
    pooled = lambda op, **options: op(x, 2, ceil_mode=True, **options)[0, :, 0]  # noqa: E731
    np.testing.assert_array_equal(pooled(ops.max_pool), [4, 12])
    np.testing.assert_array_equal(pooled(ops.avg_pool), [3.5, 12 / 1])  # nothing beyond counts
    np.testing.assert_array_equal(pooled(ops.lp_pool), [5, 12])
    wide = pooled(ops.avg_pool, stride=3, padding=1)  # (0, 3), (12, padding)
    np.testing.assert_array_equal(wide, [1.5, 6])


def test_ceil_mode_without_a_rest_is_the_same_program():
    x, programs = jnp.zeros((1, 4, 4, 1)), set()
    for ceil_mode in (False, True):
        for op in (ops.max_pool, ops.avg_pool, ops.lp_pool):
            f = partial(op, window=2, ceil_mode=ceil_mode)
            programs.add(str(jax.make_jaxpr(f)(x)))
    assert len(programs) == 3


# ------------------------------------------------------------------------ ties, NaN and padding


@pytest.mark.parametrize("window", [2, 3, 9])
@pytest.mark.parametrize("name", ["max", "lp, p = inf"])
def test_ties_go_to_the_first(window, name):
    x = np.ones((1, 9, 9, 1), np.float32)
    gx = jax.jit(jax.grad(lambda x: jnp.sum(POOLS[name](x, window, stride=window))))(x)
    expected = np.zeros((9, 9))
    first = np.arange(0, 9 - window + 1, window)
    expected[np.ix_(first, first)] = 1
    np.testing.assert_array_equal(np.asarray(gx)[0, :, :, 0], expected)


def test_ties_of_overlapping_windows_go_to_the_first():
    x = image([7, 7, 1], [0, 7, 7])  # in the first window (0, 0), in the second (0, 1)
    gx = jax.grad(lambda x: jnp.sum(ops.max_pool(x, 2, stride=1)))(x)
    np.testing.assert_array_equal(gx[0, :, :, 0], [[1, 1, 0], [0, 0, 0]])
    x = image([1, 7, 0], [7, 7, 0])  # row-major: (0, 1) comes before (1, 0)
    gx = jax.grad(lambda x: jnp.sum(ops.max_pool(x, 2, stride=1)[:, :, :1]))(x)
    np.testing.assert_array_equal(gx[0, :, :, 0], [[0, 1, 0], [0, 0, 0]])


@pytest.mark.parametrize("window, stride", [(2, 2), (3, 2), (9, 1), (12, 12)])
def test_nan_propagates(window, stride, torch):
    x = np.zeros((1, 12, 12, 1), np.float32)
    x[0, 4, 6, 0] = x[0, 5, 7, 0] = np.nan
    x[0, 5, 6, 0] = np.inf
    f = lambda x: ops.max_pool(x, window, stride=stride)  # noqa: E731
    alone, y, gx = jax.jit(lambda x: (f(x), *with_gradient(f, x)))(x)
    tx = torch.tensor(np.moveaxis(x, -1, 1), requires_grad=True)
    ty = torch.nn.functional.max_pool2d(tx, window, stride)
    np.testing.assert_array_equal(np.asarray(y)[0, :, :, 0], ty.detach().numpy()[0, 0])
    np.testing.assert_array_equal(alone, y)
    ty.sum().backward()
    np.testing.assert_array_equal(np.asarray(gx)[0, :, :, 0], tx.grad.numpy()[0, 0])


@pytest.mark.parametrize("window, stride", [(2, 2), (3, 2)])
def test_nan_stays_in_its_windows(pool, window, stride):
    x = np.ones((1, 8, 8, 2), np.float32)
    x[0, 0, 0, 0] = np.nan
    y = jax.jit(lambda x: pool(x, window, stride=stride))(x)
    expected = np.zeros(y.shape, bool)
    expected[0, 0, 0, 0] = True
    np.testing.assert_array_equal(np.isnan(y), expected)


@pytest.mark.skipif(uses_xla(), reason="XLA's own gradient goes to the padding of such a window")
@pytest.mark.parametrize("window", [3, 9])
def test_padding_never_wins(window):
    """Not even against -inf: the gradient stays inside the input."""
    x = np.full((1, 10, 10, 1), -np.inf, np.float32)
    f = lambda x: ops.max_pool(x, window, stride=2, padding=1)  # noqa: E731
    y, gx = jax.jit(lambda x: with_gradient(f, x))(x)
    np.testing.assert_array_equal(y, np.full(y.shape, -np.inf))
    assert np.sum(gx) == y.size
    np.testing.assert_array_equal(ops.max_pool(jnp.full((1, 3, 1), -5.0), 2, padding=1), -5.0)


# --------------------------------------------------------------------------- dtypes and limits


def test_means_are_added_up_in_float32():
    """A running sum of ones would stop at 256 in bfloat16."""
    x = jnp.ones((1, 3000, 1), jnp.bfloat16)
    for options in ({}, {"stride": 1}):
        np.testing.assert_array_equal(
            ops.avg_pool(x, 3000, **options).astype(jnp.float32), np.ones((1, 1, 1))
        )


@pytest.mark.parametrize("stride", [None, 2])
def test_the_program_does_not_grow_with_the_window(pool, stride):
    """Unrolled, a window of the whole image takes minutes to compile."""
    x = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    window = x.shape[1:-1] if stride is None else (12, 12)
    f = jax.jit(jax.grad(lambda x: jnp.sum(pool(x, window, stride=stride))))
    assert len(f.lower(x).as_text().splitlines()) < 1200


def test_pools_of_an_empty_batch(pool):
    x = np.zeros((0, 7, 7, 2), np.float32)
    y, gx = jax.jit(lambda x: with_gradient(lambda x: pool(x, 3, stride=2), x))(x)
    assert y.shape == (0, 3, 3, 2)
    assert gx.shape == (0, 7, 7, 2)


def test_a_window_of_one_element(pool):
    x = jnp.array([2.0, 3.0, 5.0]).reshape(1, 3, 1, 1)
    np.testing.assert_allclose(pool(x, 1), x)


def test_no_padding_is_the_default(pool):
    @jax.jit
    def pairs(x):
        same, ones = (pool(x, 3, stride=2, padding=p) for p in ("same", ((1, 1), (1, 1))))
        return (pool(x, 2), pool(x, (2, 2), stride=2, padding="VALID")), (same, ones)

    for a, b in pairs(np.arange(1, 36, dtype=np.float32).reshape(1, 5, 7, 1)):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "window, options",
    [(2, {}), ((3, 2), {"stride": (1, 2), "padding": ((2, 0), (1, 1))}), (9, {"padding": "SAME"})],
)
def test_pool_output_shape_is_the_shape_of_the_output(window, options, pool):
    x = jax.ShapeDtypeStruct((2, 11, 12, 3), jnp.float32)
    y = jax.eval_shape(lambda x: pool(x, window, **options), x)
    assert ops.pool_output_shape(x.shape, window, **options) == y.shape


# ------------------------------------------------------------------- compilation and many devices


def test_pool_second_call_compiles_nothing(pool, rng, caplog):
    def everything():
        x = jnp.asarray(rng.standard_normal((1, 6, 7, 2)), jnp.float32)
        pool(x, 3, stride=2)

    everything()
    with jax.log_compiles():
        everything()
        assert not [r for r in caplog.records if "ompiling" in r.getMessage()]
        pool(jnp.zeros((1, 3, 9, 2)), 3, stride=2)
        assert [r for r in caplog.records if "ompiling" in r.getMessage()], "the log is silent"


@pytest.mark.parametrize("window", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 9))])
def test_pools_export_with_a_symbolic_batch(window, pool, rng):
    def loss(x):
        return jnp.sum(jnp.sin(pool(x, window, stride=2)))

    if pool is POOLS["stochastic"]:
        pytest.skip("how many numbers are drawn cannot be symbolic")
    f = jax.value_and_grad(loss)
    x_type = jax.ShapeDtypeStruct((*export.symbolic_shape("n"), 10, 10, 2), jnp.float32)
    exported = export.export(jax.jit(f))(x_type)
    x = rng.standard_normal((3, 10, 10, 2)).astype(np.float32)
    for a, b in zip(exported.call(x), jax.jit(f)(x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


SHARDED = """
import jax, numpy as np, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from convax import ops

assert jax.device_count() == 4
x, key = jax.random.normal(jax.random.key(0), (8, 6, 6, 4)), jax.random.key(1)
overlapping = dict(window=3, stride=2, padding=1)
functions = dict(
    lp=lambda x: ops.lp_pool(x, **overlapping),
    mixed=lambda x: ops.mixed_pool(x, **overlapping, train=True, key=key),
    stochastic=lambda x: ops.stochastic_pool(x, **overlapping, train=True, key=key),
    global_max=ops.global_max_pool,
    adaptive_max=lambda x: ops.adaptive_max_pool(x, 4),
    adaptive_avg=lambda x: ops.adaptive_avg_pool(x, 4),
    bilinear=lambda x: ops.resize(x, 9),
    unpool=lambda x: ops.max_unpool(*ops.max_pool_with_indices(x, **overlapping), size=6),
    grid=lambda x: ops.grid_sample(x, x[..., :2]),
)
P = jax.P("data")
for function, f in functions.items():
    gradient = jax.grad(lambda x: jnp.sum(jnp.sin(f(x))))
    expected = jax.jit(gradient)(x)
    for kind in AxisType.Auto, AxisType.Explicit:
        mesh = jax.make_mesh((4,), ("data",), axis_types=(kind,))
        ways = dict(jit=jax.jit(gradient))
        if kind == AxisType.Explicit and function != "stochastic":  # each device draws the same
            mapped = jax.shard_map(gradient, mesh=mesh, in_specs=(P,), out_specs=P)
            ways["shard_map"] = jax.jit(mapped)
        with jax.set_mesh(mesh):
            xs = jax.device_put(x, NamedSharding(mesh, P))
            for way, g in ways.items():
                what = f"{kind} {function} {way}"
                np.testing.assert_allclose(g(xs), expected, rtol=1e-5, atol=1e-6, err_msg=what)
"""


@pytest.mark.slow
def test_pools_over_four_devices(run_on_four_devices):
    """Pooling and resampling, with the batch over four devices."""
    run_on_four_devices(SHARDED)


# ------------------------------------------------------------------------------------- errors

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


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("call, kind, message", ERRORS.values(), ids=ERRORS.keys())
def test_pools_say_what_to_write_instead(name, call, kind, message):
    with pytest.raises(kind, match="^" + name.split()[0].strip(",") + message):
        call(POOLS[name])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dilation": 0}, r"max_pool: bad dilation: got 0, need a positive int, or 2 of them"),
        (
            {"dilation": 5},
            r"max_pool: the window is larger than the padded input: got window \(6, 6\) \(dilation",
        ),
        (  # around all there is
            {"dilation": 5, "padding": 4},
            r"max_pool: a window can lie wholly in the padding: got padding \(\(4, 4\), \(4, 4\)\) "
            r"with window \(2, 2\) and dilation \(5, 5\), need",
        ),
    ],
)
def test_dilation_that_does_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        ops.max_pool(jnp.zeros((1, 4, 4, 1)), 2, stride=1, **options)


def test_pool_output_shape_says_what_to_write_instead():
    with pytest.raises(ValueError, match="pool_output_shape: wrong rank"):
        ops.pool_output_shape((4, 4), 2)
