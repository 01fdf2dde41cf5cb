"""Parameter paths: ``stage1/conv1/kernel``, and regular expressions that choose among them."""

import difflib
import re
from collections.abc import Callable, Iterable
from typing import Any

import jax


def path_of(keys: Any) -> str:
    """JAX's key path as one string, the keys joined by slashes."""
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def named_leaves(tree: Any) -> list[tuple[str, Any]]:
    """Every leaf with its path: ``conv1/kernel``."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(path_of(keys), leaf) for keys, leaf in leaves]


def map_named(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """``function(path, leaf, *leaves of the others)`` for every leaf, in a tree like `tree`."""
    return jax.tree_util.tree_map_with_path(
        lambda keys, *leaves: function(path_of(keys), *leaves), tree, *others
    )


def matches(pattern: str, path: str) -> bool:
    """Whether the whole of `path` matches the regular expression, as in `ops.l2`."""
    return re.fullmatch(pattern, path) is not None


def nothing_matches(pattern: str, paths: Iterable[str]) -> str | None:
    """What to say where `pattern` matches none of `paths`, with those that are near; else None."""
    paths = list(paths)
    if any(matches(pattern, path) for path in paths):
        return None
    near = difflib.get_close_matches(pattern, paths, n=3, cutoff=0.0)
    return (
        f"matches nothing: got {pattern!r}, need the whole path of a parameter such as "
        f"{', '.join(near) or '(there are none)'}; write '.*' for what may stand anywhere"
    )
