"""Resampling: by hand, PyTorch's conventions, NaN, limits and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from convax import ops
from convax.ops.resize import interpolation
from tests.reference import resize as reference

WAYS = {
    "bilinear": {"method": "bilinear"},
    "aligned corners": {"method": "bilinear", "align_corners": True},
    "bicubic, antialiased": {"method": "bicubic", "antialias": True},
    "nearest": {"method": "nearest"},
}


@pytest.fixture(params=WAYS.values(), ids=list(WAYS))
def way(request):
    return request.param


def row(*numbers):
    return jnp.asarray(numbers, jnp.float32)[None, :, None]


def test_resize_equals_hand_arithmetic():
    x = row(0, 3, 9)
    y = ops.resize(x, 6)[0, :, 0]  # read at -1/4 (held at 0), 1/4, 3/4, 5/4, 7/4, 9/4 (held at 2)
    np.testing.assert_allclose(y, [0, 3 / 4, 9 / 4, 3 + 6 / 4, 3 + 6 * 3 / 4, 9])
    y = ops.resize(x, 5, align_corners=True)[0, :, 0]  # read at 0, 1/2, 1, 3/2, 2
    np.testing.assert_allclose(y, [0, 1.5, 3, 6, 9])
    y = ops.resize(x, 5, method="nearest")[0, :, 0]  # 0, 3/5, 6/5, 9/5, 12/5, rounded down
    np.testing.assert_array_equal(y, [0, 0, 3, 3, 9])
    y = ops.resize(x, 2)[0, :, 0]  # read at 1/4, 7/4
    np.testing.assert_allclose(y, [3 / 4, 3 + 6 * 3 / 4])


def test_bicubic_equals_hand_arithmetic():
    """Halfway between two elements: 1/2 + a/8 ... the weights are -3/32, 19/32, 19/32, -3/32."""
    y = ops.resize(row(0, 32, 64, 32), 7, method="bicubic", align_corners=True)[0, :, 0]
    beyond = [-3 * 0 + 19 * 0 + 19 * 32 - 3 * 64, -3 * 0 + 19 * 32 + 19 * 64 - 3 * 32]
    beyond += [-3 * 32 + 19 * 64 + 19 * 32 - 3 * 32]
    np.testing.assert_allclose(y[1::2], np.array(beyond) / 32, rtol=1e-6)
    np.testing.assert_allclose(y[::2], [0, 32, 64, 32])


def test_antialias_equals_hand_arithmetic():
    """Every second of four, by a triangle of half width 2: weights 3, 3, 1 at both ends."""
    y = ops.resize(row(7, 14, 21, 70), 2, antialias=True)[0, :, 0]
    np.testing.assert_allclose(y, [(3 * 7 + 3 * 14 + 21) / 7, (14 + 3 * 21 + 3 * 70) / 7])
    y = ops.resize(row(7, 14, 21, 70), 2, method="nearest-exact")[0, :, 0]
    np.testing.assert_array_equal(y, [14, 70])


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("bilinear", {}),
        ("bilinear", {"align_corners": True}),
        ("bilinear", {"antialias": True}),
        ("bicubic", {}),
        ("bicubic", {"align_corners": True}),
        ("bicubic", {"antialias": True}),
        ("nearest-exact", {}),
    ],
)
def test_every_weight_is_pytorchs_and_that_of_the_loops(method, options, torch):
    """The matrix of the map, for sizes of every kind; nothing is compiled."""
    sizes = (1, 2, 3, 4, 5, 7, 12, 13, 31)
    for size in sizes:
        ones = torch.eye(size, dtype=torch.float64)[:, None, None, :]
        for output in sizes:
            expected = torch.nn.functional.interpolate(ones, (1, output), mode=method, **options)
            how = {"align_corners": False, "antialias": False} | options
            found = np.zeros((output, size))
            for o, reads in enumerate(interpolation(size, output, method, **how).rows):
                for i, weight in reads:
                    found[o, i] = weight
            loops = reference.resize(np.eye(size)[..., None], (output,), method, **how)
            for other in (expected[:, 0, 0].numpy(), loops[..., 0]):
                message = f"{size} to {output}"
                np.testing.assert_allclose(found, other.T, atol=1e-13, err_msg=message)


def test_resize_of_two_axes_equals_hand_arithmetic():
    x = jnp.array([[0.0, 1.0], [2.0, 3.0]])[None, :, :, None]
    y = ops.resize(x, 3, align_corners=True)[0, :, :, 0]
    np.testing.assert_allclose(y, [[0, 0.5, 1], [1, 1.5, 2], [2, 2.5, 3]])


def test_resize_gradient_equals_hand_arithmetic():
    """Each element collects the weights with which it was read."""
    gx = jax.grad(lambda x: jnp.sum(ops.resize(x, 4)))(row(5, 7))
    np.testing.assert_allclose(gx[0, :, 0], [1 + 3 / 4 + 1 / 4, 1 / 4 + 3 / 4 + 1])
    g = row(1, 10, 100, 1000)
    gx = jax.grad(lambda x: jnp.sum(g * ops.upsample(x, 2)))(row(5, 7))
    np.testing.assert_array_equal(gx[0, :, 0], [11, 1100])


def test_resize_to_the_same_size_is_the_same_image(way, rng):
    x = jnp.asarray(rng.standard_normal((2, 3, 4, 2)), jnp.float32)
    np.testing.assert_array_equal(ops.resize(x, (3, 4), **way), x)
    np.testing.assert_array_equal(ops.upsample(x, 1, **way), x)


def test_resize_of_a_constant_is_constant(way):
    for size in (1, 5, 11):
        y = ops.resize(jnp.full((1, 4, 7, 1), 3.0), size, **way)
        np.testing.assert_allclose(y, 3, rtol=1e-6)


def test_one_output_of_aligned_corners_is_the_first_element():
    assert ops.resize(row(5, 7, 9), 1, align_corners=True) == 5


def test_upsample_rounds_the_size_down():
    x = row(1, 2, 3, 4, 5)
    np.testing.assert_array_equal(ops.upsample(x, 1.5), ops.resize(x, 7, method="nearest"))
    np.testing.assert_array_equal(ops.upsample(x, 0.5), ops.resize(x, 2, method="nearest"))
    x = x[:, :, None]
    assert ops.upsample(x, (2, 3.9), method="bilinear").shape == (1, 10, 3, 1)


def test_nearest_is_exact_where_pytorch_rounds(torch):
    """floor(11 * 26 / 22) is 13; PyTorch has 11 * float32(26 / 22) a little below."""
    x = jnp.arange(26.0)[None, :, None]
    y = ops.resize(x, 22, method="nearest")[0, :, 0]
    np.testing.assert_array_equal(y, [o * 26 // 22 for o in range(22)])
    theirs = torch.nn.functional.interpolate(torch.arange(26.0)[None, None], size=22)[0, 0]
    np.testing.assert_array_equal(np.flatnonzero(y != theirs.numpy()), [11])


def test_nearest_exact_is_exact_where_pytorch_rounds(torch):
    """(20 + 1/2) * 4 / 41 is 2; PyTorch has float32(4 / 41) a little below."""
    y = ops.resize(row(0, 1, 2, 3), 41, method="nearest-exact")[0, :, 0]
    np.testing.assert_array_equal(y, [(2 * o + 1) * 4 // 82 for o in range(41)])
    x = torch.arange(4.0)[None, None]
    theirs = torch.nn.functional.interpolate(x, size=41, mode="nearest-exact")[0, 0]
    np.testing.assert_array_equal(np.flatnonzero(y != theirs.numpy()), [20])


def test_a_scale_that_is_not_whole_is_recomputed(torch):
    x = torch.arange(5.0)[None, None]
    options = {"scale_factor": 1.5, "mode": "linear"}
    y = ops.upsample(row(0, 1, 2, 3, 4), 1.5, method="bilinear")[0, :, 0]
    theirs = torch.nn.functional.interpolate(x, **options, recompute_scale_factor=True)
    np.testing.assert_allclose(y, theirs[0, 0].numpy(), rtol=1e-6)
    theirs = torch.nn.functional.interpolate(x, **options)[0, 0]
    assert np.max(np.abs(y - theirs.numpy())) > 0.1


def test_nan_reaches_only_what_reads_it(way):
    x = row(1, 1, np.nan, 1, 1, 1)
    y = ops.resize(x, 12, **way)[0, :, 0]
    reads = jax.jacobian(lambda x: ops.resize(x, 12, **way)[0, :, 0])(row(*[1] * 6))[:, 0, 2, 0]
    np.testing.assert_array_equal(np.isnan(y), reads != 0)
    np.testing.assert_allclose(y[reads == 0], 1, rtol=1e-6)


def test_infinity_times_a_weight_of_zero_is_left_out():
    y = ops.resize(row(1, np.inf, 1), 5, align_corners=True)[0, :, 0]
    np.testing.assert_array_equal(y, [1, np.inf, np.inf, np.inf, 1])
    (gx,) = jax.vjp(lambda x: ops.resize(x, 4), row(1, 1))[1](row(np.inf, 1, 1, 1))
    assert np.isinf(gx[0, 0, 0]) and np.isfinite(gx[0, 1, 0])


def test_resize_from_and_to_one_element(way):
    x = jnp.full((1, 1, 1, 2), 3.0)
    np.testing.assert_array_equal(ops.resize(x, (3, 300), **way), 3)
    y, vjp = jax.vjp(lambda x: ops.resize(x, (3, 300), **way), x)
    np.testing.assert_allclose(vjp(jnp.ones_like(y))[0], 900, rtol=1e-6)
    assert ops.resize(jnp.zeros((1, 300, 3, 2)), 1, **way).shape == (1, 1, 1, 2)


def test_resize_of_an_empty_batch(way):
    y, vjp = jax.vjp(lambda x: ops.resize(x, 5, **way), jnp.zeros((0, 3, 3, 2)))
    assert y.shape == (0, 5, 5, 2)
    assert vjp(y)[0].shape == (0, 3, 3, 2)


def test_sums_of_the_gradient_are_made_in_float32():
    x = jnp.ones((1, 1, 1), jnp.bfloat16)
    y, vjp = jax.vjp(lambda x: ops.upsample(x, 1000), x)
    assert y.dtype == jnp.bfloat16
    assert abs(vjp(jnp.ones_like(y))[0].astype(jnp.float32) - 1000) <= 2  # bfloat16 has 8 bits


def test_resize_second_call_compiles_nothing(way, rng, caplog):
    first, second = jnp.asarray(rng.standard_normal((2, 1, 3, 7, 2)), jnp.float32)
    ops.resize(first, 5, **way)
    with jax.log_compiles():
        ops.resize(second, 5, **way)
        assert not [r for r in caplog.records if "ompiling" in r.getMessage()]


def test_resize_exports_with_a_symbolic_batch(way, rng):
    f = jax.value_and_grad(lambda x: jnp.sum(jnp.sin(ops.resize(x, (9, 5), **way))))
    x_type = jax.ShapeDtypeStruct((*export.symbolic_shape("n"), 4, 8, 2), jnp.float32)
    exported = export.export(jax.jit(f))(x_type)
    x = jnp.asarray(rng.standard_normal((3, 4, 8, 2)), jnp.float32)
    for a, b in zip(exported.call(x), f(x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


X = jnp.zeros((1, 4, 4, 1))
ERRORS = {
    "rank": (
        lambda: ops.resize(jnp.zeros((4, 4)), 2),
        r"resize: wrong rank: got x \(4, 4\), need \(N, \*spatial, C\).*write x\[None\]",
    ),
    "upsample rank": (lambda: ops.upsample(jnp.zeros((4, 4)), 2), r"upsample: wrong rank"),
    "no elements": (
        lambda: ops.resize(jnp.zeros((1, 0, 4, 1)), 2),
        r"resize: no elements: got x \(1, 0, 4, 1\), need at least one element",
    ),
    "size": (
        lambda: ops.resize(X, (2, 0)),
        r"resize: bad size: got \(2, 0\), need a positive int, or 2 of them",
    ),
    "method": (
        lambda: ops.resize(X, 2, method="trilinear"),
        r"resize: unknown method: got 'trilinear', need one of \('nearest', 'nearest-exact', 'bilinear', "
        r"'bicubic'\); write method='bilinear' for linear interpolation along any number of axes",
    ),
    "upsample by an array": (
        lambda: ops.upsample(X, np.array([2, 2])),
        r"upsample: bad scale: got array\(\[2, 2\]\), need a positive number, or 2 of them",
    ),
    "upsample method": (
        lambda: ops.upsample(X, 2, method="cubic"),
        r"upsample: unknown method: got 'cubic'",
    ),
    "corners": (
        lambda: ops.resize(X, 2, method="nearest", align_corners=True),
        r"resize: corners of 'nearest' cannot be aligned: got align_corners=True, need "
        r"method='bilinear' or 'bicubic' for it; write align_corners=False",
    ),
    "averages of the nearest": (
        lambda: ops.resize(X, 2, method="nearest-exact", antialias=True),
        r"resize: no averages with method='nearest-exact': got antialias=True, need "
        r"method='bilinear' or 'bicubic' and align_corners=False for it; write antialias=False",
    ),
    "averages of aligned corners": (
        lambda: ops.upsample(X, 2, method="bicubic", align_corners=True, antialias=True),
        r"upsample: no averages with aligned corners: got antialias=True",
    ),
    "scale": (
        lambda: ops.upsample(X, 0),
        r"upsample: bad scale: got 0, need a positive number, or 2 of them.*write scale=2",
    ),
    "infinite scale": (lambda: ops.upsample(X, np.inf), r"upsample: bad scale: got inf"),
    "scale per axis": (lambda: ops.upsample(X, (2, 2, 2)), r"upsample: bad scale: got \(2, 2, 2\)"),
    "nothing left": (
        lambda: ops.upsample(X, (0.2, 1)),
        r"upsample: nothing is left: got scale \(0\.2, 1\) of spatial shape \(4, 4\), need "
        r"scale \* size >= 1 along each axis; write resize\(x, \(1, 4\)\)",
    ),
}


@pytest.mark.parametrize("call, message", ERRORS.values(), ids=ERRORS.keys())
def test_resize_says_what_to_write_instead(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("function", [ops.resize, ops.upsample])
def test_resize_refuses_integers(function):
    with pytest.raises(
        TypeError, match=rf"{function.__name__}: x is not floating point: got int32"
    ):
        function(jnp.zeros((1, 4, 4, 1), jnp.int32), 2)
