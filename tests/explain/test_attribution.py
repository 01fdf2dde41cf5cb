"""Integrated gradients by their axioms, occlusion against a loop, other targets by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import explain, model

KEY = jax.random.key(1)


@pytest.fixture(scope="module")
def network():
    net = model.serial(
        conv=model.conv(3, 3, padding=1),
        act=model.tanh(),
        pool=model.max_pool(2),
        flat=model.flatten(),
        fc=model.dense(3),
    )
    _, params, state = net.init(KEY, (1, 6, 8, 2))
    x = jax.random.normal(jax.random.key(2), (2, 6, 8, 2))
    return net, params, state, x


def logits(net, params, state, x, k):
    return np.asarray(net.apply(params, state, x)[0])[:, k]


def test_integrated_gradients_are_complete(network):
    """Their sum is the difference of the scores, at a kinked network as well."""
    net, params, state, x = network
    base = jnp.asarray([0.3, -0.2])  # a color
    find = partial(explain.integrated_gradients, net, baseline=base, steps=200)
    found = jax.jit(find)(params, state, x, 2)
    expected = logits(net, params, state, x, 2) - logits(
        net, params, state, jnp.zeros_like(x) + base[None, None, None], 2
    )
    np.testing.assert_allclose(found.sum((1, 2, 3)), expected, rtol=5e-3, atol=5e-3)
    coarse = explain.integrated_gradients(net, params, state, x, 2, baseline=base, steps=1)
    assert np.abs(coarse.sum((1, 2, 3)) - expected).max() > 0.05  # one step is not enough here


def test_integrated_gradients_of_a_quadratic_by_hand():
    """S = x0^2 + 3 x0 x1: the midpoint rule is exact, whatever the steps."""

    def form(x):
        return (x[..., :1] ** 2 + 3 * x[..., :1] * x[..., 1:]).reshape(len(x), 1)

    net = model.serial(form=model.stateless("form", form, None))
    x = jnp.array([2.0, -1.0]).reshape(1, 1, 1, 2)
    # From zero: int (2 t 2 + 3 t (-1)) dt * 2 = 1, and int (3 t 2) dt * (-1) = -3; sum = S = -2.
    for steps in (1, 7):
        found = explain.integrated_gradients(net, {}, {}, x, 0, steps=steps)
        np.testing.assert_allclose(found.ravel(), [1.0, -3.0], rtol=1e-6)


@pytest.mark.parametrize(("window", "stride", "at_once"), [(3, 2, 4), (6, None, 16), (1, 1, 7)])
def test_occlusion_against_a_loop(network, window, stride, at_once):
    net, params, state, x = network
    options = dict(window=window, stride=stride, fill=0.5, at_once=at_once)
    found = jax.jit(partial(explain.occlusion, net, **options))(params, state, x, 1)
    step = window // 2 if stride is None else stride
    starts = [sorted({*range(0, n - window, step), n - window}) for n in (6, 8)]
    covered = []
    for i in starts[0]:
        for j in starts[1]:
            covered.append(np.array(x))
            covered[-1][:, i : i + window, j : j + window] = 0.5
    all_scores = logits(net, params, state, jnp.concatenate([x, *map(jnp.asarray, covered)]), 1)
    before, *after = all_scores.reshape(-1, 2)
    total, count, after = np.zeros((2, 6, 8)), np.zeros((6, 8)), iter(after)
    for i in starts[0]:
        for j in starts[1]:
            here = np.s_[i : i + window, j : j + window]
            total[(slice(None), *here)] += (before - next(after))[:, None, None]
            count[here] += 1
    assert count.min() > 0
    np.testing.assert_allclose(found, total / count, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spatial", [(3,), (1, 3), (1, 1, 3)], ids=["1-D", "2-D", "3-D"])
def test_a_covered_pixel_of_a_linear_network_costs_its_weight(spatial):
    net = model.serial(flat=model.flatten(), fc=model.dense(1, bias=False))
    params = {"fc": {"kernel": jnp.array([[1.0], [-5.0], [2.0]])}}
    x = jnp.array([1.0, 2.0, 3.0]).reshape(1, *spatial, 1)
    for found in (
        explain.occlusion(net, params, {}, x, 0, window=1),
        explain.integrated_gradients(net, params, {}, x, 0, steps=1)[..., 0],
    ):
        assert found.shape == (1, *spatial)
        np.testing.assert_allclose(found.ravel(), [1.0, -10.0, 6.0], rtol=1e-6)


def test_other_targets_by_hand():
    outputs = jnp.arange(12.0).reshape(1, 2, 3, 2)  # class 1 has 1, 3, 5 / 7, 9, 11
    mask = np.array([[True, False, False], [False, False, True]])
    np.testing.assert_allclose(explain.scores(outputs, explain.pixels(mask, 1)), [6.0])
    np.testing.assert_allclose(explain.scores(outputs, 1), [36.0])
    np.testing.assert_allclose(explain.pixels(np.zeros((2, 3)), 0)(outputs), [0.0])
    place = explain.neg_distance(np.array([1.0, 1.0], np.float32))
    np.testing.assert_allclose(place(jnp.array([[1.0, 3.0], [1.0, 1.0]])), [-4.0, 0.0])


def test_what_does_not_fit_is_said(network):
    net, params, state, x = network
    of = (net, params, state, x, 0)
    with pytest.raises(ValueError, match="integrated_gradients: steps: got 0, need 1 or more"):
        explain.integrated_gradients(*of, steps=0)
    with pytest.raises(
        ValueError, match=r"baseline: got shape \(3,\), need \(2, 6, 8, 2\), or one"
    ):
        explain.integrated_gradients(*of, baseline=np.zeros(3))
    with pytest.raises(ValueError, match=r"occlusion: fill: got shape \(5,\)"):
        explain.occlusion(*of, window=2, fill=np.zeros(5))
    for window in (0, 7):
        with pytest.raises(ValueError, match=f"occlusion: window: got {window}, need 1 to 6"):
            explain.occlusion(*of, window=window)
    with pytest.raises(ValueError, match="occlusion: got stride 0, at_once 16, need 1 or more"):
        explain.occlusion(*of, window=2, stride=0)
