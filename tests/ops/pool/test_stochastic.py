"""Mixed and stochastic pooling: by hand, their chances, their limits."""

from math import inf, nan

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import ops


def row(*numbers):
    return jnp.asarray(numbers, jnp.float32)[None, :, None]


def keys(n):
    return jax.random.split(jax.random.key(0), n)


# -------------------------------------------------------------------------------------- mixed


def test_mixed_is_one_or_the_other_for_the_whole_call(rng):
    x = jnp.asarray(rng.standard_normal((2, 4, 6, 3)), jnp.float32)
    largest, mean = ops.max_pool(x, 2), ops.avg_pool(x, 2)
    drawn = jax.vmap(lambda key: ops.mixed_pool(x, 2, train=True, key=key))(keys(1000))
    is_max = jnp.all(drawn == largest[None], axis=(1, 2, 3, 4))
    is_mean = jnp.all(jnp.abs(drawn - mean[None]) < 1e-6, axis=(1, 2, 3, 4))
    assert jnp.all(is_max ^ is_mean)
    assert abs(jnp.mean(is_max.astype(jnp.float32)) - 0.5) < 0.05  # three standard deviations
    expected = ops.mixed_pool(x, 2, train=False)
    np.testing.assert_allclose(expected, (largest + mean) / 2, rtol=1e-6, atol=1e-6)


def test_mixed_draws_the_same_in_every_dtype(rng):
    x = rng.standard_normal((1, 8, 1))
    with jax.enable_x64(True):
        for key in keys(8):
            y = [
                ops.mixed_pool(jnp.asarray(x, dtype), 2, train=True, key=key)
                for dtype in ("float32", "float64")
            ]
            np.testing.assert_allclose(*y, rtol=1e-6)


# --------------------------------------------------------------------------------- stochastic


def test_stochastic_by_hand():
    y = ops.stochastic_pool(row(1, 3, -5, 2), 2, train=False)
    np.testing.assert_allclose(y[0, :, 0], [(1 * 1 + 3 * 3) / (1 + 3), 2 * 2 / 2])


def test_stochastic_draws_in_proportion():
    x = jnp.tile(row(1, 0, 3, -2), (1, 2000, 1))
    y = ops.stochastic_pool(x, 4, train=True, key=jax.random.key(3))[0, :, 0]
    assert set(np.unique(y)) == {1, 3}
    assert abs(np.mean(y == 3) - 3 / 4) < 0.03  # three standard deviations


def test_stochastic_has_the_expectation_of_evaluation(rng):
    x = jnp.asarray(rng.standard_normal((1, 5, 5, 2)), jnp.float32)
    options = {"window": 3, "stride": 2, "padding": 1}
    draw = lambda key: ops.stochastic_pool(x, **options, train=True, key=key)  # noqa: E731
    mean = jnp.mean(jax.vmap(draw)(keys(4000)), axis=0)
    np.testing.assert_allclose(mean, ops.stochastic_pool(x, **options, train=False), atol=0.05)


def test_stochastic_gives_the_gradient_to_the_one_drawn():
    x = row(1, 2, 3, 4)
    f = lambda x: ops.stochastic_pool(x, 4, train=True, key=jax.random.key(1))[0, 0, 0]  # noqa: E731
    y, gx = jax.value_and_grad(f)(x)
    np.testing.assert_array_equal(gx[0, :, 0], x[0, :, 0] == y)


@pytest.mark.parametrize("options", [{"train": True, "key": jax.random.key(0)}, {"train": False}])
@pytest.mark.parametrize("windows", [{"window": 2}, {"window": 3, "stride": 1, "padding": 1}])
class TestStochasticLimits:
    def test_window_without_a_positive_element_gives_zero(self, options, windows):
        """0, and no gradient."""
        x = jnp.array([[-1.0, 0.0], [0.0, -3.0]])[None, :, :, None]
        y, vjp = jax.vjp(lambda x: ops.stochastic_pool(x, **windows, **options), x)
        np.testing.assert_array_equal(y, 0)
        np.testing.assert_array_equal(vjp(jnp.ones_like(y))[0], 0)

    @pytest.mark.parametrize("size", [1e-30, 1e37])
    def test_values_far_from_one(self, options, windows, size, rng):
        x = jnp.asarray(rng.standard_normal((1, 6, 6, 2)), jnp.float32)
        f = lambda x: ops.stochastic_pool(x, **windows, **options)  # noqa: E731
        (y, vjp), (y_far, vjp_far) = jax.vjp(f, x), jax.vjp(f, size * x)
        np.testing.assert_allclose(y_far, size * y, rtol=1e-5, atol=1e-6 * size)
        np.testing.assert_allclose(vjp_far(y)[0], vjp(y)[0], rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("bad", [nan, inf])
    def test_nan_and_infinity_give_nan(self, options, windows, bad):
        x = jnp.ones((1, 2, 2, 1)).at[0, 1, 1, 0].set(bad)
        assert jnp.all(jnp.isnan(ops.stochastic_pool(x, **windows, **options)))
        x = jnp.ones((1, 2, 2, 1)).at[0, 1, 1, 0].set(-inf)  # counts as zero
        np.testing.assert_array_equal(ops.stochastic_pool(x, **windows, **options), 1)


@pytest.mark.parametrize("function", [ops.mixed_pool, ops.stochastic_pool])
def test_random_pools_say_what_to_write_instead(function):
    name = function.__name__
    message = rf"{name}: no random key: got key=None with train=True, need a jax.random key, .*write key=jax"
    with pytest.raises(ValueError, match=message):
        function(jnp.zeros((1, 4, 4, 1)), 2, train=True)
    with pytest.raises(TypeError, match="train"):  # which is never guessed
        function(jnp.zeros((1, 4, 4, 1)), 2)
