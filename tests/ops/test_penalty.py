"""The L2 penalty against hand arithmetic and PyTorch's weight decay."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import ops

PARAMS = {"conv": {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array(3.0)}}


def test_by_hand():
    np.testing.assert_allclose(ops.l2(PARAMS, 0.1), 0.1 / 2 * (1 + 4 + 9), rtol=1e-6)
    np.testing.assert_allclose(jax.jit(ops.l2)(PARAMS, 0.1), 0.1 / 2 * (1 + 4 + 9), rtol=1e-6)


def test_gradient_is_rate_times_weight():
    gradient = jax.grad(ops.l2)(PARAMS, 0.1)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, 0.1 * w, rtol=1e-6), gradient, PARAMS)


def test_gradient_matches_torch_weight_decay(torch, rng):
    """One step of plain descent on the penalty is one step of PyTorch's weight decay."""
    w = rng.standard_normal((3, 4)).astype(np.float32)
    tw = torch.tensor(w, requires_grad=True)
    tw.grad = torch.zeros_like(tw)
    torch.optim.SGD([tw], lr=0.5, weight_decay=0.1).step()
    actual = w - 0.5 * jax.grad(ops.l2)(jnp.asarray(w), 0.1)
    np.testing.assert_allclose(actual, tw.detach().numpy(), rtol=1e-6)


def test_gradient_matches_finite_differences():
    with jax.enable_x64(True):
        w = jnp.array([0.3, -1.2], jnp.float64)
        ahead, behind = (ops.l2(w + h * jnp.array([1.0, 2.0]), 0.7) for h in (1e-5, -1e-5))
        slope = jax.grad(ops.l2)(w, 0.7) @ jnp.array([1.0, 2.0])
        np.testing.assert_allclose(slope, (ahead - behind) / 2e-5, rtol=1e-8)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_adds_up_in_float32(dtype):
    """Also across leaves of different dtypes, which must not mix silently."""
    params = [jnp.ones(5000, dtype), jnp.ones(3)]
    total = ops.l2(params, 2.0)
    assert total.dtype == jnp.float32
    np.testing.assert_array_equal(total, 5003)
    assert jax.grad(ops.l2)(params, 2.0)[0].dtype == dtype


def test_float64_leaves():
    with jax.enable_x64(True):
        total = ops.l2([jnp.ones(2, jnp.float32), jnp.ones(2, jnp.float64)], 2.0)
        assert total.dtype == jnp.float64


def test_no_parameters():
    np.testing.assert_array_equal(ops.l2({}, 0.1), 0)


def test_vmap():
    w = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_allclose(jax.vmap(lambda w: ops.l2(w, 2.0))(w), [1 + 4, 9 + 16])
