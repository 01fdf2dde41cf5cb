"""The phase form of strided input gradients on CPU against the plain one, and when it is taken."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convax import ops
from convax.ops.conv_geometry import resolve_conv
from convax.ops.conv_phases import phases_input_grad, phases_pay_for_input_grad
from convax.ops.conv_plain import plain_input_grad


@st.composite
def geometries(draw):
    rank = draw(st.integers(1, 2))
    per_axis = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(rank))  # noqa: E731
    window, stride, dilation = per_axis(1, 4), per_axis(1, 4), per_axis(1, 4)
    padding = tuple((draw(st.integers(0, 5)), draw(st.integers(0, 5))) for _ in range(rank))
    size = tuple(
        max(d * (k - 1) + 1 - sum(pads), 1) + draw(st.integers(0, 5))
        for k, d, pads in zip(window, dilation, padding, strict=True)
    )
    groups = draw(st.integers(1, 2))
    x, kernel = (2, *size, 2 * groups), (*window, 2, 3 * groups)
    return resolve_conv("test", x, kernel, stride, padding, dilation, groups), kernel


@settings(max_examples=50)
@given(geometries(), st.integers(0, 99))
def test_both_forms_give_the_same(problem, seed):
    geometry, kernel = problem
    rng = np.random.default_rng(seed)
    g, k = (
        jnp.asarray(rng.integers(-3, 4, shape), jnp.float32)
        for shape in ((2, *geometry.output, kernel[-1]), kernel)
    )
    # Integers add up without rounding, so to the same in any order.
    np.testing.assert_array_equal(
        phases_input_grad(g, k, geometry=geometry), plain_input_grad(g, k, geometry=geometry)
    )


def test_two_phases_by_hand():
    """Stride 2, taps a b c: the even elements meet a and c, the odd ones b."""
    g = jnp.array([1.0, 10.0, 100.0]).reshape(1, 3, 1)
    k = jnp.array([2.0, 3.0, 4.0]).reshape(3, 1, 1)
    geometry = resolve_conv("test", (1, 7, 1), k.shape, 2, "VALID", 1, 1)
    gx = phases_input_grad(g, k, geometry=geometry)
    expected = [2 * 1, 3 * 1, 4 * 1 + 2 * 10, 3 * 10, 4 * 10 + 2 * 100, 3 * 100, 4 * 100]
    np.testing.assert_array_equal(gx.ravel(), expected)


def test_the_rule():
    def pays(window, stride):
        return phases_pay_for_input_grad(
            resolve_conv("test", (1, 32, 32, 8), (*window, 8, 8), stride, "SAME", 1, 1)
        )

    assert pays((3, 3), 2)
    assert pays((4, 4), (2, 1))
    assert not pays((3, 3), 1)
    assert not pays((2, 2), 2), "windows that do not overlap"
    assert not pays((1, 1), 2)
    assert not pays((16, 16), 8), "64 phases"


@pytest.mark.parametrize("platform, count", [("cpu", 4), ("cuda", 1), ("tpu", 1)])
def test_only_the_cpu_takes_phases(platform, count):
    x, k = jnp.zeros((2, 8, 8, 4)), jnp.zeros((3, 3, 4, 4))
    grad = jax.jit(lambda g, k: ops.conv_input_grad(g, k, x.shape, stride=2))
    text = grad.trace(x[:, ::2, ::2], k).lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution") == count
