"""The row form of convolution on CPU against the plain one, and when it is taken."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import ops
from convax.ops.conv_geometry import Geometry
from convax.ops.conv_plain import plain_conv, plain_input_grad
from convax.ops.conv_rows import (
    rows_conv,
    rows_input_grad,
    rows_pay_for_conv,
    rows_pay_for_input_grad,
)

NONE = ((0, 0), (0, 0))
CASES = [
    ((9, 7), (3, 5), NONE, 1, 6),
    ((6, 8), (5, 3), ((2, 2), (1, 1)), 2, 3),
    ((4, 5), (1, 1), NONE, 3, 2),
    ((5, 4), (4, 4), ((3, 0), (0, 2)), 1, 1),
    ((3, 3), (3, 3), NONE, 4, 5),
]


def geometry(size, window, padding, *, stride=(1, 1), dilation=(1, 1), groups=1) -> Geometry:
    spans = zip(size, window, padding, strict=True)
    output = tuple(i + low + high - w + 1 for i, w, (low, high) in spans)
    return Geometry(size, window, output, stride, dilation, padding, groups)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_both_forms_give_the_same(case, dtype, rng):
    size, window, padding, Ci, Co = case
    shape = geometry(size, window, padding)
    x, k, g = (
        jnp.asarray(rng.standard_normal(s), dtype)
        for s in ((2, *size, Ci), (*window, Ci, Co), (2, *shape.output, Co))
    )
    tolerance = 1e-5 if dtype == "float32" else 2e-2
    for rows, plain, a in ((rows_conv, plain_conv, x), (rows_input_grad, plain_input_grad, g)):
        got, want = rows(a, k, geometry=shape), plain(a, k, geometry=shape)
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        wide = [np.asarray(y, np.float32) for y in (got, want)]
        np.testing.assert_allclose(*wide, rtol=tolerance, atol=tolerance)


def test_a_band_by_hand():
    """One row, kernel (a, b): y_j = a x_j + b x_{j+1}."""
    x = jnp.array([1.0, 10.0, 100.0, 1000.0]).reshape(1, 1, 4, 1)
    k = jnp.array([2.0, 3.0]).reshape(1, 2, 1, 1)
    y = rows_conv(x, k, geometry=geometry((1, 4), (1, 2), NONE))
    np.testing.assert_array_equal(y.ravel(), [32.0, 320.0, 3200.0])


def test_the_rule():
    lenet1, lenet2 = (geometry((n, n), (5, 5), NONE) for n in (32, 14))
    assert rows_pay_for_conv(lenet1, (5, 5, 1, 6))
    assert not rows_pay_for_conv(lenet2, (5, 5, 6, 16))
    assert rows_pay_for_input_grad(lenet2, (5, 5, 6, 16))
    assert not rows_pay_for_input_grad(lenet1, (5, 5, 6, 16))
    for other in ({"stride": (2, 2)}, {"dilation": (1, 2)}, {"groups": 2}):
        assert not rows_pay_for_conv(geometry((32, 32), (5, 5), NONE, **other), (5, 5, 1, 6))


def products(function, *arrays, platform) -> tuple[int, int]:
    """How many convolutions and matrix products a program has once lowered for a platform."""
    text = jax.jit(function).trace(*arrays).lower(lowering_platforms=(platform,)).as_text()
    return text.count("stablehlo.convolution"), text.count("stablehlo.dot_general")


def test_only_the_cpu_takes_rows():
    x, k = jnp.zeros((2, 32, 32, 1)), jnp.zeros((5, 5, 1, 6))
    conv = partial(ops.conv, padding="VALID")
    assert products(conv, x, k, platform="cpu") == (0, 1)
    for platform in ("cuda", "tpu"):
        assert products(conv, x, k, platform=platform) == (1, 0)


def test_a_symbolic_batch_goes_through():
    (batch,) = jax.export.symbolic_shape("b")
    x = jax.ShapeDtypeStruct((batch, 32, 32, 1), jnp.float32)
    k = jax.ShapeDtypeStruct((5, 5, 1, 6), jnp.float32)

    def gradient(x, k):
        return jax.grad(lambda x: (ops.conv(x, k, padding="SAME") ** 2).sum())(x)

    exported = jax.export.export(jax.jit(gradient))(x, k)
    assert exported.call(jnp.ones((3, 32, 32, 1)), jnp.ones((5, 5, 1, 6))).shape == (3, 32, 32, 1)
