"""Optimizers by parameter path, against optax's masks and against the optimizers alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from convax.training.common.pytree_paths import map_named, named_leaves
from convax.training.optim.clip import clip_by_global_norm
from convax.training.optim.optimizer import adam, adamw, apply_updates, sgd
from convax.training.optim.partition import partition

SHAPES = {
    "stem": {"conv": {"kernel": (3, 3, 2), "bias": (2,)}},
    "body": [{"kernel": (4, 2), "none": None}, {"kernel": (5,)}],
    "head": {"kernel": (2, 3), "bias": (3,), "empty": (0,), "scalar": ()},
}


def draw(rng):
    is_shape = lambda node: isinstance(node, tuple)  # noqa: E731
    return jax.tree.map(
        lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32), SHAPES, is_leaf=is_shape
    )


def run(optimizer, params, gradients):
    state = optimizer.init(params)
    for grads in gradients:
        updates, state = jax.jit(optimizer.update)(grads, state, params)
        params = apply_updates(params, updates)
    return params, state


def rate(count):
    return 0.1 * 0.9 ** count.astype(float)


ours = {"stem/.*": None, ".*/bias": sgd(0.3), "body/.*": adam(rate, weight_decay=0.1)}
theirs = {
    "stem/.*": None,
    ".*/bias": optax.sgd(0.3),
    "body/.*": optax.chain(optax.add_decayed_weights(0.1), optax.adam(rate)),
}
LABELS = {"stem": "frozen", "bias": "bias", "body": "body"}


def label(path, _):
    found = [v for k, v in LABELS.items() if path.startswith(k) or path.endswith(k)]
    return found[0] if found else "default"


@pytest.mark.parametrize("groups", [ours, theirs], ids=["ours", "optax's"])
@pytest.mark.parametrize("clipped", [False, True], ids=["alone", "behind a clip"])
def test_partition_equals_optax(groups, clipped, rng):
    params, gradients = draw(rng), [draw(rng) for _ in range(5)]
    mine = partition(groups, adamw(0.05))
    parts = {
        "frozen": optax.set_to_zero(),
        "bias": theirs[".*/bias"],
        "body": theirs["body/.*"],
        "default": optax.adamw(0.05, weight_decay=1e-2),
    }
    other = optax.multi_transform(parts, lambda tree: map_named(label, tree))
    if clipped:
        mine = optax.chain(clip_by_global_norm(1.0), mine)
        other = optax.chain(optax.clip_by_global_norm(1.0), other)
    with jax.numpy_dtype_promotion("standard"):
        end, _ = run(mine, params, gradients)
        expected, _ = run(other, params, gradients)
    assert jax.tree.structure(end) == jax.tree.structure(expected)
    for (path, a), (_, e) in zip(named_leaves(end), named_leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, 1e-5, 1e-6, err_msg=path)


def test_one_group_for_all_is_the_optimizer_itself(rng):
    params, gradients = draw(rng), [draw(rng) for _ in range(3)]
    expected = run(adam(0.1), params, gradients)
    for optimizer in (partition({}, adam(0.1)), partition({".*": adam(0.1)}, None)):
        end, state = run(optimizer, params, gradients)
        for a, e in zip(jax.tree.leaves((end, state)), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(a, e)


def test_frozen_parameters_stay_and_take_no_memory(rng):
    params = draw(rng)
    end, state = run(partition({"stem/.*|body/.*": None}, adamw(0.1)), params, [draw(rng)] * 2)
    for (path, after), (_, before) in zip(named_leaves(end), named_leaves(params), strict=True):
        assert np.array_equal(after, before) == (
            path.startswith(("stem", "body")) or not after.size
        )
    assert [path for path, _ in named_leaves(state)] == ["0/count"] + [
        f"0/{moment}/head/{leaf}"
        for moment in ("mu", "nu")
        for leaf in ("bias", "empty", "kernel", "scalar")
    ]


def test_partition_takes_the_first_expression_that_matches(rng):
    params = draw(rng)
    grads = jax.tree.map(jnp.ones_like, params)
    optimizer = partition({"stem/.*": sgd(1.0), ".*/bias": sgd(2.0)}, sgd(3.0))
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    rates = {path: -float(u.ravel()[0]) for path, u in named_leaves(updates) if u.size}
    assert rates["stem/conv/bias"] == 1.0
    assert rates["head/bias"] == 2.0
    assert rates["head/kernel"] == rates["body/0/kernel"] == 3.0


def test_partition_compiles_once_and_scans(rng):
    params, grads = draw(rng), draw(rng)
    optimizer = partition(ours, adam(0.1))
    traces = []

    @functools.partial(jax.jit, donate_argnums=1)
    def step(params, state):
        traces.append(None)
        updates, state = optimizer.update(grads, state, params)
        return apply_updates(params, updates), state

    state = optimizer.init(params)
    for _ in range(3):
        params, state = step(params, state)
    assert len(traces) == 1
    jax.lax.scan(lambda carry, _: (step(*carry), None), (params, state), length=2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda p: partition({"stem/(": None}, sgd(0.1)),
            r"^partition: bad pattern: got 'stem/\('",
        ),
        (
            lambda p: partition({"stem/.*": None, "hed/kernel": None}, sgd(0.1)).init(p),
            r"^partition: matches nothing: got 'hed/kernel', need .* such as head/kernel, .*\.\*",
        ),
        (
            lambda p: partition({"x": None}, sgd(0.1)).init({}),
            r"need the whole path of a parameter such as \(there are none\)",
        ),
        (
            lambda p: partition({"stem/.*": None}, sgd(0.1)).update(p, (), p),
            r"^partition: wrong number of states: got 0, need 1; pass the state",
        ),
    ],
)
def test_partition_rejects_wrong_arguments(call, message, rng):
    with pytest.raises(ValueError, match=message):
        call(draw(rng))


def test_a_gradient_that_does_not_fit_is_named(rng):
    params = draw(rng)
    optimizer = partition({".*/bias": sgd(0.1)}, adam(0.1))
    wrong = draw(rng)
    wrong["head"]["kernel"] = jnp.zeros((3, 2))
    with pytest.raises(ValueError, match=r"^adam: head/kernel: gradient has shape \(3, 2\)"):
        optimizer.update(wrong, optimizer.init(params), params)


def test_partition_gives_keywords_to_those_that_know_them():
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    optimizer = partition({"a": optax.polyak_sgd(), "b": optax.sgd(1.0)}, None)
    updates, _ = optimizer.update(params, optimizer.init(params), params, value=jnp.array(1.0))
    np.testing.assert_allclose(updates["a"], -0.5)  # value / |g|^2 = 1 / 2
    np.testing.assert_allclose(updates["b"], -1.0)


WRAPPED = {
    "chain": lambda o: optax.chain(o, optax.identity()),
    "with_extra_args_support": optax.with_extra_args_support,
    "masked": lambda o: optax.masked(o, {"a": True, "b": True}),
    "multi_transform": lambda o: optax.multi_transform({"all": o}, {"a": "all", "b": "all"}),
    "MultiSteps": lambda o: optax.MultiSteps(o, 1).gradient_transformation(),
    "partition": lambda o: partition({".*": o}, None),
}


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_keywords_reach_an_optimizer_through_what_optax_puts_around(wrapper):
    """No fall of the value: half the update of the part that watches it."""
    plateau = optax.contrib.reduce_on_plateau(factor=0.5, patience=1, cooldown=0)
    optimizer = WRAPPED[wrapper](partition({"a": optax.chain(sgd(1.0), plateau)}, sgd(1.0)))
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    state = optimizer.init(params)
    with jax.numpy_dtype_promotion("standard"):  # which optax needs
        for _ in range(2):
            updates, state = optimizer.update(params, state, params, value=jnp.float32(1.0))
    assert (updates["a"][0], updates["b"][0]) == (-0.5, -1.0)


@pytest.mark.parametrize("make", [lambda: adam(0.1), lambda: partition({"b": None}, sgd(0.1))])
def test_keywords_pass_by_ours_in_a_chain(make):
    value_of = lambda p: jnp.sum((p["a"] - 2) ** 2)  # noqa: E731
    search = optax.scale_by_backtracking_linesearch(5)
    optimizer = optax.chain(optax.MultiSteps(make(), 1).gradient_transformation(), search)
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    value, grads = jax.value_and_grad(value_of)(params)
    keywords = {"value": value, "grad": grads, "value_fn": value_of}
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = optimizer.update(grads, optimizer.init(params), params, **keywords)
    assert value_of(optax.apply_updates(params, updates)) < value
