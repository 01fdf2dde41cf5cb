"""Damaged data and runs: what is loaded is what was stored, or the error names the file."""

import contextlib
import hashlib
import random
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import convax
from convax.training import data
from convax.training.config.schema import load_config
from convax.training.evaluation import reopen_trained
from convax.training.experiment import reopen
from convax.training.report.figures import results_table
from convax.training.run import checkpoint
from convax.training.run.load_model import load_model
from convax.training.weights.safetensors_io import read_safetensors

from .. import tiny
from . import odd, sources
from .damage import damage
from .verdict import Verdict, fault_of_message, judge

ROOM = 2 * 2**30  # bytes that loading may take beside what the process has already


class Kind(NamedTuple):
    """A kind of data.

    Attributes:
        files: by name, within a folder.
        load: what is in that folder, comparable.
        checked: whether a checksum covers a file: of any other, a changed value cannot be known.
        damaged: which of the files are damaged.
        damage: damages one, and says how.
        silent: whether what was lost should have been said: of what is stored, of what was loaded
            in its place, and of the damage.
    """

    files: dict[str, bytes]
    load: Callable[[Path], Any]
    checked: Callable[[str], bool]
    damaged: Callable[[str], bool] = lambda file: "plots/" not in file
    damage: Callable[[Path, random.Random], str] = damage
    silent: Callable[[Any, Any, str], bool] = lambda right, loaded, how: False


def everything(file: str) -> bool:
    """Every file has a checksum."""
    return True


def nothing(file: str) -> bool:
    """No file has one."""
    return False


def unedited(file: str) -> bool:
    """Of a run, all but what people and later programs may write, too."""
    return Path(file).name not in ("config.toml", "run.json", "metrics.jsonl", "last", "best")


def kinds() -> dict[str, Kind]:
    """All kinds of data, small."""
    rng = np.random.default_rng(0)
    jpeg = sources.classes(rng, size=8, count=3, names=["cat", "dog"])
    png = _as(jpeg, "PNG")
    masks = sources.masks(rng, size=8, count=4)
    batches = sources.cifar(rng, count=4)
    made = {
        "idx": Kind(sources.mnist(rng, count=12), load("idx"), nothing),
        "idx, gzip": Kind(sources.mnist(rng, count=12, zipped=True), load("idx"), everything),
        "cifar": Kind(batches, load("cifar"), nothing),
        "cifar, tar.gz": packed(
            "cifar-10-binary.tar.gz",
            sources.tar({f"cifar-10-batches-bin/{k}": v for k, v in batches.items()}),
            "cifar",
        ),
        "npz": packed("x.npz", sources.npz(rng, count=20), "npz"),
        "npz, plain": packed("x.npz", sources.npz(rng, count=20, keras=False), "npz"),
        "png": Kind(png, load("folder"), everything),
        "jpeg": Kind(jpeg, load("folder"), nothing),
        "masks": Kind(masks, load("masks", **MASKS), everything),
        "png, zip": packed("x.zip", sources.zipped(png), "folder"),
        "jpeg, zip": packed("x.zip", sources.zipped(jpeg), "folder"),
        "jpeg, tar.gz": packed("x.tar.gz", sources.tar(jpeg), "folder"),
        "jpeg, tar": packed("x.tar", sources.tar(jpeg, "w"), "folder", nothing),
        "masks, tar.gz": packed("x.tar.gz", sources.tar(masks), "masks", **MASKS),
        "weights": Kind({"x.safetensors": sources.weights(rng)}, load_weights, nothing),
    }
    for kind in ("BMP", "WEBP", "GIF", "TIFF"):
        made[kind.lower()] = Kind(_as(jpeg, kind), load("folder"), nothing)
    return made


SIZE = (8, 8)
MASKS = {"images": "PNGImages", "masks": "PedMasks", "mask_kind": "classes", "size": SIZE}
MASKS |= {"classes": ("background", "one", "two"), "channels": 3}


def load(source: str, file: str = "", **options: Any) -> Callable[[Path], Any]:
    """How a folder, or a file in it, is loaded, as a list of comparable things."""

    def of(folder: Path) -> list[Any]:
        dataset = data.load(source, path=str(folder / file), seed=0, **options)
        for split in dataset[:3]:
            assert split.images.dtype == np.uint8 and len(split.images) == len(split.labels)
            assert not split.labels.size or split.labels.max() < max(len(dataset.classes), 256)
        return [dataset.classes, *(contents(part) for split in dataset[:3] for part in split[:2])]

    return of


def packed(
    name: str, content: bytes, source: str, checked: Callable[[str], bool] = everything, **options
) -> Kind:
    """Data that is one file."""
    return Kind({name: content}, load(source, name, **options), checked)


def load_weights(folder: Path) -> list[Any]:
    """A file of weights."""
    arrays = read_safetensors(folder / "x.safetensors")
    return [(name, *contents(array)) for name, array in sorted(arrays.items())]


def load_run(folder: Path) -> list[Any]:
    """All that is read of a run: for inference, evaluation, reports, and to resume it."""
    path = folder / "run"
    trained = load_model(path)
    _, experiment, params, state = reopen_trained(path, "last")
    run, _ = reopen(path)
    restored = checkpoint.restore(run.checkpoints, "last", experiment.template)
    results_table(run)
    leaves = jax.tree.leaves((trained.params, trained.state, params, state, restored.train_state))
    arrays = [jax.random.key_data(x) if x.dtype.name.startswith("key") else x for x in leaves]
    return [trained.card, restored.memory, *(contents(np.asarray(x)) for x in arrays)]


def contents(array: np.ndarray) -> tuple[Any, ...]:
    """An array as something that is compared quickly."""
    digest = hashlib.sha256(np.ascontiguousarray(array)).hexdigest()
    return array.shape, str(array.dtype), digest


def odd_kinds() -> dict[str, Kind]:
    """Files that are in order, but odd: each is tried as it is."""
    made = {}
    for file, content in odd.archives().items():
        made[f"odd archive, {file}"] = packed(file, content, "folder", nothing, size=SIZE)
    good = sources.classes(np.random.default_rng(0), size=8, count=1, names=["cat", "dog"])
    for file, content in odd.pictures().items():
        among = {f"train/cat/{file}": content, **good}
        made[f"odd image, {file}"] = Kind(among, load("folder", size=SIZE), nothing)
    pairs = sources.masks(np.random.default_rng(0), size=8, count=2)
    pairs.pop("PedMasks/0_mask.png")
    for file, content in odd.masks().items():
        among = {f"PedMasks/{file}": content, **pairs}
        made[f"odd mask, {file}"] = Kind(among, load("masks", **MASKS), nothing)
    return made


def kind_of_run(folder: Path) -> Kind:
    """All files of a run, which is trained in a folder."""
    run = convax.train(load_config(tiny.write_tiny(folder), SHORT), folder / "run")
    stored = {str(f.relative_to(folder)): f.read_bytes() for f in files_of(run.path)}
    return Kind(stored, load_run, unedited)


class Bench:
    """Where files are tried."""

    def __init__(self, folder: Path, kinds: dict[str, Kind]):
        self.folder, self.case, self.kinds = folder, folder / "case", kinds
        self.right: dict[str, Any] = {}

    def try_one(self, seed: int, index: int) -> Verdict:
        """Case `index`."""
        rng = random.Random(f"{seed}/{index}")
        names = list(self.kinds)
        often = [0.1 if n.startswith("odd") else 5 if n == "run" else 1 for n in names]
        (name,) = rng.choices(names, often)
        return self.try_kind(name, rng, index)

    def try_kind(self, name: str, rng: random.Random, index: int) -> Verdict:
        """A kind of data, damaged; or as it is, where that is odd enough."""
        kind, how, file = self.kinds[name], "as it is", next(iter(self.kinds[name].files))
        if not name.startswith("odd") and name not in self.right:
            self.right[name] = kind.load(self.stored(kind))
        place = self.stored(kind)
        if not name.startswith("odd"):
            file = rng.choice([f for f, held in kind.files.items() if held and kind.damaged(f)])
            how = kind.damage(place / file, rng)

        def attempt() -> tuple[str, str | None]:
            with room(ROOM):
                loaded = kind.load(place)
            if name.startswith("odd"):
                return "accepted", None
            if loaded == self.right[name]:
                return "as stored", None
            if kind.silent(self.right[name], loaded, how):
                return "other values", "accepted, and nothing was said of what is missing"
            if not kind.checked(file) or (how in MISSING and "/" in file and name != "run"):
                return "other values", None  # nobody can know
            return "other values", "accepted, and not what was stored"

        def refused(said: str) -> str | None:
            named = {Path(file).name, Path(file).name.partition(".")[0], str(place)}
            wrong = fault_of_message(said, lines=20 if file.endswith(".toml") else 2)
            return wrong or (None if any(n in said for n in named) else "names no file")

        return judge(f"{name}: {file}, {how} #{index}", attempt, refused)

    def stored(self, kind: Kind) -> Path:
        """The files of a kind, whole, in a fresh folder."""
        shutil.rmtree(self.case, ignore_errors=True)
        return sources.write(self.case, kind.files)


SHORT = ["training.steps=4", 'training.evaluate_every="2 steps"']
MISSING = ("gone", "a folder", "a link to nowhere")  # a folder has the pictures that are in it


def files_of(folder: Path) -> list[Path]:
    """Every file below a folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _as(files: dict[str, bytes], kind: str) -> dict[str, bytes]:
    """The same pictures in another format."""
    ending = {"PNG": "png", "BMP": "bmp", "WEBP": "webp", "GIF": "gif", "TIFF": "tif"}[kind]
    converted = {}
    for name, content in files.items():
        array = data.read_image(content, size=None, channels=3)
        converted[f"{name.rpartition('.')[0]}.{ending}"] = sources.picture(array, kind)
    return converted


@contextlib.contextmanager
def room(size: int) -> Iterator[None]:
    """No more address space than the process has now, and `size` bytes: what asks for more fails."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def try_files(seed: int, indices: Iterable[int]) -> list[Verdict]:
    """The cases of these numbers."""
    with tempfile.TemporaryDirectory() as name:
        run = {"run": kind_of_run(Path(name))}
        bench = Bench(Path(name), {**kinds(), **odd_kinds(), **run})
        return [bench.try_one(seed, index) for index in indices]
