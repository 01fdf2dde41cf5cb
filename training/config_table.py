"""What every table of a config is made of: strictness, and the types of numbers and durations."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from .duration import parse_duration


class Table(BaseModel):
    """A TOML table: no unknown keys, no silent conversions, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


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
