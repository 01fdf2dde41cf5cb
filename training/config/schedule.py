"""The tables of a config for schedules of the learning rate: one each, and several joined."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ..optim.schedules.join import parts_of
from ..optim.schedules.schedules import SCHEDULES
from .from_signature import choice, table
from .table import Duration, PositiveFloat, Table


def _schedules(**more: Any) -> list[type[Table]]:
    """The tables of all schedules; those without a warm-up of their own have one in front."""
    rise = {"warmup": (Annotated[float, Field(ge=0, lt=1)] | Duration, 0.0)}
    return [
        table("name", n, f, explicit=True, **({} if "warmup" in parts_of(f) else rise), **more)
        for n, f in SCHEDULES.items()
    ]


_Place = Annotated[float, Field(gt=0, lt=1)] | Duration | None
_PARTS = choice("name", _schedules(until=(_Place, None), scale=(PositiveFloat, 1.0)))


class Sequence(Table):
    """Schedules one after the other; see `training.optim.schedules.join`."""

    name: Literal["sequence"]
    parts: Annotated[list[_PARTS], Field(min_length=2)]  # type: ignore[valid-type]

    @model_validator(mode="after")
    def _ends_are_stated(self):
        stated = [part.until is not None for part in self.parts]  # type: ignore[attr-defined]
        if stated != [True] * (len(stated) - 1) + [False]:
            raise ValueError(
                'parts need until, e.g. until = "10%", each but the last, which ends with the run'
            )
        return self


SCHEDULE_TABLES = [*_schedules(), Sequence]
