"""The L2 penalty beyond the proof: by hand, paths, PyTorch's weight decay, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import ops

PARAMS = {
    "stage2": {"conv1": {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([3.0])}},
    "head": {"kernel": jnp.array([[5.0]])},
}


def test_l2_equals_hand_arithmetic():
    total = 0.1 / 2 * (1 + 4 + 9 + 25)
    np.testing.assert_allclose(ops.l2(PARAMS, 0.1), total, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(ops.l2)(PARAMS, 0.1), total, rtol=1e-6)


@pytest.mark.parametrize(
    "pattern, squares",
    [
        (r".*kernel", 1 + 4 + 25),
        (r"stage2/.*", 1 + 4 + 9),
        (r"stage2/conv1/kernel", 1 + 4),
        (r"(?!.*bias).*", 1 + 4 + 25),
        (r"head/kernel|.*/bias", 25 + 9),
    ],
)
def test_l2_of_the_paths_that_match(pattern, squares):
    np.testing.assert_allclose(ops.l2(PARAMS, 2.0, pattern=pattern), squares)


def test_paths_that_read_the_same_all_count():
    params = {"a/b": jnp.array(1.0), "a": {"b": jnp.array(2.0)}}
    np.testing.assert_allclose(ops.l2(params, 2.0), 1 + 4)
    np.testing.assert_allclose(ops.l2(params, 2.0, pattern="a/b"), 1 + 4)


def test_gradient_matches_torch_weight_decay(torch, rng):
    """One step of plain descent on the penalty is one step of PyTorch's weight decay."""
    w = rng.standard_normal((3, 4)).astype(np.float32)
    tw = torch.tensor(w, requires_grad=True)
    tw.grad = torch.zeros_like(tw)
    torch.optim.SGD([tw], lr=0.5, weight_decay=0.1).step()
    actual = w - 0.5 * jax.grad(ops.l2)(jnp.asarray(w), 0.1)
    np.testing.assert_allclose(actual, tw.detach().numpy(), rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_l2_accumulates_in_float32(dtype):
    """Also across leaves of different dtypes, which must not mix silently."""
    params = [jnp.ones(5000, dtype), jnp.ones(3)]
    total = ops.l2(params, 2.0)
    assert total.dtype == jnp.float32
    np.testing.assert_array_equal(total, 5003)
    assert jax.grad(ops.l2)(params, 2.0)[0].dtype == dtype


def test_l2_of_float64_is_float64():
    with jax.enable_x64(True):
        total = ops.l2([jnp.ones(2, jnp.float32), jnp.ones(2, jnp.float64)], 2.0)
        assert total.dtype == jnp.float64


def test_l2_of_no_parameters_is_zero():
    np.testing.assert_array_equal(ops.l2({}, 0.1), 0)


def test_l2_of_nan_is_nan():
    assert np.isnan(ops.l2([jnp.array([1.0, jnp.nan])], 0.1))


ERRORS = {
    "negative rate": (
        lambda: ops.l2(PARAMS, -0.1),
        ValueError,
        r"l2: bad rate: got -0\.1, need a number >= 0; a negative one would reward large weights",
    ),
    "rate is nan": (lambda: ops.l2(PARAMS, float("nan")), ValueError, r"l2: bad rate: got nan"),
    "part of a path": (
        lambda: ops.l2(PARAMS, 0.1, pattern="kernel"),
        ValueError,
        r"l2: the pattern matches nothing: got 'kernel', need the whole path of a parameter such as "
        r"head/kernel, stage2/conv1/bias, stage2/conv1/kernel; write '\.\*' before and after",
    ),
    "many paths": (
        lambda: ops.l2([jnp.ones(1)] * 9, 0.1, pattern="x"),
        ValueError,
        r"such as 0, 1, 2, 3, \.\.\.;",
    ),
    "no paths": (
        lambda: ops.l2({}, 0.1, pattern=".*"),
        ValueError,
        r"l2: the pattern matches nothing: got '\.\*'.*such as \(there are none\)",
    ),
    "no regular expression": (
        lambda: ops.l2(PARAMS, 0.1, pattern="(kernel"),
        ValueError,
        r"l2: bad pattern: got '\(kernel', need a regular expression \(missing \), .*'\.\*kernel'",
    ),
    "integers": (
        lambda: ops.l2({"a": {"b": jnp.ones(3, int)}}, 0.1),
        TypeError,
        r"l2: a/b is not floating point: got int32",
    ),
    "one array of integers": (
        lambda: ops.l2(jnp.ones(3, int), 0.1),
        TypeError,
        r"l2: params is not floating point: got int32.*params\.astype\(jnp\.float32\)",
    ),
}


@pytest.mark.parametrize("call, kind, message", ERRORS.values(), ids=ERRORS.keys())
def test_l2_says_what_to_write_instead(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
