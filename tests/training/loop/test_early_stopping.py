"""When a run stops, and that it would stop at the same place after a resume."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax.training.loop.early_stopping import (
    Progress,
    Stopping,
    after_evaluation,
    after_step,
)
from convax.training.optim.optimizer import sgd
from convax.training.step.metrics import largest_update

NAN, INF = float("nan"), float("inf")


def run(rules, metrics, *, resume=False):
    """Evaluate every 10 steps until there is a reason; with `resume`, through JSON each time."""
    progress, reason = Progress(), None
    for i, metric in enumerate(metrics, start=1):
        progress, reason = after_evaluation(rules, progress, metric, 10 * i)
        if resume:
            progress = Progress(**json.loads(json.dumps(progress._asdict(), allow_nan=False)))
        if reason:
            break
    return progress, reason


CASES = {
    # rules, metrics, the memory at the end, the reason
    "no_rules": (Stopping(), [0.1, 0.3, 0.2], (0.3, 20, 1), None),
    "target": (
        Stopping(target=0.9),
        [0.5, 0.9, 1.0],
        (0.9, 20, 0),
        "target reached: 0.9 is at least 0.9, at step 20",
    ),
    "target_min": (
        Stopping(target=0.1, mode="min"),
        [0.5, 0.05],
        (0.05, 20, 0),
        "target reached: 0.05 is at most 0.1, at step 20",
    ),
    "target_missed": (Stopping(target=0.9), [0.5, 0.89, NAN, INF], (0.89, 20, 2), None),
    "patience": (
        Stopping(patience=2),
        [0.1, 0.3, 0.3, 0.2, 0.9],
        (0.3, 20, 2),
        "no improvement in 2 evaluations: the best is 0.3, at step 20",
    ),
    "patience_min": (
        Stopping(patience=1, mode="min"),
        [0.3, 0.1, 0.2],
        (0.1, 20, 1),
        "no improvement in 1 evaluation: the best is 0.1, at step 20",
    ),
    "patience_renewed": (Stopping(patience=2), [0.1, 0.0, 0.2, 0.1, 0.3], (0.3, 50, 0), None),
    "small_gains_do_not_count": (
        Stopping(patience=2, min_delta=0.5),
        [1.0, 1.25, 1.5],
        (1.0, 10, 2),
        "no improvement in 2 evaluations: the best is 1, at step 10",
    ),
    "small_gains_add_up": (
        Stopping(patience=2, min_delta=0.5),
        [1.0, 1.25, 1.75],
        (1.75, 30, 0),
        None,
    ),
    "small_gains_min": (
        Stopping(patience=1, min_delta=0.5, mode="min"),
        [1.0, 0.5],
        (1.0, 10, 1),
        "no improvement in 1 evaluation: the best is 1, at step 10",
    ),
    "nan": (
        Stopping(patience=2),
        [NAN, NAN],
        (None, 0, 2),
        "no improvement in 2 evaluations: none gave a finite number",
    ),
    "nan_first": (Stopping(patience=2), [NAN, 0.1, NAN], (0.1, 20, 1), None),
    "diverged": (
        Stopping(patience=2, mode="min"),
        [0.5, -INF, NAN],
        (0.5, 10, 2),
        "no improvement in 2 evaluations: the best is 0.5, at step 10",
    ),
    "target_before_patience": (
        Stopping(target=0.2, patience=1, min_delta=0.5),
        [0.1, 0.3],
        (0.1, 10, 1),
        "target reached: 0.3 is at least 0.2, at step 20",
    ),
    "negative_metrics": (Stopping(target=-0.1), [-0.5, -0.2], (-0.2, 20, 0), None),
}


@pytest.mark.parametrize("resume", [False, True], ids=["straight", "resumed"])
@pytest.mark.parametrize("case", CASES)
def test_after_evaluation_gives_progress_and_reason(case, resume):
    rules, metrics, progress, reason = CASES[case]
    assert run(rules, metrics, resume=resume) == (progress, reason)


@pytest.mark.parametrize("number", [np.float32, np.float64, jnp.float32], ids=lambda f: f.__name__)
def test_after_evaluation_takes_array_scalars(number):
    """They become Python numbers, which JSON can hold."""
    progress, reason = after_evaluation(Stopping(target=0.5), Progress(), number(0.5), np.int64(7))
    assert json.dumps(progress._asdict()) == '{"best": 0.5, "best_step": 7, "stale": 0}'
    assert reason == "target reached: 0.5 is at least 0.5, at step 7"


def test_after_step_stops_below_min_update():
    rules = Stopping(min_update=1e-3)
    assert after_step(rules, 1e-3) is None
    assert after_step(rules, NAN) is None
    assert after_step(Stopping(), 0.0) is None
    reason = "every update is below 0.001: the largest was 0.0005"
    assert after_step(rules, jnp.array(5e-4)) == reason


def test_after_step_stops_gradient_descent_at_seventh_step():
    """w halves at each step, so its update is 2^-k at step k: below 0.01 first at k = 7."""
    rules, optimizer, w = Stopping(min_update=0.01), sgd(0.5), jnp.array([2.0, -1.0])
    state, reason, step = optimizer.init(w), None, -1
    while reason is None:
        step += 1
        updates, state = optimizer.update(w, state)
        w = w + updates
        reason = after_step(rules, largest_update(updates))
    assert step == 7
    assert reason == "every update is below 0.01: the largest was 0.0078125"


def test_largest_update_is_maximum_over_tree():
    tree = {"a": jnp.array([[1.0, -4.0]]), "b": [jnp.array(3.0), jnp.zeros((0, 2))]}
    assert jax.jit(largest_update)(tree) == 4.0
    assert largest_update({"a": jnp.array(-2.0, jnp.bfloat16), "b": jnp.array(1.0)}) == 2.0
    assert np.isnan(largest_update(tree | {"c": jnp.array(jnp.nan)}))
    assert largest_update({"a": jnp.zeros(0)}) == largest_update({}) == 0.0
    with jax.enable_x64(True):
        assert largest_update({"a": jnp.array(1e-200, "float64"), "b": jnp.zeros(1)}) == 1e-200


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"target": NAN}, r"target is out of range: got nan, need a finite number"),
        ({"patience": 0}, r"patience is out of range: got 0, need 1 evaluation or more"),
        ({"min_delta": -0.1}, r"min_delta is out of range: got -0.1, need a finite number >= 0"),
        ({"min_update": 0.0}, r"min_update is out of range: got 0.0, need a finite number > 0"),
        ({"mode": "best"}, r'mode is out of range: got best, need "max" or "min"'),
    ],
)
def test_stopping_refuses_values_out_of_range(rules, message):
    with pytest.raises(ValueError, match=f"^stopping: {message}"):
        Stopping(**rules)
