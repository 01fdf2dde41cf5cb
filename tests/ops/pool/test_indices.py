"""Maxima with their places, and back: what the proof does not cover. Ties, NaN, limits, errors."""

from functools import partial
from math import inf, nan

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import ops


def row(*numbers):
    return jnp.asarray(numbers, jnp.float32)[None, :, None]


@pytest.mark.parametrize(
    ("numbers", "window", "expected"),
    [
        ((3, 3, 1, 4), {"window": 2}, [0, 3]),
        ((1, nan, 2, nan), {"window": 4}, [3]),  # the last NaN
        ((-inf, -inf, -inf), {"window": 2, "padding": 1}, [0, 1]),  # padding never wins
        ((*[1] * 9, 5, *[1] * 10, 5), {"window": 10, "dilation": 2, "stride": 1}, [0, 9, 20]),
        ((*[0] * 9, nan, 1, nan, 2), {"window": 12, "stride": 1}, [11, 11]),
    ],
)
def test_indices_equal_hand_arithmetic(numbers, window, expected):
    x = row(*numbers)
    y, indices = ops.max_pool_with_indices(x, **window)
    assert indices.dtype == jnp.int32
    np.testing.assert_array_equal(indices[0, :, 0], expected)
    np.testing.assert_array_equal(y, x[:, jnp.array(expected)])


def test_unpooling_puts_elements_back(rng):
    """Of windows that overlap as well: equal elements that go to one place are put there once."""
    x = jnp.asarray(rng.standard_normal((2, 7, 6, 3)), jnp.float32)
    pool = partial(ops.max_pool_with_indices, window=3, stride=2, padding=1)
    y, indices = pool(x)
    back = ops.max_unpool(y, indices, x.shape[1:-1])
    np.testing.assert_array_equal(back, jnp.where(back != 0, x, 0))
    assert np.count_nonzero(back) == len(np.unique(y)) < y.size


def test_the_last_of_one_place_stays():
    x, indices = row(5, 7, 9), jnp.array([1, 1, 0])[None, :, None]
    y, vjp = jax.vjp(lambda x: ops.max_unpool(x, indices, 3), x)
    np.testing.assert_array_equal(y[0, :, 0], [9, 7, 0])
    np.testing.assert_array_equal(vjp(row(1, 10, 100))[0][0, :, 0], [0, 10, 1])


def test_what_is_no_element_is_left_out():
    y, vjp = jax.vjp(
        lambda x: ops.max_unpool(x, jnp.array([-1, 3, 2])[None, :, None], 3), row(1, 2, 4)
    )
    np.testing.assert_array_equal(y[0, :, 0], [0, 0, 4])
    np.testing.assert_array_equal(vjp(row(1, 10, 100))[0][0, :, 0], [0, 0, 100])


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: ops.max_pool_with_indices(jnp.zeros((4, 4)), 2),
            ValueError,
            r"max_pool_with_indices: wrong rank: got x \(4, 4\)",
        ),
        (
            lambda: ops.max_unpool(row(1, 2), jnp.zeros((1, 3, 1), jnp.int32), 4),
            ValueError,
            r"max_unpool: shapes differ: got x \(1, 2, 1\) and indices \(1, 3, 1\), need one shape",
        ),
        (
            lambda: ops.max_unpool(row(1, 2), row(0, 1), 4),
            TypeError,
            r"max_unpool: indices are no integers: got float32, need an integer dtype",
        ),
        (
            lambda: ops.max_unpool(row(1), jnp.zeros((1, 1, 1), jnp.int32), (2, 2)),
            ValueError,
            r"max_unpool: bad size: got \(2, 2\)",
        ),
    ],
)
def test_what_cannot_be_unpooled(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
