"""The experiment as one TOML file: its schema, and errors a person can act on.

The tables of the parts that a config names (architectures, layers, optimizers, schedules) are
derived from the signatures of the functions themselves, so a keyword is written down once. What
a function gives no default must be stated; everything that is wrong is reported at once.
"""

import html
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import (
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ...model import build, takes_proposals
from ..common.text import is_utf8, plain_line
from ..tasks.registry import TASKS, listed, tasks_where
from ..tasks.spec import find_loss
from . import choices
from .augment import Augment
from .errors import ConfigError, OldConfigError, need_text, problems
from .files import read_source, shipped_configs
from .given import Given, given_digests
from .init_from import InitFrom
from .limits import check_text, check_values
from .loss import unfit_keyword
from .plugins import Plugins, none_registered, run_modules
from .precision import Averages, Precision
from .proposals import Proposals
from .sources import KINDS, Csv, Masks, Size, Source
from .sweep import GridSweep, Logging, RandomSweep
from .table import Duration, Length, PositiveFloat, PositiveInt, Table, as_float32


class Statistics(Table):
    """Mean and standard deviation of each channel, of images scaled to [0, 1]."""

    mean: Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=1)]
    std: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=1)]

    @model_validator(mode="after")
    def _one_each(self):
        if len(self.mean) != len(self.std):
            raise ValueError(
                f"mean has {len(self.mean)} numbers and std {len(self.std)}; write one of each for "
                "each channel"
            )
        return self


class Input(Table):
    """What the network sees: images brought to `size`, then normalized per channel.

    "standard" subtracts the training images' mean and divides by their deviation; "mean" subtracts
    the mean alone, of values in 0..255, for networks whose first weights are as small as AlexNet's.
    "imagenet" takes ImageNet's mean and deviation, which most published weights were trained with,
    and a table `mean`, `std` those that it has; nothing is then measured.
    "letterbox" keeps the aspect of images, those too that `data.size` resizes.
    """

    size: Size
    fit: Literal["pad", "resize", "letterbox"]
    normalize: Annotated[
        Annotated[Literal["standard", "mean", "imagenet"], Tag("name")]
        | Annotated[Statistics, Tag("mean")],
        Discriminator(lambda value: "name" if isinstance(value, str) else "mean"),
    ] = "standard"


ClassWeights = Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=2)]


class Training(Table):
    """How long, in what batches, and how often to look."""

    batch_size: PositiveInt
    epochs: Annotated[float, Field(gt=0, le=1e6)] | None = None
    steps: PositiveInt | None = None
    length: Length | None = None
    evaluate_every: Duration = "1 epoch"
    log_every: PositiveInt = 50
    skip_nonfinite: Annotated[int, Field(ge=0, lt=2**31)] = 0
    grad_accum_steps: PositiveInt = 1
    sampling: Literal["shuffled", "balanced"] = "shuffled"
    class_weights: Literal["balanced"] | ClassWeights | None = None

    @model_validator(mode="after")
    def _one_length(self):
        if self.epochs is None and self.steps is None and self.length is None:
            raise ValueError(
                "needs epochs, steps or length (of several, the shortest counts), e.g. epochs = 4"
            )
        return self

    @model_validator(mode="after")
    def _whole_parts(self):
        if self.batch_size % self.grad_accum_steps:
            raise ValueError(
                f"grad_accum_steps = {self.grad_accum_steps} should divide batch_size = "
                f"{self.batch_size}: it splits a batch into this many equal parts"
            )
        return self


class Checkpoints(Table):
    """Which checkpoints to keep beside the best; see `training.loop.checkpointing`."""

    keep_last: PositiveInt = 2
    keep_every: Duration | None = None


_METRICS = tuple(dict.fromkeys(name for spec in TASKS.values() for name in spec.metrics))
Metric = Literal[_METRICS]


class EarlyStopping(Table):
    """When to stop before the end; see `training.loop.early_stopping`."""

    metric: Metric = _METRICS[0]  # type: ignore[valid-type] -- of a task, its first
    target: float | None = None
    patience: PositiveInt | None = None
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    min_update: PositiveFloat | None = None

    @model_validator(mode="after")
    def _target_can_be_reached(self):
        share = self.metric in _METRICS and self.metric != "loss"
        if share and self.target is not None and not 0 <= self.target <= 1:
            raise ValueError(f"target {self.metric} should lie in [0, 1], e.g. target = 0.99")
        return self


class Plateau(Table):
    """How the learning rate falls where the watched metric stays; see `training.loop.plateau`."""

    factor: Annotated[float, Field(gt=0, lt=1, examples=[0.1])]
    # Not PositiveInt: of the type of a key with a default, pydantic 2.7 takes the default along.
    patience: Annotated[int, Field(gt=0, lt=2**31, examples=[10])]
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    cooldown: Annotated[int, Field(ge=0, lt=2**31)] = 0
    min_scale: Annotated[float, Field(ge=0, lt=1)] = 0.0


Devices = PositiveInt | Literal[-1, "all"]


class Mesh(Table):
    """How many devices share in what, see `training.distributed.sharding`; -1, "all": the rest."""

    data: Devices = 1
    fsdp: Devices = 1
    spatial: Devices = 1
    model: Devices = 1

    @model_validator(mode="after")
    def _one_takes_the_rest(self):
        rest = [axis for axis in type(self).model_fields if getattr(self, axis) in (-1, "all")]
        if len(rest) > 1:
            raise ValueError(
                f'{" and ".join(rest)} are "all": only one axis can take the remaining devices'
            )
        return self


class Config(Table):
    """One experiment."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    task: Literal[tuple(TASKS)] = next(iter(TASKS))  # type: ignore[valid-type]
    data: Source
    input: Input
    augment: Augment | None = None
    proposals: Proposals | None = None
    model: Any  # the tables of these, to the schedule, are derived: `choices`
    loss: Any
    optimizer: Any
    schedule: Any
    training: Training
    ema: Averages | None = None
    precision: Precision | None = None
    plateau: Plateau | None = None
    early_stopping: EarlyStopping = EarlyStopping()
    checkpoints: Checkpoints = Checkpoints()
    init_from: InitFrom | None = None
    logging: Logging = Logging()
    sweep: Annotated[GridSweep | RandomSweep, Field(discriminator="method")] | None = None
    mesh: Mesh | None = None
    plugins: Plugins | None = None
    # Those that are registered have a table of their own: `choices`.
    metrics: list[Any] | None = None
    callbacks: list[Any] | None = None

    @field_validator("metrics", "callbacks")
    @classmethod
    def _are_registered(cls, entries: list[Any] | None, about: ValidationInfo) -> Any:
        if entries is not None and none_registered(entries):
            raise ValueError(
                f"is for {about.field_name} that are registered, and none is; name their module in "
                "plugins.modules"
            )
        return entries

    @property
    def given_programs(self) -> dict[str, str]:
        """Return the digests of what was given in Python: see `training.config.given`."""
        return given_digests(self)

    def _repr_html_(self) -> str:
        """Return it as a notebook shows it: as TOML, with every default."""
        return f"<pre>{html.escape(to_toml(self))}</pre>"

    @model_validator(mode="before")
    @classmethod
    def _stop_by_the_first_figure(cls, raw: Any) -> Any:
        stop = raw.get("early_stopping", {}) if isinstance(raw, dict) else None
        task = raw.get("task") if isinstance(raw, dict) else None
        if not (isinstance(stop, dict) and isinstance(task, str) and task in TASKS):
            return raw
        return raw | {"early_stopping": {"metric": TASKS[task].metrics[0]} | stop}

    @model_validator(mode="after")
    def _parts_fit_the_task(self):
        spec, loss, metric = TASKS[self.task], self.loss.name, self.early_stopping.metric
        if spec.labels not in self.data.labels:
            fitting = listed(tasks_where(lambda other: other.labels in self.data.labels))
            raise ValueError(
                f"{self.data.source!r} is data with {KINDS[self.data.labels[0]]}: need task = "
                f'{fitting}; got "{self.task}"'
            )
        if isinstance(self.data, (Csv, Masks)) and (why := self.data.unfit_for(spec.labels)):
            raise ValueError(f'data.{why}; got task = "{self.task}"')
        boxes = spec.labels in ("boxes", "instances")
        if boxes:
            _check_canvas(self.data, self.input)
            if isinstance(self.model, Given):
                raise ValueError(
                    f'net: given for task = "{self.task}", whose detectors are named in [model]; '
                    "leave net= out, or register an architecture"
                )
        if isinstance(self.schedule, Given) != isinstance(self.optimizer, Given):
            raise ValueError(
                'schedule is "given" with the optimizer in Python, and not without; write its name'
            )
        if not isinstance(self.model, dict):  # else it is not checked yet: `choices`
            _check_proposals(self.proposals, self.model if boxes else None)
        entry = find_loss(spec, loss)
        if entry is None:
            raise ValueError(
                f'{loss!r} is no loss for task = "{self.task}"; need one of {_listed(spec.losses)}'
            )
        if key := unfit_keyword(self.loss, entry):
            raise ValueError(
                f'{loss!r} has no {key} in task = "{self.task}"; got {getattr(self.loss, key)}, '
                "leave it out"
            )
        if entry.compares and self.training.grad_accum_steps > 1:
            raise ValueError(
                f"{loss!r} compares the images of a whole batch: training.grad_accum_steps would "
                "compare those of its parts alone; leave it out, or write a smaller "
                "training.batch_size"
            )
        unfit = ("optax.contrib.madgrad", "optax.fromage")
        if self.plateau is not None and self.optimizer.name in unfit:
            raise ValueError(
                f"plateau scales updates, which are not in proportion to the learning rate of "
                f"{self.optimizer.name!r}; write another optimizer, or leave plateau out"
            )
        if self.training.class_weights is not None and not (spec.labels == "class" and spec.ranks):
            raise ValueError(
                "training.class_weights are for one class an image, each with a loss of its own, "
                f'got task = "{self.task}"; leave them out'
            )
        if self.training.sampling == "balanced":
            if spec.labels != "class":
                raise ValueError(
                    'training.sampling = "balanced" is for one class an image, got task = '
                    f'"{self.task}"; leave it out'
                )
            if self.training.class_weights == "balanced":
                raise ValueError(
                    'training.class_weights = "balanced" and sampling = "balanced" make up for the '
                    "same twice; leave one of them out"
                )
            if self.augment and self.augment.flip == "alternating":
                raise ValueError(
                    'augment.flip = "alternating" counts epochs, which training.sampling = '
                    '"balanced" has none of; write flip = true'
                )
        own = [entry.name for entry in self.metrics or ()]
        if len(set(own)) < len(own):
            raise ValueError("metrics has one name twice; leave one of them out")
        if metric not in spec.metrics and metric.partition(".")[0] not in own:
            raise ValueError(
                f"early_stopping.metric is {metric!r}, which is not a metric of "
                f'task = "{self.task}"; need'
                f" one of {_listed((*spec.metrics, *own))}"
            )
        if self.augment and (why := self.augment.unfit_for(spec.unfit)):
            raise ValueError(f'{why}; got task = "{self.task}"')
        if self.augment and self.augment.mosaic and spec.labels not in ("boxes", "instances"):
            raise ValueError(
                f'augment.mosaic is for boxes, got task = "{self.task}"; leave it out, or write '
                "augment.cutmix"
            )
        if self.augment and self.augment.mixes and entry.one_class:
            raise ValueError(
                f"{loss!r} takes one class for each image, and augment.{self.augment.mixes[0]} "
                "makes images of two; leave it out, or write another loss"
            )
        return self


def _check_canvas(data: Any, network: Input) -> None:
    """Raise unless boxes are in pixels of what the network sees: images are resized once."""
    if network.fit == "pad":
        raise ValueError(
            'input.fit = "pad" has no effect on boxes: images are brought to data.size; write '
            '"letterbox", or "resize" to stretch them'
        )
    if data.size != network.size:
        raise ValueError(
            f"input.size = {network.size} and data.size = {data.size}: boxes are in pixels of "
            "both; write one size twice"
        )


def _check_proposals(proposals: Any, model: Any) -> None:
    """Raise unless regions are proposed beforehand for a detector that proposes none, and no other.

    Args:
        proposals: the table, or None.
        model: the table of a detector; None for any other network.
    """
    table = {} if model is None else model.model_dump(exclude_none=True)
    taken = bool(table) and takes_proposals(build(table, 2))
    if taken and proposals is None:
        raise ValueError(
            f"{table.get('name', 'the network')!r} proposes no regions itself; write a table "
            '[proposals] with method = "selective_search", say'
        )
    if proposals is not None and not taken:
        raise ValueError(
            "proposals is for detectors that propose no regions themselves, as fast_rcnn, and not "
            "for this model; leave it out"
        )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def load_config(source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read and validate a config.

    Args:
        source: a file, or the name of a shipped config.
        overrides: ``a.b=value`` each, the value as TOML writes it; a bare word is a string, and so
            is a number or a date where the key takes nothing but text.

    Raises:
        ConfigError: names the file, and every key that is wrong with its remedy.
        PluginError: a module that it names cannot be run.
    """
    where, raw = read_tables(source)
    texts = dict(_override(raw, override) for override in overrides)
    folder = None if str(source) in shipped_configs() else Path(source).parent
    return checked(raw, where, texts, folder=folder)


def read_tables(source: str | Path) -> tuple[str, dict[str, Any]]:
    """Read the tables of a config: what names it in errors, and these, not validated.

    Raises:
        ConfigError: there is none, or it is not TOML.
    """
    where, text = read_source(source)
    try:
        return where, tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"{where}: not valid TOML: brackets are nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, and that of an integer of thousands of digits
        raise ConfigError(f"{where}: not valid TOML: {plain_line(str(error))}") from None


def checked(
    raw: dict[str, Any],
    where: str,
    texts: Mapping[str, str] | None = None,
    *,
    folder: Path | None = None,
) -> Config:
    """Validate a config as `validate`, which a run can keep with every default, and read again."""
    check_values(raw, where)
    config = validate(raw, where, texts, folder=folder)
    check_values(config.model_dump(exclude_none=True), f"{where}, with every default")
    check_text(to_toml(config).encode(), f"{where}, with every default")
    return config


def load_mesh(overrides: Sequence[str]) -> Mesh:
    """Make the ``[mesh]`` of overrides such as ``mesh.data=4`` alone.

    Raises:
        ConfigError: as `load_config`.
    """
    return load_config("lenet5-digits", overrides).mesh or Mesh()


_MOST_LINES = 20


def validate(
    raw: dict[str, Any],
    where: str,
    texts: Mapping[str, str] | None = None,
    *,
    folder: Path | None = None,
) -> Config:
    """Validate a config as it was read; `where` names it in errors.

    The modules of ``[plugins]`` are run before, so that what they register can be named.

    Args:
        raw: the tables.
        where: names the config in errors.
        texts: of keys whose values come from the command line, where ``2024`` may be the name of a
            folder: what was written, to be taken where the key takes nothing but text.
        folder: of the file that it was read from, for the modules beside it.
    """
    run_modules(raw, where, folder)
    schema = choices.narrow(Config, raw)
    try:
        config = schema.model_validate(raw)
    except ValidationError as error:
        if keys := need_text(error, schema) & (texts or {}).keys():
            for key in keys:
                put(raw, key.split("."), (texts or {})[key], where)
            return validate(raw, where, folder=folder)
    else:
        _check_as_float32(raw, schema, where)
        if config.plugins is not None:
            config.plugins.remember()
        return config
    schema = choices.complete(Config, raw)  # says what else could have been written
    try:
        return schema.model_validate(raw)
    except ValidationError as error:
        lines, old = problems(error, raw, schema)
        if len(lines) > _MOST_LINES:
            lines = [*lines[: _MOST_LINES - 1], f"{len(lines) - _MOST_LINES + 1} more are wrong"]
        kind = OldConfigError if old else ConfigError
        raise kind("\n".join(f"{where}: {plain_line(line)}" for line in lines)) from None


def _check_as_float32(raw: dict[str, Any], schema: type[Config], where: str) -> None:
    """Raise where a number that is right as it is written is wrong as training computes with it."""
    rounded = as_float32(raw)
    if rounded == raw:
        return
    try:
        schema.model_validate(rounded)
    except ValidationError as error:
        lines = (line.partition(": ") for line in problems(error, rounded, schema).lines)
        raise ConfigError(
            "\n".join(
                plain_line(f"{where}: {key}: in float32, in which training computes: {complaint}")
                for key, _, complaint in lines
            )
        ) from None


def to_toml(config: Config) -> str:
    """Write out a config with every default, as TOML that `load_config` reads."""
    return tomli_w.dumps(config.model_dump(exclude_none=True))


def json_schema(source: str | Path | None = None) -> dict[str, Any]:
    """Derive the JSON Schema of configs, for editors.

    Args:
        source: a config file, which need not be right yet: what the modules of its ``[plugins]``
            register, whose code is run, is then known too.

    Raises:
        ConfigError: there is no such file, or it is no TOML.
        PluginError: a module cannot be run.
    """
    raw = None
    if source is not None:
        where, raw = read_tables(source)
        run_modules(raw, where, None if source in shipped_configs() else Path(source).parent)
    return choices.complete(Config, raw).model_json_schema()


def _override(raw: dict[str, Any], override: str) -> tuple[str, str]:
    """Put one ``a.b=value`` into `raw`; return the key and the text of the value."""
    path, equals, text = override.replace("\n", " ").partition("=")
    keys = [key.strip() for key in path.split(".")]
    where = f"--set {plain_line(override, 200)}"
    if not equals or not all(keys):
        raise ConfigError(f"{where}: write --set key=value, e.g. --set training.epochs=2")
    if not is_utf8(override):
        raise ConfigError(f"{where}: not UTF-8, which a config cannot hold; rename what it names")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text.strip()
    put(raw, keys, value, where)
    return ".".join(keys), text.strip()


def put(raw: dict[str, Any], keys: Sequence[str], value: Any, where: str) -> None:
    """Put a value into a config as it was read, at the end of a path of keys and indices.

    Raises:
        ConfigError: the path leads through something that is no table; `where` names it.
    """
    table: Any = raw
    for depth, key in enumerate(keys):
        index: Any = key
        if isinstance(table, list):
            if not (key.isdecimal() and len(key) < 10 and int(key) < len(table)):
                shown = plain_line(key, 80)
                raise ConfigError(f"{where}: {shown!r} is not an index below {len(table)}")
            index = int(key)
        elif not isinstance(table, dict):
            raise ConfigError(f"{where}: {keys[depth - 1]!r} is a value, not a table")
        if depth == len(keys) - 1:
            table[index] = value
        else:
            table = table.setdefault(index, {}) if isinstance(table, dict) else table[index]
