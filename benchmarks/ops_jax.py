"""Single operations on JAX, each in two forms: convax's, and plain `lax` differentiated by JAX.

A plain convolution is XLA's, its gradients the canonical convolutions of `convax.ops.conv.xla`
(as fast as what differentiating `lax.conv_general_dilated` gives, and faster in a loop).
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from op_cases import CONVOLUTIONS, OTHERS, Conv, Other
from programs import Program

from convax import ops
from convax.ops.conv.cpu.dispatch import rule_name
from convax.ops.conv.geometry import resolve_conv
from convax.ops.conv.primitive import bind, conv_p, input_grad_p, kernel_grad_p
from convax.ops.conv.xla import xla_conv, xla_input_grad, xla_kernel_grad

RNG = np.random.default_rng(0)  # one for all arrays, so that no two are alike

PRIMITIVES = {
    "forward": (conv_p, xla_conv, "conv"),
    "input grad": (input_grad_p, xla_input_grad, "input_grad"),
    "kernel grad": (kernel_grad_p, xla_kernel_grad, "kernel_grad"),
}


def convolution(case: str, which: str) -> Program:
    conv = CONVOLUTIONS[case]
    geometry, (x, k, g) = prepared(conv)
    operands = {"forward": (x, k), "input grad": (g, k), "kernel grad": (x, g)}[which]
    primitive, plain, kind = PRIMITIVES[which]

    def ours(a, b):
        return bind(primitive, a, b, geometry)

    rule = rule_name(kind, geometry, conv.x[-1], conv.kernel[-1])
    return both(ours, partial(plain, geometry=geometry), operands, {"rule": rule})


def dtypes(case: str) -> Program:
    """All three directions of a convolution, in each precision."""
    geometry, arrays = prepared(CONVOLUTIONS[case])

    @jax.jit
    def all_three(x, k, g):
        y = bind(conv_p, x, k, geometry)
        return y, bind(input_grad_p, g, k, geometry), bind(kernel_grad_p, x, g, geometry)

    forms = {}
    for dtype in ("float32", "bfloat16", "float16"):
        operands = [a.astype(dtype) for a in arrays]
        jax.block_until_ready(all_three(*operands))
        forms[dtype] = timed(all_three, operands)
    return Program(forms, {})


def prepared(conv: Conv):
    """Its geometry, and arrays for x, k and g."""
    padding = [(conv.pad, conv.pad)] * 2
    geometry = resolve_conv(
        "benchmark", conv.x, conv.kernel, conv.stride, padding, conv.dilation, conv.groups
    )
    g_shape = (conv.x[0], *geometry.output, conv.kernel[-1])
    return geometry, [array(shape) for shape in (conv.x, conv.kernel, g_shape)]


def other(case: str, which: str) -> Program:
    of: Other = OTHERS[case]
    x = array(of.x)
    inputs = (x, *map(array, 2 * [of.x[-1:]])) if of.op in SCALED else (x,)
    ours, plain = (partial(f, **of.options) for f in OPERATIONS[of.op])
    if which == "forward":
        return both(ours, plain, inputs)
    g = array(jax.eval_shape(ours, *inputs).shape)

    def forward_and_backward(f):
        def both_ways(g, *inputs):
            y, pull = jax.vjp(f, *inputs)
            return y, pull(g)

        return both_ways

    return both(forward_and_backward(ours), forward_and_backward(plain), (g, *inputs))


def both(ours: Callable, plain: Callable, operands, about=None) -> Program:
    """The two forms; that they agree is seen to."""
    forms = {"convax": jax.jit(ours), "plain": jax.jit(plain)}
    results = [jax.tree.leaves(form(*operands)) for form in forms.values()]
    for got, want in zip(*results, strict=True):
        scale = float(jnp.abs(want).max())
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3 * scale)
    return Program({name: timed(form, operands) for name, form in forms.items()}, about or {})


def timed(form: Callable, operands) -> Callable[[int], float]:
    """Runs of a form, each waited for."""

    def run(count):
        for _ in range(count):
            jax.block_until_ready(form(*operands))
        return 0.0

    return run


def array(shape) -> jax.Array:
    return jax.device_put(RNG.standard_normal(shape, dtype=np.float32))


# --------------------------------------------------------------------- pools and norms, both forms


def windows(x, start, join, window, stride, padding):
    around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    return lax.reduce_window(x, start, join, (1, window, window, 1), (1, stride, stride, 1), around)


def plain_max_pool(x, **options):
    return windows(x, -jnp.inf, lax.max, **options)


def plain_avg_pool(x, window, **options):
    return windows(x, 0.0, lax.add, window, **options) / window**2


def standardize(x, axes, eps=1e-5):
    mean = x.mean(axes, keepdims=True)
    var = jnp.square(x - mean).mean(axes, keepdims=True)
    return (x - mean) * lax.rsqrt(var + eps)


def plain_norm(x, scale, bias, *, axes):
    return standardize(x, axes) * scale + bias


def plain_group_norm(x, scale, bias, *, groups):
    sets = x.reshape(*x.shape[:-1], groups, -1)
    return standardize(sets, (1, 2, 4)).reshape(x.shape) * scale + bias


def batch_norm(x, scale, bias):
    C = x.shape[-1]
    return ops.batch_norm(x, jnp.zeros(C), jnp.ones(C), scale, bias, train=True)[0]


def plain_response_norm(x, size=5, alpha=1e-4, beta=0.75, k=2.0):
    around = lax.reduce_window(x * x, 0.0, lax.add, (1, 1, 1, size), (1, 1, 1, 1), "SAME")
    return x / (k + alpha * around) ** beta


def plain_upsample(x):
    N, H, W, C = x.shape
    return jax.image.resize(x, (N, 2 * H, 2 * W, C), "bilinear")


SCALED = ("batch_norm", "group_norm", "layer_norm", "instance_norm")
OPERATIONS = {  # convax's and the plain form
    "max_pool": (ops.max_pool, plain_max_pool),
    "avg_pool": (ops.avg_pool, plain_avg_pool),
    "global_avg_pool": (ops.global_avg_pool, lambda x: x.mean((1, 2))),
    "batch_norm": (batch_norm, partial(plain_norm, axes=(0, 1, 2))),
    "group_norm": (ops.group_norm, plain_group_norm),
    "layer_norm": (ops.layer_norm, partial(plain_norm, axes=3)),
    "instance_norm": (ops.instance_norm, partial(plain_norm, axes=(1, 2))),
    "local_response_norm": (ops.local_response_norm, plain_response_norm),
    "upsample": (partial(ops.upsample, scale=2, method="bilinear"), plain_upsample),
}

PROGRAMS = {"convolution": convolution, "other": other, "dtypes": dtypes}
LIBRARIES = ("convax", "jax")
