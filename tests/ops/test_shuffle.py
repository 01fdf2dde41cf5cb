"""Shuffles beyond the proof: inverses, one and three axes, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import model, ops


@pytest.mark.parametrize("shape", [(2, 3, 8), (2, 3, 2, 8), (1, 2, 1, 2, 16)])
def test_unshuffle_is_the_inverse_and_the_transpose(shape, rng):
    x = rng.standard_normal(shape, np.float32)
    y, vjp = jax.vjp(lambda x: ops.pixel_shuffle(x, 2), x)
    assert y.shape == (shape[0], *(2 * n for n in shape[1:-1]), shape[-1] // 2 ** (x.ndim - 2))
    np.testing.assert_array_equal(ops.pixel_unshuffle(y, 2), x)
    np.testing.assert_array_equal(vjp(y)[0], x)


def test_a_block_has_its_channels_row_by_row():
    x = jnp.arange(1.0, 9.0).reshape(1, 1, 1, 8)
    y = ops.pixel_shuffle(x, 2)[0]
    np.testing.assert_array_equal(y[..., 0], [[1, 2], [3, 4]])
    np.testing.assert_array_equal(y[..., 1], [[5, 6], [7, 8]])


def test_channels_are_dealt(rng):
    x = rng.standard_normal((2, 3, 6), np.float32)
    dealt = ops.channel_shuffle(x, 3)
    np.testing.assert_array_equal(dealt, x[..., [0, 2, 4, 1, 3, 5]])
    np.testing.assert_array_equal(ops.channel_shuffle(dealt, 2), x)


def test_layers_see_what_their_pixels_came_from():
    sees = lambda *layers: model.summarize(model.serial(*layers), (8, 8, 4)).receptive_field  # noqa: E731
    assert sees(model.pixel_unshuffle(2), model.conv(3, 3)) == (6, 6)
    assert sees(model.pixel_shuffle(2), model.conv(3, 3)) == (2, 2)
    assert sees(model.channel_shuffle(2), model.pad(1, mode="reflect")) == (1, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: ops.pixel_shuffle(jnp.zeros((1, 2, 2, 6)), 2),
            r"pixel_shuffle: channels do not match: got x \(1, 2, 2, 6\) with factor=2, need a "
            r"multiple of 4 channels; give the layer before 4 times as many features",
        ),
        (
            lambda: ops.pixel_unshuffle(jnp.zeros((1, 4, 3, 1)), 2),
            r"pixel_unshuffle: sizes do not match: got x \(1, 4, 3, 1\) with factor=2",
        ),
        (lambda: ops.pixel_shuffle(jnp.zeros((2, 4)), 2), r"pixel_shuffle: wrong rank: got x"),
        (lambda: ops.pixel_shuffle(jnp.zeros((1, 2, 4)), 0), r"pixel_shuffle: bad factor: got 0"),
        (
            lambda: ops.channel_shuffle(jnp.zeros((2, 5)), 2),
            r"channel_shuffle: bad groups: got groups=2 with x \(2, 5\), need a divisor",
        ),
    ],
)
def test_what_cannot_be_shuffled(call, message):
    with pytest.raises(ValueError, match=message):
        call()
