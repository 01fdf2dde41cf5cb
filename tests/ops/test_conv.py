"""Convolution and its gradients against loops, PyTorch, plain lax and finite differences."""

import subprocess
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export, lax

from convax import ops
from tests.reference import conv as reference


class Case(NamedTuple):
    x: tuple[int, ...]
    kernel: tuple[int, ...]
    options: dict[str, Any]
    padding: tuple[tuple[int, int], ...] = ((1, 1), (1, 1))  # what options["padding"] comes to


CASES = {
    "2d": Case((2, 5, 6, 3), (3, 3, 3, 4), {}),
    "2d valid": Case((2, 5, 6, 3), (3, 2, 3, 4), {"padding": "valid"}, ((0, 0), (0, 0))),
    "2d even kernel": Case((2, 5, 6, 2), (2, 4, 2, 3), {}, ((0, 1), (1, 2))),
    "2d 1x1": Case((2, 4, 4, 3), (1, 1, 3, 5), {}, ((0, 0), (0, 0))),
    "2d stride": Case((2, 6, 7, 2), (3, 3, 2, 3), {"stride": 2}, ((0, 1), (1, 1))),
    "2d stride leaves a rest": Case(
        (2, 8, 7, 2), (2, 3, 2, 3), {"stride": (3, 2), "padding": 0}, ((0, 0), (0, 0))
    ),
    "2d stride over kernel": Case(
        (1, 7, 8, 2), (2, 1, 2, 3), {"stride": 3, "padding": "SAME"}, ((0, 1), (0, 0))
    ),
    "2d dilation": Case((2, 7, 7, 2), (3, 2, 2, 3), {"dilation": (2, 3)}, ((2, 2), (1, 2))),
    "2d stride and dilation": Case(
        (1, 9, 8, 2), (3, 3, 2, 3), {"stride": 2, "dilation": 2, "padding": 2}, ((2, 2), (2, 2))
    ),
    "2d pairs": Case((2, 5, 4, 2), (3, 3, 2, 3), {"padding": ((0, 3), (4, 1))}, ((0, 3), (4, 1))),
    "2d one int per axis": Case((2, 5, 4, 2), (3, 3, 2, 3), {"padding": (0, 2)}, ((0, 0), (2, 2))),
    "2d groups": Case((2, 5, 5, 4), (3, 3, 2, 6), {"groups": 2}),
    "2d depthwise": Case((2, 5, 5, 4), (3, 3, 1, 8), {"groups": 4, "stride": 2}),
    "2d groups, all at once": Case(
        (2, 9, 8, 6),
        (2, 3, 2, 3),
        {"groups": 3, "stride": (2, 1), "dilation": (1, 2), "padding": ((2, 1), (0, 3))},
        ((2, 1), (0, 3)),
    ),
    "1d": Case((3, 9, 2), (4, 2, 3), {"stride": 2}, ((1, 2),)),
    "1d groups": Case((3, 9, 4), (3, 2, 4), {"groups": 2, "padding": 2, "dilation": 2}, ((2, 2),)),
    "3d": Case((1, 4, 5, 4, 2), (3, 2, 3, 2, 3), {"stride": 2}, ((0, 1), (0, 1), (0, 1))),
    "3d groups": Case((1, 4, 3, 4, 4), (2, 2, 2, 2, 2), {"groups": 2, "padding": 1}, ((1, 1),) * 3),
}


@pytest.fixture(params=CASES.values(), ids=list(CASES))
def case(request) -> Case:
    return request.param


def draw(rng, *shape, dtype: Any = jnp.float32):
    return jnp.asarray(rng.standard_normal(shape), dtype)


def written_out(case: Case):
    """The options as the loops and plain lax take them: one entry per spatial axis."""
    rank = len(case.x) - 2

    def per_axis(value):
        return (value,) * rank if isinstance(value, int) else value

    stride, dilation = (per_axis(case.options.get(name, 1)) for name in ("stride", "dilation"))
    return stride, case.padding, dilation, case.options.get("groups", 1)


def plain(case: Case):
    """The same convolution as one lax call, which JAX differentiates by itself."""
    stride, padding, dilation, groups = written_out(case)
    spatial = "DHW"[5 - len(case.x) :]
    return lambda x, k: lax.conv_general_dilated(
        x,
        k,
        stride,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=(f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"),
        feature_group_count=groups,
    )


def value_and_grads(f):
    """A jitted function of (x, k, g): f(x, k), and the gradients of sum(g * f(x, k))."""

    @jax.jit
    def function(x, k, g):
        y, vjp = jax.vjp(f, x, k)
        return y, *vjp(g)

    return function


# ------------------------------------------------------------------------------------- values


def test_by_hand():
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


def test_matches_loops(case: Case, rng):
    x, k = draw(rng, *case.x), draw(rng, *case.kernel)
    expected = reference.conv(x, k, *written_out(case))
    g = draw(rng, *expected.shape)
    assert ops.conv_output_shape(case.x, case.kernel, **case.options) == expected.shape

    actual = (
        ops.conv(x, k, **case.options),
        ops.conv_input_grad(g, k, case.x, **case.options),
        ops.conv_kernel_grad(x, g, case.kernel, **case.options),
    )
    wanted = (expected, *reference.conv_grads(x, k, g, *written_out(case)))
    for a, b, name in zip(actual, wanted, ("y", "gx", "gk"), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=name)

    compiled = value_and_grads(lambda x, k: ops.conv(x, k, **case.options))(x, k, g)
    for a, b in zip(actual, compiled, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg="jit differs from eager")


@st.composite
def problems(draw):
    """A random convolution with at least one output."""
    rank = draw(st.integers(1, 3))
    per_axis = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(rank))  # noqa: E731
    window, stride, dilation = per_axis(1, 3), per_axis(1, 3), per_axis(1, 2)
    padding = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(rank))
    size = tuple(
        max(d * (w - 1) + 1 - sum(pads), 1) + draw(st.integers(0, 4))
        for w, d, pads in zip(window, dilation, padding, strict=True)
    )
    groups, per_group = draw(st.sampled_from([1, 1, 2, 3])), draw(st.integers(1, 2))
    x = (draw(st.integers(1, 3)), *size, groups * per_group)
    kernel = (*window, per_group, groups * draw(st.integers(1, 2)))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return Case(x, kernel, options, padding), draw(st.integers(0, 2**32 - 1))


@settings(max_examples=25)
@given(problems())
def test_matches_torch(torch, problem):
    case, seed = problem
    rng = np.random.default_rng(seed)
    x, k = draw(rng, *case.x), draw(rng, *case.kernel)
    rank = x.ndim - 2
    tx, tk = (
        torch.tensor(np.ascontiguousarray(a), dtype=torch.float64, requires_grad=True)
        for a in (jnp.moveaxis(x, -1, 1), jnp.moveaxis(k, (-1, -2), (0, 1)))
    )
    padded = torch.nn.functional.pad(tx, [p for pads in case.padding[::-1] for p in pads])
    ty = getattr(torch.nn.functional, f"conv{rank}d")(
        padded,
        tk,
        stride=case.options["stride"],
        dilation=case.options["dilation"],
        groups=case.options["groups"],
    )
    tg = torch.tensor(rng.standard_normal(ty.shape))
    ty.backward(tg)

    g = jnp.asarray(np.moveaxis(tg.numpy(), 1, -1), jnp.float32)
    y, gx, gk = value_and_grads(lambda x, k: ops.conv(x, k, **case.options))(x, k, g)
    np.testing.assert_allclose(y, np.moveaxis(ty.detach().numpy(), 1, -1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(gx, np.moveaxis(tx.grad.numpy(), 1, -1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        gk, np.moveaxis(tk.grad.numpy(), (0, 1), (-1, -2)), rtol=1e-4, atol=1e-4
    )


def test_gradients_match_finite_differences(rng):
    case = CASES["2d groups, all at once"]
    with jax.enable_x64(True):
        x, k = draw(rng, *case.x, dtype=jnp.float64), draw(rng, *case.kernel, dtype=jnp.float64)
        loss = jax.jit(lambda x, k: jnp.sum(jnp.sin(ops.conv(x, k, **case.options))))
        gx, gk = jax.grad(loss, (0, 1))(x, k)
        assert gx.dtype == gk.dtype == jnp.float64
        for _ in range(5):
            dx, dk, step = rng.standard_normal(x.shape), rng.standard_normal(k.shape), 1e-5
            ahead = loss(x + step * dx, k + step * dk)
            behind = loss(x - step * dx, k - step * dk)
            slope = np.sum(gx * dx) + np.sum(gk * dk)
            np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=1e-7)


# ----------------------------------------------------------------------------- transformations


def scalar(f):
    return lambda x, k: jnp.sum(jnp.sin(f(x, k)))


def scanned(f):
    """The gradient inside a loop and a branch."""

    def body(k, x):
        g = lax.cond(jnp.sum(x) > 0, jax.grad(scalar(f), 1), lambda x, k: jnp.sin(k), x, k)
        return k - 0.1 * g, jnp.sum(g)

    return lambda x, k: lax.scan(body, k, jnp.stack([x, -x, 2 * x]))


def twice(f):
    """Reverse over reverse, through both operands."""
    norm = lambda x, k: sum(jnp.sum(g**2) for g in jax.grad(scalar(f), (0, 1))(x, k))  # noqa: E731
    return jax.grad(norm, (0, 1))


TRANSFORMATIONS = {
    "jit": jax.jit,
    "grad": lambda f: jax.grad(scalar(f), (0, 1)),
    "jvp": lambda f: lambda x, k: jax.jvp(f, (x, k), (jnp.sin(x), jnp.cos(k))),
    "jvp of x": lambda f: lambda x, k: jax.jvp(lambda x: f(x, k), (x,), (jnp.sin(x),)),
    "linearize": lambda f: lambda x, k: jax.linearize(f, x, k)[1](jnp.sin(x), jnp.cos(k)),
    "grad of grad": twice,
    "jvp of grad": lambda f: (
        lambda x, k: jax.jvp(jax.grad(scalar(f), (0, 1)), (x, k), (jnp.sin(x), jnp.cos(k)))
    ),
    "hessian": lambda f: lambda x, k: jax.hessian(scalar(f), 1)(x[:1], k),
    "remat": lambda f: jax.grad(scalar(jax.checkpoint(lambda x, k: jnp.sin(f(x, k)))), (0, 1)),
    "scan and cond": scanned,
    "vmap of grad": lambda f: (
        lambda x, k: jax.vmap(jax.grad(scalar(f), (0, 1)), (0, None))(jnp.stack([x, 2 * x]), k)
    ),
    "grad of vmap": lambda f: (
        lambda x, k: jax.grad(scalar(lambda x, k: jax.vmap(f)(jnp.stack([x, 2 * x]), k)), 1)(
            x, jnp.stack([k, -k])
        )
    ),
    "vmap of vmap": lambda f: (
        lambda x, k: jax.vmap(jax.vmap(f, (0, None)), (None, 0))(
            jnp.stack([x, 2 * x]), jnp.stack([k, -k, 3 * k])
        )
    ),
    "vmap of hessian": lambda f: (
        lambda x, k: jax.vmap(jax.hessian(scalar(f), 1), (0, None))(jnp.stack([x, 2 * x]), k)
    ),
}


@pytest.mark.parametrize("transformation", TRANSFORMATIONS.values(), ids=TRANSFORMATIONS.keys())
@pytest.mark.parametrize("name", ["1d groups", "2d stride and dilation"])
def test_transformations_match_plain_lax(name, transformation, rng):
    case = CASES[name]
    x, k = draw(rng, *case.x), draw(rng, *case.kernel)
    actual = jax.jit(transformation(lambda x, k: ops.conv(x, k, **case.options)))(x, k)
    expected = jax.jit(transformation(plain(case)))(x, k)
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


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
def test_vmap_equals_a_loop(name, primitive, axes, rng):
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
def test_lowers_to_channels_last(name, primitive, rng):
    """Permuted convolutions are what XLA runs a hundred times slower inside loops on CPU."""
    case = CASES[name]
    *roles, function = primitive
    output = ops.conv_output_shape(case.x, case.kernel, **case.options)
    shapes = {"x": case.x, "k": case.kernel, "g": output}
    a, b = (jax.ShapeDtypeStruct(shapes[role], jnp.float32) for role in roles)
    text = jax.jit(lambda a, b: function(a, b, case)).lower(a, b).as_text()
    assert text.count("stablehlo.convolution") == 1
    assert "dim_numbers = [b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]" in text
    assert "batch_group_count = 1" in text


def test_second_call_compiles_nothing(rng, caplog):
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


def test_without_jit(rng):
    x, k = draw(rng, 2, 5, 5, 2), draw(rng, 3, 3, 2, 2)
    with jax.disable_jit():
        y = ops.conv(x, k)
    np.testing.assert_allclose(y, ops.conv(x, k), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
def test_exports_with_a_symbolic_batch(groups, rng):
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
import jax, numpy as np, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from convax import ops

assert jax.device_count() == 4
x = jax.random.normal(jax.random.key(0), (8, 6, 6, 4))
k = jax.random.normal(jax.random.key(1), (3, 3, 4, 4))
for kind in AxisType.Auto, AxisType.Explicit:
    mesh = jax.make_mesh((4,), ("data",), axis_types=(kind,))
    for pool in ops.max_pool, ops.avg_pool:
        for window in 2, 3:
            loss = lambda k, x: jnp.sum(jnp.sin(pool(ops.conv(x, k), window, stride=2)))
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
                        actual, expected, rtol=1e-4, atol=1e-4, err_msg=f"{kind} {name} {window}"
                    )
"""


def test_gradients_over_four_devices(tmp_path):
    """The kernel's gradient is summed over the devices that share the batch."""
    script = tmp_path / "sharded.py"
    script.write_text(SHARDED)
    run = subprocess.run(
        [sys.executable, str(script)],
        env={"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr


# --------------------------------------------------------------------------- dtypes and limits


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_is_added_up_in_float32(dtype):
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


def test_empty_batch():
    x, k = jnp.zeros((0, 5, 5, 4)), jnp.ones((3, 3, 2, 6))
    y, vjp = jax.vjp(lambda x, k: ops.conv(x, k, groups=2), x, k)
    gx, gk = vjp(y)
    assert (y.shape, gx.shape) == ((0, 5, 5, 6), x.shape)
    np.testing.assert_array_equal(gk, np.zeros(k.shape))


def test_numpy_operands(rng):
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
        lambda: ops.conv(zeros(1, 5, 5, 1), zeros(3, 3, 1, 1), padding="full"),
        ValueError,
        r"conv: bad padding: got 'full', need 'SAME', 'VALID', .*write padding=\(\(1, 1\), \(1",
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
    "output_shape": (
        lambda: ops.conv_output_shape((1, 5, 5, 2), (3, 3, 1, 1)),
        ValueError,
        r"conv_output_shape: channels do not match",
    ),
}


@pytest.mark.parametrize("call, kind, message", ERRORS.values(), ids=ERRORS.keys())
def test_errors(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
