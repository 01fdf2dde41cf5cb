"""Labels as pytrees of NumPy arrays: dicts, lists and tuples, the examples' axis in front.

They are those of JAX, in the same order, None being no leaf; but that worker processes, which
decode images, need not import it.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np

Tree: TypeAlias = Any  # an array, or dicts, lists and tuples of them; None for nothing


def map_leaves(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """Return the tree of ``function(leaf, *leaves)`` of each leaf and those in its place.

    Example:
        >>> map_leaves(len, {"a": [np.zeros(2)], "b": np.zeros((3, 1))})
        {'a': [2], 'b': 3}
    """
    if isinstance(tree, dict):
        return {key: map_leaves(function, tree[key], *(o[key] for o in others)) for key in tree}
    if isinstance(tree, (list, tuple)):
        parts = [map_leaves(function, *each) for each in zip(tree, *others, strict=True)]
        named = hasattr(tree, "_fields")  # a NamedTuple takes its parts one by one
        return type(tree)(*parts) if named else type(tree)(parts)
    return None if tree is None else function(tree, *others)


def leaves(tree: Tree, path: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Yield each leaf with its path, in JAX's order; that of an array alone is empty.

    Example:
        >>> [(path, leaf.shape) for path, leaf in leaves({"b": [np.zeros(1)], "a": np.zeros(2)})]
        [('/a', (2,)), ('/b/0', (1,))]
    """
    if isinstance(tree, dict):
        for key in sorted(tree):
            yield from leaves(tree[key], f"{path}/{key}")
    elif isinstance(tree, (list, tuple)):
        for index, part in enumerate(tree):
            yield from leaves(part, f"{path}/{index}")
    elif tree is not None:
        yield path, tree


def rows(tree: Tree, index: Any) -> Tree:
    """Return ``leaf[index]`` of each leaf."""
    return map_leaves(lambda leaf: leaf[index], tree)
