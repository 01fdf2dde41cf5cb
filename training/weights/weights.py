"""The arrays of a network in one file: parameters and state by their paths, as safetensors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..common.pytree_paths import map_named, named_leaves
from .safetensors_io import WeightsError, read_safetensors, write_safetensors


def save_weights(path: str | Path, params: Any, state: Any) -> None:
    """Write a network's arrays to a safetensors file, under names like ``conv1/kernel``.

    Args:
        path: the file; one that is there is replaced.
        params: the parameters.
        state: the statistics that go with them.

    Raises:
        WeightsError: the file cannot be written, or a path occurs in both.
    """
    write_safetensors(Path(path), by_name(params, state))


def load_weights(path: str | Path, like: tuple[Any, Any]) -> tuple[Any, Any]:
    """Read what `save_weights` wrote.

    Args:
        path: the file.
        like: ``(params, state)`` of the network: what ``net.init`` or `model.init_shapes` returns.

    Returns:
        ``(params, state)``, floating-point arrays in the dtypes of `like`.

    Raises:
        WeightsError: it cannot be read, or arrays are missing, left over or of another shape; the
            message has a line for each.
    """
    return restore(like, read_safetensors(Path(path)), str(path))


def by_name(params: Any, state: Any) -> dict[str, Any]:
    """Return the arrays of parameters and state by their paths."""
    tensors, of_state = dict(named_leaves(params)), dict(named_leaves(state))
    if both := sorted(tensors.keys() & of_state.keys()):
        raise WeightsError(
            f"weights: {', '.join(both)}: both a parameter and state; rename one of them"
        )
    return tensors | of_state


_MOST_LINES = 20


class Mismatch(NamedTuple):
    """How a file differs from a network; what it is not, it has in common with it."""

    missing: list[str]  # paths that only the network has
    extra: list[str]  # names that only the file has
    misshapen: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]  # path: its shape, the network's

    @property
    def misfits(self) -> int:
        """Return how many names and shapes differ."""
        return len(self.missing) + len(self.extra) + len(self.misshapen)

    def lines(self, called: Mapping[str, str] | None = None) -> list[str]:
        """Format line by line; `called` says what else a path is called in the file."""
        names = {path: f"{path} ({other})" for path, other in (called or {}).items()}
        lines = [f"{names.get(path, path)}: missing" for path in self.missing]
        lines += [f"{name}: not in the network" for name in self.extra]
        for path, (got, need) in self.misshapen.items():
            lines.append(f"{names.get(path, path)}: of shape {got}, but the network has {need}")
        if len(lines) > _MOST_LINES:
            lines = [*lines[: _MOST_LINES - 1], f"{len(lines) - _MOST_LINES + 1} more do not fit"]
        return lines

    def wrong_prefix(self, called: Mapping[str, str] | None = None) -> str | None:
        """Return the line that says it all where the names in the file begin with too much.

        Example:
            >>> odd = Mismatch(["a/kernel", "b/kernel"], ["net/a/kernel", "net/b/kernel"], {})
            >>> odd.wrong_prefix().partition(";")[0]
            "the names in it begin with 'net/', which those of the network do not"
        """
        missing = [(called or {}).get(path, path) for path in self.missing]
        extra = set(self.extra)
        longest = max(missing, key=len, default="")
        for name in self.extra:
            prefix = name.removesuffix(longest)
            if longest and prefix != name and prefix[-1] in "./":
                there = sum(prefix + other in extra for other in missing)
                if there > len(missing) / 2:
                    return (
                        f"the names in it begin with {prefix!r}, which those of the network do "
                        f"not; save it with {{name.removeprefix({prefix!r}): array for name, array "
                        "in state_dict.items()}"
                    )
        return None


def mismatch(tensors: Mapping[str, Any], wanted: Mapping[str, Any]) -> Mismatch:
    """Compare the arrays of a file with those of a network, in names and shapes."""
    return Mismatch(
        missing=[path for path in wanted if path not in tensors],
        extra=[name for name in tensors if name not in wanted],
        misshapen={
            path: (np.shape(tensors[path]), np.shape(leaf))
            for path, leaf in wanted.items()
            if path in tensors and np.shape(tensors[path]) != np.shape(leaf)
        },
    )


def restore(
    like: tuple[Any, Any],
    tensors: Mapping[str, Any],
    where: str,
    called: Mapping[str, str] | None = None,
) -> tuple[Any, Any]:
    """Fill ``(params, state)`` like `like` with the arrays in `tensors`; all of them, no others.

    Raises:
        WeightsError: they do not fit; a line for each that does not.
    """
    odd = mismatch(tensors, by_name(*like))
    if prefix := odd.wrong_prefix(called):
        raise WeightsError(f"{where}: {prefix}")
    if lines := odd.lines(called):
        raise WeightsError("\n".join(f"{where}: {line}" for line in lines))
    params, state = (
        map_named(lambda path, leaf: cast_like(tensors[path], leaf, f"{where}: {path}"), tree)
        for tree in like
    )
    return params, state


def cast_like(array: Any, leaf: Any, where: str) -> jax.Array:
    """Cast `array` to the dtype of `leaf`, from one floating point to another.

    Raises:
        WeightsError: one is floating point and the other is not.
    """
    both = [jnp.issubdtype(x.dtype, jnp.floating) for x in (array, leaf)]
    if array.dtype != leaf.dtype and not all(both):
        raise WeightsError(f"{where}: of dtype {array.dtype}, but the network has {leaf.dtype}")
    return jnp.asarray(np.asarray(array), leaf.dtype)
