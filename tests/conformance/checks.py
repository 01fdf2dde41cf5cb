"""The checks that every operation goes through: the columns of the table.

The oracles are independent of JAX's differentiation or of ours. The transformations are then held
against the same transformation of the plain formulation, in float64, where nothing hides in rounding.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .entry import Entry, Problem

# Each program runs once, on little: what XLA does to it matters here, what LLVM does to that does not.
quick = partial(jax.jit, compiler_options={"xla_backend_optimization_level": "0"})

FLOAT32, FLOAT64 = 2e-5, 1e-9  # errors allowed, of the largest element of what is compared
# Rounding of the input is shared; what remains is that of intermediate results and of the output.
DRAWN = {"float64": 1e-9, "float32": 1e-4, "float16": 4e-3, "bfloat16": 3e-2}


# ------------------------------------------------------------------------------------- oracles


def check_loops(entry: Entry, rng: np.random.Generator) -> None:
    """Value and gradients against NumPy loops."""
    arrays = entry.draw(rng)
    expected = entry.loops(*arrays)
    g = _like(rng, expected)
    y, gradients = value_and_grads(entry.function, _as(arrays, "float32"), g)
    close(y, expected, FLOAT32, "value")
    close(gradients, tuple(entry.loops_grad(one_or_all(g), *arrays)), FLOAT32, "gradient")


def check_torch(entry: Entry, rng: np.random.Generator) -> None:
    """Value and gradients against PyTorch."""
    problem = Problem(entry.function, entry.draw(rng), entry.torch)
    check_problem(problem, rng, tolerance=FLOAT32)


def check_finite_differences(entry: Entry, rng: np.random.Generator) -> None:
    """First derivative, in five random directions, against central differences in float64."""
    with jax.enable_x64(True):
        arrays = _as(entry.draw(rng), "float64")
        loss = quick(scalar(entry.function))
        gradients = quick(jax.grad(scalar(entry.function), _all(arrays)))(*arrays)
        for _ in range(5):
            directions = [jnp.asarray(rng.standard_normal(a.shape)) for a in arrays]
            step = 1e-6
            ahead, behind = (
                loss(*(a + s * d for a, d in zip(arrays, directions, strict=True)))
                for s in (step, -step)
            )
            slope = sum(jnp.sum(g * d) for g, d in zip(gradients, directions, strict=True))
            size = sum(jnp.sum(jnp.abs(g * d)) for g, d in zip(gradients, directions, strict=True))
            error = abs(slope - (ahead - behind) / (2 * step))
            assert error <= 1e-6 * (size + 1), f"slope {slope}, differences {error} off"


def check_plain(entry: Entry, rng: np.random.Generator) -> None:
    """Value and gradients against JAX's differentiation of the plain formulation."""
    with jax.enable_x64(True):
        arrays = _as(entry.draw(rng), "float64")
        expected = quick(entry.plain)(*arrays)
        g = _like(rng, expected)
        actual = value_and_grads(entry.function, arrays, g)
        close(actual, value_and_grads(entry.plain, arrays, g), FLOAT64)


# ----------------------------------------------------------------------------- transformations


def scalar(f: Callable) -> Callable:
    """A number out of any output, with derivatives of every order."""
    return lambda *arrays: sum(jnp.sum(jnp.sin(y)) for y in jax.tree.leaves(f(*arrays)))


def _stacked(arrays):
    return tuple(jnp.stack([a, 0.5 * a, 1.5 * a]) for a in arrays)


def _grad(f):
    return lambda *arrays: jax.grad(scalar(f), _all(arrays))(*arrays)


def _hessian(f):
    return lambda *arrays: jax.hessian(scalar(f), _all(arrays))(*arrays)


def _jvp(f):
    return lambda *arrays: jax.jvp(f, arrays, tuple(map(jnp.cos, arrays)))


def _linearize(f):
    return lambda *arrays: jax.linearize(f, *arrays)[1](*map(jnp.cos, arrays))


def _grad_of_grad(f):
    norm = lambda *arrays: sum(jnp.sum(jnp.square(g)) for g in _grad(f)(*arrays))  # noqa: E731
    return lambda *arrays: jax.grad(norm, _all(arrays))(*arrays)


def _jvp_of_grad(f):
    return lambda *arrays: jax.jvp(_grad(f), arrays, tuple(map(jnp.cos, arrays)))


def _grad_of_vmap(f):
    return lambda *arrays: _grad(jax.vmap(f))(*_stacked(arrays))


def _remat(f):
    return _grad(jax.checkpoint(lambda *arrays: jax.tree.map(jnp.sin, f(*arrays))))


def _scan(f):
    """The gradient inside a branch inside a loop."""

    def body(carry, arrays):
        double = lambda *arrays: tuple(2 * a for a in arrays)  # noqa: E731
        gradients = lax.cond(jnp.sum(arrays[0]) < 1e9, _grad(f), double, *arrays)
        return carry + sum(map(jnp.sum, gradients)), gradients

    return lambda *arrays: lax.scan(body, jnp.zeros((), arrays[0].dtype), _stacked(arrays))


TRANSFORMATIONS: dict[str, Callable[[Callable], Callable]] = {
    "jit": lambda f: f,  # everything here is jitted
    "grad": _grad,
    "jvp": _jvp,
    "linearize": _linearize,
    "grad of grad": _grad_of_grad,
    "jvp of grad": _jvp_of_grad,
    "hessian": _hessian,
    "vmap": lambda f: lambda *arrays: jax.vmap(f)(*_stacked(arrays)),
    "vmap of grad": lambda f: lambda *arrays: jax.vmap(_grad(f))(*_stacked(arrays)),
    "grad of vmap": _grad_of_vmap,
    "vmap of hessian": lambda f: lambda *arrays: jax.vmap(_hessian(f))(*_stacked(arrays)),
    "remat": _remat,
    "scan": _scan,
}


def check_transformation(name: str, entry: Entry, rng: np.random.Generator) -> None:
    """The transformed operation against the transformed plain formulation, in float64."""
    transformation = TRANSFORMATIONS[name]
    with jax.enable_x64(True):
        arrays = _as(entry.draw(rng), "float64")
        actual = quick(transformation(entry.function))(*arrays)
        expected = quick(transformation(entry.plain))(*arrays)
        close(actual, expected, FLOAT64)
        if name == "jit":
            close(entry.function(*arrays), expected, FLOAT64, "without jit")


# ---------------------------------------------------------------------------------- precision


def check_low_precision(entry: Entry, rng: np.random.Generator) -> None:
    """bfloat16 and float16 in: the derivatives keep the dtype, the values are float32's, rounded."""
    for dtype in ("bfloat16", "float16"):
        arrays = _as(entry.draw(rng), dtype)
        same_in_float32 = tuple(a.astype(jnp.float32) for a in arrays)
        expected = quick(entry.function)(*same_in_float32)
        g = _like(rng, expected)
        y, gradients = value_and_grads(entry.function, arrays, g)
        _, wanted = value_and_grads(entry.function, same_in_float32, g)
        assert [a.dtype for a in gradients] == [a.dtype for a in arrays]
        for leaf in jax.tree.leaves(y):
            assert leaf.dtype in (arrays[0].dtype, jnp.float32)
        close(y, expected, DRAWN[dtype], f"value in {dtype}")
        close(gradients, wanted, 2 * DRAWN[dtype], f"gradient in {dtype}")


# -------------------------------------------------------------------------------------- drawn


def check_problem(
    problem: Problem, rng: np.random.Generator, *, tolerance: float | None = None
) -> None:
    """Value and gradients of a problem against PyTorch's, which computes in float64."""
    import torch

    tolerance = DRAWN[problem.dtype] if tolerance is None else tolerance
    with jax.enable_x64(problem.dtype == "float64"):
        arrays = _as(problem.arrays, problem.dtype)
        tensors = [torch.tensor(np.asarray(a, np.float64), requires_grad=True) for a in arrays]
        expected = problem.torch(torch, *tensors)
        outputs = list(expected) if isinstance(expected, tuple) else [expected]
        # Halves of integers: exact in every dtype.
        g = [rng.integers(-4, 5, tuple(t.shape)) / 2 for t in outputs]
        torch.autograd.backward(outputs, [torch.tensor(a) for a in g])
        y, gradients = value_and_grads(problem.function, arrays, g)
        values = [t.detach().numpy() for t in outputs]
        wanted = [np.zeros(t.shape) if t.grad is None else t.grad.numpy() for t in tensors]
        # What is left where terms cancel is the rounding of the terms, which are as large as others.
        precision = np.finfo(np.float64 if problem.dtype == "float64" else np.float32).eps
        rounding = 8 * precision * max(np.max(np.abs(a), initial=0) for a in values + wanted)
        before = 0.0
        if problem.rounded is not None:  # where the two cancel, the sum is as large as the other
            unit = float(jnp.finfo(problem.dtype).eps)
            before = unit * np.max(np.abs(problem.arrays[problem.rounded]), initial=0)
        close(y, values, tolerance, f"value {problem.text}", rounding + before)
        close(gradients, wanted, tolerance, f"gradient {problem.text}", rounding)


# ----------------------------------------------------------------------------------- all of it

CHECKS: dict[str, Callable[[Entry, np.random.Generator], None]] = {
    "loops": check_loops,
    "torch": check_torch,
    "finite differences": check_finite_differences,
    "plain": check_plain,
    **{
        name: lambda entry, rng, name=name: check_transformation(name, entry, rng)
        for name in TRANSFORMATIONS
    },
    "low precision": check_low_precision,
}


def close(
    actual: Any, expected: Any, tolerance: float, what: str = "", rounding: float = 0.0
) -> None:
    """Compare trees, leaf by leaf, by the largest error relative to the largest element.

    An absolute error of `rounding` is allowed besides.
    """
    pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
    for n, (a, b) in enumerate(pairs):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert a.shape == b.shape, f"{what} {n}: shape {a.shape}, expected {b.shape}"
        assert np.all(np.isfinite(b)), f"{what} {n}: the expected values are not finite"
        size = np.max(np.abs(b), initial=0)
        # An exact zero, such as the second derivative of something linear, may come out as noise.
        allowed = tolerance * (size if size > 1e-6 else 1.0) + rounding
        np.testing.assert_allclose(a, b, rtol=0, atol=allowed, err_msg=f"{what} {n}")


def value_and_grads(f, arrays, g):
    """f(*arrays), and the gradients of sum(g * f(*arrays))."""

    def function(g, *arrays):
        y, vjp = jax.vjp(f, *arrays)
        leaves, structure = jax.tree.flatten(y)
        return y, vjp(
            structure.unflatten([a.astype(b.dtype) for a, b in zip(g, leaves, strict=True)])
        )

    return quick(function)([jnp.asarray(a) for a in jax.tree.leaves(g)], *arrays)


def _all(arrays):
    return tuple(range(len(arrays)))


def _as(arrays, dtype):
    return tuple(jnp.asarray(a, dtype) for a in arrays)


def _like(rng, output):
    return [rng.standard_normal(np.shape(y)) for y in jax.tree.leaves(output)]


def one_or_all(g):
    return g[0] if len(g) == 1 else tuple(g)
