"""Windows as columns beyond the proof: convolutions, PyTorch's order, counts, layers, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import model, ops


@pytest.mark.parametrize(
    ("size", "options"),
    [
        ((7,), {"stride": 2, "padding": "SAME"}),
        ((6, 5), {"padding": ((1, 0), (2, 2)), "dilation": (2, 1)}),
        ((3, 4, 3), {"stride": 1}),
    ],
)
def test_columns_times_a_kernel_are_a_convolution(size, options, rng):
    x = rng.standard_normal((2, *size, 3), np.float32)
    kernel = rng.standard_normal((*(2 for _ in size), 3, 4), np.float32)
    y = ops.unfold(x, 2, **options) @ kernel.reshape(-1, 4)
    np.testing.assert_allclose(
        y, ops.conv(x, kernel, **{"padding": "VALID"} | options), rtol=1e-5, atol=1e-5
    )


def test_pytorchs_columns_are_ours_in_another_order(torch, rng):
    """As the docstring says."""
    x = rng.standard_normal((2, 4, 5, 3), np.float32)
    y = np.asarray(ops.unfold(x, (2, 3)))
    N, L, K, C = 2, 3 * 3, 2 * 3, 3
    theirs = torch.nn.functional.unfold(torch.tensor(np.moveaxis(x, -1, 1)), (2, 3))
    np.testing.assert_array_equal(
        y.reshape(N, L, K, C).transpose(0, 3, 2, 1).reshape(N, C * K, L), theirs.numpy()
    )


def test_fold_counts_the_windows_of_each_element():
    ones = jnp.ones((1, 4, 3, 1))
    counts = ops.fold(ops.unfold(ones, 2, padding=1), (4, 3), 2, padding=1)
    np.testing.assert_array_equal(counts[0, :, :, 0], np.full((4, 3), 4))
    counts = ops.fold(ops.unfold(ones, (3, 1)), (4, 3), (3, 1))
    np.testing.assert_array_equal(counts[0, :, :, 0], np.outer([1, 2, 2, 1], [1, 1, 1]))


def test_fold_is_the_transpose_in_both_implementations(rng):
    x = jnp.asarray(rng.standard_normal((2, 6, 5, 2)), jnp.float32)
    options = {"window": 3, "stride": 2, "padding": 1, "dilation": (1, 2)}
    for implementation in ("cpu", "xla"):
        with ops.implementation(implementation):
            y, vjp = jax.vjp(lambda x: ops.unfold(x, **options), x)
            np.testing.assert_allclose(vjp(y)[0], ops.fold(y, (6, 5), **options), rtol=1e-6)


def test_a_window_in_the_padding_alone_is_a_column_of_zeros():
    y = ops.unfold(jnp.ones((1, 1, 2)), 1, padding=1)
    np.testing.assert_array_equal(y[0], [[0, 0], [1, 1], [0, 0]])
    np.testing.assert_array_equal(ops.fold(y, 1, 1, padding=1), jnp.ones((1, 1, 2)))
    y, vjp = jax.vjp(lambda x: ops.unfold(x, 1, stride=2, padding=1), jnp.ones((1, 1, 2)))
    np.testing.assert_array_equal(y, jnp.zeros((1, 2, 2)))  # all of them
    np.testing.assert_array_equal(vjp(y)[0], jnp.zeros((1, 1, 2)))


def test_an_infinity_stays_in_its_windows():
    x = jnp.array([1.0, jnp.inf, 1.0, 1.0]).reshape(1, 4, 1)
    back = ops.fold(ops.unfold(x, 2), 4, 2)[0, :, 0]
    np.testing.assert_array_equal(back, [1, jnp.inf, 2, 1])


def test_layers_equal_their_ops(rng):
    x = jnp.asarray(rng.standard_normal((2, 6, 5, 3)), jnp.float32)
    there = model.unfold([2, 3], stride=2, padding=[1, 0], dilation=[2, 1])
    back = model.fold([6, 5], [2, 3], stride=2, padding=[1, 0], dilation=[2, 1])
    net = model.serial(there, back)
    out_shape, params, state = net.init(jax.random.key(0), x.shape)
    options = {"window": (2, 3), "stride": 2, "padding": (1, 0), "dilation": (2, 1)}
    expected = ops.fold(ops.unfold(x, **options), (6, 5), **options)
    np.testing.assert_array_equal(net.apply(params, state, x)[0], expected)
    assert out_shape == x.shape
    sees = lambda *layers: model.summarize(model.serial(*layers), (9, 9, 4)).receptive_field  # noqa: E731
    assert sees(model.unfold(3, stride=3), model.conv(2, 2)) == (6, 6)
    assert sees(model.fold(10, 2)) == (2, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.unfold(jnp.zeros((4, 4)), 2), r"unfold: wrong rank: got x \(4, 4\)"),
        (lambda: ops.unfold(jnp.zeros((1, 4, 1)), 0), r"unfold: bad window: got 0"),
        (
            lambda: ops.unfold(jnp.zeros((1, 4, 1)), 2, dilation=4),
            r"unfold: the window is larger than the padded input: got window \(5,\)",
        ),
        (
            lambda: ops.fold(jnp.zeros((1, 3, 4)), 3, 2),
            r"fold: places do not match: got x \(1, 3, 4\), need \(2,\) places, the windows of an "
            r"image of \(3,\); write the size, stride, padding and dilation of unfold",
        ),
        (
            lambda: ops.fold(jnp.zeros((1, 2, 5)), 3, 2),
            r"fold: channels do not match: got x \(1, 2, 5\) with 2 taps in a window, need a "
            r"multiple of 2 channels; write the window of unfold",
        ),
        (lambda: ops.fold(jnp.zeros((1, 2, 4)), (3, 3), 2), r"fold: bad size: got \(3, 3\)"),
        (lambda: model.fold(0, 2), r"fold: bad size: got 0, need a positive integer"),
        (lambda: model.unfold(2, dilation=0), r"unfold: bad dilation: got 0"),
    ],
)
def test_what_has_no_columns(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("function", [ops.unfold, lambda x, window: ops.fold(x, 5, window)])
def test_integers_are_refused(function):
    with pytest.raises(TypeError, match=r"fold: x is not floating point: got int32"):
        function(jnp.zeros((1, 4, 2), jnp.int32), 2)
