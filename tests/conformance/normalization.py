"""Batch, layer, RMS, group, instance and local response normalization."""

from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from convax import ops
from tests.reference import norm as reference

from .entry import Entry, Problem, channels_first, normal
from .random import DTYPES, rng_of


def _plain(x, axes, scale=1.0, bias=0.0, eps=1e-5):
    m, v = jnp.mean(x, axes, keepdims=True), jnp.var(x, axes, keepdims=True)
    return (x - m) / jnp.sqrt(v + eps) * scale + bias


def _last(v, x):
    """(C,) so that it broadcasts against x, of NumPy or JAX."""
    return v.reshape((1,) * (x.ndim - 1) + (-1,))


# --------------------------------------------------------------------------------------- batch


def _batch_norm(**options):
    """The new statistics beside y, and not in a tuple of their own."""

    def f(x, mean, var, *scale_bias):
        y, (mean, var) = ops.batch_norm(x, mean, var, *scale_bias, train=True, **options)
        return y, mean, var

    return f


def _batch_norm_over_shards(x, mean, var, scale, bias):
    """The batch in two parts that know of each other by the name of the axis only."""
    norm = lambda part: _batch_norm(axis_name="shards")(part, mean, var, scale, bias)  # noqa: E731
    parts = x.reshape(2, x.shape[0] // 2, *x.shape[1:])
    y, mean, var = jax.vmap(norm, axis_name="shards", out_axes=(0, None, None))(parts)
    return y.reshape(x.shape), mean, var


def _batch_plain(x, mean, var, scale=None, bias=None):
    axes = tuple(range(x.ndim - 1))
    scale, bias = (d if v is None else _last(v, x) for v, d in ((scale, 1.0), (bias, 0.0)))
    new_mean = 0.9 * mean + 0.1 * jnp.mean(x, axes)
    return _plain(x, axes, scale, bias), new_mean, 0.9 * var + 0.1 * jnp.var(x, axes, ddof=1)


def _batch_loops(x, mean, var, scale=None, bias=None):
    scale, bias = (np.full(x.shape[-1], d) if v is None else v for v, d in ((scale, 1), (bias, 0)))
    y = reference.normalize(x, reference.batch_sets(x.shape), scale, bias, 1e-5)
    return y, *reference.running(x, mean, var, 0.1)


def _batch_loops_grad(g, x, mean, var, scale=None, bias=None):
    affine = scale is not None
    scale, bias = (np.full(x.shape[-1], d) if v is None else v for v, d in ((scale, 1), (bias, 0)))
    sets = reference.batch_sets(x.shape)
    gx, *g_affine = reference.normalize_grads(g[0], x, sets, scale, bias, 1e-5)
    more, *g_running = reference.running_grads(g[1], g[2], x, 0.1)
    return gx + more, *g_running, *(g_affine if affine else ())


def _batch_torch(momentum=0.1, eps=1e-5):
    """PyTorch updates its running values in place and without gradients: those are written out."""

    def f(torch, x, mean, var, scale=None, bias=None):
        values = torch.movedim(x, -1, 1)
        running = mean.detach().clone(), var.detach().clone()
        options = {"training": True, "momentum": momentum, "eps": eps}
        y = torch.nn.functional.batch_norm(values, *running, scale, bias, **options)
        rows = x.reshape(-1, x.shape[-1])
        new = (1 - momentum) * mean + momentum * rows.mean(0)
        new_var = (1 - momentum) * var + momentum * rows.var(0, correction=1)
        for ours, theirs in zip((new, new_var), running, strict=True):
            np.testing.assert_allclose(ours.detach(), theirs, rtol=1e-5)
        return torch.movedim(y, 1, -1), new, new_var

    return f


def _evaluate(x, mean, var, *scale_bias, **options):
    return ops.batch_norm(x, mean, var, *scale_bias, train=False, **options)[0]


def _evaluate_plain(x, mean, var, scale, bias):
    mean, var, scale, bias = (_last(v, x) for v in (mean, var, scale, bias))
    return (x - mean) / jnp.sqrt(var + 1e-5) * scale + bias


def _evaluate_torch(eps=1e-5):
    """Written out, as PyTorch has no gradient in the running values; the values are PyTorch's."""

    def f(torch, x, mean, var, scale=None, bias=None):
        y = (x - mean) / torch.sqrt(var + eps)
        y = y if scale is None else y * scale
        y = y if bias is None else y + bias
        with torch.no_grad():
            values = torch.movedim(x, -1, 1)
            theirs = torch.nn.functional.batch_norm(values, mean, var, scale, bias, eps=eps)
            np.testing.assert_allclose(y, torch.movedim(theirs, 1, -1), rtol=1e-5, atol=1e-5)
        return y

    return f


def _draw_batch(*shape, affine=True):
    """x, the running mean and variance, scale and bias; the variance is positive."""

    def draw(rng):
        x, *vectors = normal(shape, *[shape[-1:]] * 3)(rng)
        mean, scale, bias = vectors
        var = rng.uniform(0.5, 2, shape[-1])
        return (x, mean, var, scale, bias) if affine else (x, mean, var)

    return draw


# ---------------------------------------------------------------------------------- the others


def _layer_torch(axes, eps=1e-5):
    def f(torch, x, scale=None, bias=None):
        shape = x.shape[x.ndim - axes :]
        return torch.nn.functional.layer_norm(x, shape, scale, bias, eps)

    return f


def _rms_torch(axes, eps):
    def f(torch, x, scale=None):
        return torch.nn.functional.rms_norm(x, x.shape[x.ndim - axes :], scale, eps)

    return f


def _layer_plain(axes):
    def f(x, scale, bias):
        last = tuple(range(x.ndim - axes, x.ndim))
        scale, bias = (v.reshape((1,) * (x.ndim - axes) + v.shape) for v in (scale, bias))
        return _plain(x, last, scale, bias)

    return f


def _group_plain(groups):
    def f(x, scale, bias):
        split = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
        axes = (*range(1, x.ndim - 1), x.ndim)
        return _plain(split, axes).reshape(x.shape) * _last(scale, x) + _last(bias, x)

    return f


def _group_torch(groups, eps=1e-5):
    return channels_first(
        lambda torch, x, scale=None, bias=None: torch.nn.functional.group_norm(
            x, groups, scale, bias, eps
        )
    )


def _instance_torch(eps=1e-5):
    def f(torch, x, scale=None, bias=None):
        y = torch.nn.functional.instance_norm(x, weight=scale, bias=bias, eps=eps)
        # PyTorch 2.13 on CPU: of one example, a gradient in channels-last order is misread.
        y.register_hook(lambda g: g.clone(memory_format=torch.contiguous_format))
        return y

    return channels_first(f)


def _loops(sets_of):
    """Value and gradients in loops, of the sets of a shape."""

    def value(x, scale, bias):
        return reference.normalize(x, sets_of(x.shape), scale, bias, 1e-5)

    def grads(g, x, scale, bias):
        return reference.normalize_grads(g, x, sets_of(x.shape), scale, bias, 1e-5)

    return {"loops": value, "loops_grad": grads}


def _response(size, alpha, beta, k):
    """The entry's functions for these settings; PyTorch divides alpha by the size."""
    options = {"size": size, "alpha": alpha, "beta": beta, "k": k}

    def plain(x):
        padding = [(0, 0)] * (x.ndim - 1) + [(size // 2, (size - 1) // 2)]
        squares = jnp.pad(x, padding) ** 2
        total = sum(squares[..., j : j + x.shape[-1]] for j in range(size))
        return x / (k + alpha * total) ** beta

    def torch_function(torch, x):
        return torch.nn.functional.local_response_norm(x, size, alpha * size, beta, k)

    return {
        "function": lambda x: ops.local_response_norm(x, **options),
        "plain": plain,
        "loops": lambda x: reference.local_response_norm(x, **options),
        "loops_grad": lambda g, x: (reference.local_response_norm_grad(g, x, **options),),
        "torch": channels_first(torch_function),
    }


ONES, ZEROS = np.ones(2), np.zeros(2)
ENTRIES = [
    Entry(
        "batch_norm",
        "training",
        _batch_norm(),
        _draw_batch(3, 2, 2, 2),
        plain=_batch_plain,
        loops=_batch_loops,
        loops_grad=_batch_loops_grad,
        torch=_batch_torch(),
    ),
    Entry(
        "batch_norm",
        "training, neither scale nor bias",
        _batch_norm(),
        _draw_batch(4, 3, affine=False),
        plain=_batch_plain,
        loops=_batch_loops,
        loops_grad=_batch_loops_grad,
        torch=_batch_torch(),
    ),
    Entry(
        "batch_norm",
        "training, over a named axis",
        _batch_norm_over_shards,
        _draw_batch(4, 3, 2),
        plain=_batch_plain,
        loops=_batch_loops,
        loops_grad=_batch_loops_grad,
        torch=_batch_torch(),
    ),
    Entry(
        "batch_norm",
        "evaluation",
        _evaluate,
        _draw_batch(3, 2, 2, 2),
        plain=_evaluate_plain,
        loops=lambda *arrays: reference.evaluate(*arrays, 1e-5),
        loops_grad=lambda g, *arrays: reference.evaluate_grads(g, *arrays, 1e-5),
        torch=_evaluate_torch(),
    ),
    Entry(
        "batch_norm",
        "evaluation, without running statistics",
        lambda x, *more: ops.batch_norm(x, None, None, *more, train=False)[0],
        normal((2, 2, 2), (2,), (2,)),
        plain=lambda x, s, b: _plain(x, (0, 1), _last(s, x), _last(b, x)),
        **_loops(reference.batch_sets),
        torch=lambda torch, x, s, b: torch.movedim(
            torch.nn.functional.batch_norm(torch.movedim(x, -1, 1), None, None, s, b, True), 1, -1
        ),
    ),
    Entry(
        "standardize_weights",
        "",
        ops.standardize_weights,
        normal((2, 2, 3, 2)),
        plain=lambda k: _plain(k, (0, 1, 2)),
        loops=lambda k: reference.normalize(k, reference.batch_sets(k.shape), ONES, ZEROS, 1e-5),
        loops_grad=lambda g, k: reference.normalize_grads(
            g, k, reference.batch_sets(k.shape), ONES, ZEROS, 1e-5
        )[:1],
        torch=lambda torch, k: torch.nn.functional.batch_norm(
            k.reshape(-1, k.shape[-1]), None, None, training=True, eps=1e-5
        ).reshape(k.shape),
    ),
    Entry(
        "layer_norm",
        "the channels",
        ops.layer_norm,
        normal((2, 3, 4), (4,), (4,)),
        plain=_layer_plain(1),
        **_loops(lambda shape: reference.layer_sets(shape, 1)),
        torch=_layer_torch(1),
    ),
    Entry(
        "layer_norm",
        "all but the batch",
        lambda *arrays: ops.layer_norm(*arrays, axes=(1, 2, 3)),
        normal((2, 2, 2, 3), (2, 2, 3), (2, 2, 3)),
        plain=_layer_plain(3),
        **_loops(lambda shape: reference.layer_sets(shape, 3)),
        torch=_layer_torch(3),
    ),
    Entry(
        "rms_norm",
        "",
        ops.rms_norm,
        normal((2, 3, 4), (4,)),
        plain=lambda x, s: x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6) * _last(s, x),
        loops=lambda x, s: reference.rms(x, reference.layer_sets(x.shape, 1), s, 1e-6),
        loops_grad=lambda g, x, s: reference.rms_grads(
            g, x, reference.layer_sets(x.shape, 1), s, 1e-6
        ),
        torch=_rms_torch(1, 1e-6),
    ),
    Entry(
        "group_norm",
        "",
        lambda *arrays: ops.group_norm(*arrays, groups=2),
        normal((2, 2, 2, 4), (4,), (4,)),
        plain=_group_plain(2),
        **_loops(lambda shape: reference.group_sets(shape, 2)),
        torch=_group_torch(2),
    ),
    Entry(
        "group_norm",
        "no spatial axes",
        lambda *arrays: ops.group_norm(*arrays, groups=2),
        normal((3, 6), (6,), (6,)),
        plain=_group_plain(2),
        **_loops(lambda shape: reference.group_sets(shape, 2)),
        torch=_group_torch(2),
    ),
    Entry(
        "instance_norm",
        "",
        ops.instance_norm,
        normal((2, 3, 2, 3), (3,), (3,)),
        plain=lambda x, s, b: _plain(x, (1, 2), _last(s, x), _last(b, x)),
        **_loops(lambda shape: reference.group_sets(shape, shape[-1])),
        torch=_instance_torch(),
    ),
    Entry(
        "local_response_norm",
        "odd size",
        draw=normal((2, 2, 7)),
        **_response(size=5, alpha=0.3, beta=0.75, k=2.0),
    ),
    Entry(
        "local_response_norm",
        "even size",
        draw=normal((2, 2, 5)),
        **_response(size=4, alpha=1.0, beta=1.5, k=1.0),
    ),
]


# --------------------------------------------------------------------------------------- drawn


@st.composite
def problems(draw):
    """Every norm, with and without scale and bias, any number of spatial axes, offsets and eps.

    Sets of two or three values leave next to nothing of a gradient, the more so the smaller eps:
    there the rounding of the input would be compared and not the operation.
    """
    kinds = ["batch", "evaluation", "layer", "rms", "group", "instance", "response"]
    kind = draw(st.sampled_from(kinds))
    spatial = draw(st.lists(st.integers(1, 3), min_size=0, max_size=3))
    if kind in ("instance", "response"):
        spatial = spatial or [draw(st.integers(2, 4))]
    N, C, groups = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    C = C * groups if kind == "group" else C
    shape = [N, *spatial, C]
    axes = draw(st.integers(1, len(shape)))
    counts = {
        "batch": prod(shape[:-1]),
        **dict.fromkeys(("layer", "rms"), prod(shape[len(shape) - axes :])),
        "group": prod(spatial) * C // groups,
        "instance": prod(spatial),
    }
    grown = {
        "batch": 0,
        "layer": -1,
        "rms": -1,
        "group": -1,
        "instance": 1,
    }  # the axis that makes it enough
    count = counts.get(kind, 4)
    if count < 2:
        shape[grown[kind]] *= 4
        count *= 4
    eps = draw(st.sampled_from([1e-5, 1e-3, 0.1] if count > 3 else [0.1]))
    dtype = draw(st.sampled_from(DTYPES if count > 3 else ["float32", "float64"]))
    momentum = draw(st.sampled_from([0.1, 0.5, 1.0]))
    size = draw(st.integers(1, 6))

    options = {"eps": eps}
    if kind == "batch":
        function, torch = _batch_norm(momentum=momentum, eps=eps), _batch_torch(momentum, eps)
    elif kind == "evaluation":
        function, torch = lambda *a: _evaluate(*a, eps=eps), _evaluate_torch(eps)
    elif kind == "layer":
        last = tuple(range(-axes, 0))
        function = lambda *a: ops.layer_norm(*a, axes=last, eps=eps)  # noqa: E731
        torch = _layer_torch(axes, eps)
    elif kind == "rms":
        last = tuple(range(-axes, 0))
        function = lambda *a: ops.rms_norm(*a, axes=last, eps=eps)  # noqa: E731
        torch = _rms_torch(axes, eps)
    elif kind == "group":
        options["groups"] = groups
        function = lambda *a: ops.group_norm(*a, **options)  # noqa: E731
        torch = _group_torch(groups, eps)
    elif kind == "instance":
        function = lambda *a: ops.instance_norm(*a, eps=eps)  # noqa: E731
        torch = _instance_torch(eps)
    else:
        both = _response(size, alpha=0.2, beta=draw(st.sampled_from([0.5, 0.75])), k=1.0)
        function, torch = both["function"], both["torch"]

    rng = rng_of(draw)
    x = rng.standard_normal(shape) * rng.uniform(0.5, 2) + rng.uniform(-1, 1)
    arrays = [x]
    if kind in ("batch", "evaluation"):
        arrays += [rng.standard_normal(shape[-1]), rng.uniform(0.5, 2, shape[-1])]
    if kind != "response":  # nothing, the scale, or the scale and the bias
        vector = shape[len(shape) - axes :] if kind in ("layer", "rms") else shape[-1:]
        most = 1 if kind == "rms" else 2
        arrays += normal(*[tuple(vector)] * draw(st.integers(0, most)))(rng)
    text = f"{kind} {shape} axes={axes} groups={groups} eps={eps} size={size} {dtype}"
    return Problem(function, tuple(arrays), torch, dtype, text)
