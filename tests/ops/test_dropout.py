"""Dropout beyond the proof: its moments, its mask, and errors."""

from math import sqrt

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import ops

KEY = jax.random.key(0)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_keeps_mean_and_rate(rate):
    """Of a constant c the mean is c and the variance c^2 p / (1 - p)."""
    c, n = 3.0, 100_000
    y = np.asarray(ops.dropout(jnp.full(n, c), rate, train=True, key=KEY), np.float64)
    variance = c**2 * rate / (1 - rate)
    np.testing.assert_allclose(y.mean(), c, atol=5 * sqrt(variance / n))  # five standard errors
    np.testing.assert_allclose((y == 0).mean(), rate, atol=5 * sqrt(rate * (1 - rate) / n))
    np.testing.assert_allclose(np.unique(y), [0, c / (1 - rate)], rtol=1e-6)


def test_whole_channels_of_an_example():
    x = 1 + jnp.arange(64 * 3 * 2 * 16.0).reshape(64, 3, 2, 16)
    y = ops.dropout(x, 0.25, train=True, per_channel=True, key=KEY)
    kept = np.asarray(y != 0)
    np.testing.assert_array_equal(kept, np.broadcast_to(kept[:, :1, :1], kept.shape))
    np.testing.assert_allclose(y, np.where(kept, x / 0.75, 0), rtol=1e-6)
    share, n = kept[:, 0, 0].mean(), 64 * 16
    np.testing.assert_allclose(share, 0.75, atol=5 * sqrt(0.75 * 0.25 / n))
    assert len(np.unique(kept[:, 0, 0], axis=0)) > 60  # each example draws its own


def test_stochastic_depth_drops_whole_examples():
    x = 1 + jnp.arange(4000 * 6.0).reshape(4000, 2, 3)
    y = ops.stochastic_depth(x, 0.25, train=True, key=KEY)
    kept = np.asarray(y != 0)
    np.testing.assert_array_equal(kept, np.broadcast_to(kept[:, :1, :1], kept.shape))
    np.testing.assert_allclose(y, np.where(kept, x / 0.75, 0), rtol=1e-6)
    np.testing.assert_allclose(kept[:, 0, 0].mean(), 0.75, atol=5 * sqrt(0.75 * 0.25 / 4000))
    assert ops.stochastic_depth(x, 0.25, train=False) is x


def test_the_gradient_uses_the_same_mask():
    x = jnp.linspace(1, 2, 1000)
    y, vjp = jax.vjp(lambda x: ops.dropout(x, 0.3, train=True, key=KEY), x)
    np.testing.assert_allclose(vjp(x)[0], y, rtol=1e-6)


def test_dropout_of_one_key_is_the_same():
    x = jnp.ones(100)
    first, again, other = (
        ops.dropout(x, 0.5, train=True, key=key) for key in (KEY, KEY, jax.random.key(1))
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    with jax.enable_x64(True):
        np.testing.assert_array_equal(first, ops.dropout(x, 0.5, train=True, key=KEY))


def test_nothing_is_dropped_in_evaluation_or_at_rate_zero():
    x = jnp.array([1.0, jnp.nan, -jnp.inf])
    assert ops.dropout(x, 0.5, train=False) is x
    np.testing.assert_array_equal(ops.dropout(x, 0.0, train=True, key=KEY), x)


def test_what_is_dropped_is_zero_whatever_it_was():
    x = jnp.full(1000, jnp.nan).at[::2].set(jnp.inf)
    y = ops.dropout(x, 0.5, train=True, key=KEY)
    assert 400 < np.count_nonzero(y == 0) < 600


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_dropout_keeps_dtype_and_empty_batches(dtype):
    y = ops.dropout(jnp.ones((0, 4, 3), dtype), 0.5, train=True, per_channel=True, key=KEY)
    assert (y.shape, y.dtype) == ((0, 4, 3), dtype)


def test_each_of_a_vmap_may_have_its_key():
    keys = jax.random.split(KEY, 3)
    drop = lambda key: ops.dropout(jnp.ones(50), 0.5, train=True, key=key)  # noqa: E731
    np.testing.assert_array_equal(jax.vmap(drop)(keys), [drop(key) for key in keys])


ERRORS = {
    **{
        f"rate {rate}": (
            lambda rate=rate: ops.dropout(jnp.ones(3), rate, train=False),
            ValueError,
            rf"dropout: bad rate: got {rate}, need 0 <= rate < 1, the probability of dropping a "
            r"value; at 1 nothing is left to scale up by 1 / \(1 - rate\)",
        )
        for rate in (1.0, -0.1, float("nan"))
    },
    "no key": (
        lambda: ops.dropout(jnp.ones(3), 0.5, train=True),
        ValueError,
        r"dropout: no random key: got key=None with train=True, need a jax\.random key.*write "
        r"key=jax\.random\.key\(seed\), or train=False",
    ),
    "no channels": (
        lambda: ops.dropout(jnp.ones(3), 0.5, train=True, per_channel=True, key=KEY),
        ValueError,
        r"dropout: no channels of examples: got x \(3,\) with per_channel=True, need "
        r"\(N, \*spatial, C\); write per_channel=False",
    ),
    "stochastic depth, rate": (
        lambda: ops.stochastic_depth(jnp.ones(3), 1.0, train=False),
        ValueError,
        r"stochastic_depth: bad rate: got 1.0, need 0 <= rate < 1, the probability of dropping an ex",
    ),
    "stochastic depth, no key": (
        lambda: ops.stochastic_depth(jnp.ones(3), 0.5, train=True),
        ValueError,
        r"stochastic_depth: no random key",
    ),
    "stochastic depth, no examples": (
        lambda: ops.stochastic_depth(jnp.ones(()), 0.5, train=True, key=KEY),
        ValueError,
        r"stochastic_depth: no examples: got x \(\), need \(N, \.\.\.\); write x\[None\]",
    ),
    "integers": (
        lambda: ops.dropout(jnp.ones(3, int), 0.5, train=True, key=KEY),
        TypeError,
        r"dropout: x is not floating point: got int32",
    ),
}


@pytest.mark.parametrize("call, kind, message", ERRORS.values(), ids=ERRORS.keys())
def test_dropouts_say_what_to_write_instead(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_sixteen_bits_scale_by_the_rate_itself():
    """0.85 is no number of bfloat16; what is kept is divided by 0.85, then rounded once."""
    y = ops.dropout(jnp.ones(200, jnp.bfloat16), 0.15, train=True, key=jax.random.key(0))
    kept = np.unique(np.asarray(y, np.float32))[-1]
    assert kept == np.float32(jnp.bfloat16(1 / 0.85))
