"""The affine map against loops, PyTorch and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import ops
from tests.reference import dense as reference


def draw(rng, *shape, dtype=jnp.float32):
    return jnp.asarray(rng.standard_normal(shape), dtype)


def value_and_grads(x, W, b, g):
    y, vjp = jax.vjp(ops.dense, x, W, b)
    return y, *vjp(g)


def test_by_hand():
    y = ops.dense(jnp.array([1.0, 2.0]), jnp.array([[3.0], [4.0]]), jnp.array([5.0]))
    np.testing.assert_allclose(y, [1 * 3 + 2 * 4 + 5])


def test_matches_loops(rng):
    x, W, b, g = draw(rng, 4, 3), draw(rng, 3, 5), draw(rng, 5), draw(rng, 4, 5)
    expected = (reference.dense(x, W, b), *reference.dense_grads(x, W, g))
    for actual in (value_and_grads(x, W, b, g), jax.jit(value_and_grads)(x, W, b, g)):
        for a, e in zip(actual, expected, strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("leading", [(), (4,), (2, 3, 4)], ids=str)
def test_matches_torch(leading, torch, rng):
    x, W, b, g = draw(rng, *leading, 3), draw(rng, 3, 5), draw(rng, 5), draw(rng, *leading, 5)
    tx, tW, tb = (torch.tensor(np.asarray(a), requires_grad=True) for a in (x, W, b))
    ty = torch.nn.functional.linear(tx, tW.T, tb)
    ty.backward(torch.tensor(np.asarray(g)))
    expected = (ty.detach(), tx.grad, tW.grad, tb.grad)
    for a, e in zip(value_and_grads(x, W, b, g), expected, strict=True):
        np.testing.assert_allclose(a, e.numpy(), rtol=1e-4, atol=1e-5)


def test_gradients_match_finite_differences(rng):
    with jax.enable_x64(True):
        arrays = [draw(rng, *shape, dtype=jnp.float64) for shape in ((4, 3), (3, 5), (5,))]
        steps = [rng.standard_normal(a.shape) for a in arrays]
        loss = lambda *a: jnp.sum(jnp.sin(ops.dense(*a)))  # noqa: E731
        slope = sum(
            np.sum(g * d) for g, d in zip(jax.grad(loss, (0, 1, 2))(*arrays), steps, strict=True)
        )
        ahead, behind = (
            loss(*(a + h * d for a, d in zip(arrays, steps, strict=True))) for h in (1e-6, -1e-6)
        )
        np.testing.assert_allclose(slope, (ahead - behind) / 2e-6, rtol=1e-6)


def test_vmap(rng):
    x, W = draw(rng, 2, 4, 3), draw(rng, 2, 3, 5)
    np.testing.assert_allclose(jax.vmap(ops.dense)(x, W)[1], ops.dense(x[1], W[1]), rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_is_added_up_in_float32(dtype):
    """A running sum of ones would stop at 256 in bfloat16 and at 2048 in float16."""
    y = ops.dense(jnp.ones((1, 3000), dtype), jnp.ones((3000, 1), dtype))
    assert y.dtype == dtype
    np.testing.assert_allclose(y.astype(jnp.float32), 3000, rtol=4e-3)


def test_empty_batch():
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
def test_errors(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
