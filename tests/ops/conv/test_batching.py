"""`vmap` over both operands of a convolution: many networks, each with a kernel of its own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import ops


def whole_numbers(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.integers(-3, 4, shape), jnp.float32)


def gradients(x, k):
    """A convolution and both of its gradients, in numbers that add up without rounding."""
    y, pull = jax.vjp(partial(ops.conv, stride=2, padding=1, groups=2), x, k)
    return y, *pull(jnp.sign(y))


def each_by_itself(function, *args):
    results = [function(*one) for one in zip(*args, strict=True)]
    return [np.stack(parts) for parts in zip(*results, strict=True)]


def assert_same(got, want):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("B", [1, 3, 9])
@pytest.mark.parametrize("kind", ["cpu", "xla"])
def test_a_stack_is_each_by_itself(B, kind):
    x, k = whole_numbers(B, 2, 7, 6, 4), whole_numbers(B, 3, 3, 2, 6, seed=1)
    want = each_by_itself(gradients, x, k)
    with ops.implementation(kind):
        assert_same(jax.jit(jax.vmap(gradients))(x, k), want)


def test_the_axes_may_lie_anywhere():
    x, k = whole_numbers(3, 2, 7, 6, 4), whole_numbers(3, 3, 3, 2, 6, seed=1)
    got = jax.vmap(gradients, in_axes=(2, -1))(jnp.moveaxis(x, 0, 2), jnp.moveaxis(k, 0, -1))
    assert_same(got, each_by_itself(gradients, x, k))


def test_a_stack_of_stacks():
    x, k = whole_numbers(2, 3, 2, 7, 6, 4), whole_numbers(2, 3, 3, 3, 2, 6, seed=1)
    got = jax.vmap(jax.vmap(gradients))(x, k)
    assert_same(got, each_by_itself(jax.vmap(gradients), x, k))


@pytest.mark.slow
@pytest.mark.parametrize("axes", [(0, None), (None, 0)])
def test_a_stack_whose_elements_share_an_operand_with_others(axes):
    """Many batches for each of many networks, and many kernels for each of many batches."""
    shared = tuple(None if axis is None else 1 for axis in axes)
    x = whole_numbers(3, *(4,) * (axes[0] == 0), 2, 7, 6, 4)
    k = whole_numbers(3, *(4,) * (axes[1] == 0), 3, 3, 2, 6, seed=1)
    got = jax.vmap(jax.vmap(gradients, in_axes=axes))(x, k)
    other = jax.vmap(jax.vmap(gradients), in_axes=shared, out_axes=1)(x, k)
    assert_same(got, each_by_itself(jax.vmap(gradients, in_axes=axes), x, k))
    assert_same(other, got)


def test_no_networks_at_all():
    y, gx, gk = jax.vmap(gradients)(jnp.zeros((0, 2, 7, 6, 4)), jnp.zeros((0, 3, 3, 2, 6)))
    assert (y.shape[0], gx.shape, gk.shape) == (0, (0, 2, 7, 6, 4), (0, 3, 3, 2, 6))


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_other_platforms_make_groups_of_them(platform):
    x, k = jnp.zeros((8, 2, 7, 6, 4)), jnp.zeros((8, 3, 3, 2, 6))
    function = jax.jit(jax.vmap(partial(ops.conv, groups=2)))
    text = function.trace(x, k).lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution") == 1
    assert "feature_group_count = 16" in text
