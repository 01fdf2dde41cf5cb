"""The affine map beyond the proof: by hand, precision and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import ops


def test_dense_equals_hand_arithmetic():
    y = ops.dense(jnp.array([1.0, 2.0]), jnp.array([[3.0], [4.0]]), jnp.array([5.0]))
    np.testing.assert_allclose(y, [1 * 3 + 2 * 4 + 5])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_dense_accumulates_low_precision_in_float32(dtype):
    """A running sum of ones would stop at 256 in bfloat16 and at 2048 in float16."""
    one, many = jnp.ones((1, 1), dtype), jnp.ones((3000, 1), dtype)
    y = ops.dense(many.T, many)
    _, vjp = jax.vjp(ops.dense, many, one, one[0])
    for total in (y, *vjp(many)[1:]):
        assert total.dtype == dtype
        np.testing.assert_allclose(total.astype(jnp.float32).item(), 3000, rtol=4e-3)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_the_bias_is_added_before_rounding(dtype):
    """The square of 1 + eps has a last term that neither dtype can hold, and the bias uncovers."""
    eps = float(jnp.finfo(dtype).eps)
    one, bias = jnp.full((1, 1), 1 + eps, dtype), jnp.full(1, -1 - 2 * eps, dtype)
    y = jax.jit(ops.dense)(one, one, bias)
    assert y.dtype == dtype
    assert y.item() == eps**2


def test_dense_of_an_empty_batch():
    assert ops.dense(jnp.zeros((0, 3)), jnp.zeros((3, 5)), jnp.zeros(5)).shape == (0, 5)


ERRORS = {
    "kernel rank": (
        lambda: ops.dense(jnp.zeros((2, 3)), jnp.zeros(3)),
        ValueError,
        r"dense: wrong rank: got x \(2, 3\) and kernel \(3,\), need x \(\.\.\., Ci\)",
    ),
    "x is a scalar": (
        lambda: ops.dense(jnp.zeros(()), jnp.zeros((1, 3))),
        ValueError,
        r"dense: wrong rank: .*give one scalar input as shape \(1,\)",
    ),
    "channels": (
        lambda: ops.dense(jnp.zeros((2, 4, 4, 3)), jnp.zeros((48, 5))),
        ValueError,
        r"dense: channels do not match: got x \(2, 4, 4, 3\) and kernel \(48, 5\).*"
        r"write x\.reshape\(x\.shape\[0\], -1\).*else make the kernel \(3, 5\)",
    ),
    "dtypes": (
        lambda: ops.dense(jnp.zeros((2, 3), jnp.float16), jnp.zeros((3, 5))),
        TypeError,
        r"dense: dtypes differ: got x float16 and kernel float32.*kernel\.astype\(x\.dtype\)",
    ),
    "integers": (
        lambda: ops.dense(jnp.zeros((2, 3), jnp.int32), jnp.zeros((3, 5))),
        TypeError,
        r"dense: x is not floating point: got int32.*x\.astype\(jnp\.float32\)",
    ),
    "bias shape": (
        lambda: ops.dense(jnp.zeros((2, 3)), jnp.zeros((3, 5)), jnp.zeros((1, 5))),
        ValueError,
        r"dense: wrong bias shape: got \(1, 5\), need \(5,\)",
    ),
}


@pytest.mark.parametrize("call, kind, message", ERRORS.values(), ids=ERRORS.keys())
def test_dense_says_what_to_write_instead(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
