"""Hyper-parameters that are numbers: they may be traced, and change no dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import ops

KEY = jax.random.key(0)
X = np.arange(-4.0, 4.0).reshape(2, 4)
FUNCTIONS = {
    "dropout": lambda x, a: ops.dropout(x, a, train=True, key=KEY),
    "leaky_relu": ops.leaky_relu,
    "elu": ops.elu,
    "l2": ops.l2,
    "momentum of batch_norm": lambda x, a: ops.batch_norm(
        x, jnp.zeros(4, x.dtype), jnp.ones(4, x.dtype), train=True, momentum=a
    )[1],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_number_may_be_traced(name):
    function, x = FUNCTIONS[name], jnp.asarray(X, jnp.float32)
    traced = jax.jit(function)(x, 0.25)
    for a, b in zip(jax.tree.leaves(traced), jax.tree.leaves(function(x, 0.25)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_no_number_changes_the_dtype(name, dtype):
    function = FUNCTIONS[name]
    with jax.enable_x64(True):
        x = jnp.asarray(X, dtype)
        kept = jax.tree.map(lambda y: y.dtype, function(x, 0.25))
        for number in (np.float32(0.25), np.float64(0.25), jnp.asarray(0.25, jnp.float64)):
            assert jax.tree.map(lambda y: y.dtype, function(x, number)) == kept
            assert jax.tree.map(lambda y: y.dtype, jax.jit(function)(x, number)) == kept


ERRORS = {
    "an array": (
        lambda x: ops.leaky_relu(x, jnp.ones((4, 3))),
        ValueError,
        r"leaky_relu: bad negative_slope: got an array \(4, 3\), need one number; write one number, or "
        r"use prelu for one slope per channel",
    ),
    "words": (
        lambda x: ops.elu(x, "1"),
        ValueError,
        r"elu: bad alpha: got '1', need one number",
    ),
    "nothing": (
        lambda x: ops.batch_norm(x, x[0], x[0], train=True, momentum=None),
        ValueError,
        r"batch_norm: bad momentum: got None, need 0 <= momentum <= 1",
    ),
    "traced, but static": (
        lambda x: jax.jit(lambda p: ops.lp_pool(x[..., None], 2, p=p))(2.0),
        TypeError,
        r"lp_pool: p is traced: got .*need a number known at compile time; write "
        r"jax\.jit\(\.\.\., static_argnames='p'\)",
    ),
    "a seed for a key": (
        lambda x: ops.dropout(x, 0.5, train=True, key=0),
        TypeError,
        r"dropout: key is no random key: got 0, need one of jax\.random; write "
        r"key=jax\.random\.key\(0\)",
    ),
}


@pytest.mark.parametrize("call, kind, message", ERRORS.values(), ids=ERRORS.keys())
def test_checks_say_what_to_write_instead(call, kind, message):
    with pytest.raises(kind, match=message):
        call(jnp.asarray(X, jnp.float32))


def test_check_key_takes_raw_keys():
    x = jnp.asarray(X, jnp.float32)
    assert ops.dropout(x, 0.5, train=True, key=jax.random.PRNGKey(0)).shape == x.shape
