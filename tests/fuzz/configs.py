"""Spoiled configs: `load_config`, and all that comes before the first step."""

import json
import math
import os
import random
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from convax.training.common.duration import RunLength, duration_in_steps
from convax.training.config.files import shipped_configs
from convax.training.config.schema import Config, json_schema, load_config, to_toml
from convax.training.experiment import prepare, resolve_data_path
from convax.training.initialize import resolve_weights_path

from . import sources
from .mutations import KINDS, Mutant, mutant
from .schema import fault
from .verdict import Verdict, fault_of_message, judge

# One thing wrong may be several lines: what a table of another name lacks, and what it has too much.
LINES = {"drop": 3, "typo": 3, "retype": 16, "out_of_range": 3, "text": 16, "lists": 12}
MOST_LINES = 20


class Bench:
    """Where configs are tried: their data is here, small and made up."""

    def __init__(self, folder: Path):
        self.folder, self.file = folder, folder / "my.toml"
        self.schema = json_schema()
        self.shipped = {name: _smaller(text) for name, text in shipped_configs().items()}
        self.prepared: dict[str, None] = {}

    def mutant(self, seed: int, index: int) -> tuple[str, Mutant]:
        """Case `index`: its kind and config it came from, and what became of that."""
        rng = random.Random(f"{seed}/{index}")
        # Large networks take long to look at; there are as many of them, each a quarter as often.
        often = [1 if name.endswith("-cifar10") else 4 for name in self.shipped]
        kind = rng.choice(list(KINDS))
        (name,) = rng.choices(list(self.shipped), often)
        made = mutant(kind, self.shipped[name], rng, list(self.shipped.values()), self.schema)
        return f"{kind}: {name} #{index}", made

    def try_one(self, seed: int, index: int) -> Verdict:
        """Case `index`."""
        case, made = self.mutant(seed, index)
        self.file.write_bytes(made.content)
        loaded = False

        def attempt() -> tuple[str, str | None]:
            nonlocal loaded
            config = load_config(self.file, made.overrides)
            loaded = True
            wrong = self.fault_of_accepted(config, made) or self.fault_of_prepared(config)
            return "accepted", wrong

        def refused(said: str) -> str | None:
            lines = LINES.get(case.split(":")[0], MOST_LINES)
            wrong = fault_of_message(said, lines=lines)
            return wrong or (None if loaded else self.names_nothing(said, made))

        return judge(case, attempt, refused)

    def names_nothing(self, said: str, made: Mutant) -> str | None:
        """Whether a message names neither file nor key."""
        if not all(line.startswith((str(self.file), "--set ")) for line in said.splitlines()):
            return "a line names no file"
        keys = {str(key) for path in made.touched for key in path if isinstance(key, str)}
        if keys and not any(key in said or repr(key)[1:-1] in said for key in keys):
            return f"names none of {sorted(keys)}"
        return None

    def fault_of_accepted(self, config: Config, made: Mutant) -> str | None:
        """What is wrong with a config that was taken: what was written counts, and fits."""
        written = tomllib.loads(self.file.read_text(encoding="utf-8-sig"))
        resolved = config.model_dump(exclude_none=True)
        if not made.overrides:
            if found := fault(written, self.schema, self.schema):
                return f"accepted against its schema: {found}"
            if found := _not_kept(written, resolved):
                return f"accepted, but not kept: {found}"
        if found := fault(resolved, self.schema, self.schema) or _odd_number(resolved):
            return f"accepted: {found}"
        self.file.write_text(to_toml(config), encoding="utf-8")
        if load_config(self.file) != config:
            return "another config after a round through TOML"
        return None

    def fault_of_prepared(self, config: Config) -> str | None:
        """What is wrong with what a config makes: network, optimizer, schedule."""
        config = resolve_weights_path(resolve_data_path(config, self.folder), self.folder)
        key = json.dumps(config.model_dump(exclude={"early_stopping"}), sort_keys=True)
        if key in self.prepared:
            return None
        experiment = prepare(config)
        self.prepared[key] = None
        total = experiment.total_steps
        rates = [float(experiment.schedule(step)) for step in (0, 1, total // 2, total - 1)]
        if not all(math.isfinite(rate) and rate >= 0 for rate in rates):
            return f"learning rates {rates}"
        clock = RunLength(3, 2, total)
        if not duration_in_steps(config.training.evaluate_every, clock) > 0:
            return f"evaluations every {config.training.evaluate_every}"
        empty = [leaf for leaf in jax.tree.leaves(experiment.template.params) if not leaf.size]
        return f"{len(empty)} arrays without elements" if empty else None


def try_configs(seed: int, indices: Iterable[int]) -> list[Verdict]:
    """The cases of these numbers."""
    verdicts = []
    with bench() as here:
        for index in indices:
            verdicts.append(here.try_one(seed, index))
            if len(verdicts) % 200 == 0:
                jax.clear_caches()  # every network that was looked at is in there
    return verdicts


@contextmanager
def bench() -> Iterator[Bench]:
    """A `Bench` in a folder of its own."""
    before = os.environ.get("CONVAX_DATA"), Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_data(folder / "data")
        os.environ["CONVAX_DATA"] = str(folder / "data")
        os.chdir(folder)
        try:
            yield Bench(folder)
        finally:
            os.chdir(before[1])
            os.environ.pop("CONVAX_DATA")
            if before[0] is not None:
                os.environ["CONVAX_DATA"] = before[0]


def _write_data(folder: Path) -> None:
    rng = np.random.default_rng(0)
    sources.write(folder / "mnist", sources.mnist(rng, count=20))
    pictures = sources.classes(rng, size=32, count=2, names=sources.CIFAR_NAMES)
    (folder / "cifar10-jpeg.tar.gz").write_bytes(sources.tar(pictures))
    sources.write(folder / "PennFudanPed", sources.masks(rng, size=16, count=8))


def _smaller(text: str) -> dict[str, Any]:
    """A shipped config that asks for no more data than is here."""
    config = tomllib.loads(text)
    config["data"] |= {"validation": 2}
    if config["data"]["source"] == "scenes":
        config["data"] |= {"train": 4, "test": 2}
    if "init_from" in config:  # any folder will do: it is not opened before the first step
        config["init_from"] |= {"path": "data"}
    return config


def _not_kept(written: Any, kept: Any, path: str = "config") -> str | None:
    """Where what was written is not what counts."""
    if isinstance(written, dict) and isinstance(kept, dict):
        pairs = [(written[k], kept.get(k), f"{path}.{k}") for k in written]
    elif isinstance(written, list) and isinstance(kept, list) and len(written) == len(kept):
        pairs = [(w, k, f"{path}.{i}") for i, (w, k) in enumerate(zip(written, kept, strict=True))]
    elif (isinstance(written, bool) == isinstance(kept, bool) and written == kept) or (
        isinstance(kept, float) and isinstance(written, int) and float(written) == kept
    ):
        return None
    else:
        return f"{path}: {written!r:.80} became {kept!r:.80}"
    return next((found for pair in pairs if (found := _not_kept(*pair))), None)


def _odd_number(table: Any) -> str | None:
    """A number that no float32 or int64 holds."""
    if isinstance(table, (dict, list)):
        inside = table.values() if isinstance(table, dict) else table
        return next((found for value in inside if (found := _odd_number(value))), None)
    if isinstance(table, float) and table != 0 and not 1e-38 < abs(table) < 3.5e38:
        return f"{table}, which float32 does not hold"
    if isinstance(table, int) and abs(table) >= 2**63:
        return f"{table} has more than 64 bits"
    return None
