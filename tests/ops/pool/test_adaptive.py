"""Global, adaptive and pyramid pooling: by hand, ties, NaN, limits and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from convax import ops

FUNCTIONS = {
    "global_max_pool": ops.global_max_pool,
    "global_avg_pool": ops.global_avg_pool,
    "adaptive_max_pool": lambda x: ops.adaptive_max_pool(x, 3),
    "adaptive_avg_pool": lambda x: ops.adaptive_avg_pool(x, 3),
    "spatial_pyramid_pool": lambda x: ops.spatial_pyramid_pool(x, (3, 1)),
}


@pytest.fixture(params=FUNCTIONS.values(), ids=list(FUNCTIONS))
def function(request):
    return request.param


def row(*numbers):
    return jnp.asarray(numbers, jnp.float32)[None, :, None]


def test_adaptive_pools_equal_hand_arithmetic():
    x = row(1, 9, 2, 8, 3)  # bins of 3: [0, 2), [1, 4), [3, 5)
    np.testing.assert_array_equal(ops.adaptive_max_pool(x, 3)[0, :, 0], [9, 9, 8])
    y = ops.adaptive_avg_pool(x, 3)[0, :, 0]
    np.testing.assert_allclose(y, [(1 + 9) / 2, (9 + 2 + 8) / 3, (8 + 3) / 2], rtol=1e-6)
    # More bins than elements, 3 of 2: [0, 1), [0, 2), [1, 2).
    np.testing.assert_allclose(ops.adaptive_avg_pool(row(1, 5), 3)[0, :, 0], [1, 3, 5])


def test_global_pools_keep_axes_of_size_one(rng):
    x = jnp.asarray(rng.standard_normal((2, 3, 4, 5)), jnp.float32)
    for function, numpy in (ops.global_max_pool, np.max), (ops.global_avg_pool, np.mean):
        expected = numpy(np.asarray(x), axis=(1, 2))
        np.testing.assert_allclose(function(x), expected, rtol=1e-5, atol=1e-6)
        assert function(x, keepdims=True).shape == (2, 1, 1, 5)
        np.testing.assert_array_equal(function(x, keepdims=True)[:, 0, 0], function(x))


def test_pyramid_order():
    """Level after level; in each the bins row by row; in each the channels."""
    x = jnp.arange(32.0).reshape(1, 4, 4, 2)
    bins = [x[0, i : i + 2, j : j + 2].max((0, 1)) for i in (0, 2) for j in (0, 2)]
    expected = np.concatenate([*bins, x[0].max((0, 1))])
    np.testing.assert_array_equal(ops.spatial_pyramid_pool(x, (2, 1))[0], expected)


def test_pyramid_does_not_depend_on_the_size_of_images():
    shapes = (1, 13, 13, 2), (1, 7, 30, 2), (1, 2, 3, 2)
    assert {ops.spatial_pyramid_pool(jnp.zeros(s)).shape for s in shapes} == {(1, 21 * 2)}
    assert ops.spatial_pyramid_pool(jnp.zeros((1, 5, 5, 5, 2))).shape == (1, (64 + 8 + 1) * 2)


@pytest.mark.parametrize("size, output", [(6, 3), (5, 3), (40, 3), (4, 6), (30, 1)])
def test_ties_go_to_the_first(size, output):
    x = jnp.ones((1, size, size, 1))
    gx = jax.grad(lambda x: jnp.sum(ops.adaptive_max_pool(x, output)))(x)
    first = np.bincount([i * size // output for i in range(output)], minlength=size)
    np.testing.assert_array_equal(gx[0, :, :, 0], np.outer(first, first))


def test_global_ties_go_to_the_first():
    x = jnp.zeros((1, 20, 20, 1)).at[0, 3, 7, 0].set(1).at[0, 4, 2, 0].set(1)
    gx = jax.grad(lambda x: jnp.sum(ops.global_max_pool(x)))(x)
    expected = np.zeros((20, 20))
    expected[3, 7] = 1
    np.testing.assert_array_equal(gx[0, :, :, 0], expected)


@pytest.mark.parametrize("output", [1, 3, 5, 8])
def test_nan_as_pytorch_has_it(output, torch):
    x = np.zeros((1, 12, 12, 1), np.float32)
    x[0, 4, 6, 0] = x[0, 5, 7, 0] = np.nan
    x[0, 9, 9, 0] = np.inf
    y, vjp = jax.vjp(lambda x: ops.adaptive_max_pool(x, output), x)
    tx = torch.tensor(np.moveaxis(x, -1, 1), requires_grad=True)
    ty = torch.nn.functional.adaptive_max_pool2d(tx, output)
    np.testing.assert_array_equal(y[0, :, :, 0], ty.detach().numpy()[0, 0])
    ty.sum().backward()
    np.testing.assert_array_equal(vjp(jnp.ones_like(y))[0][0, :, :, 0], tx.grad.numpy()[0, 0])


def test_infinity_stays_in_its_bins():
    y = ops.adaptive_avg_pool(row(jnp.inf, 1, 1, 1, 1), 3)[0, :, 0]
    np.testing.assert_allclose(y, [jnp.inf, 1, 1])


def test_adaptive_max_pool_of_minus_infinity():
    x = jnp.full((1, 5, 5, 1), -jnp.inf)
    np.testing.assert_array_equal(ops.adaptive_max_pool(x, 3), -np.inf)
    gx = jax.grad(lambda x: jnp.sum(ops.global_max_pool(x)))(x)
    assert gx[0, 0, 0, 0] == jnp.sum(gx) == 1


def test_means_are_added_up_in_float32():
    x = jnp.ones((1, 3001, 1), jnp.bfloat16)
    for y in ops.global_avg_pool(x), ops.adaptive_avg_pool(x, 2):
        assert y.dtype == x.dtype
        np.testing.assert_array_equal(y.astype(jnp.float32), 1)


def test_adaptive_pools_of_an_empty_batch(function):
    y, vjp = jax.vjp(function, jnp.zeros((0, 7, 7, 2)))
    assert y.shape[0] == 0
    assert vjp(y)[0].shape == (0, 7, 7, 2)


def test_adaptive_pools_of_one_element(function):
    x = jnp.full((2, 1, 1, 3), 5.0)
    np.testing.assert_array_equal(function(x), 5)


def test_adaptive_pool_second_call_compiles_nothing(function, rng, caplog):
    first, second = jnp.asarray(rng.standard_normal((2, 1, 6, 7, 2)), jnp.float32)
    function(first)
    with jax.log_compiles():
        function(second)
        assert not [r for r in caplog.records if "ompiling" in r.getMessage()]


def test_adaptive_pools_export_with_a_symbolic_batch(function, rng):
    f = jax.value_and_grad(lambda x: jnp.sum(jnp.sin(function(x))))
    x_type = jax.ShapeDtypeStruct((*export.symbolic_shape("n"), 10, 9, 2), jnp.float32)
    exported = export.export(jax.jit(f))(x_type)
    x = jnp.asarray(rng.standard_normal((3, 10, 9, 2)), jnp.float32)
    for a, b in zip(exported.call(x), f(x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_adaptive_pools_refuse_a_wrong_input(name):
    message = rf"^{name}: wrong rank: got x \(4, 4\), need \(N, \*spatial, C\).*write x\[None\]"
    with pytest.raises(ValueError, match=message):
        FUNCTIONS[name](jnp.zeros((4, 4)))
    with pytest.raises(TypeError, match=rf"^{name}: x is not floating point: got uint8"):
        FUNCTIONS[name](jnp.zeros((1, 4, 4, 1), jnp.uint8))
    message = rf"^{name}: no elements: got x \(1, 0, 4, 1\), need at least one.*feed larger inputs"
    with pytest.raises(ValueError, match=message):
        FUNCTIONS[name](jnp.zeros((1, 0, 4, 1)))


@pytest.mark.parametrize("function", [ops.adaptive_max_pool, ops.adaptive_avg_pool])
@pytest.mark.parametrize("size", [0, (3,), (3, 3, 3), 2.0])
def test_adaptive_pools_refuse_a_wrong_output_size(function, size):
    message = rf"{function.__name__}: bad output_size: got .*, need a positive int, or 2 of them"
    with pytest.raises(ValueError, match=message):
        function(jnp.zeros((1, 4, 4, 1)), size)


@pytest.mark.parametrize("levels", [(), 3, (2, 0), (2.0,), "21"])
def test_spatial_pyramid_pool_refuses_wrong_levels(levels):
    message = (
        r"spatial_pyramid_pool: bad levels: got .*, need one or more.*write levels=\(4, 2, 1\)"
    )
    with pytest.raises(ValueError, match=message):
        ops.spatial_pyramid_pool(jnp.zeros((1, 4, 4, 1)), levels)
