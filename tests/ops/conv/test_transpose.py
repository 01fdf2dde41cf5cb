"""Transposed convolution: conventions, limits and messages. Values and derivatives: tests/conformance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import ops


def draw(rng, *shape):
    return jnp.asarray(rng.standard_normal(shape), jnp.float32)


def zeros(*shape, dtype=jnp.float32):
    return jnp.zeros(shape, dtype)


def test_conv_transpose_equals_hand_arithmetic():
    """Two copies of the kernel, two apart, over the bias."""
    x = jnp.array([1.0, 10.0]).reshape(1, 2, 1)
    k = jnp.array([1.0, 2.0, 3.0]).reshape(3, 1, 1)
    y = ops.conv_transpose(x, k, jnp.array([0.5]), stride=2, padding="VALID")
    expected = [1 * 1, 1 * 2, 1 * 3 + 10 * 1, 10 * 2, 10 * 3]
    np.testing.assert_allclose(y.ravel(), np.array(expected) + 0.5)
    cut = ops.conv_transpose(x, k, stride=2, padding=1, output_padding=1)
    np.testing.assert_allclose(cut.ravel(), expected[1:])
    longer = ops.conv_transpose(x, k, stride=2, padding="VALID", output_padding=1)
    np.testing.assert_allclose(longer.ravel(), [*expected, 0])


@pytest.mark.slow
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("window", [1, 2, 3, 4])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_is_the_transpose_of_same(stride, window, dilation, rng):
    """<g, conv(x)> = <conv_transpose(g), x>, where x has stride times the size of g."""
    options = {"stride": stride, "dilation": dilation, "groups": 2}
    x, g = draw(rng, 2, 4 * stride, 3 * stride, 4), draw(rng, 2, 4, 3, 6)
    k = draw(rng, window, window, 2, 6)
    swapped = k.reshape(window, window, 2, 2, 3).swapaxes(-1, -3).reshape(window, window, 3, 4)
    y = ops.conv_transpose(g, swapped, **options)
    assert y.shape == x.shape
    np.testing.assert_allclose(
        jnp.sum(y * x), jnp.sum(g * ops.conv(x, k, **options)), rtol=1e-3, atol=1e-3
    )


def test_full_undoes_the_growth_of_valid(rng):
    x, k = draw(rng, 1, 5, 2), draw(rng, 3, 2, 2)
    assert ops.conv_transpose(x, k, padding="VALID").shape == (1, 7, 2)
    assert ops.conv_transpose(x, k, padding="FULL").shape == (1, 3, 2)


def test_conv_transpose_of_an_empty_batch():
    x, k = zeros(0, 4, 4, 2), jnp.ones((3, 3, 2, 5))
    y, vjp = jax.vjp(lambda x, k: ops.conv_transpose(x, k, stride=2), x, k)
    gx, gk = vjp(y)
    assert (y.shape, gx.shape) == ((0, 8, 8, 5), x.shape)
    np.testing.assert_array_equal(gk, np.zeros(k.shape))


ERRORS = {
    "rank": (
        lambda: ops.conv_transpose(zeros(5, 5, 3), zeros(3, 3, 3, 4)),
        ValueError,
        r"conv_transpose: wrong rank: .*write x\[None\]",
    ),
    "channels": (
        lambda: ops.conv_transpose(zeros(1, 5, 6, 3), zeros(3, 3, 2, 4)),
        ValueError,
        r"conv_transpose: channels do not match: .*make the kernel \(3, 3, 3, 4\)",
    ),
    "channels first": (
        lambda: ops.conv_transpose(zeros(1, 3, 28, 28), zeros(3, 3, 3, 4)),
        ValueError,
        r"x looks channels first, write jnp\.moveaxis\(x, 1, -1\)",
    ),
    "stride": (
        lambda: ops.conv_transpose(zeros(1, 5, 1), zeros(3, 1, 1), stride=0),
        ValueError,
        r"conv_transpose: bad stride: got 0",
    ),
    "empty window": (
        lambda: ops.conv_transpose(zeros(1, 5, 1), zeros(0, 1, 1)),
        ValueError,
        r"conv_transpose: bad window: got \(0,\)",
    ),
    "padding": (
        lambda: ops.conv_transpose(zeros(1, 5, 1), zeros(3, 1, 1), padding="half"),
        ValueError,
        r"conv_transpose: bad padding: got 'half'",
    ),
    "output_padding too large": (
        lambda: ops.conv_transpose(
            zeros(1, 5, 1), zeros(3, 1, 1), stride=2, padding=0, output_padding=2
        ),
        ValueError,
        r"bad output_padding: got 2 with stride=\(2,\) and dilation=\(1,\), need ints >= 0 and "
        r"smaller than one of the two; write output_padding=0, or raise the stride",
    ),
    "output_padding per axis": (
        lambda: ops.conv_transpose(
            zeros(1, 5, 1), zeros(3, 1, 1), stride=2, padding=0, output_padding=(1, 1)
        ),
        ValueError,
        r"bad output_padding: got \(1, 1\)",
    ),
    "output_padding with SAME": (
        lambda: ops.conv_transpose(zeros(1, 5, 1), zeros(3, 1, 1), stride=2, output_padding=1),
        ValueError,
        r"output_padding with padding='SAME': got 1, need 0, .*write the padding as ints",
    ),
    "nothing left": (
        lambda: ops.conv_transpose(zeros(1, 2, 1), zeros(3, 1, 1), padding=2),
        ValueError,
        r"nothing is left of the output: got x \(1, 2, 1\) and kernel \(3, 1, 1\) with "
        r"stride=\(1,\) and padding=\(\(2, 2\),\), which cuts the output down to \(0,\); write a "
        r"smaller padding, or padding='SAME' for \(2,\)",
    ),
    "dtypes": (
        lambda: ops.conv_transpose(zeros(1, 5, 1), zeros(3, 1, 1, dtype=jnp.bfloat16)),
        TypeError,
        r"conv_transpose: dtypes differ",
    ),
    "output_shape": (
        lambda: ops.conv_transpose_output_shape((1, 5, 2), (3, 1, 1)),
        ValueError,
        r"conv_transpose_output_shape: channels do not match",
    ),
}


@pytest.mark.parametrize("call, kind, message", ERRORS.values(), ids=ERRORS.keys())
def test_conv_transpose_says_what_to_write_instead(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
