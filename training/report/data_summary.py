"""What data a config has, before a training: counts, copies of images, notes, a contact sheet."""

import hashlib
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import data
from ..common.text import plain_line
from ..common.waiting import counted
from ..config.schema import Config
from ..config_data import load_data
from ..data.labels import is_class_each
from ..data.preprocess import preprocess
from ..data.tree import map_leaves, rows
from ..experiment import dataset_card, resolve_data_path
from ..plots import figures
from ..run.directory import DatasetCard
from ..tasks.registry import make_task
from .augmentation import viewable

_AT_ONCE = 64  # images that are read together
_COLUMNS, _ROWS = 8, 10  # of the contact sheet: a class in a row, where each image is of one
_MOST_CLASSES, _MOST_COPIES = 24, 8  # that text lists


class Place(NamedTuple):
    """An example: its split, its number there, and the name of its class if it has one."""

    split: str
    index: int  # type: ignore[override] -- tuple has a method of that name
    label: str | None

    def __str__(self) -> str:
        """Say it in a few words."""
        of = "" if self.label is None else f" ({plain_line(repr(self.label), 60)})"
        return f"{self.split} {self.index}{of}"


class DataSummary(NamedTuple):
    """What data a config has.

    Attributes:
        source: the source of the data.
        card: what a network has to know of them: classes, counts, shape, notes, files left out.
        per_class: of each split the examples of each class; None where labels say of no classes.
        copies: images with the same pixels, in groups of two or more.
        blank: images of a single value.
    """

    source: str
    card: DatasetCard
    per_class: dict[str, list[int]] | None
    copies: list[list[Place]]
    blank: list[Place]

    @property
    def leaks(self) -> list[list[Place]]:
        """Return the copies that are in several splits: what is tested was trained on."""
        return [group for group in self.copies if len({place.split for place in group}) > 1]

    @property
    def contradictions(self) -> list[list[Place]]:
        """Return the copies that are called by several classes."""
        return [group for group in self.copies if len({place.label for place in group}) > 1]

    def as_dict(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        card = self.card
        return {
            "source": self.source,
            "classes": list(card.classes),
            "counts": dict(card.counts),
            "per_class": self.per_class,
            "image_shape": list(card.image_shape),
            "copies": [[place._asdict() for place in group] for group in self.copies],
            "blank": [place._asdict() for place in self.blank],
            "notes": list(card.notes),
            "unreadable": [left._asdict() for left in card.unreadable],
            "fingerprint": card.fingerprint,
        }

    def as_text(self) -> str:
        """Return it for people: a table of counts, and a line for all that needs a look."""
        H, W, C = self.card.image_shape
        pixels = self.card.preprocessing.pixel_format
        kinds = {1: "gray", 3: "color"}.get(C, f"{C} channels")
        kinds = kinds if pixels.dtype == "uint8" else str(pixels)
        total = sum(self.card.counts.values())
        head = (
            f"{self.source}: {total:,} images of {H}x{W}, {kinds}; {len(self.card.classes)} classes"
        )
        return "\n".join([head, *self._table(), *self._findings()])

    def _table(self) -> list[str]:
        counts = {"images": list(self.card.counts.values())}
        names = [plain_line(repr(name), 40) for name in self.card.classes]
        if self.per_class is not None:
            columns = zip(*self.per_class.values(), strict=True)
            of_each = dict(zip(names, map(list, columns), strict=True))
            counts |= dict(list(of_each.items())[:_MOST_CLASSES])
        width = max(map(len, counts))
        lines = [" ".join([" " * width, *(f"{split:>10}" for split in self.card.counts)])]
        lines += [
            " ".join([f"{name:{width}}", *(f"{n:>10,}" for n in row)])
            for name, row in counts.items()
        ]
        if self.per_class is not None and len(names) > _MOST_CLASSES:
            lines.append(f"{len(names) - _MOST_CLASSES} more classes: --json")
        return lines

    def _findings(self) -> list[str]:
        lines = [
            _listed("same pixels in several splits", self.leaks),
            _listed("same pixels under several classes", self.contradictions),
            _listed("same pixels", self.copies),
            _listed("a single value", [[place] for place in self.blank]),
        ]
        lines = [line for line in lines if line] or ["no image is there twice, and none is blank"]
        return lines + [f"note: {note}" for note in self.card.notes]


def _listed(what: str, groups: list[list[Place]]) -> str:
    """Return a line that names some of the groups; nothing if there are none."""
    shown = "; ".join(" = ".join(map(str, group[:4])) for group in groups[:_MOST_COPIES])
    more = f"; {len(groups) - _MOST_COPIES} more: --json" if len(groups) > _MOST_COPIES else ""
    return f"{what}, {len(groups)}: {shown}{more}" if groups else ""


def summarize_data(
    config: Config, *, config_dir: Path | None = None, sheet: Path | None = None
) -> DataSummary:
    """Read the data of a config and say what is in them.

    Args:
        config: the experiment.
        config_dir: the folder of the config file, for a relative ``data.path``.
        sheet: a PNG file to write, with training images of each class.

    Raises:
        DataError: the data cannot be read.
    """
    dataset = load_data(resolve_data_path(config, config_dir))
    card = dataset_card(config, dataset)
    counts = {
        name: data.examples_of_each(getattr(dataset, name).labels, len(card.classes))
        for name in data.SPLITS
    }
    known = {name: of.tolist() for name, of in counts.items() if of is not None}
    copies, blank = _copies(dataset)
    per_class = known if len(known) == len(counts) else None
    if sheet is not None:
        _draw(config, dataset, card, sheet)
    return DataSummary(config.data.source, card, per_class, copies, blank)


def _copies(dataset: data.Dataset) -> tuple[list[list[Place]], list[Place]]:
    """Return the groups of images with the same pixels, and the images of a single value."""
    groups: dict[bytes, list[Place]] = defaultdict(list)
    blank = []
    total = sum(getattr(dataset, name).count for name in data.SPLITS)
    with counted("comparing images", total) as done:
        for name in data.SPLITS:
            part: data.Split = getattr(dataset, name)
            start = 0
            for images, labels, weights in data.eval_batches(part, _AT_ONCE):
                of_classes = is_class_each(labels)
                for i in range(int(weights.sum())):
                    label = dataset.classes[labels[i]] if of_classes else None
                    place = Place(name, start + i, label)
                    groups[hashlib.sha256(images[i].tobytes()).digest()].append(place)
                    if images[i].min() == images[i].max():
                        blank.append(place)
                    done()
                start += len(images)
    return [group for group in groups.values() if len(group) > 1], blank


def _draw(config: Config, dataset: data.Dataset, card: DatasetCard, out: Path) -> None:
    """Draw training images, with what they are, or are to have, over them."""
    part, task = dataset.train, make_task(config, len(card.classes))
    if is_class_each(part.labels):
        of = [np.flatnonzero(part.labels == k)[:_COLUMNS] for k in range(len(card.classes))]
        chosen = np.concatenate([of_class for of_class in of if len(of_class)][:_ROWS])
    else:
        chosen = np.arange(min(part.count, _COLUMNS * _ROWS // 2))
    labels = jax.tree.map(jnp.asarray, map_leaves(np.asarray, rows(part.labels, chosen)))
    x = preprocess(jnp.asarray(np.asarray(part.images[chosen])), card.preprocessing)
    targets = jax.tree.map(np.asarray, task.targets(labels, spec=card.preprocessing))
    tiles = viewable(np.asarray(x), targets, card.preprocessing, task, card.classes)
    captions = [""] * len(chosen) if task.spec.per_pixel else task.captions(targets, card.classes)
    with figures.style():
        figure = figures.mistakes(
            tiles,
            captions,
            title=f"{config.data.source}: training images as the network sees them",
            subtitle=f"{len(chosen)} of {part.count:,}, without augmentation",
            columns=_COLUMNS,
        )
        figures.write(figure, out)
