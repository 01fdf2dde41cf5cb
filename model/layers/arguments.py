"""The arguments of layers: their types in a config, and the checks they share."""

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

Padding: TypeAlias = Literal["SAME", "VALID", "FULL"] | int | list[int] | list[list[int]]


def check_positive(function: str, **values: int | list[int]) -> None:
    """Raise unless sizes and strides are positive integers, one or several.

    Raises:
        ValueError: names the first that is not.
    """
    for name, value in values.items():
        several = [value] if isinstance(value, int) else value
        if not several or min(several) < 1 or max(several) >= 2**31:
            raise ValueError(
                f"{function}: bad {name}: got {value}, need a positive integer below 2**31, or a "
                "list of them"
            )


def check_choice(function: str, what: str, value: Any, choices: Iterable[Any]) -> None:
    """Raise unless `value` is one of `choices`.

    Raises:
        ValueError: names the choices.
    """
    choices = list(choices)
    if value not in choices:
        named = ", ".join(map(repr, choices))
        raise ValueError(f"{function}: unknown {what}: got {value!r}, need one of {named}")


def to_tuple(value: Any) -> Any:
    """Return lists as tuples: a config writes lists where Python writes tuples."""
    return tuple(map(to_tuple, value)) if isinstance(value, list) else value
