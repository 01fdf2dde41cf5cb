"""The tables ``[data]`` of a config, one for each source: what it is given, and what it labels."""

from typing import Annotated, Any, ClassVar, Literal, Optional, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ..common.colors import problem_with_colors
from ..common.pixel_range import PixelType, pixel_range
from ..tasks.spec import LabelKind
from .augment import Range
from .table import PositiveFloat, PositiveInt, Table

Fold = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,3}/[1-9][0-9]{0,3}$")]  # "2/5"
Share = Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, lt=1)]


def _gray_or_color(value: Any) -> Any:
    if isinstance(value, (bool, float)):  # True and 1.0 are equal to 1
        raise ValueError("should be 1 or 3")
    return value


def _distinct(names: list[str]) -> list[str]:
    for i, name in enumerate(map(str.strip, names)):
        if not name:
            raise ValueError(f"name {i} (from 0) is empty; write a name for each")
        if name in map(str.strip, names[:i]):
            raise ValueError(f"{name!r} is there twice; write distinct names")
    return names


Names = Annotated[list[str], AfterValidator(_distinct)]
GrayOrColor = Annotated[Literal[1, 3], BeforeValidator(_gray_or_color)]
Channels = Annotated[int, Field(gt=0, le=2**12, examples=[3])]
Ends = Annotated[list[float], Field(min_length=2, max_length=2)]
Side = Annotated[int, Field(gt=0, le=2**15)]  # pixels
Size = Annotated[list[Side], Field(min_length=2, max_length=2)]
Crowded = Literal["error", "largest"]
Unreadable = Literal["error", "skip"]


class Digits(Table):
    """The 1,797 handwritten digits, 8x8, that ship inside scikit-learn."""

    labels: ClassVar[tuple[LabelKind, ...]] = ("class",)
    source: Literal["digits"]
    validation: Share
    test: Share
    stratify: bool = True
    fold: Fold | None = None


class Idx(Table):
    """A folder of MNIST-style IDX files, plain or .gz."""

    labels: ClassVar[tuple[LabelKind, ...]] = ("class",)
    source: Literal["idx"]
    path: str
    validation: Share
    stratify: bool = True
    fold: Fold | None = None


class Cifar(Table):
    """The binary version of CIFAR-10 or CIFAR-100, as a folder or as it came."""

    labels: ClassVar[tuple[LabelKind, ...]] = ("class",)
    channels: ClassVar[int] = 3
    source: Literal["cifar"]
    path: str
    validation: Share
    stratify: bool = True
    fold: Fold | None = None


class _Pixels(Table):
    """What the sources have in common whose images may be of any dtype."""

    @model_validator(mode="after")
    def _range_of_dtype(self):
        pixel_range(*(getattr(self, key) for key in ("dtype", "value_range")))
        return self


class _ImageFiles(Table):
    """What the sources have in common whose images are files, in memory or streamed."""

    @model_validator(mode="after")
    def _streamed_in_whole(self):
        size, stream, workers = (getattr(self, k) for k in ("size", "stream", "num_workers"))
        if stream and size is None:
            raise ValueError("stream = true needs the size of all images, e.g. size = [224, 224]")
        if workers is not None and not stream:
            raise ValueError(
                "num_workers is for stream = true; write that, or leave num_workers out"
            )
        return self


class Folder(_ImageFiles, _Pixels):
    """Images in one folder a class, with or without train/ and test/ above; or an archive."""

    labels: ClassVar[tuple[LabelKind, ...]] = ("class", "classes")
    source: Literal["folder"]
    path: str
    channels: Channels
    validation: Share
    test: Share = 0
    stratify: bool = True
    fold: Fold | None = None
    size: Size | None = None
    stream: bool = False
    num_workers: PositiveInt | None = None
    unreadable: Unreadable = "error"
    dtype: PixelType = "uint8"
    value_range: Ends | None = None


class Csv(_ImageFiles, _Pixels):
    """Images that a CSV or Parquet file lists, with what is to be learned of each."""

    labels: ClassVar[tuple[LabelKind, ...]] = ("values", "classes", "class")
    source: Literal["csv"]
    path: str
    columns: Annotated[Names, Field(min_length=1, examples=[["age"]])]
    file_column: str = "file"
    split_column: str | None = None
    group_column: str | None = None
    channels: Channels
    validation: Share
    test: Share = 0
    stratify: bool = True
    fold: Fold | None = None
    size: Size | None = None
    stream: bool = False
    num_workers: PositiveInt | None = None
    unreadable: Unreadable = "error"
    dtype: PixelType = "uint8"
    value_range: Ends | None = None

    def unfit_for(self, labels: LabelKind) -> str | None:
        """Return what of it makes no sense for labels of a kind, and what to write instead."""
        if labels == "class" and len(self.columns) != 1:
            return 'columns: the class of an image is in one column: write columns = ["label"]'
        return None


class Npz(Table):
    """One .npz file: x_train, y_train, x_test, y_test; or images, labels."""

    labels: ClassVar[tuple[LabelKind, ...]] = ("class",)
    source: Literal["npz"]
    path: str
    validation: Share
    test: Share = 0
    stratify: bool = True
    fold: Fold | None = None
    value_range: Ends | None = None


Color = Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=3, max_length=3)]


class Masks(_Pixels):
    """Images in one folder, a mask of each in another; see `data.load_masks`, `load_instances`."""

    labels: ClassVar[tuple[LabelKind, ...]] = ("mask", "boxes", "instances")
    source: Literal["masks"]
    path: str
    images: Annotated[str, Field(min_length=1, examples=["images"])]
    masks: Annotated[str, Field(min_length=1, examples=["masks"])]
    mask_kind: Literal["classes", "instances"]
    classes: Annotated[Names, Field(min_length=1, max_length=255)]
    size: Size
    channels: Channels
    validation: Share
    test: Share
    stratify: bool = True
    fold: Fold | None = None
    objects: PositiveInt | None = None
    crowded: Crowded | None = None
    smallest: PositiveFloat | None = None
    unreadable: Unreadable = "error"
    colors: Annotated[list[Color], Field(min_length=1, max_length=255)] | None = None
    ignored_colors: list[Color] | None = None
    dtype: PixelType = "uint8"
    value_range: Ends | None = None

    @model_validator(mode="after")
    def _one_color_for_each_class(self) -> "Masks":
        if self.colors is None:
            if self.ignored_colors is not None:
                raise ValueError("ignored_colors needs colors, one for each class; write them too")
            return self
        if self.mask_kind != "classes":
            raise ValueError('colors tell classes and no objects apart; need mask_kind = "classes"')
        ignored = self.ignored_colors or []
        problem = problem_with_colors(self.colors, ignored, len(self.classes))
        if problem is not None:
            raise ValueError(f"colors {problem}")
        return self

    def unfit_for(self, labels: LabelKind) -> str | None:
        """Return what of it makes no sense for labels of a kind, and what to write instead."""
        if labels != "mask":
            if self.mask_kind != "instances":
                return 'mask_kind = "classes" tells no objects apart; need "instances"'
            if len(self.classes) != 1:
                return 'classes: the background is no object: write one, as ["pedestrian"]'
            if self.channels not in (1, 3) or self.dtype != "uint8":
                return 'boxes are found in photographs: need channels = 1 or 3, dtype = "uint8"'
            return None
        for key in ("objects", "crowded", "smallest"):
            if getattr(self, key) is not None:
                return f"{key}: of boxes alone; leave it out"
        if len(self.classes) < 2:
            return 'classes: need two or more, the background first, as ["background", "object"]'
        return None


class _BoxFiles(_ImageFiles):
    """What the sources have in common whose files say where objects are."""

    size: Size
    channels: GrayOrColor
    validation: Share
    test: Share = 0
    stratify: bool = True
    fold: Fold | None = None
    objects: PositiveInt | None = None
    crowded: Crowded = "error"
    clip: bool = False
    smallest: PositiveFloat = 1.0
    stream: bool = False
    num_workers: PositiveInt | None = None
    unreadable: Unreadable = "error"


class Coco(_BoxFiles):
    """Images and COCO's annotation files; see `data.load_coco`."""

    labels: ClassVar[tuple[LabelKind, ...]] = ("boxes", "instances")
    source: Literal["coco"]
    path: str
    annotations: Annotated[str, Field(min_length=1, examples=["instances_train.json"])]
    validation_annotations: Annotated[str, Field(min_length=1)] | None = None
    test_annotations: Annotated[str, Field(min_length=1)] | None = None


class Voc(_BoxFiles):
    """Pascal VOC's folders; see `data.load_voc`."""

    labels: ClassVar[tuple[LabelKind, ...]] = ("boxes",)
    source: Literal["voc"]
    path: str
    classes: Names = Field(default_factory=list)


class Yolo(_BoxFiles):
    """YOLO's text files; see `data.load_yolo`."""

    labels: ClassVar[tuple[LabelKind, ...]] = ("boxes", "instances")
    source: Literal["yolo"]
    path: str
    classes: Names = Field(default_factory=list)


class MadeScenes(Table):
    """Scenes made of the small images of IDX files or an .npz file; see `data.load_scenes`."""

    labels: ClassVar[tuple[LabelKind, ...]] = ("boxes", "instances")
    channels: ClassVar[int] = 1
    source: Literal["scenes"]
    path: str
    size: Size
    objects: PositiveInt
    train: PositiveInt
    validation: Annotated[int, Field(ge=0, lt=2**31)]
    test: Annotated[int, Field(ge=0, lt=2**31)]
    scale: Range = Field(default_factory=lambda: [0.5, 1.6])
    overlap: Annotated[float, Field(ge=0, le=1)] = 0.25
    noise: Annotated[int, Field(ge=0, le=255)] = 12
    scene_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


class Memory(Table):
    """Images and labels that were given in Python: ``convax.train(config, out, data=...)``."""

    labels: ClassVar[tuple[LabelKind, ...]] = ("class", "classes", "values", "mask")
    source: Literal["memory"]
    validation: Share
    test: Share = 0
    stratify: bool = True
    fold: Fold | None = None
    value_range: Ends | None = None


Source: TypeAlias = Annotated[
    Digits | Idx | Cifar | Folder | Csv | Npz | Masks | Coco | Voc | Yolo | MadeScenes | Memory,
    Field(discriminator="source"),
]
# What a source that is registered has beside the keywords of its function.
OWN: dict[str, Any] = {"validation": (Share, ...), "test": (Share, 0), "stratify": (bool, True)}
OWN["fold"] = (Optional[Fold], None)  # noqa: UP045 -- which pyright knows of an alias
# What a message calls labels.
KINDS: dict[LabelKind, str] = {
    **{"class": "classes", "mask": "masks", "classes": "classes", "values": "values"},
    **{"boxes": "boxes", "instances": "boxes and masks"},
}
