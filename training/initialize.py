"""``[init_from]``: the first parameters of a run out of another run, or out of a file of weights.

What is not taken keeps its own first values: what `skip` matches, what `match` does not, what is
not `into` where that is given, the head where it is of other classes, what belongs to the loss, and
what the task fits behind the training (`Task.finalized`). All else has to fit, in name and shape.

A run names its classes, and a file of weights does not: its head is taken where it has as many
outputs. `match` takes a head whatever its classes are called.
"""

import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, NamedTuple

from ..model import init_shapes, kernels
from ..model.torch.names import names_of
from ..model.torch.other_names import closest, other_names_of
from . import hub
from .common.pytree_paths import map_named, matches, nothing_matches
from .common.text import is_utf8, plain_line
from .common.train_state import TrainState
from .config.errors import ConfigError
from .config.init_from import InitFrom
from .config.schema import Config
from .data.load import at_home, is_there
from .experiment import Experiment, make_train_state
from .pretrained import check_fits, fetch_pretrained
from .run.load_model import build_network, load_model
from .step.loss_params import split_loss
from .tasks.registry import spec_of
from .weights.published import NORMALIZE
from .weights.safetensors_io import is_safetensors, read_safetensors
from .weights.torch_file import read_state_dict
from .weights.torch_state_dict import torch_mapping
from .weights.weights import by_name, cast_like, mismatch

_BODY = "body."  # within the backbone of torchvision's detectors with a pyramid


class InitReport(NamedTuple):
    """What a run began with."""

    path: str
    taken: list[str]  # paths of arrays out of there
    initial: list[str]  # paths of arrays that kept their own first values
    left: list[str]  # names of arrays there that were left there
    head: str | None = None  # whether the head is among those taken, and why
    note: str | None = None  # what people should know of them

    def __str__(self) -> str:
        """Say in one line what was taken."""
        kept = f"; at their first values: {_listed(self.initial)}" if self.initial else ""
        left = f"; left there: {_listed(self.left)}" if self.left else ""
        head = f"; {self.head}" if self.head else ""
        note = f"; note: {self.note}" if self.note else ""
        return f"initialized from {self.path}: {len(self.taken)} arrays{kept}{left}{head}{note}"


class _Source(NamedTuple):
    """Hold the arrays that the parameters come from."""

    arrays: dict[str, Any]  # under our paths where they have one
    called: dict[str, str]  # their names there
    classes: tuple[str, ...] | None = None  # of its outputs; None of a file, which does not say


def resolve_weights_path(config: Config, config_dir: Path | None) -> Config:
    """Make ``init_from.path`` absolute, found in the config's folder or in this one.

    Weights that are named, and those on the hub, are fetched where they are not there yet.

    Raises:
        ConfigError: it is in neither, or named weights are for another network.
        DataError, WeightsError: they cannot be fetched, or read.
    """
    spec = config.init_from
    if spec is None:
        return config
    if spec.pretrained is not None:
        if spec.target is None:
            check_fits(spec.pretrained, config.model.model_dump())
        if not spec.path:
            found = spec.model_copy(update={"path": str(fetch_pretrained(spec.pretrained))})
            return config.model_copy(update={"init_from": found})
    if spec.path.startswith(hub.SCHEME):
        found = spec.model_copy(update={"path": str(hub.download(spec.path))})
        return config.model_copy(update={"init_from": found})
    written = at_home(spec.path)
    tried = [folder / written for folder in (config_dir, Path.cwd()) if folder is not None]
    for candidate in tried:
        if is_there(candidate):
            path = str(candidate.resolve())
            if not is_utf8(path):
                raise ConfigError(
                    f"init_from.path: {plain_line(path)}: not UTF-8, which a config cannot hold; "
                    "rename it"
                )
            found = spec.model_copy(update={"path": path})
            return config.model_copy(update={"init_from": found})
    where = plain_line(", ".join(dict.fromkeys(map(str, tried))))
    path = plain_line(spec.path, 200)
    raise ConfigError(f"init_from.path: {path} is not there: tried {where}; correct it")


def init_from_source(experiment: Experiment) -> tuple[TrainState, InitReport | None]:
    """Make the state before the first step; report its source if not from the seed alone.

    Raises:
        ConfigError: names and shapes that do not fit, a line for each.
        WeightsError, RunError, CheckpointError: there is nothing that can be read.
    """
    first, spec = experiment.init(), experiment.config.init_from
    if spec is None:
        return first, None
    of_net, _ = split_loss(experiment.task.loss, first.params)
    wanted = by_name(of_net, first.state)
    source, classes = _read(spec, experiment, wanted), experiment.card.classes
    head = _head_of(experiment, of_net, wanted)
    other = spec.match is None and source.classes not in (None, classes)
    theirs = _only(source.arrays, head)
    fits = theirs and not mismatch(theirs, _only(wanted, head)).misshapen
    left_out = {
        path
        for path in {*wanted, *source.arrays}
        if path.partition("/")[0] in experiment.task.finalized
    }
    left_out |= head if other and fits else set()
    taken = _chosen(spec, source.arrays, wanted, source.called, head, left_out)
    if spec.target is None:
        taken = taken._replace(head=_about_head(head, taken, source.classes, classes))
    found = {
        path: cast_like(source.arrays[path], wanted[path], f"init_from: {path}")
        for path in taken.taken
    }
    params, state = (
        map_named(lambda path, leaf: found.get(path, leaf), tree)
        for tree in (first.params, first.state)
    )
    start = make_train_state(experiment.config, experiment.optimizer, params, state, first.key)
    of_loss = [path for path in by_name(first.params, {}) if path not in wanted]
    note = _about_normalization(spec, experiment.config)
    return start, taken._replace(initial=[*taken.initial, *of_loss], note=note)


def _read(spec: InitFrom, experiment: Experiment, wanted: Mapping[str, Any]) -> _Source:
    """Read the source."""
    path, into = Path(spec.path), f"{spec.target}/" if spec.target else ""
    if path.is_dir():
        trained = load_model(path, spec.checkpoint)
        of_classes = spec_of(trained.config.task).outputs_per_class
        classes = trained.card.classes if of_classes else ()
        return _Source(_under(into, by_name(trained.params, trained.state)), {}, classes)
    if is_safetensors(path):
        tensors = read_safetensors(path)
        ours = _under(into, tensors)
        if any("/" in name for name in tensors) or wanted.keys() & ours.keys():
            return _Source(ours, {})
    table = experiment.config.model.model_dump(exclude_none=True)
    in_shape = (1, *experiment.card.preprocessing.size, experiment.card.image_shape[-1])
    tensors = read_state_dict(path)
    tables = [names_of(table, experiment.net), *other_names_of(table)]
    bridge = torch_mapping(experiment.net, in_shape, closest(tables, wanted, tensors))
    tensors = _under(_torch_prefix(into, bridge.called), tensors)
    return _Source(bridge.to_ours(tensors), bridge.called)


def _torch_prefix(into: str, called: Mapping[str, str]) -> str:
    """Return what the names in a part begin with in PyTorch: a pyramid's trunk is its ``body``."""
    theirs = into.replace("/", ".")
    inside = [name for path, name in called.items() if into and path.startswith(into)]
    body = f"{theirs}{_BODY}"
    return body if inside and all(name.startswith(body) for name in inside) else theirs


def _head_of(experiment: Experiment, params: Any, wanted: Mapping[str, Any]) -> set[str]:
    """Return the arrays of the head: the layers with an output for each class, if there are any.

    They change their shape with the number of classes; in a network that is defined layer by
    layer, nothing does, and it is the last layer. What the task fits behind the training is none.
    """
    if not spec_of(experiment.config.task).outputs_per_class:
        return set()

    def trained(paths: Iterable[str]) -> list[str]:
        return [p for p in paths if p.partition("/")[0] not in experiment.task.finalized]

    card = experiment.card
    in_shape = (1, *card.preprocessing.size, card.image_shape[-1])
    one_more = card._replace(classes=(*card.classes, "one more"))
    _, *others = init_shapes(build_network(experiment.config, one_more), in_shape)
    changing = trained(mismatch(by_name(*others), wanted).misshapen)
    layers = {path.rpartition("/")[0] for path in changing}
    layers = layers or set(trained(kernels(experiment.net, params))[-1:])
    return {path for path in wanted if path.rpartition("/")[0] in layers}


def _about_head(
    head: set[str],
    report: InitReport,
    theirs: tuple[str, ...] | None,
    ours: tuple[str, ...],
) -> str | None:
    """Say whether the head was taken, and why; None of a network without one."""
    if not head:
        return None
    there = "the network there has no classes"
    if theirs:
        listed = _listed([repr(plain_line(name, 40)) for name in theirs])
        there = f"the classes there are {listed}"
    if not head <= set(report.taken):
        return None if theirs in (None, ours) else f"the head starts anew: {there}"
    if theirs is None:
        return "with the head, whose classes a file does not name"
    if theirs == ours:
        return "with the head, of the same classes"
    return f"with the head, as match has it, though {there}"


def _about_normalization(spec: InitFrom, config: Config) -> str | None:
    """Say where images are normalized otherwise than those that named weights were trained with."""
    normalize = config.input.normalize
    got = f'"{normalize}"' if isinstance(normalize, str) else "a table"
    if str(spec.path).startswith("hf://"):
        return (
            f"{spec.path} does not say how its images were normalized and padded: here "
            f"input.normalize is {got}; compare its page"
        )
    if spec.pretrained is None or normalize == NORMALIZE:
        return None
    return (
        f"input.normalize is {got}, and {spec.pretrained} was trained with "
        f'input.normalize = "{NORMALIZE}"'
    )


def _under(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {prefix + name: array for name, array in arrays.items()}


def _chosen(
    spec: InitFrom,
    source: Mapping[str, Any],
    wanted: Mapping[str, Any],
    called: Mapping[str, str],
    head: AbstractSet[str],
    left_out: AbstractSet[str] = frozenset(),
) -> InitReport:
    """Choose the arrays to take, without a head of another number of classes.

    Args:
        spec: ``[init_from]``.
        source, wanted: the arrays there, and those of the network.
        called: what our paths are called there.
        head: the paths of the layers with an output for each class.
        left_out: those that are not taken in any case.
    """
    names = {**dict.fromkeys(wanted), **dict.fromkeys(source)}
    inside = set(names) if spec.target is None else _inside(spec.target, source, wanted, called)
    for key in ("match", "skip"):
        pattern = getattr(spec, key)
        if pattern is not None and (problem := nothing_matches(pattern, names)):
            raise ConfigError(f"init_from.{key}: {problem}")
    chosen = {
        name
        for name in inside
        if (spec.match is None or matches(spec.match, name))
        and not (spec.skip is not None and matches(spec.skip, name))
    }
    chosen -= left_out
    if _differs_in_classes(_only(source, chosen), _only(wanted, chosen), head):
        chosen -= head
    odd = mismatch(_only(source, chosen), _only(wanted, chosen))
    if prefix := odd.wrong_prefix(called):
        raise ConfigError(f"init_from: {spec.path}: {prefix}")
    lines = [f"init_from: {spec.path}: {line}" for line in odd.lines(called)]
    if lines:
        rest = _skipping(spec.skip, [*odd.misshapen, *odd.missing, *odd.extra])
        if len(lines) < odd.misfits:  # too many to be listed
            lines.append("init_from: name in init_from.match what this network and that one share")
        else:
            lines.append(
                f"init_from.skip: what it matches is left out; skip = '{rest}' leaves these"
            )
        raise ConfigError("\n".join(lines))
    if not chosen:
        raise ConfigError(
            "init_from: nothing is loaded: match, skip and the number of classes exclude all "
            "arrays; widen match, or remove init_from"
        )
    return InitReport(
        path=spec.path,
        taken=[path for path in wanted if path in chosen],
        initial=[path for path in wanted if path not in chosen],
        left=[name for name in source if name not in chosen and name not in wanted],
    )


def _inside(
    into: str, source: Mapping[str, Any], wanted: Mapping[str, Any], called: Mapping[str, str]
) -> set[str]:
    """Return the names in a part, and the source's that only the part's old head has."""

    def part(name: str) -> str:
        """Return the first name behind the path of the part, in our words or PyTorch's."""
        return re.split("[/.]", name[len(into) + 1 :].removeprefix(_BODY), maxsplit=1)[0]

    known = [
        name for name in (*wanted, *called.values()) if re.match(f"{re.escape(into)}[/.]", name)
    ]
    if not known:
        parts = sorted({name.partition("/")[0] for name in wanted})
        raise ConfigError(
            f"init_from.target: nothing to take: got {into!r}, need the path of a part of the "
            f"network: {', '.join(parts)}"
        )
    parts = set(map(part, known))
    ours = {name for name in wanted if name.startswith(f"{into}/")}
    return ours | {name for name in source if part(name) in parts}


def _differs_in_classes(
    source: Mapping[str, Any], wanted: Mapping[str, Any], head: AbstractSet[str]
) -> bool:
    """Return whether the head has another number of outputs, and nothing else another shape."""
    odd = mismatch(source, wanted).misshapen
    return bool(odd) and odd.keys() <= head and all(a[-1:] != b[-1:] for a, b in odd.values())


def _skipping(skip: str | None, paths: Iterable[str]) -> str:
    """Return an expression that matches what `skip` does, and the layers of `paths`."""
    layers = (path.rpartition("/") for path in paths)
    rest = (f"{re.escape(layer)}/.*" if layer else re.escape(leaf) for layer, _, leaf in layers)
    return "|".join([*([skip] if skip else []), *dict.fromkeys(rest)])


def _only(arrays: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: array for name, array in arrays.items() if name in names}


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(names[:6]) + more
