"""What every table of a config is made of: strictness, and the types of numbers and durations."""

from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ..common.duration import parse_duration


class Table(BaseModel):
    """A TOML table: no unknown keys, no silent conversions, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _numbers_fit(self):
        for name in type(self).model_fields:
            for number in _numbers(getattr(self, name)):
                if isinstance(number, int) and abs(number) >= 2**63:
                    raise ValueError(f"{name} should fit into 64 bits, as TOML integers do")
                if number and not LEAST <= abs(number) <= MOST:
                    raise ValueError(
                        f"{name} should be a number that float32 holds: 0, or from {LEAST:.1g} to "
                        f"{MOST:.1g} in size; got {number}"
                    )
        return self


LEAST, MOST = 1.2e-38, 3.4e38  # float32's smallest normal number and its largest


def _numbers(value: Any) -> Iterator[int | float]:
    """Yield the numbers in a value that is no table."""
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, (int, float)):
        yield value


def as_float32(raw: Any) -> Any:
    """Round the numbers of a config as it was read to those that training computes with.

    Example:
        >>> as_float32({"decay": 0.99999999, "size": [8, 8]})
        {'decay': 1.0, 'size': [8, 8]}
    """
    if isinstance(raw, dict):
        return {key: as_float32(value) for key, value in raw.items()}
    if isinstance(raw, list):
        return [as_float32(value) for value in raw]
    with np.errstate(over="ignore"):
        return float(np.float32(raw)) if isinstance(raw, float) else raw


PositiveInt = Annotated[int, Field(gt=0, lt=2**31)]
PositiveFloat = Annotated[float, Field(gt=0)]


def _duration(text: str) -> str:
    parse_duration(text)
    return text


Duration = Annotated[str, AfterValidator(_duration)]


def _length(text: str) -> str:
    if parse_duration(text)[1] == "%":
        raise ValueError('should be a length such as "4 epochs", "500 steps" or "50000 examples"')
    return text


Length = Annotated[str, AfterValidator(_length)]
