"""The table ``[augment]`` of a config: which random changes training images go through."""

import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from .plugins import none_registered
from .table import PositiveFloat, PositiveInt, Table

Operation = Literal[
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "color",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "auto_contrast",
    "equalize",
]
OPERATIONS: tuple[Operation, ...] = typing.get_args(Operation)
MOVES = frozenset({"shear_x", "shear_y", "translate_x", "translate_y", "rotate"})
GREATEST_MAGNITUDE = 30  # of an operation: 1.0 of what it can do


def _ends(ends: list[float]) -> list[float]:
    if not 0 < ends[0] <= ends[1]:
        raise ValueError("should be the two ends of a range above 0, the lower one first")
    return ends


def _share(ends: list[float]) -> list[float]:
    if ends[1] > 1:
        raise ValueError("should be fractions of the image's area, at most 1.0")
    return ends


Pair = Annotated[list[float], Field(min_length=2, max_length=2)]
Range = Annotated[Pair, AfterValidator(_ends)]
Angle = Annotated[float, Field(ge=0, lt=90)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Mosaic(Table):
    """Four images in one, around a point; see `training.data.augment.mosaic`."""

    probability: Annotated[float, Field(gt=0, le=1, examples=[0.5])]


class Crop(Table):
    """A part of the image, enlarged to the whole; see `training.data.augment.crop`."""

    scale: Annotated[Range, AfterValidator(_share), Field(examples=[[0.5, 1.0]])]
    ratio: Annotated[Range, Field(examples=[[0.75, 1.3333]])]


class Affine(Table):
    """Turned, moved, scaled and sheared; see `training.data.augment.affine`."""

    degrees: Annotated[float, Field(ge=0, le=180, examples=[15.0])]
    translate: Annotated[list[Fraction], Field(min_length=2, max_length=2, examples=[[0.1, 0.1]])]
    scale: Annotated[Range, Field(examples=[[0.9, 1.1]])]
    shear: Annotated[list[Angle], Field(min_length=2, max_length=2, examples=[[10.0, 10.0]])]


class Zoom(Table):
    """The image larger or smaller, anywhere on its canvas; see `training.data.augment.zoom`."""

    scale: Annotated[Range, Field(examples=[[0.6, 1.6]])]


class Color(Table):
    """Other brightness, contrast, saturation and hue; see `training.data.augment.color`."""

    brightness: Annotated[float, Field(ge=0, examples=[0.4])]
    contrast: Annotated[float, Field(ge=0, examples=[0.4])]
    saturation: Annotated[float, Field(ge=0, examples=[0.4])]
    hue: Annotated[float, Field(ge=0, le=0.5, examples=[0.1])]


class Policy(Table):
    """Operations drawn from a list, RandAugment's; see `training.data.augment.randaugment`."""

    num_ops: Annotated[PositiveInt, Field(examples=[2])]
    magnitude: Annotated[
        Annotated[int, Field(ge=0, le=GREATEST_MAGNITUDE)] | Literal["random"], Field(examples=[9])
    ]
    operations: Annotated[list[Operation], Field(min_length=1)] = Field(
        default_factory=lambda: list(OPERATIONS)
    )


class Cutout(Table):
    """A square without content; see `training.data.augment.cutout`."""

    size: Annotated[PositiveInt, Field(examples=[8])]


class Mixup(Table):
    """Weighted means of two images; see `training.data.augment.mixup`."""

    alpha: Annotated[PositiveFloat, Field(examples=[0.2])]


class Cutmix(Table):
    """A box out of another image; see `training.data.augment.mixup`."""

    alpha: Annotated[PositiveFloat, Field(examples=[1.0])]
    probability: Annotated[float, Field(gt=0, le=1, examples=[0.5])]


class Augment(Table):
    """Random changes of training images, in this order; see `training.data.augment`."""

    mosaic: Mosaic | None = None
    flip: bool | Literal["alternating"] = False
    translate: Annotated[int, Field(ge=0, lt=2**15)] = 0  # pixels
    padding_mode: Literal["zero", "reflect"] = "zero"
    crop: Crop | None = None
    zoom: Zoom | None = None
    affine: Affine | None = None
    policy: Policy | None = None
    color: Color | None = None
    cutout: Cutout | None = None
    mixup: Mixup | None = None
    cutmix: Cutmix | None = None
    # Those that are registered have a table of their own: `choices`.
    custom: list[Any] = Field(default_factory=list)

    @field_validator("custom")
    @classmethod
    def _is_registered(cls, custom: list[Any]) -> list[Any]:
        if none_registered(custom):
            raise ValueError(
                "is for augmentations that are registered, and none is; name their module in "
                "plugins.modules"
            )
        return custom

    @model_validator(mode="after")
    def _of_something(self):
        if not self.model_fields_set:
            raise ValueError(
                "has no effect; write flip = true, translate = 4 or another, or leave it out"
            )
        if self.padding_mode != "zero" and not self.translate:
            raise ValueError(
                "padding_mode has no effect without translate: write translate = 4, or leave it out"
            )
        return self

    @property
    def mixes(self) -> tuple[str, ...]:
        """Return the names of what makes images of two classes."""
        return tuple(name for name in ("mixup", "cutmix") if getattr(self, name))

    def _has(self, name: str) -> bool:
        """Return whether it has an entry; of "padding_mode" reflection, of operations a move."""
        if name == "padding_mode":
            return self.padding_mode == "reflect"
        if name == "policy.operations":
            return self.policy is not None and bool(MOVES & set(self.policy.operations))
        return bool(getattr(self, name))

    def unfit_for(self, unfit: Mapping[str, str]) -> str | None:
        """Return what of it makes no sense for a task, and why; see `TaskSpec.unfit`."""
        for name, why in unfit.items():
            if self._has(name):
                return f"augment.{name} {why}"
        return None
