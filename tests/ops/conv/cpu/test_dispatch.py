"""Every form that a convolution may take on CPU against the plain one, and which is taken when."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convax import ops
from convax.ops.conv.cpu import depthwise as depthwise
from convax.ops.conv.cpu import im2col, toeplitz_block
from convax.ops.conv.cpu.dispatch import cpu_conv, cpu_input_grad, cpu_kernel_grad, rule_name
from convax.ops.conv.cpu.im2col import (
    im2col_conv,
    im2col_kernel_grad,
    space_to_depth_conv,
    space_to_depth_fits,
    space_to_depth_input_grad,
)
from convax.ops.conv.cpu.microbatch import microbatched_kernel_grad
from convax.ops.conv.cpu.polyphase import polyphase_input_grad
from convax.ops.conv.cpu.toeplitz_block import block_toeplitz_conv, block_toeplitz_fits
from convax.ops.conv.cpu.toeplitz_row import toeplitz_row_fits, toeplitz_row_input_grad
from convax.ops.conv.geometry import resolve_conv
from convax.ops.conv.xla import xla_conv, xla_input_grad, xla_kernel_grad

KINDS = {
    "conv": (xla_conv, cpu_conv),
    "input_grad": (xla_input_grad, cpu_input_grad),
    "kernel_grad": (xla_kernel_grad, cpu_kernel_grad),
}


@pytest.fixture(autouse=True, scope="module")
def without_native_kernels():
    """What these tests hold of is the forms that are taken where there are none."""
    with ops.implementation("cpu"):
        yield


@st.composite
def problems(draw):
    """A geometry, and the shapes of x, k and g."""
    rank = draw(st.integers(1, 2))
    per_axis = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(rank))  # noqa: E731
    window, stride, dilation = per_axis(1, 4), per_axis(1, 4), per_axis(1, 3)
    padding = tuple((draw(st.integers(0, 4)), draw(st.integers(0, 4))) for _ in range(rank))
    size = tuple(
        max(d * (k - 1) + 1 - sum(pads), 1) + draw(st.integers(0, 5))
        for k, d, pads in zip(window, dilation, padding, strict=True)
    )
    groups = draw(st.sampled_from([1, 1, 2, 3, 8]))
    Ci, Co = (draw(st.sampled_from([1, 1, 2, 3, 8])) for _ in range(2))
    N = draw(st.integers(1, 4) | st.just(17))
    x, k = (N, *size, Ci * groups), (*window, Ci, Co * groups)
    geometry = resolve_conv("test", x, k, stride, padding, dilation, groups)
    return geometry, {"x": x, "k": k, "g": (N, *geometry.output, Co * groups)}


def integers(shapes, seed, dtype="float32"):
    """Whole numbers add up without rounding, so to the same in any order."""
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.integers(-3, 4, s), dtype) for name, s in shapes.items()}


def operands(kind, a):
    return {
        "conv": (a["x"], a["k"]),
        "input_grad": (a["g"], a["k"]),
        "kernel_grad": (a["x"], a["g"]),
    }[kind]


def compiled(arrays, functions):
    """``{name: function(*operands)}`` of `functions`, ``{name: (kind, function)}``, in one program."""

    @jax.jit
    def program(arrays):
        return {name: f(*operands(kind, arrays)) for name, (kind, f) in functions.items()}

    return program(arrays)


def of_all_kinds(arrays, geometry, which):
    """What the implementations give, plain ones (0) or those for CPU (1), by kind."""
    functions = {kind: (kind, partial(KINDS[kind][which], geometry=geometry)) for kind in KINDS}
    return compiled(arrays, functions)


@settings(max_examples=25)
@given(problems(), st.integers(0, 99))
def test_every_implementation_gives_the_same(problem, seed):
    """As XLA's own in float64: of float32, its grouped ones end the process now and then."""
    geometry, shapes = problem
    got = of_all_kinds(integers(shapes, seed), geometry, 1)
    with jax.enable_x64(True):
        want = of_all_kinds(integers(shapes, seed, "float64"), geometry, 0)
    for kind in KINDS:
        np.testing.assert_array_equal(got[kind], want[kind], kind)


@settings(max_examples=15)
@given(problems(), st.integers(0, 99))
def test_polyphase_and_toeplitz_row_equal_xla_wherever_they_fit(problem, seed):
    geometry, shapes = problem
    functions = {"xla": xla_input_grad, "polyphase": partial(polyphase_input_grad, impl=xla_conv)}
    if toeplitz_row_fits(geometry):
        functions["toeplitz_row"] = toeplitz_row_input_grad
    functions = {n: ("input_grad", partial(f, geometry=geometry)) for n, f in functions.items()}
    found = compiled(integers(shapes, seed), functions)
    for name, got in found.items():
        np.testing.assert_array_equal(got, found["xla"], name)


@pytest.mark.slow
@settings(max_examples=15)
@given(problems(), st.integers(0, 99), st.sampled_from([1, 20]))
def test_block_toeplitz_and_im2col_equal_xla_wherever_they_fit(problem, seed, places):
    """However little is written down at once: blocks of examples, of rows, and the whole."""
    geometry, shapes = problem
    if geometry.groups > 1:
        geometry = geometry._replace(groups=1)
        shapes = {n: (*s[:-1], s[-1] // problem[0].groups) for n, s in shapes.items()}
    functions = {
        "im2col conv": im2col_conv,
        "im2col kernel_grad": im2col_kernel_grad,
        **{f"xla {kind}": plain for kind, (plain, _) in KINDS.items()},
    }
    if block_toeplitz_fits(geometry):
        functions["block_toeplitz conv"] = block_toeplitz_conv
    if space_to_depth_fits(geometry):
        functions["space_to_depth conv"] = space_to_depth_conv
        functions["space_to_depth input_grad"] = space_to_depth_input_grad
    functions = {
        name: (name.split()[1], partial(f, geometry=geometry)) for name, f in functions.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toeplitz_block, "_POSITIONS", places)
        patch.setattr(im2col, "_POSITIONS", places)
        found = compiled(integers(shapes, seed), functions)
    for name, got in found.items():
        np.testing.assert_array_equal(got, found[f"xla {name.split()[1]}"], name)


def test_window_as_large_as_the_image_takes_space_to_depth():
    geometry = resolve_conv("test", (4, 7, 7, 32), (7, 7, 32, 64), 1, "VALID", 1, 1)
    names = [rule_name(kind, geometry, 32, 64) for kind in KINDS]
    assert names == ["space_to_depth", "space_to_depth", "im2col"]
    arrays = integers({"x": (4, 7, 7, 32), "k": (7, 7, 32, 64), "g": (4, 1, 1, 64)}, 0)
    want, got = (of_all_kinds(arrays, geometry, which) for which in (0, 1))
    for kind in KINDS:
        np.testing.assert_array_equal(got[kind], want[kind], kind)


def test_taps_that_meet_padding_alone_are_left_out():
    geometry = resolve_conv("test", (4, 1, 3, 32), (3, 5, 32, 64), 1, "SAME", 1, 1)
    names = [
        rule_name(kind, geometry._replace(size=(1, 1), output=(1, 1)), 32, 64) for kind in KINDS
    ]
    assert names == ["space_to_depth", "space_to_depth", "im2col"]
    arrays = integers({"x": (4, 1, 3, 32), "k": (3, 5, 32, 64), "g": (4, 1, 3, 64)}, 0)
    want, got = (of_all_kinds(arrays, geometry, which) for which in (0, 1))
    for kind in KINDS:
        np.testing.assert_array_equal(got[kind], want[kind], kind)
    assert not np.any(np.delete(got["kernel_grad"], 1, axis=0))


@pytest.mark.parametrize("budget", [1, 2000])
def test_depthwise_kernel_grad_in_parts_of_the_rows(budget, monkeypatch):
    monkeypatch.setattr(depthwise, "_ACCUMULATORS", budget)
    geometry = resolve_conv("test", (3, 8, 8, 4), (3, 3, 1, 4), 1, 1, 1, 4)
    a = integers({"x": (3, 8, 8, 4), "g": (3, 8, 8, 4)}, 0)
    got = depthwise.shift_and_add_kernel_grad(a["x"], a["g"], geometry=geometry)
    np.testing.assert_array_equal(got, xla_kernel_grad(a["x"], a["g"], geometry=geometry))


def test_microbatches_are_added_up_in_float32():
    """Of two lots of 16 examples one sums to 257, which bfloat16 does not have, the other to -256."""
    geometry = resolve_conv("test", (32, 3, 1), (1, 1, 1), 1, 0, 1, 1)
    g = np.zeros((32, 3, 1))
    g[:2, 0, 0], g[16, 0, 0] = (256, 1), -256
    x, g = jnp.ones((32, 3, 1), jnp.bfloat16), jnp.asarray(g, jnp.bfloat16)
    assert microbatched_kernel_grad(x, g, geometry=geometry).item() == 1


@pytest.mark.parametrize("places", [3, 14])
def test_im2col_kernel_grad_with_a_last_block_that_is_not_full(places, monkeypatch):
    """Three blocks of 3 rows for 7 rows, and two of 2 examples for 3."""
    monkeypatch.setattr(im2col, "_POSITIONS", places)
    geometry = resolve_conv("test", (3, 15, 2), (3, 2, 4), 2, "VALID", 1, 1)
    a = integers({"x": (3, 15, 2), "g": (3, 7, 4)}, 0)
    got = im2col_kernel_grad(a["x"], a["g"], geometry=geometry)
    np.testing.assert_array_equal(got, xla_kernel_grad(a["x"], a["g"], geometry=geometry))


@pytest.mark.parametrize("N", [16, 34, 37])
def test_kernel_grad_of_microbatches_is_that_of_the_batch(N):
    geometry = resolve_conv("test", (N, 7, 3), (3, 3, 4), 2, 1, 1, 1)
    a = integers({"x": (N, 7, 3), "g": (N, *geometry.output, 4)}, N)
    got = microbatched_kernel_grad(a["x"], a["g"], geometry=geometry)
    np.testing.assert_array_equal(got, xla_kernel_grad(a["x"], a["g"], geometry=geometry))


X, S1, S2 = (32, 32, 32), 1, 2
RULES = [  # x without its channels, window, Ci, Co, stride, groups; the rules of the three kinds
    (X, 3, 64, 64, S1, 1, "xla xla im2col"),
    (X, 3, 16, 16, S1, 1, "xla xla microbatch"),
    (X, 3, 64, 128, S2, 1, "xla xla im2col"),
    (X, 4, 64, 128, S2, 1, "xla polyphase im2col"),
    (X, 2, 64, 128, S2, 1, "space_to_depth space_to_depth im2col"),
    (X, 16, 8, 8, 8, 1, "xla xla microbatch"),
    ((32, 2, 2), 3, 64, 64, S1, 1, "im2col polyphase im2col"),
    ((32, 4, 4), 3, 256, 512, S2, 1, "im2col polyphase im2col"),
    ((32, 4, 4), 3, 64, 64, S1, 1, "xla xla im2col"),
    ((32, 2048, 2048), 11, 3, 8, S1, 1, "xla xla microbatch"),
    ((1, 1024, 1024), 7, 64, 64, S1, 64, "shift_and_add polyphase grouped"),
    (X, 3, 61, 61 * 4, S1, 61, "shift_and_add polyphase shift_and_add"),
    (X, 3, 61 * 4, 61 * 4, S1, 61, "grouped grouped grouped"),
    (X, 1, 64, 128, S1, 1, "space_to_depth space_to_depth im2col"),
    (X, 1, 64, 128, S2, 1, "space_to_depth space_to_depth im2col"),
    (X, 1, 3, 4, S1, 1, "block_toeplitz toeplitz_row im2col"),
    (X, 5, 1, 6, S1, 1, "block_toeplitz toeplitz_row microbatch"),
    ((32, 14, 14), 5, 6, 16, S1, 1, "xla toeplitz_row microbatch"),
    (X, 3, 3, 32, S1, 1, "xla xla microbatch"),
    (X, 3, 3, 16, S2, 1, "block_toeplitz xla microbatch"),
    ((32, 64, 64), 7, 3, 64, S2, 1, "xla polyphase im2col"),
    (X, 3, 64, 64, S1, 8, "grouped grouped grouped"),
    (X, 3, 64, 64, S1, 64, "shift_and_add polyphase shift_and_add"),
    (X, 3, 64, 128, S2, 64, "shift_and_add polyphase shift_and_add"),
    ((32, 9, 9, 9), 3, 8, 8, S2, 1, "xla polyphase im2col"),
]


def of_rule(x, window, Ci, Co, stride, groups):
    x, k = (*x, Ci), (*(window,) * (len(x) - 1), Ci // groups, Co)
    return resolve_conv("test", x, k, stride, "SAME", 1, groups), x, k


@pytest.mark.parametrize("case", RULES, ids=str)
def test_rules_choose_the_implementation(case):
    *shape, names = case
    geometry, _, _ = of_rule(*shape)
    found = (rule_name(kind, geometry, shape[2], shape[3]) for kind in KINDS)
    assert " ".join(found) == names
    with ops.implementation("xla"):
        assert {rule_name(kind, geometry, shape[2], shape[3]) for kind in KINDS} == {"xla"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "case, dtype",
    [*((c, "float32") for c in RULES), *((c, "bfloat16") for c in RULES[-4:])],
    ids=str,
)
def test_implementations_equal_xla_in_real_channels_and_dtypes(case, dtype):
    """The same in the channels that the rules are for, one or two examples of small images."""
    (_, *_), *shape, _ = case
    geometry, x, k = of_rule((2, 12, 10), *shape)
    arrays = integers({"x": x, "k": k, "g": (2, *geometry.output, k[-1])}, 0, dtype)
    wanted, found = (of_all_kinds(arrays, geometry, which) for which in (0, 1))
    for kind in KINDS:
        got, want = found[kind], wanted[kind]
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        np.testing.assert_array_equal(got, want, kind)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("case", RULES, ids=str)
def test_other_platforms_keep_the_native_convolution(case, platform):
    """One convolution each, and not an operation more than under the switch."""
    geometry, x, k = of_rule(*case[:-1])
    shapes = {"x": x, "k": k, "g": (x[0], *geometry.output, k[-1])}
    arrays = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    stride, groups = geometry.stride, geometry.groups
    functions = {
        "conv": lambda x, k: ops.conv(x, k, stride=stride, groups=groups),
        "input_grad": lambda g, k: ops.conv_input_grad(g, k, x, stride=stride, groups=groups),
        "kernel_grad": lambda x, g: ops.conv_kernel_grad(x, g, k, stride=stride, groups=groups),
    }
    for kind, function in functions.items():
        traced = jax.jit(function).trace(*operands(kind, arrays))
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert text.count("stablehlo.convolution") == 1
        assert "while" not in text
        assert "dot_general" not in text


def test_cpu_implementations_take_a_symbolic_batch():
    (batch,) = jax.export.symbolic_shape("b")

    def gradients(x, k, depthwise):
        def objective(x, k, depthwise):
            y = ops.depthwise_conv(ops.conv(x, k, padding="SAME"), depthwise)
            return (y**2).sum()

        return jax.grad(objective, argnums=(0, 1, 2))(x, k, depthwise)

    shapes = ((batch, 12, 12, 8), (3, 3, 8, 8), (3, 3, 1, 8))
    exported = jax.export.export(jax.jit(gradients))(
        *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
    )
    args = (jnp.ones((3, *shapes[0][1:])), *(jnp.ones(shape) for shape in shapes[1:]))
    for got, want in zip(exported.call(*args), gradients(*args), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5)


def test_block_toeplitz_matrix_by_hand():
    """One row, kernel (a, b): gx_j = a g_j + b g_{j-1}."""
    g = jnp.array([1.0, 10.0, 100.0]).reshape(1, 1, 3, 1)
    k = jnp.array([2.0, 3.0]).reshape(1, 2, 1, 1)
    geometry = resolve_conv("test", (1, 1, 4, 1), k.shape, 1, "VALID", 1, 1)
    gx = toeplitz_row_input_grad(g, k, geometry=geometry)
    np.testing.assert_array_equal(gx.ravel(), [2.0, 23.0, 230.0, 300.0])


def test_polyphase_of_two_phases_by_hand():
    """Stride 2, taps a b c: the even elements meet a and c, the odd ones b."""
    g = jnp.array([1.0, 10.0, 100.0]).reshape(1, 3, 1)
    k = jnp.array([2.0, 3.0, 4.0]).reshape(3, 1, 1)
    geometry = resolve_conv("test", (1, 7, 1), k.shape, 2, "VALID", 1, 1)
    gx = polyphase_input_grad(g, k, geometry=geometry, impl=xla_conv)
    expected = [2 * 1, 3 * 1, 4 * 1 + 2 * 10, 3 * 10, 4 * 10 + 2 * 100, 3 * 100, 4 * 100]
    np.testing.assert_array_equal(gx.ravel(), expected)
