"""Our optimizers against optax, PyTorch, hand arithmetic, and JAX's transformations."""

import contextlib
import functools
import inspect
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from convax.training.optim.clip import clip_by_global_norm
from convax.training.optim.optimizer import (
    OPTIMIZERS,
    Optimizer,
    adam,
    adamw,
    apply_updates,
    sgd,
)

STEPS = 120


def momentum(
    learning_rate, momentum=0.9, nesterov=False, weight_decay=0.0, dampening=0.0, maximize=False
):
    own = {"dampening": dampening, "maximize": maximize}
    return sgd(
        learning_rate, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay, **own
    )


# Ours, and the same out of optax's parts; each takes the learning rate.
PAIRS = {
    "sgd": (sgd, optax.sgd),
    "sgd_decay": (
        lambda r: sgd(r, weight_decay=0.1),
        lambda r: optax.chain(optax.add_decayed_weights(0.1), optax.sgd(r)),
    ),
    "momentum": (
        lambda r: momentum(r, momentum=0.5, weight_decay=0.1),
        lambda r: optax.chain(optax.add_decayed_weights(0.1), optax.sgd(r, momentum=0.5)),
    ),
    "nesterov": (
        lambda r: momentum(r, nesterov=True),
        lambda r: optax.sgd(r, momentum=0.9, nesterov=True),
    ),
    "adam": (adam, optax.adam),
    "adam_betas": (
        lambda r: adam(r, b1=0.0, b2=0.9, eps=1e-3),
        lambda r: optax.adam(r, b1=0.0, b2=0.9, eps=1e-3),
    ),
    "adam_decay": (
        lambda r: adam(r, weight_decay=0.1),
        lambda r: optax.chain(optax.add_decayed_weights(0.1), optax.adam(r)),
    ),
    "adamw": (adamw, lambda r: optax.adamw(r, weight_decay=1e-2)),
    "amsgrad": (
        lambda r: adam(r, amsgrad=True, eps=1e-30),
        lambda r: optax.chain(  # whose mean square is never corrected: the rate is, in its place
            optax.scale_by_amsgrad(eps=1e-30, bias_correction_nu=False),
            optax.scale_by_learning_rate(
                lambda t: (r(t) if callable(r) else r) * jnp.sqrt(1 - 0.999 ** (t + 1.0))
            ),
        ),
    ),
    "clip_nesterov": (
        lambda r: optax.chain(clip_by_global_norm(20.0), momentum(r, nesterov=True)),
        lambda r: optax.chain(
            optax.clip_by_global_norm(20.0), optax.sgd(r, momentum=0.9, nesterov=True)
        ),
    ),
}

RATES = {
    "constant": 0.03,
    "scheduled": lambda count: 0.05 * 0.97 ** count.astype(float),
}

# Of the largest update: rounding of sums whose terms cancel does not shrink with the sum.
TOLERANCE = {"float32": 1e-6, "float64": 1e-13}


# optax's own arithmetic, and the plainest schedules, mix integers and floats.
STANDARD = functools.partial(jax.numpy_dtype_promotion, "standard")


def precision(dtype):
    """Let float64 be what it says."""
    return jax.enable_x64(True) if dtype == "float64" else contextlib.nullcontext()


def odd_tree(rng, dtype="float32"):
    """Every shape and container that a model may hold."""
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)  # noqa: E731
    return {
        "scalar": draw(),
        "empty": draw(0),
        "block": [{"one": draw(1), "none": None}, (draw(3, 5, 7), draw(2))],
    }


def odd_problem(rng, dtype):
    """A weak pull to 0 under noise whose size differs by leaf, from 1e-2 to 1e2."""
    params = odd_tree(rng, dtype)
    noise = jax.tree.map(lambda w: jnp.asarray(rng.normal(size=(STEPS, *w.shape)), dtype), params)
    leaves, treedef = jax.tree.flatten(noise)
    noise = treedef.unflatten([10.0 ** (k - 2) * n for k, n in enumerate(leaves)])
    return params, lambda w, t: jax.tree.map(lambda x, n: 0.1 * x + n[t], w, noise)


def valley_problem(rng, dtype):
    """Rosenbrock's valley, which is curved: small differences must not be driven apart."""
    loss = lambda w: jnp.sum((1 - w["x"]) ** 2 + 5 * (w["y"] - w["x"] ** 2) ** 2) / 20  # noqa: E731
    start = {k: jnp.asarray(rng.uniform(-1, 1, 4), dtype) for k in "xy"}
    return start, lambda w, t: jax.grad(loss)(w)


PROBLEMS = {"odd": odd_problem, "valley": valley_problem}


def trajectory(optimizer, params, gradient, steps=STEPS):
    """The last parameters, the last state, and all updates stacked along a leading axis."""

    @jax.jit
    def step(params, state, t):
        updates, state = optimizer.update(gradient(params, t), state, params)
        return apply_updates(params, updates), state, updates

    state, history = optimizer.init(params), []
    for t in range(steps):
        params, state, updates = step(params, state, t)
        history.append(updates)
    return params, state, jax.tree.map(lambda *u: np.stack(u), *history)


def assert_trees_close(actual, expected, tolerance):
    """Within `tolerance` of the largest element of each leaf."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == e.dtype
        a, e = np.asarray(a, np.float64), np.asarray(e, np.float64)
        np.testing.assert_allclose(a, e, tolerance, tolerance * np.max(np.abs(e), initial=0))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("task", "rate"), [("odd", "scheduled"), ("valley", "scheduled"), ("valley", "constant")]
)
@pytest.mark.parametrize("pair", PAIRS)
def test_every_step_equals_optax(pair, task, rate, dtype, rng):
    ours, theirs = (make(RATES[rate]) for make in PAIRS[pair])
    with precision(dtype):
        params, gradient = PROBLEMS[task](rng, dtype)
        end, state, updates = trajectory(ours, params, gradient)
        with STANDARD():
            their_end, _, their_updates = trajectory(theirs, params, gradient)
        assert_trees_close(updates, their_updates, TOLERANCE[dtype])
        assert_trees_close(end, their_end, TOLERANCE[dtype])
        assert all(x.dtype in (dtype, "int32") for x in jax.tree.leaves(state))


# Ours, and the keywords of PyTorch's.
TORCH = {
    "sgd": (lambda r: sgd(r, weight_decay=0.1), "SGD", {"weight_decay": 0.1}),
    "momentum": (
        lambda r: momentum(r, weight_decay=0.1),
        "SGD",
        {"momentum": 0.9, "weight_decay": 0.1},
    ),
    "nesterov": (
        lambda r: momentum(r, nesterov=True, weight_decay=0.1),
        "SGD",
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    ),
    "dampening": (
        lambda r: momentum(r, dampening=0.3, weight_decay=0.1),
        "SGD",
        {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
    ),
    "maximize": (
        lambda r: momentum(r, dampening=0.3, weight_decay=0.1, maximize=True),
        "SGD",
        {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1, "maximize": True},
    ),
    "adam": (adam, "Adam", {}),
    "amsgrad": (
        lambda r: adam(r, amsgrad=True, weight_decay=0.1, b2=0.9),
        "Adam",
        {"amsgrad": True, "weight_decay": 0.1, "betas": (0.9, 0.9)},
    ),
    "adamw_amsgrad": (
        lambda r: adamw(r, amsgrad=True, maximize=True, b2=0.9),
        "AdamW",
        {"amsgrad": True, "maximize": True, "betas": (0.9, 0.9)},
    ),
    "adam_decay": (lambda r: adam(r, weight_decay=0.1), "Adam", {"weight_decay": 0.1}),
    "adamw": (adamw, "AdamW", {}),  # the default weight decay too
}


# float32: PyTorch corrects Adam's bias in Python's float64, see the note of `adam`.
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("case", TORCH)
def test_every_step_equals_torch(case, dtype, tolerance, rng):
    torch = pytest.importorskip("torch", reason="the oracle needs PyTorch")
    make, name, keywords = TORCH[case]
    noise = rng.normal(size=(STEPS, 3, 4)).astype(dtype)
    start = rng.normal(size=(3, 4)).astype(dtype)
    with precision(dtype):
        gradient = lambda w, t: 0.1 * w + jnp.asarray(noise)[t]  # noqa: E731
        end, _, updates = trajectory(make(0.01), jnp.asarray(start), gradient)

    weight = torch.nn.Parameter(torch.tensor(start))
    theirs = getattr(torch.optim, name)([weight], lr=0.01, **keywords)
    path = [start]
    for t in range(STEPS):
        weight.grad = 0.1 * weight.detach() + torch.tensor(noise[t])
        theirs.step()
        path.append(weight.detach().numpy().copy())
    np.testing.assert_allclose(end, path[-1], tolerance, tolerance)
    # The differences of PyTorch's path carry the rounding of the weights, which are about 1.
    np.testing.assert_allclose(updates, np.diff(path, axis=0), 0, tolerance)


def test_momentum_follows_hand_arithmetic():
    params, gradient = jnp.array(1.0), jnp.array(2.0)
    plain, nesterov = momentum(0.5), momentum(0.5, nesterov=True)
    first, state = plain.update(gradient, plain.init(params))
    second, _ = plain.update(gradient, state)
    np.testing.assert_allclose(first, -0.5 * 2.0)  # v = 0.9 * 0 + 2
    np.testing.assert_allclose(second, -0.5 * (0.9 * 2.0 + 2.0), 1e-6)
    first, state = nesterov.update(gradient, nesterov.init(params))
    second, _ = nesterov.update(gradient, state)
    np.testing.assert_allclose(first, -0.5 * (2.0 + 0.9 * 2.0), 1e-6)
    np.testing.assert_allclose(second, -0.5 * (2.0 + 0.9 * (0.9 * 2.0 + 2.0)), 1e-6)


def test_adam_follows_hand_arithmetic():
    """The first step has the length of the learning rate, whatever the size of the gradient."""
    params = grads = jnp.array([1e-4, -1.0, 1e4])
    optimizer = adam(0.1)
    updates, state = optimizer.update(grads, optimizer.init(params))
    # mu_hat = g and nu_hat = g^2, so the step is 0.1 g / (|g| + 1e-8).
    np.testing.assert_allclose(updates, [-0.1 * 1e-4 / (1e-4 + 1e-8), 0.1, -0.1], 1e-4)
    np.testing.assert_allclose(state.mu, 0.1 * grads, 1e-6)
    np.testing.assert_allclose(state.nu, 0.001 * grads**2, 1e-6)
    assert state.count == 1


def test_amsgrad_follows_hand_arithmetic():
    """Where the gradient is gone, Adam's root shrinks; AMSGrad's stays."""
    optimizer, w = adam(0.1, b1=0.0, b2=0.75, amsgrad=True), jnp.zeros(())
    _, state = optimizer.update(jnp.array(8.0), optimizer.init(w))
    update, state = optimizer.update(jnp.array(1.0), state)
    assert (state.nu, state.nu_max) == (0.25 * 1 + 0.75 * 16, 16)  # nu is 0.25 * 64 at first
    np.testing.assert_allclose(update, -0.1 * 1 / np.sqrt(16 / (1 - 0.75**2)), 1e-6)


def test_first_moment_in_bfloat16_is_rounded_between_updates_alone(rng):
    """As optax has it, but for the products that optax rounds too; by hand in NumPy."""
    gradients = rng.normal(size=(20, 7)).astype(np.float32)
    optimizer = adam(0.1, mu_dtype="bfloat16")
    state = optimizer.init(jnp.zeros(7))
    theirs = optax.adam(0.1, mu_dtype="bfloat16")
    their_state = theirs.init(jnp.zeros(7))
    mu = nu = np.zeros(7, np.float32)
    for t, g in enumerate(gradients, 1):
        updates, state = optimizer.update(jnp.asarray(g), state)
        mu = 0.9 * np.float32(jnp.bfloat16(mu)) + 0.1 * g
        nu = 0.999 * nu + 0.001 * g**2
        expected = -0.1 * (mu / (1 - 0.9**t)) / (np.sqrt(nu / (1 - 0.999**t)) + 1e-8)
        np.testing.assert_allclose(updates, expected, 1e-4, 1e-6)
        with STANDARD():
            their_updates, their_state = theirs.update(jnp.asarray(g), their_state)
        np.testing.assert_allclose(updates, their_updates, 0, 0.1 * 2**-7)
    assert (state.mu.dtype, state.nu.dtype) == (jnp.bfloat16, jnp.float32)


@pytest.mark.parametrize("make", [sgd, momentum, adam], ids=lambda f: f.__name__)
def test_coupled_decay_is_the_gradient_of_a_penalty(make, rng):
    params, grads = odd_tree(rng), odd_tree(rng)
    decayed, plain = make(0.1, weight_decay=0.3), make(0.1)
    penalty = jax.grad(lambda w: 0.3 / 2 * sum(jnp.sum(x**2) for x in jax.tree.leaves(w)))(params)
    total = jax.tree.map(jnp.add, grads, penalty)
    updates, _ = decayed.update(grads, decayed.init(params), params)
    expected, _ = plain.update(total, plain.init(params), params)
    assert_trees_close(updates, expected, 1e-6)


def test_decoupled_decay_shrinks_a_weight_without_gradient():
    params, optimizer = jnp.array([2.0, -3.0]), adamw(0.1, weight_decay=0.5)
    updates, state = optimizer.update(jnp.zeros(2), optimizer.init(params), params)
    np.testing.assert_allclose(apply_updates(params, updates), (1 - 0.1 * 0.5) * params, 1e-6)
    assert not np.any(state.mu)


def test_clipping_follows_hand_arithmetic():
    params = {"a": jnp.zeros(1), "b": (jnp.zeros(()), jnp.zeros((0, 2)))}
    grads = {"a": jnp.array([3.0]), "b": (jnp.array(4.0), jnp.zeros((0, 2)))}  # of length 5
    clip = lambda length, g: clip_by_global_norm(length).update(g, (), params)[0]  # noqa: E731
    halved = clip(2.5, grads)
    np.testing.assert_allclose((halved["a"][0], halved["b"][0]), (1.5, 2.0), 1e-6)
    for length in (5.0, 6.0):
        unchanged = clip(length, grads)
        assert (unchanged["a"][0], unchanged["b"][0]) == (3.0, 4.0)
    zeros = jax.tree.map(jnp.zeros_like, grads)
    assert clip(1.0, zeros)["a"] == 0
    assert np.isnan(clip(1.0, grads | {"a": jnp.array([jnp.nan])})["b"][0])
    assert clip_by_global_norm(1.0).update({}, ()) == ({}, ())


LEAST_SQUARES = {
    "sgd": sgd(0.1),
    "momentum": momentum(0.05),
    "nesterov": momentum(0.05, nesterov=True),
    "adam": adam(lambda count: 0.5 * 0.98**count),
    "adamw": adamw(lambda count: 0.5 * 0.98**count, weight_decay=0.0),
    "optax": optax.sgd(0.1),  # passes wherever ours does
}


@pytest.mark.parametrize("name", LEAST_SQUARES)
def test_optimizer_solves_least_squares(name, rng):
    x, w = rng.normal(size=(50, 3)), np.array([1.0, -2.0, 0.5])
    x, y = jnp.asarray(x, jnp.float32), jnp.asarray(x @ w, jnp.float32)
    loss = lambda params: 0.5 * jnp.mean((x @ params["w"] + params["b"] - y) ** 2)  # noqa: E731
    start = {"w": jnp.zeros(3), "b": jnp.array(5.0)}
    with STANDARD():  # the schedule raises a float to an integer count
        end, _, _ = trajectory(LEAST_SQUARES[name], start, lambda p, t: jax.grad(loss)(p), 300)
    np.testing.assert_allclose(end["w"], w, 0, 1e-3)
    np.testing.assert_allclose(end["b"], 0, 0, 1e-3)


EVERY = {name: make(0.1) for name, make in OPTIMIZERS.items()} | {
    "nesterov": momentum(0.1, nesterov=True, weight_decay=0.1),
    "dampening": momentum(0.1, dampening=0.5, maximize=True),
    "amsgrad": adamw(0.1, amsgrad=True),
    "clip": optax.chain(clip_by_global_norm(1.0), adam(0.1, weight_decay=0.1)),
}
every = pytest.mark.parametrize("optimizer", EVERY.values(), ids=EVERY)


@every
def test_update_compiles_once_and_in_place(optimizer, rng):
    """Also with donated buffers; and jit computes what eager execution does."""
    params, grads = odd_tree(rng), odd_tree(rng)
    state = optimizer.init(params)
    traces = []

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state):
        traces.append(None)
        updates, state = optimizer.update(grads, state, params)
        return apply_updates(params, updates), state

    expected, expected_state = params, state
    for _ in range(2):
        updates, expected_state = optimizer.update(grads, expected_state, expected)
        expected = apply_updates(expected, updates)
    donated = jax.tree.leaves(params)[1]
    for _ in range(2):
        params, state = step(params, state)
    assert len(traces) == 1
    assert donated.is_deleted()
    assert_trees_close((params, state), (expected, expected_state), 1e-5)


@every
def test_optimizer_works_in_a_scan(optimizer, rng):
    params, gradient = valley_problem(rng, "float32")

    def step(carry, t):
        updates, state = optimizer.update(gradient(carry[0], t), carry[1], carry[0])
        return (apply_updates(carry[0], updates), state), updates

    _, updates = jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(5))
    _, _, expected = trajectory(optimizer, params, gradient, 5)
    assert_trees_close(updates, expected, 1e-5)


def clipped(rate):
    return optax.chain(clip_by_global_norm(1.0), adamw(rate))


@pytest.mark.parametrize("make", [momentum, adam, clipped], ids=lambda f: f.__name__)
def test_optimizer_maps_over_many_learning_rates(make, rng):
    params, gradient = valley_problem(rng, "float32")
    rates = jnp.array([0.0, 0.01, 0.3])

    @jax.jit
    @jax.vmap
    def ends(rate):
        optimizer = make(rate)
        state, w = optimizer.init(params), params
        for t in range(3):
            updates, state = optimizer.update(gradient(w, t), state, w)
            w = apply_updates(w, updates)
        return w

    for i, end in enumerate(zip(*jax.tree.leaves(ends(rates)), strict=True)):
        alone, _, _ = trajectory(make(float(rates[i])), params, gradient, 3)
        assert_trees_close(list(end), jax.tree.leaves(alone), 1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("make", [*OPTIMIZERS.values(), clip_by_global_norm])
def test_low_precision_is_float32_inside(make, dtype, rng):
    """Updates are those of float32 copies, rounded once."""
    optimizer = make(0.1)
    params, grads = odd_tree(rng, dtype), odd_tree(rng, dtype)
    wide = lambda tree: jax.tree.map(lambda x: x.astype(jnp.float32), tree)  # noqa: E731
    state, expected_state = optimizer.init(params), optimizer.init(wide(params))
    for _ in range(3):
        updates, state = optimizer.update(grads, state, params)
        expected, expected_state = optimizer.update(wide(grads), expected_state, wide(params))
        assert_trees_close(updates, jax.tree.map(lambda u: u.astype(dtype), expected), 0)
        params = apply_updates(params, updates)
        assert {p.dtype.name for p in jax.tree.leaves(params)} == {dtype}
    assert {x.dtype.name for x in jax.tree.leaves(state)} <= {"float32", "int32"}


@every
def test_leaves_of_different_dtypes_keep_them(optimizer):
    with precision("float64"):
        params = {d: jnp.ones(2, d) for d in ("bfloat16", "float32", "float64")}
        updates, state = optimizer.update(params, optimizer.init(params), params)
        assert all(u.dtype == d for d, u in updates.items())
        moments = [x for x in jax.tree.leaves(state) if x.ndim]
        assert [m.dtype.name for m in moments] == ["float32", "float32", "float64"] * (
            len(moments) // 3
        )


def test_count_stays_at_the_largest_integer():
    optimizer, grads = sgd(lambda count: jnp.where(count < 0, 1.0, 0.5)), jnp.ones(1)
    state = optimizer.init(grads)._replace(count=jnp.array(2**31 - 2, jnp.int32))
    for _ in range(3):
        updates, state = optimizer.update(grads, state)
        assert updates == -0.5
    assert state.count == 2**31 - 1


def test_schedule_counts_from_zero():
    seen = []
    optimizer = momentum(lambda count: seen.append(int(count)) or 0.1)
    state = optimizer.init(jnp.ones(1))
    for _ in range(3):
        _, state = optimizer.update(jnp.ones(1), state)
    assert seen == [0, 1, 2]


# Each takes one of ours and gives an optax transformation.
WRAPPERS = {
    "chain": lambda make: optax.chain(optax.scale(2.0), make(0.1), optax.scale(0.5)),
    "apply_if_finite": lambda make: optax.apply_if_finite(make(0.1), 3),
    "inject_hyperparams": lambda make: optax.inject_hyperparams(make)(learning_rate=0.1),
    "inject_schedule": lambda make: optax.inject_hyperparams(make)(
        learning_rate=optax.linear_schedule(0.1, 0.0, 10)
    ),
    "multi_steps": lambda make: optax.MultiSteps(make(0.1), 2),
    "masked": lambda make: optax.masked(make(0.1), {"x": True, "y": False}),
    "partition": lambda make: optax.partition(
        {"a": make(0.1), "b": make(0.01)}, {"x": "a", "y": "b"}
    ),
}
OPTAX = {
    "momentum": lambda learning_rate: optax.sgd(learning_rate, momentum=0.9),
    "adamw": lambda learning_rate, weight_decay=1e-2: optax.adamw(
        learning_rate, weight_decay=weight_decay
    ),
}


@pytest.mark.parametrize("name", OPTAX)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_optimizer_works_inside_optax(wrapper, name, rng):
    params, gradient = valley_problem(rng, "float32")
    wrap = WRAPPERS[wrapper]
    with STANDARD():
        ours = momentum if name == "momentum" else OPTIMIZERS[name]
        end, _, updates = trajectory(wrap(ours), params, gradient, 6)
        their_end, _, their_updates = trajectory(wrap(OPTAX[name]), params, gradient, 6)
    # inject_hyperparams traces b2, whose rounding to float32 shows in the small 1 - b2^t.
    assert_trees_close((end, updates), (their_end, their_updates), 3e-5)


def test_optax_keeps_its_extra_arguments_to_itself():
    params = jnp.array(0.7)
    optimizer = optax.chain(momentum(0.1), optax.scale_by_polyak())
    state = optimizer.init(params)
    updates, _ = optimizer.update(params, state, params, value=jnp.array(1.0))
    assert np.isfinite(np.asarray(updates))


def test_apply_updates_keeps_the_dtypes_of_the_parameters():
    params = {"half": jnp.ones(2, jnp.bfloat16), "single": jnp.ones(()), "numpy": np.ones(1)}
    updates = {"half": jnp.full(2, 0.5), "single": jnp.full((), -0.5), "numpy": jnp.ones(1)}
    new = apply_updates(params, updates)
    assert (new["half"].dtype, new["single"].dtype) == (jnp.bfloat16, jnp.float32)
    np.testing.assert_array_equal(new["half"].astype(jnp.float32), [1.5, 1.5])
    assert (new["single"], new["numpy"]) == (0.5, 2.0)


WEIGHTS = {"dense1": {"bias": jnp.zeros(3), "kernel": jnp.zeros((4, 3))}}
MISFITS = {
    "shape": (
        ValueError,
        {"dense1": {"bias": jnp.zeros(3), "kernel": jnp.zeros((3, 4))}},
        r"dense1/kernel: gradient has shape \(3, 4\), parameter \(4, 3\); pass the tree",
    ),
    "dtype": (
        TypeError,
        {"dense1": {"bias": jnp.zeros(3, jnp.bfloat16), "kernel": jnp.zeros((4, 3))}},
        r"dense1/bias: gradient has dtype bfloat16, parameter float32; cast the gradient",
    ),
    "missing": (
        ValueError,
        {"dense1": {"kernel": jnp.zeros((4, 3))}},
        r"dense1/bias: parameter without gradient; pass a tree like the parameters",
    ),
    "extra": (
        ValueError,
        {"dense1": WEIGHTS["dense1"] | {"scale": jnp.zeros(())}},
        r"dense1/scale: gradient without parameter; pass a tree like the parameters",
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
@pytest.mark.parametrize("make", [*OPTIMIZERS.values(), clip_by_global_norm])
def test_a_gradient_that_does_not_fit_is_an_error(make, misfit):
    optimizer = make(0.1)
    error, grads, message = MISFITS[misfit]
    with pytest.raises(error, match=f"^{make.__name__}: {message}"):
        jax.jit(optimizer.update)(grads, optimizer.init(WEIGHTS), WEIGHTS)


@pytest.mark.parametrize("make", [momentum, adam])
def test_gradient_without_parameters_is_checked_against_moments(make):
    optimizer = make(0.1)
    for misfit in ("shape", "missing", "extra"):
        error, grads, message = MISFITS[misfit]
        with pytest.raises(error, match=message):
            optimizer.update(grads, optimizer.init(WEIGHTS))


def test_gradient_in_other_containers_is_an_error():
    with pytest.raises(ValueError, match=r"^sgd: gradient tree and parameter tree have the same"):
        sgd(0.1).update([jnp.zeros(1)], sgd(0.1).init(()), (jnp.zeros(1),))


def test_error_names_the_only_leaf():
    message = r"^apply_updates: the only leaf: update has shape \(2,\), parameter \(3,\)"
    with pytest.raises(ValueError, match=message):
        apply_updates(jnp.zeros(3), jnp.zeros(2))


@pytest.mark.parametrize("make", OPTIMIZERS.values())
def test_weight_decay_needs_parameters(make):
    optimizer = make(0.1, weight_decay=0.1)
    with pytest.raises(ValueError, match=rf"^{make.__name__}: weight_decay .* got params=None"):
        optimizer.update(WEIGHTS, optimizer.init(WEIGHTS))


@pytest.mark.parametrize("make", [*OPTIMIZERS.values(), clip_by_global_norm])
def test_only_floating_point_is_trained(make):
    with pytest.raises(TypeError, match=rf"^{make.__name__}: steps: parameter has dtype int32"):
        make(0.1).init({"steps": jnp.zeros((), jnp.int32)})


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sgd(-0.1), ValueError, r"^sgd: learning_rate is out of range: got -0.1, need a "),
        (lambda: sgd(jnp.array(-1.0)), ValueError, r"^sgd: learning_rate .* got -1.0, need a fini"),
        (lambda: sgd(float("nan")), ValueError, r"^sgd: learning_rate is out of range: got nan"),
        (lambda: sgd(float("inf")), ValueError, r"^sgd: learning_rate is out of range: got inf"),
        (lambda: sgd("0.1"), TypeError, r"^sgd: learning_rate is not a number: got '0.1', need a"),
        (lambda: sgd(jnp.ones(2)), TypeError, r"^sgd: learning_rate is not a number"),
        (lambda: sgd(0.1, weight_decay=-1), ValueError, r"^sgd: weight_decay .* got -1, need"),
        (lambda: sgd(0.1, weight_decay=True), TypeError, r"^sgd: weight_decay is not a number"),
        (lambda: momentum(0.1, momentum=1.0), ValueError, r"^sgd: momentum .* in \[0, 1\)"),
        (lambda: momentum(0.1, dampening=1.0), ValueError, r"^sgd: dampening is out of range: got"),
        (lambda: sgd(0.1, dampening=0.5), ValueError, r"^sgd: dampening .* got .*, momentum=0.0"),
        (
            lambda: momentum(0.1, dampening=0.5, nesterov=True),
            ValueError,
            r"^sgd: dampening is for momentum, .* nesterov=True; write dampening=0.0",
        ),
        (
            lambda: adam(0.1, mu_dtype="float16"),
            ValueError,
            r"^adam: mu_dtype is unknown: got 'float16', need 'float32', 'bfloat16' or None",
        ),
        (lambda: adam(0.1, b1=1.0), ValueError, r"^adam: b1 is out of range: got 1.0, need a num"),
        (lambda: adam(0.1, b2=-0.1), ValueError, r"^adam: b2 is out of range: got -0.1"),
        (lambda: adamw(0.1, eps=0.0), ValueError, r"^adamw: eps is out of range: got 0.0, need"),
        (lambda: clip_by_global_norm(0), ValueError, r"^clip_by_global_norm: max_norm .* > 0"),
        (lambda: clip_by_global_norm("x"), TypeError, r"^clip_by_global_norm: max_norm is not a n"),
        (
            lambda: sgd(lambda count: jnp.ones(2)).update(WEIGHTS, sgd(0.1).init(WEIGHTS)),
            ValueError,
            r"^learning_rate: not a scalar: got shape \(2,\), need \(\); for many learning rates",
        ),
    ],
)
def test_optimizer_rejects_wrong_hyper_parameters(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("decay", ["momentum", "b1", "b2"])
def test_a_decay_that_rounds_to_one_is_an_error(decay):
    """With b2 = 1 Adam divides zero by zero; with momentum = 1 a velocity never decays."""
    optimizer = (sgd if decay == "momentum" else adam)(0.1, **{decay: 0.99999999})
    for dtype in (jnp.float32, jnp.bfloat16):  # whose moments are float32
        with pytest.raises(ValueError, match=f"{decay} rounds to 1 in float32: got 0.99999999, n"):
            optimizer.init(jnp.zeros(2, dtype))
    with jax.enable_x64(True):
        w = jnp.array([1.0, 1.0])
        state = optimizer.init(w)
        updates, _ = optimizer.update(jnp.array([0.5, 0.0]), state, w)
        assert updates.dtype == jnp.float64 and np.isfinite(updates).all()


@pytest.mark.parametrize(
    ("optimizer", "slope"),
    [
        (sgd(1.0), -1.0),
        (sgd(1.0, momentum=0.9, nesterov=True), -1.9),
        (adam(1.0, eps=1e-3), -1e3),
        (adamw(1.0, eps=1e-3), -1e3),
        (adam(1.0, eps=1e-3, amsgrad=True), -1e3),
        (clip_by_global_norm(1.0), 1.0),
    ],
)
def test_derivative_of_an_update_at_a_zero_gradient_is_finite(optimizer, slope):
    """As meta-learning takes it; the root in Adam and in the norm is flat at zero."""
    w = jnp.zeros(2)
    state = optimizer.init(w)
    of_gradient = jax.grad(lambda g: optimizer.update(g, state, w)[0].sum())
    np.testing.assert_allclose(of_gradient(w), [slope, slope], rtol=1e-4)
    np.testing.assert_array_equal(optimizer.update(jnp.full(2, jnp.nan), state, w)[0], jnp.nan)
    assert np.isfinite(jax.hessian(lambda g: optimizer.update(g, state, w)[0].sum())(w)).all()


def test_an_update_ignores_keywords_that_it_does_not_know():
    w = jnp.ones(2)
    for make in (sgd, momentum, adam, adamw, clip_by_global_norm):
        optimizer = make(0.1)
        plain = optimizer.update(w, optimizer.init(w), w)
        extra = optimizer.update(w, optimizer.init(w), w, value=jnp.array(1.0), extra=1)
        jax.tree.map(np.testing.assert_array_equal, extra, plain)


def test_optimizer_signatures_give_config_tables():
    for make in OPTIMIZERS.values():
        first, *keywords = inspect.signature(make).parameters.values()
        assert first.name == "learning_rate" and first.default is first.empty
        for keyword in keywords:
            assert keyword.kind is keyword.KEYWORD_ONLY
            known = keyword.annotation in (float, bool)
            assert type(keyword.default) is keyword.annotation if known else not keyword.default


def test_optimizer_does_not_import_optax():
    """The command line starts faster without."""
    code = "import convax.training.optim.optimizer, sys; sys.exit('optax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_optimizer_is_a_pair_of_functions():
    assert isinstance(sgd(0.1), Optimizer)
    init, update = sgd(0.1)
    assert callable(init) and callable(update)
