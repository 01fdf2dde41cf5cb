"""Pooling by the p-norm: by hand, its kinks, its range."""

from math import inf, nan, sqrt

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import ops


def row(*numbers, dtype=jnp.float32):
    return jnp.asarray(numbers, dtype)[None, :, None]


def norm(x, **options):
    """The norm of all of a row."""
    return ops.lp_pool(x, x.shape[1], **options)[0, 0, 0]


def test_lp_pool_equals_hand_arithmetic():
    x = jnp.array([[3.0, -4.0], [0.0, 12.0]])[None, :, :, None]
    np.testing.assert_allclose(norm(row(3, -4, 0, 12)), 13, rtol=1e-6)
    np.testing.assert_allclose(ops.lp_pool(x, 2), [[[[13]]]], rtol=1e-6)
    np.testing.assert_allclose(ops.lp_pool(x, 2, p=1), [[[[3 + 4 + 12]]]], rtol=1e-6)
    np.testing.assert_allclose(ops.lp_pool(x, 2, p=inf), [[[[12]]]])
    np.testing.assert_allclose(norm(row(-1, 2), p=3), 9 ** (1 / 3), rtol=1e-6)  # |-1| counts


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, 10, inf])
def test_lp_pool_lies_between_sum_and_maximum(p, rng):
    x = jnp.asarray(rng.standard_normal((2, 6, 6, 3)), jnp.float32)
    y = ops.lp_pool(x, 3, p=p)
    largest, total = ops.max_pool(jnp.abs(x), 3), 9 * ops.avg_pool(jnp.abs(x), 3)
    assert jnp.all((largest <= y * (1 + 1e-6)) & (y <= total * (1 + 1e-6)))


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, 7.5, 100, inf])
@pytest.mark.parametrize("size", [1e-30, 1e30])
@pytest.mark.parametrize("windows", [{"window": 2}, {"window": 3, "stride": 2, "padding": 1}])
def test_lp_pool_of_values_far_from_one(p, size, windows, rng):
    """Neither squares nor their sums leave the range of float32, in value or in gradient."""
    x = jnp.asarray(rng.standard_normal((1, 6, 6, 2)), jnp.float32)
    f = lambda x: ops.lp_pool(x, **windows, p=p)  # noqa: E731

    @jax.jit
    def value_and_gradient(x, g):
        y, vjp = jax.vjp(f, x)
        return y, vjp(f(g))[0]

    (y, gradient), (y_far, gradient_far) = value_and_gradient(x, x), value_and_gradient(size * x, x)
    np.testing.assert_allclose(y_far, size * y, rtol=3e-6)
    np.testing.assert_allclose(gradient_far, gradient, rtol=1e-4, atol=1e-6)


def test_a_large_window_of_float16():
    x = jnp.full((1, 1024, 1), 100.0, jnp.float16)  # whose squares are 1e4, and their sum 1e7
    y = norm(x)
    assert y.dtype == jnp.float16
    assert y == 3200


@pytest.mark.slow
@pytest.mark.parametrize("p", [1, 1.5, 2, 3, inf])
@pytest.mark.parametrize("windows", [{"window": 2}, {"window": 3, "stride": 1, "padding": 1}])
def test_lp_pool_of_a_window_of_zeros(p, windows):
    """The kink: its gradient is zero, and so is every further derivative."""
    f = lambda x: jnp.sum(ops.lp_pool(x, **windows, p=p))  # noqa: E731
    for x in jnp.zeros((1, 2, 2, 1)), jnp.zeros((1, 2, 1)):  # in the second, after one norm alone
        for found in jax.jit(lambda x: (f(x), jax.grad(f)(x), jax.hessian(f)(x)))(x):
            np.testing.assert_array_equal(found, 0)


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, 4])
def test_lp_pool_of_a_zero_among_others(p):
    """The gradient is zero there; the second derivative that of |x|^p, 0 where it is infinite."""
    f = lambda x: norm(x, p=p)  # noqa: E731
    gradient, second = jax.jit(lambda x: (jax.grad(f)(x), jax.hessian(f)(x)))(row(0, 2))
    np.testing.assert_allclose(gradient[0, :, 0], [0, 1], atol=1e-6)
    second = second[0, 0, 0, 0, 0, 0]
    np.testing.assert_allclose(second, 1 / 2 if p == 2 else 0, atol=1e-6)


def test_pytorch_has_the_same_zero(torch):
    x = torch.zeros((1, 1, 4), requires_grad=True)
    torch.nn.functional.lp_pool1d(x, 2, 2).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), 0)


@pytest.mark.parametrize("p", [1, 2, 2.5, inf])
def test_lp_pool_of_nan_and_infinity(p):
    y = ops.lp_pool(row(nan, 1, -inf, 1, 3, 0), 2, p=p)[0, :, 0]
    np.testing.assert_array_equal(y, [nan, inf, 3])
    np.testing.assert_array_equal(ops.lp_pool(row(inf, nan), 2, p=p), nan)


def test_the_gradient_at_an_infinity():
    gradient = jax.grad(lambda x: norm(x))(row(inf, 1))
    np.testing.assert_array_equal(gradient[0, :, 0], [nan, 0])


def test_lp_pool_gradient_equals_hand_arithmetic():
    gradient = jax.grad(lambda x: norm(x))(row(1, -1, 0))
    np.testing.assert_allclose(gradient[0, :, 0], [1 / sqrt(2), -1 / sqrt(2), 0], rtol=1e-6)


@pytest.mark.parametrize("p", [0.5, 0, -1, nan])
def test_lp_pool_says_what_to_write_instead(p):
    message = rf"lp_pool: bad p: got {p}, need a number of at least 1; write p=2\.0, or p=math\.inf"
    with pytest.raises(ValueError, match=message):
        ops.lp_pool(jnp.zeros((1, 4, 4, 1)), 2, p=p)
