"""The tables ``[proposals]`` of a config: the regions that a detector is given beside an image."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from .table import PositiveFloat, PositiveInt, Table


class Searched(Table):
    """What selective search finds in an image; see `training.data.detection.proposals`."""

    method: Literal["selective_search", "quality"]
    most: PositiveInt = 1000
    side: Annotated[int, Field(gt=0, le=2**12)] = 300


class Sliding(Table):
    """Boxes at regular places, the same in each image; see `training.data.detection.proposals`."""

    method: Literal["sliding"]
    sides: Annotated[list[PositiveFloat], Field(min_length=1, examples=[[32.0, 64.0, 128.0]])]
    ratios: Annotated[list[PositiveFloat], Field(min_length=1)] = Field(
        default_factory=lambda: [0.5, 1.0, 2.0]
    )


class OfFile(Table):
    """Those that an ``.npz`` file has of each image; see `training.data.detection.proposals`."""

    method: Literal["file"]
    path: str
    most: PositiveInt = 1000


Proposals: TypeAlias = Annotated[Searched | Sliding | OfFile, Field(discriminator="method")]
