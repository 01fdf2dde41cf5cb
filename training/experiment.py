"""A config made ready to run: data, network, optimizer, schedule."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import Array

from ..model import Layer, Summary, build, init_shapes, summarize
from . import data
from .common.duration import RunLength, duration_in_steps
from .common.text import is_utf8, plain_line
from .common.train_state import TrainState
from .config.given import NOTHING, Given, Objects, attach, object_or
from .config.schema import Config, ConfigError
from .config.sources import Coco, Csv, Folder, MadeScenes, Masks, Voc, Yolo
from .config.table import LEAST, MOST
from .config_data import class_weights_of, load_data
from .data.augment import Augmentation, make_augmentation
from .data.preprocess import measure, preprocess
from .optim.clip import clip_by_global_norm
from .optim.from_optax import optimizers_for
from .optim.schedules.common import values_of
from .optim.schedules.join import schedule_of
from .optim.schedules.schedules import SCHEDULES
from .param_groups import check_groups, frozen_by, grouped
from .run.directory import DatasetCard, Run, RunError, open_run
from .run.given_programs import check_programs, remember_programs
from .run.load_model import LoadedModel, build_network
from .step.class_weights import weighted
from .step.ema import EmaSpec
from .step.freeze import Frozen
from .step.loss_params import init_loss, split_loss
from .step.loss_scaling import LossScaling
from .step.train_step import GradientTransformation, StepSpec, init_train_state
from .tasks.registry import make_task, spec_of
from .tasks.task import Task


class Experiment(NamedTuple):
    """All that a config stands for, ready to run."""

    config: Config
    task: Task
    dataset: data.Dataset
    card: DatasetCard
    net: Layer
    optimizer: GradientTransformation
    schedule: Any  # None of an optimizer that was given in Python, which has its own
    total_steps: int
    init: Callable[[], TrainState]  # the state before the first step
    template: TrainState  # its shapes and dtypes
    frozen: Frozen | None  # the paths that training leaves alone
    augment: Augmentation | None  # what training images go through
    class_weights: Any = None  # (K,), by how much those of each class count in the loss

    def learning_rate(self, step: int) -> float | None:
        """Return the learning rate after so many steps, as scheduled; None where nobody says."""
        return None if self.schedule is None else float(self.schedule(step))

    def loaded(self, params: Any, state: Any) -> LoadedModel:
        """Return the network with what it has learned, as `load_model` does of a run's files."""
        in_shape = (1, *self.card.preprocessing.size, self.card.image_shape[-1])
        of_net, _ = split_loss(self.task.loss, params)
        return LoadedModel(self.config, self.card, self.net, in_shape, of_net, state)


def prepare(config: Config, dataset: data.Dataset | None = None) -> Experiment:
    """Make everything before the first step; arrays and functions only, nothing is written.

    Args:
        config: the experiment.
        dataset: its data, where that is at hand; it is loaded otherwise.
    """
    if config.plugins is not None:
        config.plugins.check()
    dataset = load_data(config) if dataset is None else dataset
    _check_data(config, dataset)
    card, class_weights = dataset_card(config, dataset), class_weights_of(config, dataset)
    augment = augmentation_of(config, card)
    total_steps = count_steps(config, card.counts["train"])
    schedule = make_schedule(config, run_length(config, card.counts["train"], total_steps))
    check_learning_rates(config, schedule, total_steps)
    optimizer = make_optimizer(config, schedule)
    net, task = build_network(config, card), make_task(config, len(card.classes))

    def init() -> TrainState:
        params, state, run_key = init_network(task, net, card, split_seed(config.seed))
        return make_train_state(config, optimizer, params, state, run_key)

    template = jax.eval_shape(init)
    start = jax.jit(init, compiler_options=COMPILE_QUICKLY)
    check_groups(config.optimizer.groups, template.params)
    remember_programs(config, card, net, task, template.params, dataset.train.labels)
    return Experiment(
        config=config,
        task=task,
        dataset=dataset,
        card=card,
        net=net,
        optimizer=optimizer,
        schedule=schedule,
        total_steps=total_steps,
        init=start,
        template=template,
        frozen=frozen_by(config.optimizer.groups),
        augment=augment,
        class_weights=class_weights,
    )


# What runs once need not run fast: LeNet-5's first parameters are there after 0.4 s, not 2.2 s.
COMPILE_QUICKLY = {"xla_backend_optimization_level": "0"}


def reopen(
    path: str | Path,
    data_path: Path | None = None,
    dataset: data.Dataset | None = None,
    objects: Objects = NOTHING,
) -> tuple[Run, Experiment]:
    """Open an existing run and make its experiment ready again.

    Args:
        path: the run directory.
        data_path: where its data lie by now, if they were moved.
        dataset: these, where they are at hand; they are loaded otherwise.
        objects: what was given in Python, of that what is needed; without the others nothing that
            asks for them works.

    Raises:
        RunError: not a run directory, or its data, or what was given, is no longer the same.
    """
    run = open_run(path)
    config = attach(run.config(), objects, needed=("net",), call="convax.evaluate(RUN")
    where = getattr(config.data, "path", None)
    if data_path is None and where is not None and not Path(where).exists():
        raise RunError(
            f"{path}: its data are no longer at {plain_line(where, 200)}; say by --data PATH where "
            "they lie by now, or restore them"
        )
    config = config if data_path is None else with_data_path(config, data_path)
    experiment = prepare(config, dataset)
    known = run.dataset().fingerprint
    if experiment.card.fingerprint != known:
        if is_unstratified(experiment.config, known):
            raise RunError(f"{path}: {UNSTRATIFIED}")
        what = "data" if config.proposals is None else "data, or what is proposed of it,"
        why = "".join(f"; {line}" for line in left_out_otherwise(run.dataset(), experiment.card))
        if data_path is not None:
            raise RunError(
                f"--data: {data_path}: not the data of {path}: its fingerprint differs; name the "
                f"folder that they were moved to{why}"
            )
        raise RunError(f"{path}: the {what} has changed since this run began; restore it{why}")
    check_programs(run, config)
    return run, experiment


def with_data_path(config: Config, path: Path) -> Config:
    """Return the config of a run whose data lie elsewhere by now.

    Raises:
        ConfigError: data of its source have no path.
        DataError: there is nothing at that path.
    """
    if not hasattr(config.data, "path"):
        raise ConfigError(f"--data: {config.data.source!r} is data without a path; leave it out")
    packed = config.data.source in data.PACKED
    found = data.locate(str(path), config_dir=None, packed=packed, key="--data")
    moved = config.data.model_copy(update={"path": str(found)})
    return resolve_data_path(config.model_copy(update={"data": moved}), None)


def left_out_otherwise(then: DatasetCard, now: DatasetCard) -> list[str]:
    """List which image files are left out now and were not, and the other way round: two lines."""
    before, after = ({left.file for left in card.unreadable} for card in (then, now))
    changes = (
        ("left out as unreadable", after - before),
        ("read and not left out", before - after),
    )
    return [
        f"{len(files)} image(s) now {what}: {plain_line(', '.join(sorted(files)), 300)}"
        for what, files in changes
        if files
    ]


# What a run of a convax that did not stratify needs.
UNSTRATIFIED = (
    "its data was split without regard to classes; write stratify = false under [data] in its "
    "config.toml"
)


def is_unstratified(config: Config, fingerprint: str) -> bool:
    """Return whether a fingerprint is that of a config's data, split without regard to classes.

    The data is read once more: this is for telling why a fingerprint is not that of the config.
    """
    if not getattr(config.data, "stratify", False) or config.data.source == "memory":
        return False
    plain = config.data.model_copy(update={"stratify": False})
    dataset = load_data(config.model_copy(update={"data": plain}))
    return data.fingerprint(dataset) == fingerprint


def _check_data(config: Config, dataset: data.Dataset) -> None:
    """Raise where config and data do not fit, which neither can see alone."""
    if len(dataset.classes) < spec_of(config.task).least_classes:
        raise data.DataError(
            f"data: all images are of one class, {', '.join(dataset.classes)!r}: nothing to tell "
            "apart; data.path should name the folder above the folders of the classes"
        )
    occurring = data.examples_of_each(dataset.train.labels, len(dataset.classes))
    if occurring is not None and (occurring > 0).sum() < spec_of(config.task).least_classes:
        held = dataset.validation.count + dataset.test.count
        remedy = "ask for fewer images in data.validation and data.test" if held else "add some"
        raise data.DataError(
            f"data: no training example has a label other than "
            f"{data.named(dataset.classes, np.flatnonzero(occurring)) or 'none'}, of "
            f"{len(dataset.classes)} classes: nothing to tell apart; {remedy} of the others"
        )
    for key, value in config.loss:
        if isinstance(value, list) and len(value) != len(dataset.classes):
            raise ConfigError(
                f"loss.{key}: got {len(value)} numbers, need {len(dataset.classes)}, one for each "
                f"class: {data.named(dataset.classes, range(len(dataset.classes)))}"
            )
    stops = [k for k in ("target", "patience") if getattr(config.early_stopping, k) is not None]
    watching = [f"early_stopping.{key}" for key in stops] + ["plateau"] * bool(config.plateau)
    if watching and not dataset.validation.count:
        raise ConfigError(f"{watching[0]}: needs validation images; set data.validation")


def dataset_card(config: Config, dataset: data.Dataset) -> DatasetCard:
    """Make the card of a dataset: what a trained network has to know of its data."""
    return DatasetCard(
        classes=dataset.classes,
        image_shape=dataset.train.images.shape[1:],
        counts={name: getattr(dataset, name).count for name in data.SPLITS},
        preprocessing=measure(
            dataset.train,
            config.input,
            targets=spec_of(config.task).standardizes,
            pixels=_pixels_of(config, dataset),
        ),
        fingerprint=data.fingerprint(dataset),
        notes=(*dataset.notes, *_untrained_classes(dataset), *_resized_twice(config)),
        objects=data.most_objects(dataset.train.labels),
        category_ids=next((note.category_ids for note in dataset.train.notes), ()),
        unreadable=dataset.unreadable,
    )


def _pixels_of(config: Config, dataset: data.Dataset) -> data.PixelFormat:
    """Return the format of images that were read."""
    images: Any = dataset.train.images
    stated = getattr(config.data, "value_range", None)
    return data.pixel_format(images.shape[-1], images.dtype.name, stated)


def _untrained_classes(dataset: data.Dataset) -> Iterator[str]:
    """Yield a line that names the classes without a training example, if there are any."""
    counts = {
        name: data.examples_of_each(getattr(dataset, name).labels, len(dataset.classes))
        for name in data.SPLITS
    }
    if counts["train"] is None or counts["train"].all():
        return
    absent = np.flatnonzero(counts["train"] == 0)
    elsewhere = [k for k in absent if any(c is not None and c[k] for c in counts.values())]
    names = data.named(dataset.classes, absent)
    why = "add some, or leave it out"
    if absent.tolist() == [0] and getattr(dataset.train.labels, "ndim", 2) != 2:
        why = "labels that are counted from 1 should be counted from 0"
    if elsewhere:
        why = "the other splits have them; ask for fewer images in data.validation and data.test"
    yield (
        f"{len(absent)} of {len(dataset.classes)} classes have no training example, and cannot be "
        f"learned: {names}; {why}"
    )


def _resized_twice(config: Config) -> Iterator[str]:
    """Yield a line if images are made smaller than the network's input, and then enlarged to it."""
    stored, size = getattr(config.data, "size", None), config.input.size
    if stored and config.input.fit != "pad" and (stored[0] < size[0] or stored[1] < size[1]):
        yield (
            f"data.size = {stored} is smaller than input.size = {size}: images are resized to the "
            "one and enlarged to the other, and lose detail if their files are larger; write "
            f"data.size = {size}"
        )


def augmentation_of(config: Config, card: DatasetCard) -> Augmentation | None:
    """Make the augmentation of a config; None where it has none."""
    return make_augmentation(
        config.augment,
        card.preprocessing,
        classes=len(card.classes),
        examples=card.counts["train"],
        masked_objects=card.objects if spec_of(config.task).labels == "instances" else 0,
    )


def init_network(
    task: Task, net: Layer, card: DatasetCard, keys: tuple[Array, Array]
) -> tuple[Any, Any, Array]:
    """Initialize a network: its parameters, its state, and the key for everything after.

    The parameters of the loss are among them, where it has any. The keys are those of `split_seed`.
    """
    init_key, run_key = keys
    in_shape = (1, *card.preprocessing.size, card.image_shape[-1])
    params, state = task.init(net, init_key, in_shape, len(card.classes))
    params = init_loss(task.loss, params, init_key, init_shapes(net, in_shape)[0])
    return params, state, run_key


def split_seed(seed: int) -> tuple[Array, Array]:
    """Return the key of the first parameters, and that of everything after: `TrainState.key`."""
    init_key, run_key = jax.random.split(jax.random.key(seed))
    return init_key, run_key


def make_train_state(
    config: Config, optimizer: GradientTransformation, params: Any, state: Any, key: Array
) -> TrainState:
    """Make the state before the first step, with all that the config has training remember."""
    return init_train_state(
        params,
        state,
        optimizer,
        key,
        ema=config.ema is not None,
        loss_scaling=loss_scaling_of(config),
        rate_scale=config.plateau is not None,
    )


def make_step_spec(experiment: Experiment) -> StepSpec:
    """Make the specification of the training step of an experiment."""
    config, task, spec = experiment.config, experiment.task, experiment.card.preprocessing
    loss, weights = task.loss, experiment.class_weights
    if weights is not None:
        if isinstance(loss, Layer):
            raise ConfigError(
                f"training.class_weights: loss {config.loss.name!r} has parameters of its own, and "
                "takes no weights; leave them out"
            )
        loss = weighted(loss, weights)
    return StepSpec(
        net=experiment.net,
        loss=loss,
        optimizer=experiment.optimizer,
        preprocess=partial(preprocess, spec=spec),
        measures=task.batch_metrics,
        targets=partial(task.targets, spec=spec),
        inputs=task.inputs,
        augment=experiment.augment,
        frozen=experiment.frozen,
        accumulate=config.training.grad_accum_steps,
        ema=None if config.ema is None else EmaSpec(config.ema.decay, config.ema.warmup),
        compute="float32" if config.precision is None else config.precision.compute,
        loss_scaling=loss_scaling_of(config),
    )


def loss_scaling_of(config: Config) -> LossScaling | None:
    """Return the loss scaling that a config asks for, or None."""
    spec = config.precision
    if spec is None or spec.loss_scale is None or spec.growth_interval is None:
        return None
    return LossScaling(spec.loss_scale, spec.growth_interval, spec.growth_factor)


def make_schedule(config: Config, length: RunLength) -> Any:
    """Make the learning rate as a function of the step.

    Raises:
        ConfigError: a duration in it does not fit into the run.
    """
    if isinstance(config.schedule, Given):
        return None
    table = config.schedule.model_dump(exclude_none=True)
    try:
        schedule = schedule_of(SCHEDULES, table, config.optimizer.learning_rate, length)
    except ValueError as error:
        raise ConfigError(f"schedule: {error}, in a run of {length.total} steps") from None
    return schedule


def check_learning_rates(config: Config, schedule: Any, total: int) -> None:
    """Raise unless float32 holds the learning rate of every step, for each group of parameters.

    Raises:
        ConfigError: names the schedule, or the first group, and the step.
    """
    if schedule is None:
        return
    counts, rates = values_of(schedule, total)
    factors = [("schedule", 1.0, "write factors nearer to 1")]
    for i, group in enumerate(config.optimizer.groups):
        if group.learning_rate_scale is not None:
            key = f"optimizer.groups.{i}.learning_rate_scale"
            factors.append((key, group.learning_rate_scale, "write a factor nearer to 1"))
    for key, factor, remedy in factors:
        values = factor * rates
        unfit = np.flatnonzero(~((values == 0) | ((values >= LEAST) & (values <= MOST))))
        if len(unfit):
            raise ConfigError(
                f"{key}: the learning rate of step {counts[unfit[0]] + 1} of {total} is "
                f"{values[unfit[0]]:.3g}, need a number that float32 holds: 0, or from "
                f"{LEAST:.1g} to {MOST:.1g}; {remedy}"
            )


def make_optimizer(config: Config, schedule: Any) -> GradientTransformation:
    """Make the optimizer of a config, behind gradient clipping if asked for: values first."""
    spec = config.optimizer
    if isinstance(spec, Given):
        return spec.object if spec.is_there else _absent(spec)
    common = {"name", "learning_rate", "clip_norm", "clip_value", "groups"}
    keywords = spec.model_dump(exclude=common, exclude_none=True, warnings=False)  # or traced
    make = optimizers_for(spec.name)[spec.name]
    if spec.groups:
        optimizer: Any = grouped(spec.groups, make, schedule, **keywords)
    else:
        optimizer = make(schedule, **keywords)
    clips: list[Any] = [] if spec.clip_value is None else [optax.clip(spec.clip_value)]
    clips += [] if spec.clip_norm is None else [clip_by_global_norm(spec.clip_norm)]
    return optax.chain(*clips, optimizer) if clips else optimizer


def _absent(table: Given) -> GradientTransformation:
    """Return an optimizer that raises once it is asked for updates: to evaluate, nobody does."""
    return optax.GradientTransformation(
        lambda params: (), lambda updates, state, params=None: table.object
    )


def run_length(config: Config, examples: int, total: int | None = None) -> RunLength:
    """Return the length of an epoch and of the whole run."""
    return RunLength(examples, config.training.batch_size, total)


def count_steps(config: Config, examples: int) -> int:
    """Count the steps of a run; of several lengths in the config the one that ends first."""
    training, length = config.training, run_length(config, examples)
    lengths = [] if training.steps is None else [training.steps]
    if training.epochs is not None:
        lengths.append(max(1, math.ceil(training.epochs * examples / training.batch_size)))
    if training.length is not None:
        lengths.append(max(1, math.ceil(duration_in_steps(training.length, length))))
    if min(lengths) >= 2**31:
        raise ConfigError(f"training: {min(lengths):.3g} steps are more than 2**31; ask for fewer")
    return min(lengths)


def resolve_data_path(config: Config, config_dir: Path | None) -> Config:
    """Return a config with the paths of its data absolute, so that a run can be used from anywhere.

    Raises:
        DataError: there is no such data, or its path cannot be written into a config.
    """
    for table in ("data", "proposals"):
        part = getattr(config, table)
        written = getattr(part, "path", None)
        if written is None:
            continue
        key, packed = f"{table}.path", getattr(part, "source", None) in data.PACKED
        path = str(data.locate(written, config_dir=config_dir, packed=packed, key=key).resolve())
        if not is_utf8(path):
            raise data.DataError(
                f"{key}: {plain_line(path)}: not UTF-8, which a config cannot hold; rename the "
                "folder"
            )
        config = config.model_copy(update={table: part.model_copy(update={"path": path})})
    return config


def summarize_config(config: Config, config_dir: Path | None) -> tuple[Summary, str | None]:
    """Summarize the network of a config, without its data too; say what was assumed then.

    The data says how many channels and classes there are; a summary needs nothing else of it.
    """
    assumed = None
    try:
        channels, classes = _channels_and_classes(config, config_dir)
    except data.DataError as error:
        channels, classes = (
            getattr(config.data, "channels", 1),
            len(getattr(config.data, "classes", getattr(config.data, "columns", ())) or range(10)),
        )
        assumed = f"{error}\nassumed instead: {channels} channel(s), {classes} classes"
    net = object_or(
        config.model, lambda: build(config.model.model_dump(exclude_none=True), classes)
    )
    return summarize(net, (*config.input.size, channels)), assumed


def _channels_and_classes(config: Config, config_dir: Path | None) -> tuple[int, int]:
    """Return the numbers of channels and classes, by the config or its data; decode no image."""
    if isinstance(config.data, Masks):
        return config.data.channels, len(config.data.classes)
    config = resolve_data_path(config, config_dir)
    match config.data:
        case Csv(channels=channels, columns=columns, path=path, split_column=part):
            if spec_of(config.task).labels != "class":
                return channels, len(columns)
            return channels, len(data.table_classes(path, columns[0], part))
        case Folder(channels=channels, path=path):
            return channels, len(data.folder_classes(path))
        case Coco(channels=channels, path=path, annotations=annotations):
            return channels, len(data.coco_classes(path, data.CocoFiles(annotations)))
        case Voc(channels=channels, path=path, classes=classes):
            return channels, len(data.voc_classes(path, classes))
        case Yolo(channels=channels, path=path, classes=classes):
            return channels, len(data.yolo_classes(path, classes))
        case MadeScenes(channels=channels, path=path):
            return channels, len(data.read_scene_source(path).classes)
        case _:
            dataset = load_data(config)
            return dataset.train.images.shape[-1], len(dataset.classes)
