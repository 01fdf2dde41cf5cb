"""Activations: away from their kinks, which tests/ops/test_activation.py looks at."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from convax import ops
from tests.reference import activation as reference

from .entry import Entry, Problem
from .random import DTYPES, rng_of


def _of_torch(name):
    return lambda torch, x, **settings: getattr(torch.nn.functional, name)(x, **settings)


# name: (plain formulation, PyTorch's), both also of the settings by keyword
ELEMENTWISE = {
    "relu": (lambda x: jnp.where(x > 0, x, 0), _of_torch("relu")),
    "relu6": (
        lambda x: jnp.where(x > 6, 6, jnp.where(x > 0, x, 0)),
        _of_torch("relu6"),
    ),
    "leaky_relu": (
        lambda x, negative_slope=0.01: jnp.where(x > 0, 1, negative_slope) * x,
        _of_torch("leaky_relu"),
    ),
    "elu": (
        lambda x, alpha=1.0: jnp.where(x > 0, x, alpha * (jnp.exp(x) - 1)),
        _of_torch("elu"),
    ),
    "sigmoid": (lambda x: 1 / (1 + jnp.exp(-x)), lambda torch, x: torch.sigmoid(x)),
    "tanh": (
        lambda x: (jnp.exp(x) - jnp.exp(-x)) / (jnp.exp(x) + jnp.exp(-x)),
        lambda torch, x: torch.tanh(x),
    ),
    "gelu": (
        lambda x, approximate=False: (
            x / (1 + jnp.exp(-2 * jnp.sqrt(2 / jnp.pi) * (x + 0.044715 * x**3)))
            if approximate
            else x * jax.scipy.stats.norm.cdf(x)
        ),
        lambda torch, x, approximate=False: torch.nn.functional.gelu(
            x, approximate="tanh" if approximate else "none"
        ),
    ),
    "silu": (lambda x: x / (1 + jnp.exp(-x)), _of_torch("silu")),
    "hardtanh": (
        lambda x, min_val=-1.0, max_val=1.0: jnp.maximum(jnp.minimum(x, max_val), min_val),
        _of_torch("hardtanh"),
    ),
    "hardsigmoid": (lambda x: jnp.clip(x + 3, 0, 6) / 6, _of_torch("hardsigmoid")),
    "hardswish": (lambda x: x * jnp.clip(x + 3, 0, 6) / 6, _of_torch("hardswish")),
    "selu": (
        lambda x: reference.LAMBDA * jnp.where(x > 0, x, reference.ALPHA * (jnp.exp(x) - 1)),
        _of_torch("selu"),
    ),
    "celu": (
        lambda x, alpha=1.0: jnp.where(x > 0, x, alpha * (jnp.exp(x / alpha) - 1)),
        _of_torch("celu"),
    ),
    "softplus": (lambda x, beta=1.0: jnp.log(1 + jnp.exp(beta * x)) / beta, _of_torch("softplus")),
    "mish": (lambda x: x * (1 - 2 / ((1 + jnp.exp(x)) ** 2 + 1)), _of_torch("mish")),
}
SETTINGS = [
    *((name, "", {}) for name in ELEMENTWISE),
    ("leaky_relu", "slope 0.2", {"negative_slope": 0.2}),
    ("elu", "alpha 2", {"alpha": 2.0}),
    ("gelu", "tanh", {"approximate": True}),
]
SOFTMAXES = {
    "softmax": (lambda x: jnp.exp(x) / jnp.sum(jnp.exp(x), -1, keepdims=True)),
    "log_softmax": (lambda x: x - jnp.log(jnp.sum(jnp.exp(x), -1, keepdims=True))),
}


def away_from_zero(rng, *shape):
    """Of either sign: neither rounding nor half of it crosses a kink at zero."""
    return rng.choice([-1, 1], shape) * rng.uniform(0.2, 2, shape)


def anchored(rng, *shape):
    """Not all where the derivative is nearly zero, so that there is something to compare with."""
    x = away_from_zero(rng, *shape)
    x.flat[0] = 1.0
    return x


def distinct(rng, *shape):
    """No two the same, not after rounding to bfloat16 either."""
    n = int(np.prod(shape))
    return (rng.permutation(n).reshape(shape) - n / 2) / 8


def _elementwise(name, case, settings):
    plain, torch = ELEMENTWISE[name]
    function = getattr(ops, name)
    return Entry(
        name,
        case,
        lambda x: function(x, **settings),
        lambda rng: (away_from_zero(rng, 3, 4),),
        plain=lambda x: plain(x, **settings),
        loops=lambda x: reference.elementwise(name, x, **settings),
        loops_grad=lambda g, x: (reference.elementwise_grad(name, g, x, **settings),),
        torch=lambda t, x: torch(t, x, **settings),
    )


def _softmax(name):
    value, grad = getattr(reference, name), getattr(reference, f"{name}_grad")
    return Entry(
        name,
        "",
        getattr(ops, name),
        lambda rng: (away_from_zero(rng, 2, 3, 4),),
        plain=SOFTMAXES[name],
        loops=value,
        loops_grad=lambda g, x: (grad(g, x),),
        torch=lambda torch, x: getattr(torch, name)(x, dim=-1),
    )


def _prelu_torch(torch, x, slope):
    if slope.ndim == 0:
        return torch.nn.functional.prelu(x, slope)
    y = torch.nn.functional.prelu(x.reshape(-1, x.shape[-1]), slope)  # its channels are axis 1
    return y.reshape(x.shape)


def _prelu(case, shape):
    return Entry(
        "prelu",
        case,
        ops.prelu,
        lambda rng: (away_from_zero(rng, 2, 3, 4), rng.uniform(0.1, 0.5, shape)),
        plain=lambda x, a: (
            jnp.maximum(x, 0) + a.reshape((1,) * (3 - a.ndim) + a.shape) * -(jnp.maximum(-x, 0))
        ),
        loops=reference.prelu,
        loops_grad=reference.prelu_grads,
        torch=_prelu_torch,
    )


def _maxout_torch(pieces):
    return lambda torch, x: x.unflatten(-1, (x.shape[-1] // pieces, pieces)).max(-1).values


def _maxout(case, pieces, *shape):
    return Entry(
        "maxout",
        case,
        lambda x: ops.maxout(x, pieces),
        lambda rng: (distinct(rng, *shape),),
        plain=lambda x: jnp.max(x.reshape(*x.shape[:-1], x.shape[-1] // pieces, pieces), -1),
        loops=lambda x: reference.maxout(x, pieces),
        loops_grad=lambda g, x: (reference.maxout_grad(g, x, pieces),),
        torch=_maxout_torch(pieces),
    )


def _glu():
    return Entry(
        "glu",
        "",
        ops.glu,
        lambda rng: (away_from_zero(rng, 2, 3, 4),),
        plain=lambda x: x[..., :2] / (1 + jnp.exp(-x[..., 2:])),
        loops=reference.glu,
        loops_grad=lambda g, x: (reference.glu_grad(g, x),),
        torch=lambda torch, x: torch.nn.functional.glu(x),
    )


ENTRIES = [
    *(_elementwise(*setting) for setting in SETTINGS),
    *map(_softmax, SOFTMAXES),
    _prelu("one slope per channel", (4,)),
    _prelu("one slope", ()),
    _glu(),
    _maxout("few pieces", 3, 2, 2, 6),
    _maxout("many pieces", 18, 2, 36),
]


@st.composite
def problems(draw):
    """Any shape and any axis of the softmaxes; settings drawn too."""
    name = draw(st.sampled_from([*ELEMENTWISE, *SOFTMAXES, "prelu", "maxout"]))
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    dtype, rng = draw(st.sampled_from(DTYPES)), rng_of(draw)
    # In 16 bits the derivatives that 1 - y leaves little of are coarse, as the module says.
    x, small = anchored(rng, *shape), dtype in ("bfloat16", "float16")
    text = f"{name} {shape} {dtype}"
    if name in SOFTMAXES:
        axis = draw(st.integers(-len(shape), len(shape) - 1))
        function = lambda x: getattr(ops, name)(x, axis=axis)  # noqa: E731
        torch = lambda torch, x: getattr(torch, name)(x, dim=axis)  # noqa: E731
        return Problem(function, (x / 2 if small else x,), torch, dtype, f"{text} axis={axis}")
    if name == "prelu":
        slope = rng.uniform(-0.5, 1.5, draw(st.sampled_from([(), (shape[-1],)])))
        return Problem(ops.prelu, (x, slope), _prelu_torch, dtype, text)
    if name == "maxout":
        pieces = draw(st.integers(1, 5))
        x = distinct(rng, *draw(st.lists(st.integers(1, 2), max_size=3)), pieces * shape[-1])
        function = lambda x: ops.maxout(x, pieces)  # noqa: E731
        return Problem(function, (x,), _maxout_torch(pieces), dtype, f"{text} pieces={pieces}")
    number = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0]))
    settings = {
        "leaky_relu": {"negative_slope": number},
        "elu": {"alpha": number},
        "gelu": {"approximate": number < 0.5},
        "hardtanh": {"min_val": -number, "max_val": 1 + number},
        "celu": {"alpha": number + 0.5},
        "softplus": {"beta": number + 0.5},
    }.get(name, {})
    torch = ELEMENTWISE[name][1]
    return Problem(
        lambda x: getattr(ops, name)(x, **settings),
        (x / 2 if small else 3 * x,),
        lambda t, x: torch(t, x, **settings),
        dtype,
        f"{text} {settings}",
    )
