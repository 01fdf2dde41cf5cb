"""Parameter paths: ``stage1/conv1/kernel``, and regular expressions that choose among them."""

import difflib
import re
from collections.abc import Callable, Iterable
from typing import Any

import jax

from .text import plain_line

_LONGEST = 1000  # characters of a regular expression


def path_of(keys: Any) -> str:
    """Join JAX's key path into one string, with slashes."""
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def named_leaves(tree: Any) -> list[tuple[str, Any]]:
    """Return every leaf with its path: ``conv1/kernel``."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(path_of(keys), leaf) for keys, leaf in leaves]


def map_named(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Map ``function(path, leaf, *leaves of the others)`` over a tree; return a tree like it."""
    return jax.tree_util.tree_map_with_path(
        lambda keys, *leaves: function(path_of(keys), *leaves), tree, *others
    )


def expression_problem(pattern: str) -> str | None:
    """Say why `pattern` is no regular expression that can be used; None if it is one.

    Example:
        >>> expression_problem("conv(")
        'missing ), unterminated subpattern at position 4'
        >>> expression_problem("x{9999999999}")
        'the repetition number is too large'
    """
    if len(pattern) > _LONGEST:
        return f"{len(pattern):,} characters, need {_LONGEST:,} at most"
    try:
        re.compile(pattern)
    except (re.error, OverflowError) as error:
        return str(error)
    except RecursionError:
        return "groups in one another, far too many"
    return None


def matches(pattern: str, path: str) -> bool:
    """Return whether the whole of `path` matches the regular expression, as in `ops.l2`."""
    return re.fullmatch(pattern, path) is not None


def nothing_matches(pattern: str, paths: Iterable[str]) -> str | None:
    """Say that `pattern` matches none of `paths`, and name near ones; None if one matches."""
    paths = list(paths)
    if any(matches(pattern, path) for path in paths):
        return None
    near = difflib.get_close_matches(pattern, paths, n=3, cutoff=0.0)
    return (
        f"matches nothing: got {plain_line(repr(pattern), 300)}, need the whole path of a "
        f"parameter such as {', '.join(near) or '(there are none)'}; write '.*' for what may stand "
        "anywhere"
    )
