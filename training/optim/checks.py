"""What an optimizer is given: errors that name the function, the leaf and the remedy.

Checks read shapes and dtypes, and the values of hyper-parameters that are not traced.
"""

import math
import numbers
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ...ops.common.jax_compat import Tracer

_DOMAINS: dict[str, tuple[str, Callable[[float], bool]]] = {
    "learning_rate": ("a finite number >= 0 or a schedule", lambda x: 0 <= x < math.inf),
    "weight_decay": ("a finite number >= 0", lambda x: 0 <= x < math.inf),
    "momentum": ("a number in [0, 1)", lambda x: 0 <= x < 1),
    "dampening": ("a number in [0, 1)", lambda x: 0 <= x < 1),
    "b1": ("a number in [0, 1)", lambda x: 0 <= x < 1),
    "b2": ("a number in [0, 1)", lambda x: 0 <= x < 1),
    "eps": ("a finite number > 0", lambda x: 0 < x < math.inf),
    "max_norm": ("a finite number > 0", lambda x: 0 < x < math.inf),
    "max_value": ("a finite number > 0", lambda x: 0 < x < math.inf),
}


def check_numbers(function, **values):
    """Raise unless hyper-parameters are within their domains; a `Tracer` has no value to check."""
    for name, value in values.items():
        need, within = _DOMAINS[name]
        if isinstance(value, Tracer) or (name == "learning_rate" and callable(value)):
            continue
        array = isinstance(value, jax.Array | np.ndarray) and value.ndim == 0
        if isinstance(value, bool) or not (array or isinstance(value, numbers.Real)):
            raise TypeError(f"{function}: {name} is not a number: got {value!r}, need {need}")
        if not within(float(value)):
            raise ValueError(f"{function}: {name} is out of range: got {value}, need {need}")


def check_decays(function, params, **decays):
    """Raise where a decay below 1 is 1 in the dtype that a parameter is updated in.

    Python computes in double precision: 0.99999999 is below 1 there, and 1 in float32.
    """
    dtypes = {wide_dtype(leaf) for leaf in jax.tree.leaves(params)}
    for name, value in decays.items():
        if isinstance(value, Tracer):
            continue
        for dtype in dtypes:
            if not np.asarray(value, dtype) < 1:
                raise ValueError(
                    f"{function}: {name} rounds to 1 in {dtype}: got {value}, need a number that "
                    f"{dtype} holds below 1; write {1 - jnp.finfo(dtype).eps} or less"
                )


def check_mu_dtype(function, dtype):
    """Raise unless a first moment may be kept in this dtype."""
    if dtype not in (None, "float32", "bfloat16"):
        raise ValueError(
            f"{function}: mu_dtype is unknown: got {dtype!r}, need 'float32', 'bfloat16' or None"
        )


def check_floating(function, params):
    """Raise unless parameters are floating point."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise TypeError(
                f"{function}: {_name(path)}: parameter has dtype {jnp.result_type(leaf)}, need "
                "floating point; keep what is not trained in the model's state"
            )


def wide_gradient(function, grads, params, weight_decay=0.0, moments=None):
    """Check `grads` against `params` or, without them, the `moments`; widen to float32."""
    if params is not None:
        check_match(function, "gradient", grads, params, same_dtype=True)
    elif may_be_nonzero(weight_decay):
        raise ValueError(
            f"{function}: weight_decay works on the parameters: got params=None, need the tree "
            "given to init; call update(grads, state, params)"
        )
    elif moments is not None:
        check_match(function, "gradient", grads, moments)
    return jax.tree.map(lambda g: jnp.asarray(g, wide_dtype(g)), grads)


def check_match(function, kind, tree, params, *, same_dtype=False):
    """Raise unless a tree, say of "gradient" as `kind`, fits the parameters leaf by leaf."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    wanted, wanted_structure = jax.tree_util.tree_flatten_with_path(params)
    if structure != wanted_structure:
        raise ValueError(f"{function}: {_difference(kind, leaves, wanted)}")
    for (path, x), (_, p) in zip(leaves, wanted, strict=True):
        if jnp.shape(x) != jnp.shape(p):
            raise ValueError(
                f"{function}: {_name(path)}: {kind} has shape {jnp.shape(x)}, parameter "
                f"{jnp.shape(p)}; pass the tree that belongs to these parameters"
            )
        if same_dtype and jnp.result_type(x) != jnp.result_type(p):
            raise TypeError(
                f"{function}: {_name(path)}: {kind} has dtype {jnp.result_type(x)}, parameter "
                f"{jnp.result_type(p)}; cast the {kind} to the parameter's dtype"
            )


def _difference(kind, leaves, wanted):
    """Describe the first place where two trees differ."""
    names = [_name(path) for path, _ in leaves]
    wanted_names = [_name(path) for path, _ in wanted]
    for name in wanted_names:
        if name not in names:
            return f"{name}: parameter without {kind}; pass a tree like the parameters"
    for name in names:
        if name not in wanted_names:
            return f"{name}: {kind} without parameter; pass a tree like the parameters"
    return (
        f"{kind} tree and parameter tree have the same leaves in other containers (a list for a "
        "tuple, say); pass a tree like the parameters"
    )


def _name(path):
    return jax.tree_util.keystr(path, simple=True, separator="/") or "the only leaf"


def may_be_nonzero(weight_decay):
    """Return whether weight decay may have to be applied: a traced value cannot be read."""
    return isinstance(weight_decay, Tracer) or bool(weight_decay != 0)


def wide_dtype(x):
    """Return the dtype to compute in: float32 at least."""
    dtype = jnp.result_type(x)
    return dtype if dtype.itemsize >= 4 else jnp.dtype(jnp.float32)


def cast_like(tree, other):
    """Cast each leaf to the dtype of the other tree's."""
    return jax.tree.map(lambda x, y: x.astype(jnp.result_type(y)), tree, other)
