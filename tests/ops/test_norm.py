"""Normalization beyond the proof: by hand, conventions, extremes, devices and errors."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from convax import ops
from convax.ops.common.implementation import uses_xla


def zeros(*shape, dtype=jnp.float32):
    return jnp.zeros(shape, dtype)


def batch_norm(x, **options):
    """In training, from fresh statistics; y alone."""
    return ops.batch_norm(x, zeros(x.shape[-1]), jnp.ones(x.shape[-1]), train=True, **options)[0]


NORMS = {
    "batch": batch_norm,
    "layer": ops.layer_norm,
    "layer, all axes": partial(ops.layer_norm, axes=(-3, -2, -1)),
    "group": partial(ops.group_norm, groups=2),
    "instance": ops.instance_norm,
}


# ------------------------------------------------------------------------------------- by hand


def test_rms_norm_by_hand():
    """(1, 7) has a mean square of 25; over several axes, and in 16 bits, where 300^2 is too much."""
    x = jnp.array([[1.0, 7.0], [-7.0, 1.0]])
    y = ops.rms_norm(x, jnp.array([10.0, 1.0]), eps=1e-12)
    np.testing.assert_allclose(y, [[2, 1.4], [-14, 0.2]], rtol=1e-6)
    np.testing.assert_allclose(ops.rms_norm(x, axes=(0, 1), eps=1e-12), x / 5, rtol=1e-6)
    half = ops.rms_norm(jnp.full((1, 2), 300, jnp.float16))
    assert half.dtype == jnp.float16
    np.testing.assert_array_equal(half, 1)


def test_batch_norm_without_running_statistics_by_hand():
    """In evaluation as in training; nothing is kept."""
    x = jnp.array([[1.0], [3.0]])
    for train in (False, True):
        y, kept = ops.batch_norm(x, None, None, train=train, eps=1e-12)
        np.testing.assert_allclose(y, [[-1], [1]], rtol=1e-6)
        assert kept == (None, None)


def test_weights_are_standardized_by_hand():
    """Of 1, 3, 5 the variance is 8/3; a constant kernel becomes 0, with a finite gradient."""
    k = jnp.array([[1.0, 2.0], [3.0, 2.0], [5.0, 2.0]])
    f = lambda k: ops.standardize_weights(k, eps=1e-12)  # noqa: E731
    np.testing.assert_allclose(f(k)[:, 0], np.array([-2, 0, 2]) / np.sqrt(8 / 3), rtol=1e-6)
    np.testing.assert_array_equal(f(k)[:, 1], 0)
    assert np.all(np.isfinite(jax.grad(lambda k: (f(k) ** 3).sum())(k)))
    half = ops.standardize_weights(k.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16


def test_batch_norm_by_hand():
    """Channel 0 has values 1, 3, 5: mean 3, biased variance 8/3, unbiased 8/2."""
    x = jnp.array([[1.0, 0.0], [3.0, 0.0], [5.0, 0.0]])
    mean, var, scale, bias = jnp.array([[1.0, 1.0], [2.0, 2.0], [10.0, 1.0], [7.0, 7.0]])
    y, (new_mean, new_var) = ops.batch_norm(x, mean, var, scale, bias, train=True, eps=1 / 3)
    r = 1 / np.sqrt(8 / 3 + 1 / 3)
    np.testing.assert_allclose(y[:, 0], [7 - 20 * r, 7, 7 + 20 * r], rtol=1e-6)
    np.testing.assert_allclose(y[:, 1], 7)
    np.testing.assert_allclose(new_mean, [0.9 * 1 + 0.1 * 3, 0.9 * 1], rtol=1e-6)
    np.testing.assert_allclose(new_var, [0.9 * 2 + 0.1 * 4, 0.9 * 2], rtol=1e-6)


def test_batch_norm_in_evaluation_by_hand():
    """Also of a single example; the statistics come back as they went in."""
    mean, var = jnp.array([1.0, 2.0]), jnp.array([4.0, 9.0])
    y, (new_mean, new_var) = ops.batch_norm(
        jnp.array([[3.0, -1.0]]), mean, var, train=False, eps=1e-12
    )
    np.testing.assert_allclose(y, [[(3 - 1) / 2, (-1 - 2) / 3]], rtol=1e-6)
    assert new_mean is mean and new_var is var


def test_momentum_is_the_weight_of_the_new_batch():
    x = jnp.array([[0.0], [4.0]])  # mean 4 / 2, unbiased variance 8 / 1
    for momentum in (0.0, 0.25, 1.0):
        _, (mean, var) = ops.batch_norm(x, jnp.ones(1), jnp.ones(1), train=True, momentum=momentum)
        np.testing.assert_allclose(mean, [1 - momentum + momentum * 2])
        np.testing.assert_allclose(var, [1 - momentum + momentum * 8])


def test_running_statistics_approach_those_of_the_data(rng):
    """100 batches of mean 3 and deviation 2; in evaluation y is then standard normal."""
    mean, var = zeros(1), jnp.ones(1)
    step = jax.jit(lambda x, mean, var: ops.batch_norm(x, mean, var, train=True)[1])
    for _ in range(100):
        mean, var = step(3 + 2 * rng.standard_normal((200, 1), np.float32), mean, var)
    np.testing.assert_allclose(mean, [3], rtol=0.05)
    np.testing.assert_allclose(var, [4], rtol=0.1)


def test_group_norm_has_layer_and_instance_norm_as_its_ends(rng):
    x = jnp.asarray(rng.standard_normal((2, 3, 4, 6)), jnp.float32)
    one, all_apart = (ops.group_norm(x, groups=groups) for groups in (1, 6))
    np.testing.assert_allclose(one, ops.layer_norm(x, axes=(1, 2, 3)), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(all_apart, ops.instance_norm(x))


def test_local_response_norm_by_hand():
    """An even window reaches one further below, as PyTorch's."""
    x = jnp.array([1.0, 2.0, 3.0])
    y = ops.local_response_norm(x, size=2, alpha=0.5, beta=2.0, k=1.0)
    expected = [1 / (1 + 0.5 * 1) ** 2, 2 / (1 + 0.5 * (1 + 4)) ** 2, 3 / (1 + 0.5 * (4 + 9)) ** 2]
    np.testing.assert_allclose(y, expected, rtol=1e-6)


def test_alexnets_defaults_and_pytorchs(torch, rng):
    x = 10 * rng.standard_normal((2, 3, 3, 8)).astype(np.float32)
    y = ops.local_response_norm(x)
    total = [np.sum(x[..., max(c - 2, 0) : c + 3] ** 2, -1) for c in range(8)]
    np.testing.assert_allclose(y, x / (2 + 1e-4 * np.stack(total, -1)) ** 0.75, rtol=1e-5)
    theirs = torch.nn.functional.local_response_norm(torch.tensor(x).movedim(-1, 1), 5)
    ours = ops.local_response_norm(x, alpha=1e-4 / 5, k=1.0)
    np.testing.assert_allclose(ours, theirs.movedim(1, -1).numpy(), rtol=1e-5)


# ---------------------------------------------------------------------------------- extremes


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
def test_an_offset_of_ten_thousand_does_no_harm(norm, rng):
    """All that is left is the rounding of the mean, 1e4 * 2^-24."""
    x = rng.standard_normal((16, 12, 12, 8))
    far = (x + 1e4).astype(np.float32)
    expected = norm(jnp.asarray(far.astype(np.float64) - 1e4, jnp.float32))
    np.testing.assert_allclose(norm(jnp.asarray(far)), expected, atol=5e-3)


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
def test_a_constant_set_becomes_zero_with_a_finite_gradient(norm):
    x = jnp.full((2, 4, 4, 4), 3.0)
    y, vjp = jax.vjp(norm, x)
    np.testing.assert_array_equal(y, jnp.zeros(x.shape))
    assert np.isfinite(vjp(jnp.ones(x.shape))[0]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_spoils_its_set_alone(value):
    x = np.arange(2 * 3 * 3 * 4, dtype=np.float32).reshape(2, 3, 3, 4) % 7
    x[0, 1, 1, 2] = value
    spoilt = {name: np.isnan(norm(jnp.asarray(x))) for name, norm in NORMS.items()}
    expected = {name: np.zeros(x.shape, bool) for name in NORMS}
    expected["batch"][..., 2] = True
    expected["layer"][0, 1, 1] = True
    expected["layer, all axes"][0] = True
    expected["group"][0, ..., 2:] = True
    expected["instance"][0, ..., 2] = True
    for name in NORMS:
        np.testing.assert_array_equal(spoilt[name], expected[name], err_msg=name)


def test_local_response_norm_of_what_is_not_finite():
    """A NaN reaches the channels around it; so does an infinity, which divides them to zero."""
    x = jnp.array([1.0, 1.0, jnp.nan, 1.0, 1.0])
    y = ops.local_response_norm(x, size=3)
    np.testing.assert_array_equal(np.isnan(y), [False, True, True, True, False])
    y = ops.local_response_norm(x.at[2].set(jnp.inf), size=3)
    np.testing.assert_array_equal(np.isnan(y), [False, False, True, False, False])
    np.testing.assert_array_equal(y[jnp.array([1, 3])], [0, 0])


def test_a_window_wider_than_the_channels():
    x = jnp.array([[3.0, 4.0]])
    y = ops.local_response_norm(x, size=99, alpha=1.0, beta=0.5, k=11.0)
    np.testing.assert_allclose(y, [[3 / 6, 4 / 6]], rtol=1e-6)


def test_norms_of_an_empty_batch():
    x = zeros(0, 4, 4, 6)
    for name, norm in NORMS.items():
        if name != "batch":
            assert norm(x).shape == x.shape
    assert ops.local_response_norm(x).shape == x.shape
    y, _ = ops.batch_norm(x, zeros(6), jnp.ones(6), train=False)
    assert y.shape == x.shape


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_keeps_its_dtype_and_the_statistics_theirs(dtype, rng):
    """4096 values would not add up in 16 bits, and 0.1 % of a running mean not change it."""
    x = jnp.asarray(5 + rng.standard_normal((4096, 3)), dtype)
    y, (mean, var) = ops.batch_norm(x, zeros(3), jnp.ones(3), train=True, momentum=1.0)
    assert (y.dtype, mean.dtype, var.dtype) == (dtype, jnp.float32, jnp.float32)
    exact = np.asarray(x, np.float64)
    np.testing.assert_allclose(mean, exact.mean(0), rtol=1e-5)
    np.testing.assert_allclose(var, exact.var(0, ddof=1), rtol=1e-5)
    _, (mean, _) = ops.batch_norm(x, zeros(3, dtype=dtype), jnp.ones(3, dtype), train=True)
    assert mean.dtype == dtype


# ------------------------------------------------------------------------ devices and export


SHARDED = """
import jax, numpy as np, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from convax import ops

assert jax.device_count() == 4
rng = np.random.default_rng(0)
shard = np.repeat(np.arange(4.0), 2).reshape(8, 1, 1, 1)  # two examples on each device
x = jnp.asarray(rng.standard_normal((8, 3, 2, 4)) * (1 + shard) + 5 * shard, jnp.float32)
old = jnp.ones(4), 2 * jnp.ones(4)
scale, bias = jnp.asarray(rng.standard_normal((2, 4)), jnp.float32)
g = jnp.asarray(rng.standard_normal(x.shape), jnp.float32)

def everything(norm, x, scale, bias, g):
    # values, new statistics, and the gradients through both
    y, vjp = jax.vjp(norm, x, scale, bias)
    return y, vjp((g * y[0], jax.tree.map(jnp.cos, y[1])))

def batch_norm(x, scale, bias, axis_name=None):
    return ops.batch_norm(x, *old, scale, bias, train=True, axis_name=axis_name)

others = {
    "group": lambda *a: (ops.group_norm(*a, groups=2), ()),
    "layer": lambda *a: (ops.layer_norm(*a), ()),
    "instance": lambda *a: (ops.instance_norm(*a), ()),
    "response": lambda x, s, b: (ops.local_response_norm(x) * s.reshape(1, 1, 1, 4), ()),
}
expected = everything(batch_norm, x, scale, bias, g)
between = np.var([x[2 * i : 2 * i + 2].mean() for i in range(4)])
assert between > 10  # forgetting the variance between the shards would show

def close(actual, wanted, what):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4, err_msg=what)

for kind in AxisType.Auto, AxisType.Explicit:
    mesh = jax.make_mesh((4,), ("data",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        put = lambda a, spec: jax.device_put(a, NamedSharding(mesh, spec))
        operands = put(x, jax.P("data")), put(scale, jax.P()), put(bias, jax.P())
        gs = put(g, jax.P("data"))
        close(jax.jit(everything, static_argnums=0)(batch_norm, *operands, gs), expected, f"{kind}")
        for name, norm in others.items():
            actual = jax.jit(everything, static_argnums=0)(norm, *operands, gs)
            close(actual, everything(norm, x, scale, bias, g), f"{kind} {name}")
        for check in True, False:
            mapped = jax.shard_map(
                lambda *a: batch_norm(*a, axis_name="data"),
                mesh=mesh,
                in_specs=(jax.P("data"), jax.P(), jax.P()),
                out_specs=(jax.P("data"), jax.P()),
                check_vma=check,
            )
            actual = jax.jit(everything, static_argnums=0)(mapped, *operands, gs)
            close(actual, expected, f"{kind} shard_map, check_vma={check}")
        # and with the gradient taken inside: of the sum over all devices
        loss = lambda x, s, b, g, name: jnp.sum(g * batch_norm(x, s, b, name)[0])
        inside = jax.shard_map(
            lambda x, s, b, g: jax.grad(loss, (0, 1, 2))(x, s, b, g, "data"),
            mesh=mesh,
            in_specs=(jax.P("data"), jax.P(), jax.P(), jax.P("data")),
            out_specs=(jax.P("data"), jax.P(), jax.P()),
        )
        wanted = jax.grad(loss, (0, 1, 2))(x, scale, bias, g, None)
        close(jax.jit(inside)(*operands, gs), wanted, f"{kind} inside")
"""


@pytest.mark.slow
def test_values_and_gradients_over_four_devices(run_on_four_devices):
    """Statistics of the whole batch, the variance between the shards included."""
    run_on_four_devices(SHARDED)


def test_one_value_on_each_shard_is_enough():
    x = jnp.array([[[1.0]], [[3.0]]])
    norm = partial(ops.batch_norm, train=True, axis_name="shards", momentum=1.0)
    y, (mean, var) = jax.vmap(
        lambda x: norm(x, zeros(1), zeros(1)), axis_name="shards", out_axes=(0, None)
    )(x)
    np.testing.assert_allclose(y.ravel(), [-1, 1], rtol=1e-4)
    np.testing.assert_allclose((*mean, *var), [2, 2])


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
def test_gradient_survives_export(norm, rng):
    x = jnp.asarray(rng.standard_normal((3, 4, 4, 4)), jnp.float32)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(jnp.sin(norm(x)))))
    exported = export.export(gradient)(jax.ShapeDtypeStruct(x.shape, x.dtype))
    np.testing.assert_allclose(exported.call(x), gradient(x), rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(uses_xla(), reason="autodiff of the formula takes three")
def test_gradients_take_two_sums_over_the_array():
    """Of g and of (x - m) g, from which those of scale and bias come too: none is added up twice."""
    x, v = zeros(4, 8, 8, 6), jnp.ones(6)
    f = lambda x, s, b: ops.batch_norm(x, v, v, s, b, train=True)[0]  # noqa: E731
    _, vjp = jax.vjp(f, x, v, v)
    program = jax.jit(vjp).lower(x).compile().as_text() or ""
    assert program.count(" reduce(") == 2


# ------------------------------------------------------------------------------------ errors

IMAGES = (2, 5, 5, 3)
BATCH = {"train": True}
ERRORS = {
    "one running statistic": (
        lambda: ops.batch_norm(zeros(2, 3), zeros(3), None, train=True),
        ValueError,
        r"batch_norm: one running statistic without .* got mean \(3,\) and var None, need both",
    ),
    "one value, evaluated": (
        lambda: ops.batch_norm(zeros(1, 3), None, None, train=False),
        ValueError,
        r"batch_norm: nothing to normalize over: got 1 values per channel",
    ),
    "a kernel of one weight": (
        lambda: ops.standardize_weights(zeros(1, 1, 1, 3)),
        ValueError,
        r"standardize_weights: nothing to standardize: got kernel \(1, 1, 1, 3\), need 2 weights",
    ),
    "eps of a kernel": (
        lambda: ops.standardize_weights(zeros(3, 3), eps=0.0),
        ValueError,
        r"standardize_weights: .*eps",
    ),
    "kernel of integers": (
        lambda: ops.standardize_weights(zeros(3, 3, dtype=int)),
        TypeError,
        r"standardize_weights: kernel is not floating point: got int32",
    ),
    "rank": (
        lambda: ops.batch_norm(zeros(3), zeros(3), zeros(3), **BATCH),
        ValueError,
        r"batch_norm: wrong rank: got x \(3,\), need \(N, \*spatial, C\); write x\[None\]",
    ),
    "integers": (
        lambda: ops.batch_norm(zeros(2, 3, dtype=int), zeros(3), zeros(3), **BATCH),
        TypeError,
        r"batch_norm: x is not floating point: got int32",
    ),
    "mean": (
        lambda: ops.batch_norm(zeros(*IMAGES), zeros(4), zeros(3), **BATCH),
        ValueError,
        r"batch_norm: wrong mean shape: got \(4,\) with x \(2, 5, 5, 3\), need \(3,\); give one",
    ),
    "channels first": (
        lambda: ops.batch_norm(zeros(2, 3, 5, 5), zeros(3), zeros(3), **BATCH),
        ValueError,
        r"batch_norm: wrong mean shape.*x looks channels first, write jnp\.moveaxis\(x, 1, -1\)",
    ),
    "var": (
        lambda: ops.batch_norm(zeros(*IMAGES), zeros(3), zeros(1, 3), **BATCH),
        ValueError,
        r"batch_norm: wrong var shape: got \(1, 3\)",
    ),
    "dtype of mean": (
        lambda: ops.batch_norm(zeros(*IMAGES), zeros(3, dtype=jnp.float16), zeros(3), **BATCH),
        TypeError,
        r"batch_norm: dtypes differ: got x float32 and mean float16",
    ),
    "dtype of scale": (
        lambda: ops.batch_norm(
            zeros(*IMAGES), zeros(3), zeros(3), zeros(3, dtype=jnp.bfloat16), **BATCH
        ),
        TypeError,
        r"batch_norm: dtypes differ: got x float32 and scale bfloat16.*scale\.astype\(x\.dtype\)",
    ),
    "scale": (
        lambda: ops.group_norm(zeros(*IMAGES), zeros(5), groups=1),
        ValueError,
        r"group_norm: wrong scale shape: got \(5,\).*x looks channels first",
    ),
    "bias": (
        lambda: ops.instance_norm(zeros(*IMAGES), zeros(3), zeros(4)),
        ValueError,
        r"instance_norm: wrong bias shape: got \(4,\) with x \(2, 5, 5, 3\), need \(3,\)",
    ),
    "one value": (
        lambda: ops.batch_norm(zeros(1, 3), zeros(3), zeros(3), **BATCH),
        ValueError,
        r"batch_norm: nothing to normalize over: got 1 values per channel with x \(1, 3\), need 2 "
        r"at least; give a larger batch, or write train=False",
    ),
    "no value": (
        lambda: batch_norm(zeros(0, 4, 4, 3)),
        ValueError,
        r"batch_norm: nothing to normalize over: got 0 values",
    ),
    "momentum": (
        lambda: ops.batch_norm(zeros(*IMAGES), zeros(3), zeros(3), momentum=1.1, **BATCH),
        ValueError,
        r"batch_norm: bad momentum: got 1\.1, need 0 <= momentum <= 1.*0\.1 where Keras",
    ),
    "eps": (
        lambda: ops.layer_norm(zeros(*IMAGES), eps=0),
        ValueError,
        r"layer_norm: bad eps: got 0, need a positive number; write eps=1e-5",
    ),
    "eps is nan": (
        lambda: ops.group_norm(zeros(*IMAGES), groups=1, eps=float("nan")),
        ValueError,
        r"group_norm: bad eps: got nan",
    ),
    "axis name": (
        lambda: ops.batch_norm(zeros(*IMAGES), zeros(3), zeros(3), axis_name="i", **BATCH),
        ValueError,
        r"batch_norm: no such axis: got axis_name='i', need an axis of the shard_map or vmap",
    ),
    "axes": (
        lambda: ops.layer_norm(zeros(*IMAGES), axes=(1, 2)),
        ValueError,
        r"layer_norm: axes are not the last: got axes=\(1, 2\) with x \(2, 5, 5, 3\), need the last",
    ),
    "axes of rms_norm": (
        lambda: ops.rms_norm(zeros(2, 3, 4), axes=1),
        ValueError,
        r"rms_norm: axes are not the last: got axes=1",
    ),
    "scale of rms_norm": (
        lambda: ops.rms_norm(zeros(2, 3), zeros(2)),
        ValueError,
        r"rms_norm: wrong scale shape: got \(2,\) with x \(2, 3\), need \(3,\)",
    ),
    "no axes": (lambda: ops.layer_norm(zeros(2, 3), axes=()), ValueError, r"got axes=\(\)"),
    "axis beyond": (lambda: ops.layer_norm(zeros(2, 3), axes=-3), ValueError, r"got axes=-3"),
    "axis twice": (
        lambda: ops.layer_norm(zeros(2, 3), axes=(1, -1)),
        ValueError,
        r"got axes=\(1, -1\)",
    ),
    "scalar": (
        lambda: ops.layer_norm(zeros()),
        ValueError,
        r"layer_norm: wrong rank: got x \(\), need \(\.\.\., C\)",
    ),
    "one value per place": (
        lambda: ops.layer_norm(zeros(2, 3, 1)),
        ValueError,
        r"layer_norm: nothing to normalize over: got 1 values per set.*normalize over more axes",
    ),
    "layer scale": (
        lambda: ops.layer_norm(zeros(*IMAGES), zeros(3), axes=(-2, -1)),
        ValueError,
        r"layer_norm: wrong scale shape: got \(3,\) with x \(2, 5, 5, 3\), need \(5, 3\); give one "
        r"number for each value of the axes, or use group_norm",
    ),
    "layer bias, channels first": (
        lambda: ops.layer_norm(zeros(2, 3, 5, 5), None, zeros(3)),
        ValueError,
        r"layer_norm: wrong bias shape.*x looks channels first",
    ),
    "groups": (
        lambda: ops.group_norm(zeros(*IMAGES), groups=2),
        ValueError,
        r"group_norm: bad groups: got groups=2 with x \(2, 5, 5, 3\), need a positive int that "
        r"divides C=3; write groups=1",
    ),
    "no groups": (
        lambda: ops.group_norm(zeros(*IMAGES), groups=0),
        ValueError,
        r"group_norm: bad groups: got groups=0",
    ),
    "one value per group": (
        lambda: ops.group_norm(zeros(2, 3), groups=3),
        ValueError,
        r"group_norm: nothing to normalize over: got 1 values per group.*write fewer groups",
    ),
    "no spatial axis": (
        lambda: ops.instance_norm(zeros(2, 3)),
        ValueError,
        r"instance_norm: wrong rank: got x \(2, 3\), need \(N, \*spatial, C\)",
    ),
    "one place": (
        lambda: ops.instance_norm(zeros(2, 1, 1, 3)),
        ValueError,
        r"instance_norm: nothing to normalize over: got 1 values per channel of an example.*before "
        r"the image has shrunk",
    ),
    "response of integers": (
        lambda: ops.local_response_norm(zeros(2, 3, dtype=int)),
        TypeError,
        r"local_response_norm: x is not floating point",
    ),
    "response of a scalar": (
        lambda: ops.local_response_norm(zeros()),
        ValueError,
        r"local_response_norm: wrong rank: got x \(\), need \(\.\.\., C\); add a channel axis",
    ),
    "size": (
        lambda: ops.local_response_norm(zeros(2, 3), size=0),
        ValueError,
        r"local_response_norm: bad size: got 0, need a positive int; write size=5",
    ),
    "k": (
        lambda: ops.local_response_norm(zeros(2, 3), k=0),
        ValueError,
        r"local_response_norm: a divisor can be zero: got alpha=0\.0001 and k=0, need alpha >= 0",
    ),
    "alpha": (
        lambda: ops.local_response_norm(zeros(2, 3), alpha=-1.0),
        ValueError,
        r"local_response_norm: a divisor can be zero: got alpha=-1\.0",
    ),
}


@pytest.mark.parametrize("call, kind, message", ERRORS.values(), ids=ERRORS.keys())
def test_norms_say_what_to_write_instead(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
