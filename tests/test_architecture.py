"""The house rules that hold across files: imports, docstrings' examples, what is installed."""

import ast
import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path

import pytest

import convax

# The rooms of the house, ground first: a room imports itself and those before it. Where one folder
# has several floors, the names of its files follow.
ROOMS = """
ops.common
ops: dense dropout initializers norm local_response_norm pad regularization weight_standardization shuffle
ops.pool
ops: activation grid_sample resize unfold
ops.conv: geometry xla spmd
ops.conv.native
ops.conv.cpu
ops.conv
ops.detection
ops.loss
ops
model: layer combinators kernels intermediates folding summary
model.layers
model.detection
model.architectures
model: output_checks registry
model.torch
model
training.common
training.weights
training.plots
training.tasks: spec
training.tasks.classification: losses spec
training.tasks.segmentation: losses spec
training.tasks.detection: losses comparison spec
training.tasks.embedding: losses spec
training.tasks.multilabel: losses spec
training.tasks.regression: losses spec
training.tasks: registry
training.optim.schedules
training.optim
training.plugins
training.config
training.data: archive balanced color_table dataset decoded_cache each_file errors folder idx image jpeg_scans labels listing masks mask_file mask_folders metadata notes npz pixels placement raster streaming tree stratify
training.data.detection
training.data
training.data.augment
training.tasks: metric_names own_metrics confusion per_class task
training.tasks.classification
training.tasks.segmentation
training.tasks.detection
training.tasks.embedding
training.tasks.multilabel
training.tasks.regression
training.tasks
training.scaffold
training.run
training.step
training: param_groups config_data experiment
training: evaluation other_data pretrained hub initialize gallery
training.distributed
training.report
training.trackers
training.loop
training.experiments
training: lr_finder
training
explain
inference.calibration
inference.html
inference: compile_cache image_inputs ensemble forward predictor speed calibrate predict_files contact_sheet
inference.export
inference.report
inference.serve
inference
cli
"""
# What runs a trained network never imports what trains one.
NEVER = {
    ("explain", "inference"): ("training.loop", "training.step", "training.experiments"),
}
# What a room may import of the house, where that is less than all before it.
ONLY = {
    "training.step": ("ops", "model", "training.common"),
}


def read_rooms() -> list[tuple[str, frozenset[str]]]:
    """Each room, and those of its files that are on this floor; none: all that are left."""
    lines = (line.partition(":") for line in ROOMS.split("\n") if line)
    return [(room, frozenset(files.split())) for room, _, files in lines]


def modules(package: str = "convax"):
    """The name of every module that is installed, but `convax.__main__`."""
    yield package
    for found in pkgutil.iter_modules(importlib.import_module(package).__path__):
        name = f"{package}.{found.name}"
        if found.ispkg:
            yield from modules(name)
        elif name != "convax.__main__":
            yield name


# In an editable installation these folders are not below that of `convax`.
FOLDERS = ("ops", "model", "training", "explain", "inference", "configs")
MODULES = sorted({*modules(), *(m for f in FOLDERS for m in modules(f"convax.{f}"))})


def source_of(module: str) -> Path:
    file = importlib.import_module(module).__file__
    assert file is not None
    return Path(file)


def imported(module: str, text: str | None = None):
    """The absolute name of everything a module imports, inside functions too."""
    path = source_of(module)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text() if text is None else text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - (node.level - 1)]
            start = ".".join(base) if node.level else ""
            whole = ".".join(filter(None, [start, node.module]))
            names = [f"{whole}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else whole for name in names)


def room_of(module: str) -> int | None:
    """The number of a module's room; None of the package's own files, which may import all."""
    name = module.removeprefix("convax").removeprefix(".")
    folder, _, file = name.rpartition(".")
    if name == "" or name.startswith("configs"):
        return None
    for number, (room, files) in enumerate(read_rooms()):
        if room == name and not files:  # the folder's own page
            return number
    for number, (room, files) in enumerate(read_rooms()):
        if room == folder and (not files or file in files):
            return number
    raise AssertionError(f"{module} is in no room: name its folder in ROOMS")


def upward(module: str, text: str | None = None) -> list[str]:
    """The imports of a module that point to a room after its own, or to one it may not use."""
    here = room_of(module)
    if here is None:
        return []
    wrong, name = [], module.removeprefix("convax.")
    for other in imported(module, text):
        there = room_of(other) if other in MODULES else None
        if there is None:
            continue
        short = other.removeprefix("convax.")
        unseen = any(
            _within(name, rooms) and _within(short, never) for rooms, never in NEVER.items()
        )
        only = [allowed for room, allowed in ONLY.items() if _within(name, (room,))]
        outside = [
            allowed for allowed in only if not _within(short, (*allowed, name.rpartition(".")[0]))
        ]
        if there > here or unseen or outside:
            wrong.append(f"{module} imports {other}")
    return wrong


def _within(name: str, rooms: tuple[str, ...]) -> bool:
    return any(name == room or name.startswith(room + ".") for room in rooms)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_no_room_above_its_own(module):
    assert not upward(module)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("convax.ops.pool.pool", "from ..conv.spmd import Partition"),
        ("convax.model.layer", "from .layers.conv import conv"),
        ("convax.training.run.checkpoint", "from ..step.train_step import make_train_step"),
        ("convax.training.step.ema", "from ..config.schema import Config"),
        ("convax.training.tasks.embedding.task", "def f():\n    from ...experiment import reopen"),
        ("convax.inference.predictor", "from ..training.loop.loop import train"),
        ("convax.explain.saliency", "from ..inference.predictor import load"),
    ],
)
def test_an_import_turned_around_is_found(module, line):
    assert upward(module, line)


def test_no_modules_import_each_other_in_a_circle():
    waiting = {m: {o for o in imported(m) if o in MODULES and o != m} for m in MODULES}
    waiting = {m: {o for o in others if not m.startswith(o)} for m, others in waiting.items()}
    while free := [m for m, others in waiting.items() if not others & waiting.keys()]:
        for module in free:
            del waiting[module]
    assert not waiting


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("convax.ops")])
def test_ops_import_jax_and_numpy_alone(module):
    standard = {
        "base64",
        "collections",
        "contextlib",
        "ctypes",
        "functools",
        "hashlib",
        "importlib",
        "itertools",
        "math",
        "operator",
        "os",
        "pathlib",
        "re",
        "string",
        "threading",
        "time",
        "typing",
        "warnings",
    }
    for other in imported(module):
        root = other.partition(".")[0]
        assert root in standard | {"jax", "numpy", "convax"}, f"{module} imports {other}"


def test_unstable_corners_of_jax_are_imported_in_one_file():
    unstable = re.compile(
        r"(from|import) jax(\.(core|interpreters|extend|_src)\b| import .*\bcore\b)"
    )
    importing = {module for module in MODULES if unstable.search(source_of(module).read_text())}
    assert importing == {"convax.ops.common.jax_compat"}


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings(module):
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    failed, _ = doctest.testmod(importlib.import_module(module), optionflags=flags)
    assert not failed


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is(module):
    assert (importlib.import_module(module).__doc__ or "").strip()


# A docstring begins with what its function does: a verb.
NO_VERBS = {"What", "Whether", "How", "That", "Those", "Where"}


def public_functions(tree: ast.AST):
    """Yield the public functions of a module, and the public methods of its classes."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node
        elif isinstance(node, ast.ClassDef):
            yield from public_functions(node)


def first_words(source: str) -> dict[str, str]:
    """Return the first word of each public function's docstring."""
    found = public_functions(ast.parse(source))
    docs = ((node.name, (ast.get_docstring(node) or "").split()) for node in found)
    return {name: words[0].rstrip(",:;.") for name, words in docs if words}


@pytest.mark.parametrize("module", MODULES)
def test_docstrings_of_public_functions_begin_with_a_verb(module):
    words = first_words(source_of(module).read_text())
    assert {name: word for name, word in words.items() if word in NO_VERBS} == {}


def test_docstring_without_a_verb_is_found():
    source = 'class A:\n    def f(self):\n        """Whether it is."""'
    assert first_words(source) == {"f": "Whether"}


def test_no_file_grew_a_second_idea():
    longest = {m: len(source_of(m).read_text().splitlines()) for m in MODULES}
    assert not {m: n for m, n in longest.items() if n > 550}


def test_every_folder_with_a_first_page_is_an_installed_package():
    root = Path(__file__).parents[1]
    listed = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {
        page.parent.relative_to(root).as_posix()
        for top in ("app", *FOLDERS)
        for page in (root / top).rglob("__init__.py")
    }
    assert set(listed["package-dir"].values()) == folders | {"configs"}
    assert set(listed["package-dir"]) == set(listed["packages"])


def test_the_first_page_of_a_room_names_its_files():
    for module in MODULES:
        page = source_of(module)
        if page.name != "__init__.py" or module in ("convax", "convax.configs"):
            continue
        text = importlib.import_module(module).__doc__ or ""
        files = {file.stem for file in page.parent.glob("*.py")} - {"__init__", "__main__"}
        unnamed = {file for file in files if not re.search(rf"\b{file}\b", text)}
        assert not unnamed, f"{module}: its first page does not name {sorted(unnamed)}"


def test_configs_and_the_type_marker_are_installed():
    assert resources.files("convax").joinpath("py.typed").is_file()
    assert resources.files("convax.configs").joinpath("lenet5-digits.toml").is_file()


def test_the_version_is_that_of_the_package():
    from importlib.metadata import version

    assert convax.__version__ == version("convax")


def modules_after(program: str, *arguments: object) -> set[str]:
    """The modules of convax that a process has imported behind `program`."""
    listing = "\nimport sys\nprint(*(m for m in sys.modules if m.startswith('convax')))"
    command = [sys.executable, "-c", program + listing, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def rooms_of(modules: set[str]) -> set[str]:
    return {".".join(name.split(".")[:3]) for name in modules} - {"convax"}


def test_operations_import_nothing_else():
    found = rooms_of(modules_after("import convax.ops"))
    assert {name for name in found if not name.startswith("convax.ops")} == set()


def test_the_training_step_imports_operations_models_and_what_training_shares():
    found = modules_after("import convax.training.step.train_step")
    assert {room for room in rooms_of(found) if room.startswith("convax.training.")} == {
        "convax.training.common",
        "convax.training.step",
    }
    outside = {name.split(".")[1] for name in found if "." in name}
    assert outside == {"ops", "model", "training"}


def test_reading_a_checkpoint_imports_no_training():
    found = rooms_of(modules_after("import convax.training.run.checkpoint"))
    assert {room for room in found if room.startswith("convax.training")} == {
        "convax.training",
        "convax.training.common",
        "convax.training.plugins",
        "convax.training.run",
        "convax.training.weights",
    }


def test_a_predictor_imports_no_loop_no_step_and_no_table_but_those_of_its_config(whole):
    program = """
import sys, convax, numpy as np
predictor = convax.load(sys.argv[1])
predictor(np.zeros((1, *predictor.image_shape), np.uint8))
from convax.training.config import choices
tables = [f.cache_info().currsize for f in (choices._architecture, choices._layer, choices._optimizer)]
assert sum(tables) <= 4, tables
"""
    found = modules_after(program, whole.path)
    trainers = ("loop", "step", "experiments", "experiment", "distributed", "data.augment")
    assert not [
        name for name in found if _within(name, tuple(f"convax.training.{t}" for t in trainers))
    ]
