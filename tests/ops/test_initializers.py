"""Initializers: the variance of what they draw, and the fans it comes from."""

from math import sqrt

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import ops

# name: (distribution, variance as a function of fan_in and fan_out)
VARIANCES = {
    "xavier_uniform": ("uniform", lambda i, o: 2 / (i + o)),
    "xavier_normal": ("normal", lambda i, o: 2 / (i + o)),
    "he_uniform": ("uniform", lambda i, o: 2 / i),
    "he_normal": ("normal", lambda i, o: 2 / i),
    "lecun_normal": ("normal", lambda i, o: 1 / i),
    "lecun_uniform": ("uniform", lambda i, o: 1 / i),
}
# shape, groups, fan_in, fan_out
KERNELS = {
    "dense": ((50, 200), 1, 50, 200),
    "2d": ((3, 5, 10, 40), 1, 3 * 5 * 10, 3 * 5 * 40),
    "2d groups": ((3, 3, 8, 64), 4, 3 * 3 * 8, 3 * 3 * 64 // 4),
    "depthwise": ((5, 5, 1, 200), 200, 5 * 5 * 1, 5 * 5 * 200 // 200),
    "1d": ((4, 25, 60), 1, 4 * 25, 4 * 60),
    "3d": ((3, 3, 3, 8, 16), 1, 27 * 8, 27 * 16),
}


def test_every_initializer_has_its_name():
    assert set(ops.INITIALIZERS) == {*VARIANCES, "zeros", "ones"}
    for name, function in ops.INITIALIZERS.items():
        assert function is getattr(ops, name)


@pytest.mark.parametrize("shape, groups, fan_in, fan_out", KERNELS.values(), ids=KERNELS.keys())
def test_initializers_have_their_moments(shape, groups, fan_in, fan_out):
    @jax.jit
    def draw(key):
        return {name: ops.INITIALIZERS[name](key, shape, groups=groups) for name in VARIANCES}

    drawn, again = draw(jax.random.key(1)), draw(jax.random.key(2))
    for name, (distribution, variance) in VARIANCES.items():
        std, w = sqrt(variance(fan_in, fan_out)), np.asarray(drawn[name])
        assert w.shape == shape and w.dtype == np.float32
        error = 5 / sqrt(w.size)  # five standard errors
        np.testing.assert_allclose(w.mean(), 0, atol=error * std, err_msg=name)
        # The fourth moment makes the standard error of a deviation std / sqrt(2 n), or less.
        np.testing.assert_allclose(w.std(), std, rtol=error / sqrt(2), err_msg=name)
        if distribution == "uniform":
            limit = std * sqrt(3)
            assert 0.99 * limit < np.abs(w).max() <= limit * (1 + 1e-6), name
        else:
            assert np.abs(w).max() > 3 * std, f"{name} is truncated"
        assert not np.array_equal(w, again[name]), name


@pytest.mark.parametrize(
    "name, theirs",
    [
        ("xavier_uniform", "xavier_uniform_"),
        ("xavier_normal", "xavier_normal_"),
        ("he_uniform", "kaiming_uniform_"),
        ("he_normal", "kaiming_normal_"),
    ],
)
def test_scale_matches_torch(name, theirs, torch):
    shape = (3, 3, 16, 64)
    options = {"nonlinearity": "relu"} if "kaiming" in theirs else {}
    expected = getattr(torch.nn.init, theirs)(torch.empty(64, 16, 3, 3), **options)
    actual = ops.INITIALIZERS[name](jax.random.key(0), shape)
    np.testing.assert_allclose(np.std(actual), expected.std().item(), rtol=0.05)


@pytest.mark.parametrize("name", ["xavier_normal", "he_normal"])
def test_pytorch_leaves_groups_out_of_fan_out(name, torch):
    """Each input reaches Co // groups channels; with one group, and for fan_in, all agree."""
    shape, groups = (3, 3, 16, 64), 4  # of 64 input channels
    fans = torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(64, 16, 3, 3))
    assert fans == (9 * 16, 9 * 64)
    std = np.std(ops.INITIALIZERS[name](jax.random.key(0), shape, groups=groups))
    fan_in, fan_out = fans[0], fans[1] // groups
    variance = {"xavier_normal": 2 / (fan_in + fan_out), "he_normal": 2 / fan_in}[name]
    np.testing.assert_allclose(std, sqrt(variance), rtol=0.03)


def test_fan_in_and_fan_out_equal_hand_arithmetic():
    """A dense kernel (2, 4): fans 2 and 4, so that xavier_uniform covers (-1, 1)."""
    w = ops.xavier_uniform(jax.random.key(0), (2, 4))
    u = jax.random.uniform(jax.random.key(0), (2, 4), minval=-1, maxval=1)
    np.testing.assert_allclose(w, u, rtol=1e-6)
    w = ops.he_normal(jax.random.key(0), (2, 4))
    np.testing.assert_allclose(w, jax.random.normal(jax.random.key(0), (2, 4)), rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_dtype_and_same_key_same_values(dtype):
    def draw(key):
        return [init(key, (3, 3, 2, 4), dtype, groups=2) for init in ops.INITIALIZERS.values()]

    key = jax.random.key(3)
    for a, b in zip(jax.jit(draw)(key), draw(key), strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a.astype(jnp.float32), b.astype(jnp.float32), rtol=1e-2)


@pytest.mark.parametrize(
    "name, std, shape", [("normal", 0.01, (40, 500)), ("truncated_normal", 0.3, (20_000,))]
)
def test_normal_has_the_deviation_given(name, std, shape):
    w = np.asarray(getattr(ops, name)(jax.random.key(0), shape, std=std, groups=2))
    assert w.shape == shape and w.dtype == np.float32
    kept = {"normal": 1.0, "truncated_normal": 0.8796}[name]  # of the deviation, within +-2 of it
    np.testing.assert_allclose(w.std(), kept * std, rtol=0.03)
    np.testing.assert_allclose(w.mean(), 0, atol=5 * std / sqrt(w.size))
    assert (np.abs(w).max() <= 2 * std) == (name == "truncated_normal")


@pytest.mark.slow
@pytest.mark.parametrize("stride", [2, 4, 8, 16])
@pytest.mark.parametrize("size", [(5,), (6, 3)], ids=str)
def test_a_transposed_convolution_with_a_bilinear_kernel_interpolates(stride, size, rng):
    """As `resize` does, to the last bit or two, except next to the edges."""
    x = rng.normal(size=(2, *size, 3)).astype(np.float32)
    kernel = ops.bilinear(None, (2 * stride,) * len(size) + (3, 3))
    actual = ops.conv_transpose(x, kernel, stride=stride)
    expected = ops.resize(x, [stride * n for n in size])
    assert actual.shape == expected.shape
    inner = (slice(None), *(slice(stride // 2, -stride // 2) for _ in size))
    np.testing.assert_allclose(actual[inner], expected[inner], rtol=1e-5, atol=1e-6)
    depthwise = ops.bilinear(None, (2 * stride,) * len(size) + (1, 3), groups=3)
    np.testing.assert_allclose(
        ops.conv_transpose(x, depthwise, stride=stride, groups=3), actual, rtol=1e-5, atol=1e-6
    )


def test_bilinear_by_hand():
    by_hand = np.outer([0.25, 0.75, 0.75, 0.25], [0.5, 1, 0.5])
    kernel = ops.bilinear(None, (4, 3, 2, 3))
    np.testing.assert_array_equal(kernel[..., 0, 0], by_hand)
    np.testing.assert_array_equal(kernel[..., 1, 1], by_hand)
    assert not np.any(kernel[..., 0, 1]) and not np.any(kernel[..., 2])
    assert ops.bilinear(None, (3, 1, 1), jnp.bfloat16).dtype == jnp.bfloat16


def test_bilinear_needs_a_window():
    with pytest.raises(ValueError, match=r"bilinear: no window: got shape \(3, 3\), need"):
        ops.bilinear(None, (3, 3))
    with pytest.raises(ValueError, match=r"bilinear: no fans: got shape \(4, 1, 3\) with groups=2"):
        ops.bilinear(None, (4, 1, 3), groups=2)


def test_constants_take_any_shape():
    np.testing.assert_array_equal(ops.zeros(None, (3,)), [0, 0, 0])
    np.testing.assert_array_equal(ops.ones(None, ()), 1)


@pytest.mark.parametrize("name", VARIANCES)
@pytest.mark.parametrize(
    "shape, groups", [((3,), 1), ((3, 3, 2, 5), 2), ((3, 4), 0), ((3, 0, 4), 1)], ids=str
)
def test_initializers_say_what_to_write_instead(name, shape, groups):
    message = rf"{name}: no fans: got shape \({shape[0]},.* with groups={groups}.*zeros or ones"
    with pytest.raises(ValueError, match=message):
        ops.INITIALIZERS[name](jax.random.key(0), shape, groups=groups)
