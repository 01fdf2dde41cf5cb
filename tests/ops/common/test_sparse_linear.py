"""The fixed sparse linear map: the table, its transpose, and the primitive's rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax.ops.common.implementation import uses_xla
from convax.ops.common.sparse_linear import linear_map, table, transpose


def matrix(t):
    dense = np.zeros((len(t.rows), t.size))
    for o, row in enumerate(t.rows):
        for i, w in row:
            dense[o, i] = w
    return dense


def drawn(rng, rows, size, share=0.5):
    """A random table; some of its rows are empty."""
    weights = rng.standard_normal((rows, size)) * (rng.random((rows, size)) < share)
    return table(size, ([(i, w) for i, w in enumerate(row)] for row in weights))


def test_the_table_merges_pairs_and_drops_zeros():
    t = table(3, [[(0, 0.5), (0, 0.5)], [(1, 0.0), (2, 2.0)], []])
    assert t.rows == (((0, 1.0),), ((2, 2.0),), ())
    np.testing.assert_array_equal(matrix(transpose(t)), matrix(t).T)
    assert transpose(transpose(t)) == t
    assert hash(t) == hash(table(3, [[(0, 1)], [(2, 2)], []]))


@pytest.mark.parametrize("rows, size", [(4, 3), (3, 50), (50, 3)])  # written out, and reduced
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_linear_map_is_the_matrix_and_its_gradient_the_transpose(rows, size, axis, rng):
    t = drawn(rng, rows, size, 0.9)
    shape = [2, 3, 2]
    shape[axis] = size
    x = jnp.asarray(rng.standard_normal(shape), jnp.float32)
    expected = np.moveaxis(np.tensordot(matrix(t), x, (1, axis)), 0, axis)
    y, vjp = jax.vjp(lambda x: linear_map(x, t, axis), x)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    expected = np.moveaxis(np.tensordot(matrix(t).T, y, (1, axis)), 0, axis)
    np.testing.assert_allclose(vjp(y)[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch_axis", [0, 1, 2, -1])
def test_linear_map_under_vmap_over_any_axis(batch_axis, rng):
    t = drawn(rng, 4, 3)
    x = jnp.asarray(rng.standard_normal((2, 3, 2)), jnp.float32)
    batch = jnp.stack([x, 2 * x, -x], axis=batch_axis)
    y = jax.vmap(lambda x: linear_map(x, t, 1), batch_axis, batch_axis)(batch)
    one = linear_map(x, t, 1)
    np.testing.assert_allclose(y, jnp.stack([one, 2 * one, -one], axis=batch_axis), rtol=1e-6)


@pytest.mark.skipif(uses_xla(), reason="JAX's own derivative of a gather")
def test_linear_map_gradient_has_no_scatter(rng):
    t = drawn(rng, 6, 5)
    f = lambda x: jnp.sum(jnp.sin(linear_map(x, t, 1)))  # noqa: E731
    text = jax.jit(jax.grad(f)).lower(jnp.ones((2, 5, 3))).as_text()
    assert "scatter" not in text
    assert "gather" in text


def test_linear_map_without_jit(rng):
    t = drawn(rng, 4, 3)
    x = jnp.asarray(rng.standard_normal((3, 2)), jnp.float32)
    with jax.disable_jit():
        np.testing.assert_allclose(linear_map(x, t, 0), matrix(t) @ x, rtol=1e-5, atol=1e-6)
