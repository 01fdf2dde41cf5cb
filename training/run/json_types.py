"""What a run's JSON files hold, by key and type: people may edit them, and copy them from anywhere.

A file is checked as it is read, so that nobody who takes a value from it has to. Keys that stand
here may be missing unless they are `Required`; others may be there.
"""

from typing import Annotated, Any, Literal, Required, TypeAlias, TypedDict

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from ..common.text import plain_line

_OPEN = ConfigDict(strict=True, extra="allow")
_Count: TypeAlias = Annotated[int, Field(ge=0, lt=2**63)]
_Id: TypeAlias = Annotated[int, Field(gt=-(2**63), lt=2**63)]
_Side: TypeAlias = Annotated[int, Field(ge=1, lt=2**31)]
_Number: TypeAlias = Annotated[float, Field(ge=-1e308, le=1e308)]
_Digest: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# The folder of a member is within that of its study.
_Member: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w=.-]*$")]


def _numbers_but_split(test: dict[str, float | str]) -> dict[str, float | str]:
    for name, value in test.items():
        if isinstance(value, str) != (name == "split"):
            kind = "text" if name == "split" else "number"
            raise ValueError(f"{plain_line(name, 40)} should be a {kind}")
    return test


class _Provenance(TypedDict, total=False):
    __pydantic_config__ = _OPEN  # type: ignore[misc] -- pydantic's own way to say so
    config: dict[str, Any] | str
    data: str
    code: str
    versions: dict[str, str]
    device: str
    environment: dict[str, str]
    settings: dict[str, Any]


class _Result(TypedDict, total=False):
    __pydantic_config__ = _OPEN  # type: ignore[misc]
    step: _Count
    stopped_early: str | None
    test: Annotated[dict[str, float | str], AfterValidator(_numbers_but_split)]
    peak_bytes: dict[str, _Count]


class _Circumstances(TypedDict, total=False):
    __pydantic_config__ = _OPEN  # type: ignore[misc]
    status: Required[str]
    command: list[str]
    versions: dict[str, str]
    platform: str
    devices: list[str]
    git: str | None


class _RunInfo(_Circumstances, total=False):
    provenance: _Provenance
    result: _Result
    forced: list[dict[str, Any]]
    best_to_come: _Count | None
    diverged_at_step: _Count | None
    compile_seconds: _Number
    step_bytes: _Count | None
    init_from: dict[str, Any]
    extends: dict[str, Any]


class _StudyInfo(_Circumstances, total=False):
    form: Required[str]
    members: Required[dict[_Member, dict[str, Any]]]


class _Pixels(TypedDict):
    __pydantic_config__ = _OPEN  # type: ignore[misc]
    channels: _Side
    dtype: Literal["uint8", "uint16", "float32"]
    low: _Number
    high: _Number


class _Preprocessing(TypedDict, total=False):
    __pydantic_config__ = _OPEN  # type: ignore[misc]
    size: Required[Annotated[list[_Side], Field(min_length=2, max_length=2)]]
    fit: Required[Literal["pad", "resize", "letterbox"]]
    mean: Required[list[_Number]]
    std: Required[list[_Number]]
    target_mean: list[_Number]
    target_std: list[_Number]
    pixels: _Pixels


class _DatasetCard(TypedDict, total=False):
    __pydantic_config__ = _OPEN  # type: ignore[misc]
    classes: Required[list[str]]
    image_shape: Required[Annotated[list[_Side], Field(min_length=3, max_length=3)]]
    counts: Required[dict[str, _Count]]
    preprocessing: Required[_Preprocessing]
    fingerprint: Required[str]
    notes: list[str]
    objects: _Count
    category_ids: list[_Id]
    unreadable: list[Annotated[list[str], Field(min_length=2, max_length=2)]]


class _Memory(TypedDict, total=False):
    __pydantic_config__ = _OPEN  # type: ignore[misc]
    progress: dict[str, float | None]
    best: float | None
    best_step: _Count | None
    reason: str | None
    skipped: _Count
    window: dict[str, list[float]] | None
    finalized_from: _Count | None
    plateau: dict[str, float | None] | None
    metrics: dict[str, _Count | str]


class _Manifest(TypedDict, total=False):
    __pydantic_config__ = _OPEN  # type: ignore[misc]
    format: Required[int]
    step: Required[_Count]
    sha256: Required[dict[str, _Digest]]
    memory: Required[_Memory]
    provenance: _Provenance


RUN, STUDY, DATASET, MANIFEST = (
    TypeAdapter(kind) for kind in (_RunInfo, _StudyInfo, _DatasetCard, _Manifest)
)


def check_types(values: Any, kind: TypeAdapter[Any]) -> None:
    """Raise unless what a JSON file holds is of the types that it should be.

    Args:
        values: as parsed.
        kind: `RUN`, `STUDY`, `DATASET` or `MANIFEST`.

    Raises:
        ValueError: names the first key that is wrong.
    """
    try:
        kind.validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = plain_line(".".join(map(str, first["loc"])), 80)
        said = first["msg"].replace("Input should", "should").replace("dictionary", "object")
        raise ValueError(f"{key}: {said}" if key else said) from None
