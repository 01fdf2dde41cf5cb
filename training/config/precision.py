"""The tables of a config for averages of the weights and for the precision of the arithmetic."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .table import PositiveFloat, Table


class Averages(Table):
    """Exponential moving averages of the weights; see `training.step.ema`."""

    decay: Annotated[float, Field(gt=0, lt=1, examples=[0.999])]
    warmup: bool = False


class Precision(Table):
    """In what the training step computes: see `training.step.mixed_precision`, `loss_scaling`."""

    compute: Literal["float32", "bfloat16", "float16"]
    loss_scale: PositiveFloat | None = None
    growth_interval: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    growth_factor: Annotated[float, Field(gt=1)] = 2.0

    @model_validator(mode="after")
    def _only_float16_is_scaled(self):
        stated = {"loss_scale", "growth_interval", "growth_factor"} & self.model_fields_set
        stated = {key for key in stated if getattr(self, key) is not None}
        if self.compute != "float16":
            if stated - {"growth_factor"} or (
                "growth_factor" in stated and self.growth_factor != 2.0
            ):
                raise ValueError(
                    f'{sorted(stated)[-1]} is for compute = "float16" only: {self.compute} has '
                    "the exponents of float32; leave it out"
                )
        elif self.loss_scale is None or self.growth_interval is None:
            raise ValueError(
                'compute = "float16" needs loss_scale, e.g. 65536.0, and growth_interval, e.g. '
                "2000 (0 for a scale that stays)"
            )
        return self
