"""Padding beyond the proof: by hand, its place in convolutions, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import ops

X = jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("zeros", [0, 0, 1, 2, 3, 0, 0]),
        ("reflect", [3, 2, 1, 2, 3, 2, 1]),
        ("replicate", [1, 1, 1, 2, 3, 3, 3]),
        ("circular", [2, 3, 1, 2, 3, 1, 2]),
    ],
)
def test_by_hand(mode, expected):
    y, vjp = jax.vjp(lambda x: ops.pad(x, 2, mode=mode), X)
    np.testing.assert_array_equal(y.ravel(), expected)
    copies = [expected.count(v) for v in (1, 2, 3)]
    np.testing.assert_array_equal(vjp(jnp.ones_like(y))[0].ravel(), copies)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize(
    ("padding", "pairs"),
    [("SAME", ((0, 1), (1, 2))), (1, ((1, 1), (1, 1))), (((2, 0), (1, 2)), ((2, 0), (1, 2)))],
)
def test_a_convolution_pads_its_input(mode, padding, pairs, rng):
    x, k = (rng.standard_normal(s, np.float32) for s in ((2, 6, 5, 3), (3, 4, 3, 2)))
    y = ops.conv(x, k, stride=2, padding=padding, padding_mode=mode)
    padded = ops.pad(x, pairs, mode=mode)
    np.testing.assert_array_equal(y, ops.conv(padded, k, stride=2, padding="VALID"))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_every_form_of_convolution_has_modes(mode, rng):
    x, k = (rng.standard_normal(s, np.float32) for s in ((1, 7, 2), (3, 1, 2)))
    w = rng.standard_normal((1, 2, 3), np.float32)
    padded, options = ops.pad(x, 1, mode=mode), {"padding": 1, "padding_mode": mode}
    np.testing.assert_array_equal(
        ops.depthwise_conv(x, k, **options), ops.depthwise_conv(padded, k, padding="VALID")
    )
    np.testing.assert_array_equal(
        ops.separable_conv(x, k, w, **options), ops.separable_conv(padded, k, w, padding="VALID")
    )
    dense = rng.standard_normal((3, 2, 4), np.float32)
    np.testing.assert_array_equal(
        ops.convolve(x, dense, **options), ops.convolve(padded, dense, padding="VALID")
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.pad(X[0], 1), r"pad: wrong rank: got x \(3, 1\), need \(N, \*spatial, C\)"),
        (lambda: ops.pad(X, "SAME"), r"pad: bad padding: got 'SAME', which only a window"),
        (lambda: ops.pad(X, -1), r"pad: bad padding: got -1, need"),
        (lambda: ops.pad(X, 1, mode="edge"), r"pad: unknown padding mode: got 'edge', need one of"),
        (
            lambda: ops.pad(X, 3, mode="reflect"),
            r"pad: too much reflect padding: got \(3, 3\) along axis 1 of x \(1, 3, 1\), which has "
            r"at most 2 to give; pad less, or write 'replicate'",
        ),
        (
            lambda: ops.conv(X, jnp.ones((9, 1, 1)), padding_mode="circular"),
            r"conv: too much circular padding: got \(4, 4\) along axis 1",
        ),
    ],
)
def test_what_cannot_be_padded(call, message):
    with pytest.raises(ValueError, match=message):
        call()
