"""The native kernels behind XLA, where they are built: values, transformations, which are taken when."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from convax import ops
from convax.cli import doctor
from convax.inference.export import bundle
from convax.inference.predictor import Predictor
from convax.ops.conv.cpu.dispatch import rule_name
from convax.ops.conv.geometry import resolve_conv
from convax.ops.conv.native.call import native_conv, native_input_grad, native_kernel_grad
from convax.ops.conv.native.library import KernelsError, load_kernels
from convax.ops.conv.xla import xla_conv, xla_input_grad, xla_kernel_grad
from convax.training.run import provenance

try:
    load_kernels()
except KernelsError as error:
    pytest.skip(str(error), allow_module_level=True)

KINDS = {
    "conv": ("xk", native_conv, xla_conv),
    "input_grad": ("gk", native_input_grad, xla_input_grad),
    "kernel_grad": ("xg", native_kernel_grad, xla_kernel_grad),
}
CASES = {  # x, window, Ci, Co; stride, padding, dilation; depthwise where the name says so
    "winograd, tiles that are not full": ((3, 9, 6), (3, 3), 17, 8, 1, 1, 1),
    "winograd, wide padding": ((2, 5, 4), (3, 3), 8, 20, 1, ((4, 1), (0, 3)), 1),
    "strided": ((2, 11, 13), (3, 2), 7, 19, (2, 3), ((2, 1), (0, 3)), (1, 2)),
    "one axis": ((2, 12), (3,), 5, 6, 2, 1, 1),
    "window larger than the image": ((4, 2, 2), (5, 5), 3, 9, 1, 2, 1),
    "empty batch": ((0, 8, 8), (3, 3), 8, 8, 1, 1, 1),
    "depthwise": ((3, 9, 11), (7, 7), 19, 19, 1, 3, 1),
    "depthwise, strided": ((2, 11, 13), (3, 2), 16, 16, (3, 2), ((2, 1), (0, 3)), (2, 1)),
    "depthwise, one axis": ((2, 12), (5,), 5, 5, 2, 1, 1),
}


def problem(x, window, Ci, Co, stride, padding, dilation, groups):
    x, k = (*x, Ci), (*window, Ci // groups, Co)
    geometry = resolve_conv("test", x, k, stride, padding, dilation, groups)
    rng = np.random.default_rng(0)
    shapes = {"x": x, "k": k, "g": (x[0], *geometry.output, Co)}
    # Whole numbers: all but Winograd's add them up without rounding.
    return geometry, {
        n: jnp.asarray(rng.integers(-3, 4, s), jnp.float32) for n, s in shapes.items()
    }


@pytest.mark.parametrize("name", CASES)
def test_kernels_equal_xla(name):
    depthwise = name.startswith("depthwise")
    geometry, arrays = problem(*CASES[name], groups=CASES[name][2] if depthwise else 1)
    winograd = geometry.window == (3, 3) and name != "strided"
    algorithms = ["depthwise"] if depthwise else ["direct", *["winograd"] * winograd]
    functions = {}
    for kind, (operands, native, xla) in KINDS.items():
        functions[kind, "xla"] = operands, partial(xla, geometry=geometry)
        for algorithm in algorithms:
            functions[kind, algorithm] = (
                operands,
                partial(native, geometry=geometry, algorithm=algorithm),
            )
    program = jax.jit(
        lambda arrays: {n: f(*(arrays[o] for o in of)) for n, (of, f) in functions.items()}
    )
    found = program(arrays)
    for (kind, algorithm), got in found.items():
        want = found[kind, "xla"]
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        tolerance = 0 if algorithm != "winograd" else 1e-5 * np.abs(want).max(initial=0)
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance, err_msg=f"{kind} {algorithm}")


def test_programs_call_the_kernels_that_the_rules_name(monkeypatch):
    def gradient(x, k):
        return jax.grad(lambda x, k: (ops.conv(x, k) ** 2).sum(), (0, 1))(x, k)

    def called(x, k, name):
        with ops.implementation(name):
            text = jax.jit(gradient).lower(x, k).as_text()
        return {a: text.count(f"@convax_{a}_") for a in ("winograd", "direct")}

    x, k = jnp.ones((4, 8, 8, 16)), jnp.ones((3, 3, 16, 16))
    assert called(x, k, "auto") == {"winograd": 3, "direct": 0}
    assert called(x, k, "native") == {"winograd": 3, "direct": 0}
    assert called(x, k, "native-direct") == {"winograd": 0, "direct": 3}
    assert called(x, k, "cpu") == {"winograd": 0, "direct": 0}
    assert called(x[:1, :4], k, "native") == {"winograd": 0, "direct": 3}  # too few tiles
    both = (x.astype(jnp.bfloat16), k.astype(jnp.bfloat16))
    assert called(*both, "native") == {"winograd": 0, "direct": 0}


S = (32, 32, 32)
RULES = [  # x without channels, window, Ci, Co, stride, groups; the rules of the three kinds
    (S, 3, 64, 64, 1, 1, "winograd winograd winograd"),
    ((32, 7, 7), 3, 512, 512, 1, 1, "winograd winograd winograd"),
    ((32, 2, 2), 3, 64, 64, 1, 1, "im2col polyphase direct"),
    (S, 3, 3, 16, 1, 1, "direct toeplitz_row direct"),
    (S, 3, 3, 64, 1, 1, "direct xla direct"),
    (S, 5, 1, 6, 1, 1, "block_toeplitz toeplitz_row direct"),
    ((32, 14, 14), 5, 6, 16, 1, 1, "direct toeplitz_row direct"),
    (S, 3, 64, 128, 2, 1, "xla xla direct"),
    (S, 3, 16, 32, 2, 1, "direct direct direct"),
    (S, 3, 128, 256, 2, 1, "xla xla im2col"),
    (S, 1, 64, 256, 1, 1, "space_to_depth space_to_depth im2col"),
    (S, 3, 64, 64, 1, 8, "grouped grouped grouped"),
    (S, 3, 64, 64, 1, 64, "depthwise depthwise depthwise"),
    (S, 3, 64, 64, 2, 64, "depthwise depthwise depthwise"),
    ((32, 16, 16), 7, 96, 96, 1, 96, "depthwise depthwise depthwise"),
    (S, 3, 64, 64, 3, 64, "shift_and_add polyphase shift_and_add"),
    (S, 3, 8, 8, 1, 8, "shift_and_add polyphase shift_and_add"),
    (S, 3, 32, 64, 1, 32, "shift_and_add polyphase shift_and_add"),
    ((32, 9, 9, 9), 3, 16, 16, 1, 1, "xla xla microbatch"),
]


@pytest.mark.parametrize("case", RULES, ids=str)
def test_rules_choose_the_kernels(case):
    x, window, Ci, Co, stride, groups, names = case
    shapes = (*x, Ci), (*(window,) * (len(x) - 1), Ci // groups, Co)
    geometry = resolve_conv("test", *shapes, stride, "SAME", 1, groups)
    with ops.implementation("native"):
        assert " ".join(rule_name(kind, geometry, Ci, Co) for kind in KINDS) == names
        doubles = {rule_name(kind, geometry, Ci, Co, jnp.float64) for kind in KINDS}
    assert not doubles & {"winograd", "direct", "depthwise"}


@pytest.mark.parametrize("C, groups", [(8, 1), (16, 16)], ids=["winograd", "depthwise"])
def test_a_stack_of_networks_and_second_derivatives(C, groups):
    rng = np.random.default_rng(0)
    shapes = (3, 4, 8, 8, C), (3, 3, 3, C // groups, C)
    x, k = (jnp.asarray(rng.standard_normal(s), jnp.float32) for s in shapes)

    def norm_of_gradient(x, k):
        conv = partial(ops.conv, groups=groups)
        gradients = jax.grad(lambda x, k: (conv(x, k) ** 3).sum(), (0, 1))(x, k)
        return sum((g**2).sum() for g in gradients)

    found = {}
    for name in ("cpu", "native"):
        with ops.implementation(name):
            found[name] = jax.jit(jax.vmap(jax.grad(norm_of_gradient, (0, 1))))(x, k)
    for got, want in zip(found["native"], found["cpu"], strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * np.abs(want).max())


MESHES = """
import jax, jax.numpy as jnp, numpy as np
from functools import partial
from jax.sharding import AxisType, NamedSharding
from convax import ops

P = jax.P
same = partial(ops.conv, padding="SAME")
valid = partial(ops.conv, padding=0)
x = jax.random.normal(jax.random.key(0), (8, 16, 12, 16))
k = jax.random.normal(jax.random.key(1), (3, 3, 16, 16))


same_deep = partial(ops.conv, padding="SAME", groups=16)
valid_deep = partial(ops.conv, padding=0, groups=16)  # of which the gradients alone are native


def results(conv, x, k, cut=lambda x: x):
    y, pull = jax.vjp(lambda x, k: conv(cut(x), k), x, k)
    return y, *pull(jnp.sin(y))


def close(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * float(jnp.abs(b).max()))


kernels = {conv: ("winograd", k) for conv in (same, valid)}
kernels |= {conv: ("depthwise", k[:, :, :1]) for conv in (same_deep, valid_deep)}
with ops.implementation("cpu"):
    expected = {conv: jax.jit(partial(results, conv))(x, k) for conv, (_, k) in kernels.items()}
with ops.implementation("native"):
    mesh = jax.make_mesh((2, 2), ("data", "spatial"), (AxisType.Auto,) * 2)
    cut = lambda x: jax.lax.with_sharding_constraint(x, NamedSharding(mesh, P("data", "spatial")))
    of_examples = jax.make_mesh((4,), ("data",), (AxisType.Auto,))
    for conv, (rule, k) in kernels.items():
        with jax.set_mesh(mesh):  # rows are fetched from neighbors
            program = jax.jit(partial(results, conv, cut=cut)).lower(x, k).compile()
            assert f"convax_{rule}" in program.as_text()
            close(program(x, k), expected[conv])
        alone = jax.shard_map(conv, mesh=of_examples, in_specs=(P("data"), P()), out_specs=P("data"))
        program = jax.jit(partial(results, alone)).lower(x, k).compile()
        assert f"convax_{rule}" in program.as_text()
        close(program(x, k), expected[conv])
        # Where the compiler cuts arrays up by itself, no kernel is called.
        shards = NamedSharding(of_examples, P("data")), NamedSharding(of_examples, P())
        program = jax.jit(partial(results, conv), in_shardings=shards).lower(x, k).compile()
        assert "convax_" not in program.as_text()
        close(program(*map(jax.device_put, (x, k), shards)), expected[conv])
"""


@pytest.mark.slow
def test_on_a_mesh(run_on_four_devices):
    run_on_four_devices(MESHES)


@pytest.mark.parametrize("batch", ["b", "4"])
def test_an_exported_program_needs_no_kernels(batch):
    (batch,) = jax.export.symbolic_shape(batch)
    shapes = jax.ShapeDtypeStruct((batch, 8, 8, 16), jnp.float32), jnp.ones((3, 3, 16, 16))
    with ops.implementation("native"):
        exported = jax.export.export(jax.jit(ops.conv))(*shapes)
    assert "convax_" not in exported.mlir_module()


def test_a_bundle_calls_no_kernels():
    """Nor where it maps a function over images, whose batch is then one, and not symbolic."""
    k = jnp.ones((3, 3, 8, 8))

    def function(params, state, images):
        y = jax.lax.map(lambda x: ops.conv(x[None], k), images.astype(jnp.float32))
        return y.reshape(y.shape[0], 16 * 16 * 8)

    made = Predictor(jax.jit(function), {"k": k}, {}, (), (16, 16, 8), None)
    inputs = {"images": np.zeros((1, 16, 16, 8), np.uint8)}
    with ops.implementation("native"):
        assert "convax_winograd_conv" in jax.jit(function).lower({}, {}, **inputs).as_text()
        program, _ = bundle._program(made, ("cpu",), inputs)
    assert "convax_" not in jax.export.deserialize(bytearray(program)).mlir_module()


def test_what_ran_is_visible(monkeypatch):
    monkeypatch.delenv("CONVAX_LOWERING", raising=False)
    kernels = load_kernels()
    fine, text = doctor._kernels()
    assert fine and kernels.level in text and text.endswith(" in use (CONVAX_LOWERING=auto)")
    assert provenance._kernels() == {"convax-kernels": str(kernels)}
    assert provenance.convolutions_in_use() == f"native {kernels.version}"
    monkeypatch.setenv("CONVAX_LOWERING", "cpu")
    fine, text = doctor._kernels()
    assert fine and text.endswith("not in use (CONVAX_LOWERING=cpu)")
    assert provenance._kernels() == {}
    assert provenance.convolutions_in_use() == "cpu"


def test_on_other_platforms_no_kernels_run(monkeypatch):
    monkeypatch.delenv("CONVAX_LOWERING", raising=False)
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(platform="gpu")])
    assert provenance.convolutions_in_use() == "cpu"
    assert provenance._kernels() == {}
