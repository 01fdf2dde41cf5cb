"""Activations beyond the proof: by hand, kinks, ties, what is not finite, and errors."""

from math import log

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import ops

SLOPE = jnp.array(0.25)
ELEMENTWISE = {
    "relu": ops.relu,
    "relu6": ops.relu6,
    "leaky_relu": ops.leaky_relu,
    "prelu": lambda x: ops.prelu(x, SLOPE.astype(x.dtype)),
    "elu": ops.elu,
    "elu, alpha 2": lambda x: ops.elu(x, 2.0),
    "sigmoid": ops.sigmoid,
    "tanh": ops.tanh,
    "gelu": ops.gelu,
    "gelu, tanh": lambda x: ops.gelu(x, approximate=True),
    "silu": ops.silu,
    "hardtanh": ops.hardtanh,
    "hardsigmoid": ops.hardsigmoid,
    "hardswish": ops.hardswish,
    "selu": ops.selu,
    "celu, alpha 2": lambda x: ops.celu(x, 2.0),
    "softplus, beta 2": lambda x: ops.softplus(x, 2.0),
    "mish": ops.mish,
}
# name: value and derivative at 0 and at -0, where relu, leaky_relu, prelu and elu with alpha 2 have
# their kink
AT_ZERO = {
    "relu": (0, 0),
    "relu6": (0, 0),
    "leaky_relu": (0, 1),
    "prelu": (0, 0.25),
    "elu": (0, 1),
    "elu, alpha 2": (0, 2),
    "sigmoid": (0.5, 0.25),
    "tanh": (0, 1),
    "gelu": (0, 0.5),
    "gelu, tanh": (0, 0.5),
    "silu": (0, 0.5),
    "hardtanh": (0, 1),
    "hardsigmoid": (0.5, 1 / 6),
    "hardswish": (0, 0.5),
    "selu": (0, 1.7580993),
    "celu, alpha 2": (0, 1),
    "softplus, beta 2": (log(2) / 2, 0.5),
    "mish": (0, 0.6),
}
# at -inf and inf
LIMITS = {
    "relu": (0, np.inf),
    "relu6": (0, 6),
    "leaky_relu": (-np.inf, np.inf),
    "prelu": (-np.inf, np.inf),
    "elu": (-1, np.inf),
    "elu, alpha 2": (-2, np.inf),
    "sigmoid": (0, 1),
    "tanh": (-1, 1),
    "gelu": (np.nan, np.inf),
    "gelu, tanh": (np.nan, np.inf),
    "silu": (np.nan, np.inf),
    "hardtanh": (-1, 1),
    "hardsigmoid": (0, 1),
    "hardswish": (0, np.inf),
    "selu": (-1.7580993, np.inf),
    "celu, alpha 2": (-2, np.inf),
    "softplus, beta 2": (0, np.inf),
    "mish": (np.nan, np.inf),
}
SOFTMAXES = {"softmax": ops.softmax, "log_softmax": ops.log_softmax}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_derivatives_at_zero(name):
    f, (value, slope) = ELEMENTWISE[name], AT_ZERO[name]
    for zero in (0.0, -0.0):
        given = jnp.array(zero)
        np.testing.assert_allclose(jax.value_and_grad(f)(given), (value, slope), rtol=2e-7)
        np.testing.assert_allclose(jax.jvp(f, (given,), (jnp.array(1.0),))[1], slope, rtol=2e-7)


@pytest.mark.parametrize(
    "name",
    [
        *("relu", "relu6", "elu", "sigmoid", "tanh", "gelu", "silu"),
        *("hardtanh", "hardsigmoid", "hardswish", "selu", "mish"),
    ],
)
def test_pytorch_has_the_same_derivative_at_zero(name, torch):
    x = torch.zeros((), requires_grad=True)
    function = getattr(torch, name, None) or getattr(torch.nn.functional, name)
    function(x).backward()
    np.testing.assert_allclose(AT_ZERO[name][1], x.grad.item(), rtol=1e-6)


def test_pytorch_takes_the_other_side_of_leaky_relu(torch):
    x = torch.zeros(1, requires_grad=True)
    torch.nn.functional.leaky_relu(x, 0.01).sum().backward()
    np.testing.assert_allclose(x.grad.item(), 0.01)


def test_prelu_at_its_kink_as_pytorch(torch):
    """The slope's own derivative there is 0."""
    x, slope = torch.zeros(1, requires_grad=True), torch.tensor([0.25], requires_grad=True)
    torch.nn.functional.prelu(x, slope).sum().backward()
    gradients = jax.grad(ops.prelu, (0, 1))(jnp.array(0.0), SLOPE)
    np.testing.assert_allclose(gradients, (x.grad.item(), slope.grad.item()))
    np.testing.assert_allclose(gradients, (0.25, 0))


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_activations_of_nan_and_infinity(name):
    f = ELEMENTWISE[name]
    np.testing.assert_allclose(f(jnp.array([-jnp.inf, jnp.inf])), LIMITS[name], rtol=2e-7)
    assert np.isnan(f(jnp.array(jnp.nan)))


@pytest.mark.parametrize("name", ["gelu", "silu", "mish"])
def test_pytorch_gives_nan_at_minus_infinity_too(name, torch):
    assert getattr(torch.nn.functional, name)(torch.tensor(-torch.inf)).isnan()


@pytest.mark.parametrize(
    ("name", "kinks"),
    [("relu6", (0, 6)), ("hardtanh", (-1, 1)), ("hardsigmoid", (-3, 3)), ("hardswish", (-3, 3))],
)
def test_both_kinks_are_as_pytorch_has_them(name, kinks, torch):
    x = np.array([k + d for k in kinks for d in (-60.0, -0.5, 0, 0.5, 60.0)], np.float32)
    y, grad = jax.vmap(jax.value_and_grad(getattr(ops, name)))(x)
    theirs = torch.tensor(x, requires_grad=True)
    value = getattr(torch.nn.functional, name)(theirs)
    value.sum().backward()
    np.testing.assert_allclose(y, value.detach(), rtol=1e-6)
    np.testing.assert_allclose(grad, theirs.grad, rtol=1e-6)


def test_softplus_of_what_float16_holds_only_by_itself():
    assert ops.softplus(jnp.array(7000, jnp.float16), 10.0) == 7000


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_glu_along_any_axis(axis, torch):
    x = np.random.default_rng(0).standard_normal((2, 4, 6), np.float32)
    theirs = torch.nn.functional.glu(torch.tensor(x), axis)
    np.testing.assert_allclose(ops.glu(x, axis), theirs, rtol=1e-6)


def test_an_infinity_above_the_kink_leaves_the_slope_alone():
    x = jnp.array([jnp.inf, -2.0])
    np.testing.assert_array_equal(
        jax.grad(lambda a: jnp.sum(ops.prelu(x, a) * jnp.array([0.0, 3.0])))(SLOPE), -6.0
    )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("f", [*ELEMENTWISE.values(), *SOFTMAXES.values()])
def test_large_inputs_stay_finite(f, dtype):
    x = jnp.array([-1e4, 0.0, 1e4], dtype)
    assert f(x).dtype == dtype
    assert np.isfinite(f(x)).all()
    assert np.isfinite(jax.jacobian(f)(x)).all()


def test_softmax_by_hand():
    x = jnp.array([log(1.0), log(2.0), log(5.0)])
    p = np.array([1 / 8, 2 / 8, 5 / 8])
    np.testing.assert_allclose(ops.softmax(x), p, rtol=1e-6)
    np.testing.assert_allclose(ops.log_softmax(x), np.log(p), rtol=1e-6)
    jacobian = np.diag(p) - np.outer(p, p)
    np.testing.assert_allclose(jax.jacobian(ops.softmax)(x), jacobian, rtol=1e-5)


def test_softmaxes_of_minus_infinity():
    """A class that is out: probability 0, and the others share."""
    x = jnp.array([-jnp.inf, 1.0, 1.0])
    np.testing.assert_allclose(ops.softmax(x), [0, 0.5, 0.5])
    np.testing.assert_allclose(ops.log_softmax(x), [-np.inf, -log(2), -log(2)], rtol=1e-6)


def test_gelu_by_tanh_is_off_by_less_than_a_thousandth():
    x = jnp.linspace(-6, 6, 1000)
    error = np.abs(ops.gelu(x, approximate=True) - ops.gelu(x)).max()
    assert 1e-4 < error < 5e-4


def test_prelu_by_hand():
    x, slope = jnp.array([[-1.0, 3.0], [-2.0, -4.0]]), jnp.array([0.5, 0.25])
    y, vjp = jax.vjp(ops.prelu, x, slope)
    np.testing.assert_array_equal(y, [[-0.5, 3], [-1, -1]])
    gx, g_slope = vjp(jnp.ones((2, 2)))
    np.testing.assert_array_equal(gx, [[0.5, 1], [0.5, 0.25]])
    np.testing.assert_array_equal(g_slope, [-1 - 2, -4])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_the_slopes_gradient_is_added_up_in_float32(dtype):
    """A running sum of ones would stop at 256 in bfloat16 and at 2048 in float16."""
    x = -jnp.ones((3000, 1), dtype)
    total = jax.grad(lambda a: jnp.sum(ops.prelu(x, a).astype(jnp.float32)))(jnp.zeros(1, dtype))
    assert total.dtype == dtype
    np.testing.assert_allclose(total.astype(jnp.float32), -3000, rtol=4e-3)


@pytest.mark.parametrize("pieces", [3, 18])
def test_maxout_gives_ties_to_the_first(pieces):
    x = jnp.zeros((1, 2 * pieces)).at[0, 1:3].set(1.0)
    y, vjp = jax.vjp(lambda x: ops.maxout(x, pieces), x)
    np.testing.assert_array_equal(y, [[1, 0]])
    expected = np.zeros(x.shape)
    expected[0, [1, pieces]] = [5, 7]
    np.testing.assert_array_equal(vjp(jnp.array([[5.0, 7.0]]))[0], expected)


def test_maxout_at_its_limits():
    x = jnp.array([[jnp.nan, 1.0, -jnp.inf, -jnp.inf, jnp.inf, 0.0]])
    np.testing.assert_array_equal(ops.maxout(x, 2), [[jnp.nan, -jnp.inf, jnp.inf]])
    np.testing.assert_array_equal(ops.maxout(x, 1), x)
    assert ops.maxout(jnp.zeros((0, 4, 4, 6)), 3).shape == (0, 4, 4, 2)


INTEGERS = jnp.zeros((2, 6), int)
ERRORS = {
    **{
        f"{name} of integers": (
            lambda f=f: f(INTEGERS),
            TypeError,
            rf"{name}: x is not floating point: got int32.*x\.astype\(jnp\.float32\)",
        )
        for name, f in {
            **{
                n: getattr(ops, n)
                for n in ("relu", "relu6", "leaky_relu", "elu", "sigmoid", "tanh")
            },
            **{n: getattr(ops, n) for n in ("gelu", "silu", "softmax", "log_softmax")},
            **{n: getattr(ops, n) for n in ("hardtanh", "hardsigmoid", "hardswish", "selu")},
            **{n: getattr(ops, n) for n in ("celu", "softplus", "mish", "glu")},
            "prelu": lambda x: ops.prelu(x, SLOPE),
            "maxout": lambda x: ops.maxout(x, 2),
        }.items()
    },
    "slope": (
        lambda: ops.prelu(jnp.zeros((2, 3)), jnp.zeros(2)),
        ValueError,
        r"prelu: wrong slope shape: got \(2,\) with x \(2, 3\), need \(3,\); give one slope per",
    ),
    "slope, channels first": (
        lambda: ops.prelu(jnp.zeros((2, 3, 5, 5)), jnp.zeros(3)),
        ValueError,
        r"prelu: wrong slope shape.*x looks channels first",
    ),
    "slope of a scalar": (
        lambda: ops.prelu(jnp.zeros(()), jnp.zeros(1)),
        ValueError,
        r"prelu: wrong slope shape: got \(1,\) with x \(\)",
    ),
    "dtypes": (
        lambda: ops.prelu(jnp.zeros((2, 3), jnp.float16), jnp.zeros(3)),
        TypeError,
        r"prelu: dtypes differ: got x float16 and slope float32",
    ),
    **{
        f"{pieces} pieces": (
            lambda pieces=pieces: ops.maxout(jnp.zeros((2, 6)), pieces),
            ValueError,
            rf"maxout: bad num_pieces: got num_pieces={pieces} with x \(2, 6\), need a positive int that "
            r"divides x\.shape\[-1\]; give the layer before num_pieces times as many features",
        )
        for pieces in (4, 0, -2, 2.0)
    },
    "halves": (
        lambda: ops.glu(jnp.zeros((2, 5))),
        ValueError,
        r"glu: bad x: got \(2, 5\), need an even length along axis -1; give the layer before twice",
    ),
    "axis of halves": (lambda: ops.glu(jnp.zeros((2, 4)), 5), ValueError, r"glu: bad x: .* axis 5"),
    "interval": (
        lambda: ops.hardtanh(jnp.zeros(2), 2.0, -2.0),
        ValueError,
        r"hardtanh: empty interval: got min_val=2.0 and max_val=-2.0, need min_val < max_val; exch",
    ),
    "alpha": (
        lambda: ops.celu(jnp.zeros(2), 0.0),
        ValueError,
        r"celu: bad alpha: got 0.0, need a positive number; leave it out",
    ),
    "beta": (
        lambda: ops.softplus(jnp.zeros(2), -1.0),
        ValueError,
        r"softplus: bad beta: got -1.0, need a positive number",
    ),
    "pieces of a scalar": (
        lambda: ops.maxout(jnp.zeros(()), 1),
        ValueError,
        r"maxout: bad num_pieces",
    ),
}


@pytest.mark.parametrize("call, kind, message", ERRORS.values(), ids=ERRORS.keys())
def test_activations_say_what_to_write_instead(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
