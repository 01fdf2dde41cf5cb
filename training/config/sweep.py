"""The tables of a config for several runs of it, and for what is written down beside them."""

from typing import Annotated, Any, Literal

from pydantic import Field

from .table import PositiveInt, Table

SweptKeys = Annotated[dict[str, Any], Field(min_length=1)]


class GridSweep(Table):
    """Every combination of the values of some keys; see `training.experiments.sweep`."""

    method: Literal["grid"]
    keys: SweptKeys


class RandomSweep(Table):
    """Values of some keys drawn at random; see `training.experiments.sweep`."""

    method: Literal["random"]
    count: PositiveInt
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    keys: SweptKeys


class Logging(Table):
    """What is written down beside ``metrics.jsonl``."""

    tensorboard: bool = False  # see `training.loop.tensorboard`
    wandb: bool = False  # these: see `training.trackers`
    mlflow: bool = False
    trackio: bool = False
    project: Annotated[str, Field(min_length=1, max_length=100)] = "convax"
