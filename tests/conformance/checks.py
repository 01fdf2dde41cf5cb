"""The checks that every operation goes through: the columns of the table.

The oracles are independent of JAX's differentiation or of ours. The transformations are then held
against the derivatives of the plain formulation, put together by hand, in float64, where nothing
hides in rounding.

Compiling is what takes the time, so an entry has three programs, however many columns look at them
(`Programs`): all transformations of the operation in one, the plain formulation's derivatives in
another, the operation in the short dtypes in the third. Each column calls them with numbers of its own.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import batched
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from convax import ops
from convax.ops.common.implementation import current_implementation
from convax.ops.conv.native.library import resolve_implementation

from .entry import Arrays, Entry, Problem

FLOAT32, FLOAT64 = 2e-5, 1e-9  # errors allowed, of the largest element of what is compared
# Rounding of the input is shared; what remains is that of intermediate results and of the output.
DRAWN = {"float64": 1e-9, "float32": 1e-4, "float16": 4e-3, "bfloat16": 3e-2}
POINTS = (1.0, 0.5, 1.5)  # where a batch of three is, of the arrays drawn
TOGETHER = 10  # problems in a program: more of them would compile no faster


# ------------------------------------------------------------------------------------- oracles


def check_loops(entry: Entry, rng: np.random.Generator) -> None:
    """Value and gradients against NumPy loops."""
    arrays = entry.draw(rng)
    expected = entry.loops(*arrays)
    g = _like(rng, expected)
    gradients = tuple(entry.loops_grad(one_or_all(g), *arrays))
    for name, found in _short(entry, arrays, g, "float32", WITHOUT_KERNELS).items():
        close(found.y, expected, FLOAT32, f"value in {name}")
        close(found.alone, expected, FLOAT32, f"value in {name}, without gradients")
        close(found.gradients, gradients, FLOAT32, f"gradient in {name}")


def check_torch(entry: Entry, rng: np.random.Generator) -> None:
    """Value and gradients against PyTorch."""
    problem = Problem(entry.function, entry.draw(rng), entry.torch)
    wanted = solve(problem, rng)
    found = _short(entry, problem.arrays, wanted.g, "float32")["float32"]
    compare(problem, wanted, found.y, found.gradients, FLOAT32)


def check_finite_differences(entry: Entry, rng: np.random.Generator) -> None:
    """First derivative, in five random directions, against central differences in float64."""
    with jax.enable_x64(True):
        arrays = _as(entry.draw(rng), "float64")
        transformed = programs(entry).transformed
        of = lambda arrays: transformed(_zeros(entry, arrays), *arrays)  # noqa: E731
        loss = lambda arrays: float(of(arrays)["scalar"])  # noqa: E731
        gradients = on_host(of(arrays)["grad"])
        for _ in range(5):
            directions = [rng.standard_normal(a.shape) for a in arrays]
            step = 1e-6
            ahead, behind = (
                loss([a + s * d for a, d in zip(arrays, directions, strict=True)])
                for s in (step, -step)
            )
            slope = sum(np.sum(g * d) for g, d in zip(gradients, directions, strict=True))
            size = sum(np.sum(np.abs(g * d)) for g, d in zip(gradients, directions, strict=True))
            error = abs(slope - (ahead - behind) / (2 * step))
            assert error <= 1e-6 * (size + 1), f"slope {slope}, differences {error} off"


def check_plain(entry: Entry, rng: np.random.Generator) -> None:
    """Value and gradients against JAX's differentiation of the plain formulation."""
    with jax.enable_x64(True):
        arrays = _as(entry.draw(rng), "float64")
        g = [rng.standard_normal(y.shape) for y in _zeros(entry, arrays)]
        actual = programs(entry).transformed(g, *arrays)["value and gradients"]
        close(actual, programs(entry).plain(g, *arrays).value_and_gradients, FLOAT64)


# ----------------------------------------------------------------------------- transformations


def scalar(f: Callable) -> Callable:
    """A number out of any output, with derivatives of every order."""
    return lambda *arrays: sum(jnp.sum(jnp.sin(y)) for y in jax.tree.leaves(f(*arrays)))


def _stacked(arrays):
    return tuple(jnp.stack([point * a for point in POINTS]) for a in arrays)


def _grad(f):
    return lambda *arrays: jax.grad(scalar(f), _all(arrays))(*arrays)


def _hessian(f):
    return lambda *arrays: jax.hessian(scalar(f), _all(arrays))(*arrays)


def _jvp(f):
    return lambda *arrays: jax.jvp(f, arrays, _direction(arrays))


def _linearize(f):
    return lambda *arrays: jax.linearize(f, *arrays)[1](*_direction(arrays))


def _grad_of_grad(f):
    norm = lambda *arrays: sum(jnp.sum(jnp.square(g)) for g in _grad(f)(*arrays))  # noqa: E731
    return lambda *arrays: jax.grad(norm, _all(arrays))(*arrays)


def _jvp_of_grad(f):
    return lambda *arrays: jax.jvp(_grad(f), arrays, _direction(arrays))


def _grad_of_vmap(f):
    return lambda *arrays: _grad(jax.vmap(f))(*_stacked(arrays))


def _remat(f):
    return lambda *arrays: jax.grad(jax.checkpoint(scalar(f)), _all(arrays))(*arrays)


def _scan(f):
    """The gradient inside a branch inside a loop."""

    def body(carry, arrays):
        double = lambda *arrays: tuple(2 * a for a in arrays)  # noqa: E731
        gradients = lax.cond(jnp.sum(arrays[0]) < 1e9, _grad(f), double, *arrays)
        return carry + sum(map(jnp.sum, gradients)), gradients

    return lambda *arrays: lax.scan(body, jnp.zeros((), arrays[0].dtype), _stacked(arrays))


class Derivatives(NamedTuple):
    """Of the plain formulation, in arrays of float64: what every transformation is made of."""

    value: Any
    tangent: Any  # along `_direction(arrays)`
    grad: tuple  # of `scalar`, in each array
    hessian: tuple[tuple, ...]  # [i][j]: how grad[i] changes with array j
    value_and_gradients: tuple[Any, tuple]


class Transformation(NamedTuple):
    """How to transform a function, and what that gives, from its derivatives at `POINTS`."""

    of: Callable[[Callable], Callable]
    expected: Callable[[Arrays, list[Derivatives]], Any]


def _at_once(part: str) -> Callable:
    """What a batch gives: `part` of the derivatives at every point."""

    def expected(arrays, points):
        return jax.tree.map(lambda *a: np.stack(a), *(getattr(d, part) for d in points))

    return expected


def _gradient_of_squared_gradient(arrays, points):
    d = points[0]
    return tuple(
        2 * sum(np.tensordot(g, row[j], g.ndim) for g, row in zip(d.grad, d.hessian, strict=True))
        for j in _all(arrays)
    )


def _hessian_along_direction(arrays, points):
    pairs = lambda row: zip(row, map(np.cos, arrays), strict=True)  # noqa: E731
    return tuple(
        sum(np.tensordot(h, v, v.ndim) for h, v in pairs(row)) for row in points[0].hessian
    )


def _carry_and_gradients(arrays, points):
    return sum(np.sum(g) for d in points for g in d.grad), _at_once("grad")(arrays, points)


# Everything here is jitted. The derivatives at the first point are those at the arrays themselves. A Hessian is itself a vmap
# inside a vmap, of the gradient's derivative: a batch of Hessians would show no more, and take a fifth of all compilation.
TRANSFORMATIONS: dict[str, Transformation] = {
    "jit": Transformation(lambda f: f, lambda arrays, points: points[0].value),
    "grad": Transformation(_grad, lambda arrays, points: points[0].grad),
    "jvp": Transformation(_jvp, lambda arrays, points: (points[0].value, points[0].tangent)),
    "linearize": Transformation(_linearize, lambda arrays, points: points[0].tangent),
    "grad of grad": Transformation(_grad_of_grad, _gradient_of_squared_gradient),
    "jvp of grad": Transformation(
        _jvp_of_grad, lambda *a: (a[1][0].grad, _hessian_along_direction(*a))
    ),
    "hessian": Transformation(_hessian, lambda arrays, points: points[0].hessian),
    "vmap": Transformation(
        lambda f: lambda *arrays: jax.vmap(f)(*_stacked(arrays)), _at_once("value")
    ),
    "vmap of grad": Transformation(
        lambda f: lambda *arrays: jax.vmap(_grad(f))(*_stacked(arrays)), _at_once("grad")
    ),
    "grad of vmap": Transformation(_grad_of_vmap, _at_once("grad")),
    "remat": Transformation(_remat, lambda arrays, points: points[0].grad),
    "scan": Transformation(_scan, _carry_and_gradients),
}


def check_transformation(name: str, entry: Entry, rng: np.random.Generator) -> None:
    """The transformed operation against the derivatives of the plain formulation, in float64."""
    with jax.enable_x64(True):
        arrays = _as(entry.draw(rng), "float64")
        g = _zeros(entry, arrays)
        points = [on_host(programs(entry).plain(g, *(p * a for a in arrays))) for p in POINTS]
        expected = TRANSFORMATIONS[name].expected(arrays, points)
        close(programs(entry).transformed(g, *arrays)[name], expected, FLOAT64)
        if name == "jit":
            close(entry.function(*arrays), expected, FLOAT64, "without jit")


# ---------------------------------------------------------------------------------- precision


def check_low_precision(entry: Entry, rng: np.random.Generator) -> None:
    """bfloat16 and float16 in: the derivatives keep the dtype, the values are float32's, rounded."""
    for dtype in ("bfloat16", "float16"):
        arrays = _as(entry.draw(rng), dtype)
        g = [rng.standard_normal(y.shape) for y in _outputs(entry, _as(arrays, "float32"))]
        found = _short(entry, arrays, g, dtype, "float32")
        low, single = found[dtype], found["float32"]
        assert [a.dtype for a in low.gradients] == [a.dtype for a in arrays]
        for leaf in jax.tree.leaves(low.y):
            assert leaf.dtype in (arrays[0].dtype, jnp.float32)
        close(low.y, single.alone, DRAWN[dtype], f"value in {dtype}")
        close(low.gradients, single.gradients, 2 * DRAWN[dtype], f"gradient in {dtype}")


# ----------------------------------------------------------------------------------- programs


class Found(NamedTuple):
    """What an operation gives in one dtype."""

    alone: Any  # the output where no gradient is asked for
    y: Any
    gradients: tuple


class Programs(NamedTuple):
    """All that is compiled for an entry."""

    transformed: Callable[..., dict[str, Any]]  # (g, *arrays) in float64
    plain: Callable[..., Derivatives]  # (g, *arrays) in float64
    short: Callable[..., dict[str, Found]]  # ({dtype: (g, *arrays)}) in SHORT


SHORT = ("float32", "bfloat16", "float16")
# Native kernels are for float32: what is taken without them is in the same program, where there is another.
WITHOUT_KERNELS = "float32 without native kernels"
AS_USERS_COMPILE = {
    "xla_backend_optimization_level": "3"
}  # tests are compiled without LLVM's otherwise


@lru_cache(4)  # the cells of an entry come one after the other
def programs(entry: Entry) -> Programs:
    """Compiled at the first call."""
    f, plain = entry.function, entry.plain

    def transformed(g, *arrays):
        parts = {name: t.of(f)(*arrays) for name, t in TRANSFORMATIONS.items()}
        value = scalar(f)(*arrays)
        return parts | {"scalar": value, "value and gradients": _value_and_grads(f, g, *arrays)}

    def derivatives(g, *arrays):
        value, tangent = _jvp(plain)(*arrays)
        derivatives = _grad(plain)(*arrays), _hessian(plain)(*arrays)
        return Derivatives(value, tangent, *derivatives, _value_and_grads(plain, g, *arrays))

    def found(g, *arrays):
        return Found(f(*arrays), *_value_and_grads(f, g, *arrays))

    def short(given):
        results = {dtype: found(*of) for dtype, of in given.items()}
        if "conv" in entry.op and resolve_implementation(current_implementation()) == "native":
            with ops.implementation("cpu"):
                results[WITHOUT_KERNELS] = found(*given["float32"])
        return results

    as_users = jax.jit(short, compiler_options=AS_USERS_COMPILE)
    return Programs(jax.jit(transformed), jax.jit(derivatives), as_users)


def _short(entry, arrays, g, *dtypes) -> dict[str, Found]:
    """In all short dtypes, of which the program is; those not named are not worth looking at."""
    arguments = {dtype: (_as(g, "float32"), *_as(arrays, dtype)) for dtype in SHORT}
    found = programs(entry).short(arguments)
    return {dtype: found[dtype] for dtype in dtypes if dtype in found}


def _outputs(entry, arrays):
    return jax.tree.leaves(jax.eval_shape(entry.function, *arrays))


def _zeros(entry, arrays):
    return [np.zeros(y.shape) for y in _outputs(entry, arrays)]


def _value_and_grads(f, g, *arrays):
    """f(*arrays), and the gradients of sum(g * f(*arrays))."""
    y, vjp = jax.vjp(f, *arrays)
    leaves, structure = jax.tree.flatten(y)
    return y, vjp(structure.unflatten([a.astype(b.dtype) for a, b in zip(g, leaves, strict=True)]))


def value_and_grads(f, arrays, g):
    """The same, compiled for this one call."""
    leaves = [jnp.asarray(a) for a in jax.tree.leaves(g)]
    return jax.jit(lambda g, *arrays: _value_and_grads(f, g, *arrays))(leaves, *arrays)


# -------------------------------------------------------------------------------------- drawn


class Solution(NamedTuple):
    """What PyTorch makes of a problem, in float64."""

    g: Arrays
    values: list[np.ndarray]
    gradients: list[np.ndarray]


def solve(problem: Problem, rng: np.random.Generator) -> Solution:
    """Value and gradients by PyTorch."""
    import torch

    arrays = _as(_as(problem.arrays, problem.dtype), "float64")
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    expected = problem.torch(torch, *tensors)
    outputs = list(expected) if isinstance(expected, tuple) else [expected]
    # Halves of integers: exact in every dtype.
    g = tuple(rng.integers(-4, 5, tuple(t.shape)) / 2 for t in outputs)
    torch.autograd.backward(outputs, [torch.tensor(a) for a in g])
    gradients = [np.zeros(t.shape) if t.grad is None else t.grad.numpy() for t in tensors]
    return Solution(g, [t.detach().numpy() for t in outputs], gradients)


def compare(problem: Problem, wanted: Solution, y, gradients, tolerance: float) -> None:
    """Ours against PyTorch's."""
    # What is left where terms cancel is the rounding of the terms, which are as large as others.
    precision = np.finfo(np.float64 if problem.dtype == "float64" else np.float32).eps
    largest = max(np.max(np.abs(a), initial=0) for a in wanted.values + wanted.gradients)
    rounding = 8 * precision * largest
    before = 0.0
    if problem.rounded is not None:  # where the two cancel, the sum is as large as the other
        unit = float(jnp.finfo(problem.dtype).eps)
        before = unit * np.max(np.abs(problem.arrays[problem.rounded]), initial=0)
    close(y, wanted.values, tolerance, f"value {problem.text}", rounding + before)
    close(gradients, wanted.gradients, tolerance, f"gradient {problem.text}", rounding)


def check_problems(problems: Sequence[tuple[Problem, np.random.Generator]]) -> None:
    """Value and gradients of problems against PyTorch's; several of them are one program."""
    for double in (True, False):
        with jax.enable_x64(double):
            some = [(p, rng) for p, rng in problems if (p.dtype == "float64") == double]
            for together in batched(some, TOGETHER):
                _check_together([p for p, _ in together], [solve(p, rng) for p, rng in together])


def _check_together(problems, solutions):
    @jax.jit
    def program(given):
        return [
            _value_and_grads(p.function, g, *arrays)
            for p, (g, *arrays) in zip(problems, given, strict=True)
        ]

    pairs = list(zip(problems, solutions, strict=True))
    given = [
        (_as(s.g, "float64" if p.dtype == "float64" else "float32"), *_as(p.arrays, p.dtype))
        for p, s in pairs
    ]
    for (problem, wanted), found in zip(pairs, program(given), strict=True):
        compare(problem, wanted, *found, DRAWN[problem.dtype])


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


def _direction(arrays):
    return tuple(map(jnp.cos, arrays))


def _all(arrays):
    return tuple(range(len(arrays)))


def _as(arrays, dtype):
    """By NumPy, as all on the host here: of JAX, each operation on each shape would be a program."""
    return tuple(np.asarray(a).astype(dtype) for a in arrays)


def on_host(tree):
    return jax.tree.map(np.asarray, tree)


def _like(rng, output):
    return [rng.standard_normal(np.shape(y)) for y in jax.tree.leaves(output)]


def one_or_all(g):
    return g[0] if len(g) == 1 else tuple(g)
