"""Activations against their formulas, PyTorch and finite differences."""

from math import erf, exp, log, pi, sqrt, tanh

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import ops

SIGMOID = lambda x: 1 / (1 + exp(-x))  # noqa: E731

# name: (function, formula, derivative), the last two of one Python float
ELEMENTWISE = {
    "relu": (ops.relu, lambda x: max(x, 0.0), lambda x: float(x > 0)),
    "leaky_relu": (
        ops.leaky_relu,
        lambda x: x if x >= 0 else 0.01 * x,
        lambda x: 1.0 if x >= 0 else 0.01,
    ),
    "leaky_relu 0.2": (
        lambda x: ops.leaky_relu(x, 0.2),
        lambda x: x if x >= 0 else 0.2 * x,
        lambda x: 1.0 if x >= 0 else 0.2,
    ),
    "elu": (ops.elu, lambda x: x if x > 0 else exp(x) - 1, lambda x: 1.0 if x > 0 else exp(x)),
    "elu 2": (
        lambda x: ops.elu(x, 2.0),
        lambda x: x if x > 0 else 2 * (exp(x) - 1),
        lambda x: 1.0 if x > 0 else 2 * exp(x),
    ),
    "sigmoid": (ops.sigmoid, SIGMOID, lambda x: SIGMOID(x) * (1 - SIGMOID(x))),
    "tanh": (ops.tanh, tanh, lambda x: 1 - tanh(x) ** 2),
    "silu": (
        ops.silu,
        lambda x: x * SIGMOID(x),
        lambda x: SIGMOID(x) * (1 + x * (1 - SIGMOID(x))),
    ),
    "gelu": (
        ops.gelu,
        lambda x: x * (1 + erf(x / sqrt(2))) / 2,
        lambda x: (1 + erf(x / sqrt(2))) / 2 + x * exp(-(x**2) / 2) / sqrt(2 * pi),
    ),
}
SOFTMAXES = {"softmax": ops.softmax, "log_softmax": ops.log_softmax}
POINTS = np.array([-5.0, -1.5, -0.25, -0.0, 0.0, 0.5, 2.0, 6.0], np.float32)


@pytest.mark.parametrize(
    "function, formula, derivative", ELEMENTWISE.values(), ids=ELEMENTWISE.keys()
)
def test_formula_and_derivative(function, formula, derivative):
    """At the kink too: POINTS holds zero."""
    slopes = jax.jit(jax.vmap(jax.grad(function)))
    for f in (function, jax.jit(jax.vmap(function))):
        np.testing.assert_allclose(f(POINTS), [formula(float(x)) for x in POINTS], 1e-5, 1e-6)
    np.testing.assert_allclose(slopes(POINTS), [derivative(float(x)) for x in POINTS], 1e-5, 1e-6)


@pytest.mark.parametrize("name", [name for name in ELEMENTWISE if " " not in name])
def test_matches_torch(name, torch):
    F = torch.nn.functional
    x = torch.tensor(POINTS, requires_grad=True)
    y = getattr(F, name)(x) if hasattr(F, name) else getattr(torch, name)(x)
    y.sum().backward()
    function = ELEMENTWISE[name][0]
    np.testing.assert_allclose(function(POINTS), y.detach().numpy(), rtol=1e-5, atol=1e-6)
    expected = x.grad.numpy()
    if name == "leaky_relu":  # PyTorch takes the other side at the kink, as documented
        expected = np.where(POINTS == 0, 1, expected)
    np.testing.assert_allclose(jax.vmap(jax.grad(function))(POINTS), expected, 1e-5, 1e-6)


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("name", SOFTMAXES)
def test_softmax_matches_torch(name, axis, torch, rng):
    x, g = (rng.standard_normal((3, 4)).astype(np.float32) for _ in range(2))
    tx = torch.tensor(x, requires_grad=True)
    ty = getattr(torch, name)(tx, dim=axis)
    ty.backward(torch.tensor(g))
    y, vjp = jax.vjp(lambda x: SOFTMAXES[name](x, axis), x)
    np.testing.assert_allclose(y, ty.detach().numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(vjp(g)[0], tx.grad.numpy(), rtol=1e-5, atol=1e-6)


def test_softmax_by_hand():
    x = jnp.array([log(1.0), log(2.0), log(5.0)])
    p = np.array([1 / 8, 2 / 8, 5 / 8])
    np.testing.assert_allclose(ops.softmax(x), p, rtol=1e-6)
    np.testing.assert_allclose(ops.log_softmax(x), np.log(p), rtol=1e-6)
    jacobian = np.diag(p) - np.outer(p, p)
    np.testing.assert_allclose(jax.jacobian(ops.softmax)(x), jacobian, rtol=1e-5)


def test_tanh_form_of_gelu(torch):
    y = ops.gelu(POINTS, approximate=True)
    expected = torch.nn.functional.gelu(torch.tensor(POINTS), approximate="tanh")
    np.testing.assert_allclose(y, expected.numpy(), rtol=1e-4, atol=1e-6)
    assert 0 < np.abs(y - ops.gelu(POINTS)).max() < 5e-4


@pytest.mark.parametrize("name", [*ELEMENTWISE, *SOFTMAXES])
def test_dtype_and_second_derivatives(name, rng):
    f = ELEMENTWISE[name][0] if name in ELEMENTWISE else SOFTMAXES[name]
    for dtype in (jnp.bfloat16, jnp.float16, jnp.float32):
        assert f(jnp.ones(3, dtype)).dtype == dtype
    with jax.enable_x64(True):
        x, step = jnp.asarray(rng.uniform(0.1, 1, 4)) * jnp.array([1.0, -1.0, 1.0, -1.0]), 1e-6
        weights = jnp.asarray(rng.standard_normal(4))
        slope = jax.jit(jax.grad(lambda x: jnp.sum(f(x) * weights)))
        hvp = jax.jvp(slope, (x,), (jnp.ones(4),))[1]
        expected = (slope(x + step) - slope(x - step)) / (2 * step)
        np.testing.assert_allclose(hvp, expected, rtol=1e-6, atol=1e-8)
        ahead, behind = (jnp.sum(f(x + h) * weights) for h in (step, -step))
        np.testing.assert_allclose(jnp.sum(slope(x)), (ahead - behind) / (2 * step), 1e-6, 1e-8)


@pytest.mark.parametrize("name", [*ELEMENTWISE, *SOFTMAXES])
def test_large_inputs_stay_finite(name):
    f = ELEMENTWISE[name][0] if name in ELEMENTWISE else SOFTMAXES[name]
    x = jnp.array([-1e4, 0.0, 1e4])
    assert np.isfinite(f(x)).all()
    assert np.isfinite(jax.jacobian(f)(x)).all()
