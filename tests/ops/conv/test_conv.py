"""Convolution: conventions, limits and messages. Its values and derivatives: tests/conformance."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from convax import ops


class Case(NamedTuple):
    x: tuple[int, ...]
    kernel: tuple[int, ...]
    options: dict[str, Any]


CASES = {
    "1d": Case((3, 9, 2), (4, 2, 3), {"stride": 2}),
    "2d stride": Case((2, 6, 7, 2), (3, 3, 2, 3), {"stride": 2}),
    "2d dilation": Case((2, 7, 7, 2), (3, 2, 2, 3), {"dilation": (2, 3)}),
    "2d groups, all at once": Case(
        (2, 9, 8, 6),
        (2, 3, 2, 3),
        {"groups": 3, "stride": (2, 1), "dilation": (1, 2), "padding": ((2, 1), (0, 3))},
    ),
}


def draw(rng, *shape, dtype: Any = jnp.float32):
    return jnp.asarray(rng.standard_normal(shape), dtype)


# ------------------------------------------------------------------------------------- values


def test_conv_equals_hand_arithmetic():
    x = jnp.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1)
    k = jnp.array([1.0, 10.0, 100.0]).reshape(3, 1, 1)
    y = ops.conv(x, k, jnp.array([0.5]))
    expected = [
        0 * 1 + 1 * 10 + 2 * 100 + 0.5,
        1 * 1 + 2 * 10 + 3 * 100 + 0.5,
        2 * 1 + 3 * 10 + 4 * 100 + 0.5,
        3 * 1 + 4 * 10 + 0 * 100 + 0.5,
    ]
    np.testing.assert_allclose(y.ravel(), expected)


def test_convolution_commutes_and_associates(rng):
    """On one channel and in full; NumPy's convolution is the same."""
    a, b, c = (draw(rng, 1, n, m, 1) for n, m in ((5, 4), (3, 2), (2, 3)))
    times = lambda x, k: ops.convolve(x, k.reshape(*k.shape[1:], 1), padding="FULL")  # noqa: E731
    np.testing.assert_allclose(times(a, b), times(b, a), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(times(times(a, b), c), times(a, times(b, c)), rtol=1e-5, atol=1e-5)
    x, k = draw(rng, 7), draw(rng, 3)
    y = ops.convolve(x.reshape(1, 7, 1), k.reshape(3, 1, 1), padding="FULL")
    np.testing.assert_allclose(y.ravel(), np.convolve(x, k), rtol=1e-5, atol=1e-6)
    assert not np.allclose(
        ops.conv(a, b.reshape(3, 2, 1, 1), padding="FULL"),
        ops.conv(b, a.reshape(5, 4, 1, 1), padding="FULL"),
    ), "cross-correlation does not commute"


def test_a_separable_kernel_is_the_product_of_two(rng):
    x, k, w = draw(rng, 2, 5, 5, 3), draw(rng, 3, 3, 1, 6), draw(rng, 1, 1, 6, 4)
    whole = jnp.einsum("uvcm,cmo->uvco", k.reshape(3, 3, 3, 2), w.reshape(3, 2, 4))
    separable = ops.separable_conv(x, k, w, jnp.ones(4), stride=2)
    np.testing.assert_allclose(separable, ops.conv(x, whole, stride=2) + 1, rtol=1e-4, atol=1e-4)


# ----------------------------------------------------------------------------- transformations


def scalar(f):
    return lambda x, k: jnp.sum(jnp.sin(f(x, k)))


PRIMITIVES = {
    "conv": ("x", "k", lambda x, k, case: ops.conv(x, k, **case.options)),
    "input_grad": ("g", "k", lambda g, k, case: ops.conv_input_grad(g, k, case.x, **case.options)),
    "kernel_grad": (
        "x",
        "g",
        lambda x, g, case: ops.conv_kernel_grad(x, g, case.kernel, **case.options),
    ),
}
BATCHES = {
    "first alone": (0, None),
    "first alone, last axis": (-1, None),
    "second alone": (None, 0),
    "second alone, axis 2": (None, 2),
    "both": (0, 0),
    "both, axes 1 and -1": (1, -1),
}


@pytest.mark.parametrize("axes", BATCHES.values(), ids=BATCHES.keys())
@pytest.mark.parametrize("primitive", PRIMITIVES.values(), ids=PRIMITIVES.keys())
@pytest.mark.parametrize("name", ["2d groups, all at once", "1d"])
def test_conv_under_vmap_equals_a_loop(name, primitive, axes, rng):
    case, B = CASES[name], 3
    *roles, function = primitive
    output = ops.conv_output_shape(case.x, case.kernel, **case.options)
    shapes = {"x": case.x, "k": case.kernel, "g": output}
    batched = [draw(rng, B, *shapes[role]) for role in roles]
    operands = [
        a[0] if axis is None else np.moveaxis(np.asarray(a), 0, axis)
        for a, axis in zip(batched, axes, strict=True)
    ]
    f = jax.jit(lambda a, b: function(a, b, case))
    actual = jax.jit(jax.vmap(f, axes))(*map(jnp.asarray, operands))
    for n in range(B):
        one = [a[0 if axis is None else n] for a, axis in zip(batched, axes, strict=True)]
        np.testing.assert_allclose(actual[n], f(*one), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("primitive", PRIMITIVES.values(), ids=PRIMITIVES.keys())
@pytest.mark.parametrize("name", ["2d groups, all at once", "2d stride", "2d dilation"])
def test_conv_lowers_to_channels_last(name, primitive, rng):
    """Permuted convolutions are what XLA runs a hundred times slower inside loops on CPU."""
    case = CASES[name]
    *roles, function = primitive
    output = ops.conv_output_shape(case.x, case.kernel, **case.options)
    shapes = {"x": case.x, "k": case.kernel, "g": output}
    a, b = (jax.ShapeDtypeStruct(shapes[role], jnp.float32) for role in roles)
    traced = jax.jit(lambda a, b: function(a, b, case)).trace(a, b)
    for platform in ("cpu", "cuda", "tpu"):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        count = text.count("stablehlo.convolution")
        assert count == 1 or platform == "cpu"  # where there may be many, or none
        assert text.count("dim_numbers = [b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]") == count
        assert text.count("batch_group_count = 1") == count


def test_conv_second_call_compiles_nothing(rng, caplog):
    def everything():
        x, k = draw(rng, 2, 5, 5, 2), draw(rng, 3, 3, 2, 2)
        y = ops.conv(x, k, stride=2)
        ops.conv_input_grad(y, k, x.shape, stride=2)
        ops.conv_kernel_grad(x, y, k.shape, stride=2)
        jax.grad(lambda k: jnp.sum(ops.conv(x, k, stride=2)))(k)

    everything()
    with jax.log_compiles():
        everything()
        assert not [r for r in caplog.records if "ompiling" in r.getMessage()]
        ops.conv(draw(rng, 1, 4, 4, 2), draw(rng, 3, 3, 2, 2))
        assert [r for r in caplog.records if "ompiling" in r.getMessage()], "the log is silent"


@pytest.mark.parametrize("name", CASES)
def test_conv_output_shape_is_the_shape_of_the_output(name):
    case = CASES[name]
    x, k = jnp.zeros(case.x), jnp.zeros(case.kernel)
    assert ops.conv(x, k, **case.options).shape == ops.conv_output_shape(
        case.x, case.kernel, **case.options
    )


def test_conv_without_jit(rng):
    x, k = draw(rng, 2, 5, 5, 2), draw(rng, 3, 3, 2, 2)
    with jax.disable_jit():
        y = ops.conv(x, k)
    np.testing.assert_allclose(y, ops.conv(x, k), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
def test_conv_exports_with_a_symbolic_batch(groups, rng):
    k = draw(rng, 3, 3, 4 // groups, 4)

    def f(x, k):
        return jax.value_and_grad(scalar(lambda x, k: ops.conv(x, k, stride=2, groups=groups)), 1)(
            x, k
        )

    (n,) = export.symbolic_shape("n")
    x_type = jax.ShapeDtypeStruct((n, 6, 6, 4), jnp.float32)
    exported = export.export(jax.jit(f))(x_type, jax.ShapeDtypeStruct(k.shape, k.dtype))
    for N in (1, 3):
        x = draw(rng, N, 6, 6, 4)
        for a, b in zip(exported.call(x, k), f(x, k), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


SHARDED = """
from itertools import product
import jax, numpy as np, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from convax import ops

assert jax.device_count() == 4
x = jax.random.normal(jax.random.key(0), (8, 6, 6, 4))
kernels = {  # by the form of the kernel gradient on CPU
    "microbatch": (3, 3, 4, 4),
    "im2col": (3, 3, 4, 64),
    "shift_and_add": (3, 3, 1, 4),
    "space_to_depth": (1, 1, 4, 4),
}
for (form, shape), kind in product(kernels.items(), (AxisType.Auto, AxisType.Explicit)):
    k = jax.random.normal(jax.random.key(1), shape)
    conv = ops.conv if shape[-2] == 4 else ops.depthwise_conv
    mesh = jax.make_mesh((4,), ("data",), axis_types=(kind,))
    for pool in ops.max_pool, ops.avg_pool:
        for window in 2, 3:
            if form != "microbatch" and (pool, window) != (ops.max_pool, 2):
                continue
            loss = lambda k, x: jnp.sum(jnp.sin(pool(conv(x, k), window, stride=2)))
            expected = jax.grad(loss)(k, x)
            mapped = jax.shard_map(
                jax.grad(loss),
                mesh=mesh,
                in_specs=(jax.P(), jax.P("data")),
                out_specs=jax.P(),
            )
            with jax.set_mesh(mesh):
                xs = jax.device_put(x, NamedSharding(mesh, jax.P("data")))
                ks = jax.device_put(k, NamedSharding(mesh, jax.P()))
                for name, f in ("jit", jax.grad(loss)), ("shard_map", mapped):
                    actual = jax.jit(f)(ks, xs)
                    np.testing.assert_allclose(
                        actual, expected, rtol=1e-4, atol=1e-4, err_msg=f"{form} {kind} {name} {window}"
                    )
"""


@pytest.mark.slow
def test_conv_gradients_over_four_devices(run_on_four_devices):
    """The kernel's gradient is summed over the devices that share the batch."""
    run_on_four_devices(SHARDED, CONVAX_LOWERING="cpu")  # whose forms it has one of each of


# --------------------------------------------------------------------------- dtypes and limits


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_conv_accumulates_low_precision_in_float32(dtype):
    """A running sum of ones would stop at 256 in bfloat16 and at 2048 in float16."""
    n = 3000
    many, one = jnp.ones((n, 1, 1), dtype), jnp.ones((1, 1, 1), dtype)
    wide = jnp.ones((1, 1, n), dtype)
    sums = (
        ops.conv(wide, jnp.ones((1, n, 1), dtype)),
        ops.conv_input_grad(wide, jnp.ones((1, 1, n), dtype), (1, 1, 1)),
        ops.conv_kernel_grad(many, many, (1, 1, 1)),
        ops.conv(one, one, jnp.full(1, n - 1, dtype)),
    )
    for total in sums:
        assert total.dtype == dtype
        np.testing.assert_allclose(total.astype(jnp.float32).item(), n, rtol=4e-3)


def test_conv_of_an_empty_batch():
    x, k = jnp.zeros((0, 5, 5, 4)), jnp.ones((3, 3, 2, 6))
    y, vjp = jax.vjp(lambda x, k: ops.conv(x, k, groups=2), x, k)
    gx, gk = vjp(y)
    assert (y.shape, gx.shape) == ((0, 5, 5, 6), x.shape)
    np.testing.assert_array_equal(gk, np.zeros(k.shape))


def test_conv_takes_numpy_operands(rng):
    x, k = (rng.standard_normal(shape).astype(np.float32) for shape in ((1, 4, 4, 2), (3, 3, 2, 2)))
    assert isinstance(ops.conv(x, k), jax.Array)


def zeros(*shape, dtype=jnp.float32):
    return jnp.zeros(shape, dtype)


ERRORS = {
    "no batch axis": (
        lambda: ops.conv(zeros(5, 5, 3), zeros(3, 3, 3, 4)),
        ValueError,
        r"conv: wrong rank: got x \(5, 5, 3\) and kernel \(3, 3, 3, 4\).*write x\[None\]",
    ),
    "four spatial axes": (
        lambda: ops.conv(zeros(1, 2, 2, 2, 2, 3), zeros(1, 1, 1, 1, 3, 4)),
        ValueError,
        r"conv: wrong rank: .* one to three spatial axes",
    ),
    "channels": (
        lambda: ops.conv(zeros(1, 5, 6, 3), zeros(3, 3, 2, 4)),
        ValueError,
        r"conv: channels do not match: got x \(1, 5, 6, 3\) and kernel \(3, 3, 2, 4\).*"
        r"make the kernel \(3, 3, 3, 4\)",
    ),
    "channels first": (
        lambda: ops.conv(zeros(1, 3, 28, 28), zeros(3, 3, 3, 4)),
        ValueError,
        r"x looks channels first, write jnp\.moveaxis\(x, 1, -1\)",
    ),
    "groups and Ci": (
        lambda: ops.conv(zeros(1, 5, 6, 3), zeros(3, 3, 1, 4), groups=2),
        ValueError,
        r"groups=2, need x\.shape\[-1\] == .*choose groups that divide Ci",
    ),
    "groups and Co": (
        lambda: ops.conv(zeros(1, 5, 5, 4), zeros(3, 3, 2, 3), groups=2),
        ValueError,
        r"conv: bad groups: .*groups=2, need a positive int that divides Co=3; write groups=1",
    ),
    "groups zero": (
        lambda: ops.conv(zeros(1, 5, 5, 4), zeros(3, 3, 4, 3), groups=0),
        ValueError,
        r"conv: bad groups: .*groups=0",
    ),
    "groups no int": (
        lambda: ops.conv(zeros(1, 5, 5, 4), zeros(3, 3, 2, 2), groups=2.0),  # pyright: ignore
        ValueError,
        r"conv: bad groups: .*groups=2\.0",
    ),
    "padding word": (
        lambda: ops.conv(zeros(1, 5, 5, 1), zeros(3, 3, 1, 1), padding="half"),
        ValueError,
        r"conv: bad padding: got 'half', need 'SAME', 'VALID', 'FULL', .*write padding=\(\(1, 1\), \(1",
    ),
    "padding negative": (
        lambda: ops.conv(zeros(1, 5, 5, 1), zeros(3, 3, 1, 1), padding=-1),
        ValueError,
        r"conv: bad padding: got -1",
    ),
    "padding, a pair for one axis": (
        lambda: ops.conv(zeros(1, 5, 1), zeros(3, 1, 1), padding=(1, 2)),
        ValueError,
        r"conv: bad padding: got \(1, 2\), .*write padding=\(\(1, 1\),\)",
    ),
    "stride zero": (
        lambda: ops.conv(zeros(1, 5, 5, 1), zeros(3, 3, 1, 1), stride=0),
        ValueError,
        r"conv: bad stride: got 0, need a positive int, or 2 of them.*write stride=\(1, 1\)",
    ),
    "stride per axis": (
        lambda: ops.conv(zeros(1, 5, 5, 1), zeros(3, 3, 1, 1), stride=(1, 2, 3)),
        ValueError,
        r"conv: bad stride: got \(1, 2, 3\)",
    ),
    "dilation no int": (
        lambda: ops.conv(zeros(1, 5, 5, 1), zeros(3, 3, 1, 1), dilation=1.5),  # pyright: ignore
        ValueError,
        r"conv: bad dilation: got 1\.5",
    ),
    "window too large": (
        lambda: ops.conv(zeros(1, 4, 5, 1), zeros(3, 3, 1, 1), padding="VALID", dilation=2),
        ValueError,
        r"conv: the window is larger than the padded input: got window \(5, 5\).*shape \(4, 5\)"
        r".*write padding='SAME'",
    ),
    "integers": (
        lambda: ops.conv(zeros(1, 5, 5, 1, dtype=jnp.uint8), zeros(3, 3, 1, 1)),
        TypeError,
        r"conv: x is not floating point: got uint8, .*write x\.astype\(jnp\.float32\)",
    ),
    "two dtypes": (
        lambda: ops.conv(zeros(1, 5, 5, 1, dtype=jnp.bfloat16), zeros(3, 3, 1, 1)),
        TypeError,
        r"conv: dtypes differ: got x bfloat16 and kernel float32, .*kernel\.astype\(x\.dtype\)",
    ),
    "bias dtype": (
        lambda: ops.conv(zeros(1, 5, 1), zeros(3, 1, 1), zeros(1, dtype=jnp.float16)),
        TypeError,
        r"conv: dtypes differ: got x float32 and bias float16, .*bias\.astype\(x\.dtype\)",
    ),
    "bias shape": (
        lambda: ops.conv(zeros(1, 5, 1), zeros(3, 1, 4), zeros(1)),
        ValueError,
        r"conv: wrong bias shape: got \(1,\), need \(4,\); give one bias per output channel",
    ),
    "input_grad, shape of g": (
        lambda: ops.conv_input_grad(zeros(1, 5, 5, 1), zeros(3, 3, 1, 1), (1, 5, 5, 1), stride=2),
        ValueError,
        r"conv_input_grad: g has not the shape of conv\(x, kernel\): got \(1, 5, 5, 1\), need "
        r"\(1, 3, 3, 1\)",
    ),
    "kernel_grad, batch of g": (
        lambda: ops.conv_kernel_grad(zeros(1, 5, 5, 1), zeros(2, 5, 5, 1), (3, 3, 1, 1)),
        ValueError,
        r"conv_kernel_grad: g has not the shape .* got \(2, 5, 5, 1\), need \(1, 5, 5, 1\)",
    ),
    "convolve": (
        lambda: ops.convolve(zeros(1, 5, 2), zeros(3, 1, 1)),
        ValueError,
        r"convolve: channels do not match: .*make the kernel \(3, 2, 1\)",
    ),
    "depthwise, kernel of a full convolution": (
        lambda: ops.depthwise_conv(zeros(1, 5, 5, 4), zeros(3, 3, 4, 2)),
        ValueError,
        r"depthwise_conv: channels do not match: got x \(1, 5, 5, 4\) and kernel \(3, 3, 4, 2\), need "
        r"a kernel \(\*window, 1, C \* M\) with C=4; write kernel\.reshape\(3, 3, 1, 8\)",
    ),
    "depthwise, channels": (
        lambda: ops.depthwise_conv(zeros(1, 5, 5, 4), zeros(3, 3, 1, 6)),
        ValueError,
        r"depthwise_conv: channels do not match: .*make the kernel \(3, 3, 1, 4\), or a multiple",
    ),
    "depthwise, channels first": (
        lambda: ops.depthwise_conv(zeros(1, 3, 8, 8), zeros(3, 3, 1, 3)),
        ValueError,
        r"depthwise_conv: channels do not match: .*x looks channels first, write jnp\.moveaxis",
    ),
    "depthwise, no rank": (
        lambda: ops.depthwise_conv(zeros(), zeros(3, 1, 1)),
        ValueError,
        r"depthwise_conv: wrong rank: got x \(\)",
    ),
    "separable, no rank": (
        lambda: ops.separable_conv(zeros(1, 5, 2), zeros(), zeros(1, 4, 1)),
        ValueError,
        r"separable_conv: wrong rank: got x \(1, 5, 2\) and kernel \(\)",
    ),
    "no elements": (
        lambda: ops.conv(zeros(1, 0, 2), zeros(3, 2, 1)),
        ValueError,
        r"conv: no elements: got spatial shape \(0,\), need at least one element along each axis",
    ),
    "separable, pointwise window": (
        lambda: ops.separable_conv(zeros(1, 5, 2), zeros(3, 1, 4), zeros(3, 4, 1)),
        ValueError,
        r"separable_conv: the pointwise kernel has a window: got \(3, 4, 1\), need \(1, 4, '...'\)",
    ),
    "separable, pointwise channels": (
        lambda: ops.separable_conv(zeros(1, 5, 2), zeros(3, 1, 4), zeros(1, 2, 1)),
        ValueError,
        r"separable_conv: channels do not match: got x \(1, 5, 4\) and kernel \(1, 2, 1\)",
    ),
    "output_shape": (
        lambda: ops.conv_output_shape((1, 5, 5, 2), (3, 3, 1, 1)),
        ValueError,
        r"conv_output_shape: channels do not match",
    ),
}


@pytest.mark.parametrize("call, kind, message", ERRORS.values(), ids=ERRORS.keys())
def test_convolutions_say_what_to_write_instead(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
