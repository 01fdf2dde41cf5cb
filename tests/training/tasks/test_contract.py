"""A task is one folder and one line of the registry; every loss of ops has a name in a config."""

import ast
import inspect
from functools import partial
from importlib import import_module
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import ops
from convax.training.config.loss import all_losses, loss_table
from convax.training.config.schema import ConfigError, load_config
from convax.training.experiment import COMPILE_QUICKLY
from convax.training.step.loss_params import init_loss, split_loss
from convax.training.tasks.registry import TASKS
from convax.training.tasks.spec import keywords_of

ROOT = Path(__file__).parents[3]
ROOMS = ("ops", "model", "training", "explain", "inference", "app")


def named_tasks(source: str) -> list[str]:
    """Where a text compares with a task's name, or has one as a key or a case: its lines."""
    found = []
    for node in ast.walk(ast.parse(source)):
        parts = []
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.Dict):
            parts = [key for key in node.keys if key is not None]
        elif isinstance(node, (ast.MatchValue, ast.Subscript)):
            parts = [node.value if isinstance(node, ast.MatchValue) else node.slice]
        inside = [c for part in parts for c in ast.walk(part) if isinstance(c, ast.Constant)]
        found += [f"{c.lineno}: {c.value}" for c in inside if c.value in TASKS]
    return found


def test_nothing_outside_a_task_s_folder_compares_its_name():
    files = [f for room in ROOMS for f in (ROOT / room).rglob("*.py")]
    assert len(files) > 200
    for file in files:
        folder = file.relative_to(ROOT).parts[:3]
        if folder[:2] == ("training", "tasks") and folder[2] in TASKS:
            continue
        assert not named_tasks(file.read_text()), file


@pytest.mark.parametrize(
    "text",
    [
        'if task.name == "embedding": pass',
        'if name in ("multilabel", "x"): pass',
        'kinds = {"segmentation": 1}',
        'kinds["regression"]',
        'match name:\n    case "classification": pass',
    ],
)
def test_a_comparison_would_be_found(text):
    assert named_tasks(text)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_made_by_its_folder(name):
    spec = TASKS[name]
    assert spec.name == name and isinstance(spec.make, str)
    module, _, function = spec.make.partition(":")
    made = import_module(f"convax.training.tasks{module}")
    folder = Path(made.__file__ or "").parent  # its own, or that of a task which it adds to
    assert folder.parent.name == "tasks" and folder.name in TASKS and function == name
    assert callable(getattr(made, function))
    assert spec.metrics[-1] == "loss" and spec.summary.format(share=0.5, images="1 image")


def test_every_loss_of_ops_has_a_name_in_a_config():
    reachable = {entry.signature for spec in TASKS.values() for entry in spec.losses.values()}
    losses = {
        getattr(ops, name)
        for name in ops.__all__
        if getattr(getattr(ops, name), "__module__", "").startswith("convax.ops.loss")
    } - {ops.smooth_labels}
    # No network has boxes alone for its output, nor log-probabilities or pairs of scores.
    losses -= {ops.giou_loss, ops.diou_loss, ops.ciou_loss}
    losses -= {ops.nll_loss, ops.kl_div_loss, ops.margin_ranking_loss}
    assert len(losses) >= 14 and losses <= reachable


def test_tables_of_losses_have_the_keywords_of_the_functions():
    tables = {name: loss_table(name, *entry) for name, entry in all_losses().items()}
    for spec in TASKS.values():
        for name, entry in spec.losses.items():
            assert keywords_of(entry.signature).keys() <= tables[name].model_fields.keys()
    margin = tables["contrastive"].model_fields["margin"]
    default = inspect.signature(ops.contrastive_loss).parameters["margin"].default
    assert margin.is_required() and margin.examples == [default]
    assert tables["focal"].model_fields["alpha"].annotation == float | None
    weights = tables["binary_cross_entropy"].model_fields["pos_weight"]
    assert weights.annotation == list[float] | float | None  # an array in the function


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ('{name="softmax_cross_entropy",label_smoothing=1.5}', "label_smoothing.*1.5"),
        ('{name="huber",delta=-1.0}', "delta"),
        ('{name="multi_margin",power=0,margin=1.0}', "power"),
        ('{name="focal",gamma=2.0}', "loss.alpha: missing; write loss.alpha = 0.25, say"),
        ('{name="hinge"}', "loss.name: should be one of"),
    ],
)
def test_a_loss_checks_its_own_numbers(loss, message):
    with pytest.raises(ConfigError, match=message):
        load_config("lenet5-digits", [f"loss={loss}"])


def test_a_loss_of_one_class_an_image_takes_no_mixtures():
    loss = 'loss={name="multi_margin",power=1,margin=1.0}'
    assert load_config("lenet5-digits", [loss]).loss.name == "multi_margin"
    with pytest.raises(ConfigError, match=r"takes one class for each image, and augment.mixup"):
        load_config("lenet5-digits", [loss, "augment.mixup.alpha=0.2"])


@pytest.mark.parametrize(("task", "name"), [(t, n) for t in TASKS for n in TASKS[t].losses])
def test_a_loss_falls_along_its_gradient(task, name):
    """As a config without its keywords' values would have it: with their defaults."""
    spec, rng = TASKS[task], np.random.default_rng(0)
    entry = spec.losses[name]
    keywords = {k: p.default for k, p in keywords_of(entry.signature).items()}
    keywords = {k: v for k, v in keywords.items() if v is not inspect.Parameter.empty}
    if "num_classes" in inspect.signature(entry.loss).parameters:
        keywords["num_classes"] = 2

    def numbers(like):
        N, *rest = like.shape
        if like.dtype == np.float32:
            return rng.normal(size=(8 * N, *rest)).astype(np.float32)
        return np.resize([0, 1], (8 * N, *rest)).astype(like.dtype)

    outputs, *others = jax.tree.map(numbers, spec.example)

    loss = partial(entry.loss, **keywords)
    if entry.owns_params:
        _, loss = split_loss(loss(), init_loss(loss(), {}, jax.random.key(0), outputs.shape))

    def value(outputs):
        found = loss(outputs, *others)
        parts = [part for part in jax.tree.leaves(found) if isinstance(part, jax.Array)]
        return sum(jnp.mean(part) for part in parts)

    step = jax.jit(jax.value_and_grad(value, allow_int=True), compiler_options=COMPILE_QUICKLY)
    before, slope = step(outputs)
    slopes = [s for s in jax.tree.leaves(slope) if s.dtype == np.float32]  # of whole numbers: none
    steepest = max(float(np.abs(s).max()) for s in slopes)
    assert np.isfinite(before) and steepest > 0

    def moved(leaf, slope):
        down = slope.dtype == np.float32
        return leaf - np.float32(1e-2 / steepest) * np.asarray(slope) if down else leaf

    after, _ = step(jax.tree.map(moved, outputs, slope))
    assert after < before
