"""A tiny experiment that trains in a second, for the tests of the loop and of its run."""

import os
import shutil
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import convax
from convax.cli.main import main
from convax.inference import speed
from convax.inference.speed import Speed
from convax.model import ARCHITECTURES
from convax.model.torch import names as torch_names
from convax.training.config.schema import load_config
from convax.training.experiment import prepare
from convax.training.loop import loop
from convax.training.plots import attempt
from convax.training.report.figures import draw_experiment
from convax.training.run import checkpoint
from convax.training.run.directory import Run, create_run

TINY = """
seed = 3
[data]
source = "npz"
path = "{path}"
validation = 20
[input]
size = [8, 8]
fit = "pad"
[model]
name = "mlp"
hidden = [16]
activation = "relu"
[loss]
name = "softmax_cross_entropy"
label_smoothing = 0.0
[optimizer]
name = "adam"
learning_rate = 0.01
b1 = 0.9
b2 = 0.999
eps = 1e-8
weight_decay = 0.0
[schedule]
name = "cosine"
warmup = 0.1
end = 0.0
[training]
batch_size = 16
steps = 60
evaluate_every = "20 steps"
log_every = 7
"""


# The least depths that have every kind of block, for shipped configs: blocks that are alike take as long again.
SHALLOW = {
    f"{name}-cifar10": [f"model.depth={depth}"]
    for name, depth in (("resnet20", 8), ("resnet56", 8), ("vgg16", 11))
}
EMBEDDING = ["task=embedding", 'loss={name="contrastive",margin=1.0}']  # what to override


def write_tiny(folder):
    """Three classes of 6x6 pictures that differ in which third is bright; and the config."""
    rng = np.random.default_rng(0)

    def draw(count):
        labels = rng.integers(0, 3, count)
        images = rng.integers(0, 120, (count, 6, 6))
        for image, label in zip(images, labels, strict=True):
            image[:, 2 * label : 2 * label + 2] += 90
        return images.astype(np.uint8), labels.astype(np.uint8)

    (x_train, y_train), (x_test, y_test) = draw(130), draw(53)
    data = folder / "tiny.npz"
    np.savez(data, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    config = folder / "tiny.toml"
    config.write_text(TINY.format(path=data))
    return config


def untrained(config, out, **learned):
    """A run of a config with its first parameters as its only checkpoint, or those learned."""
    experiment = prepare(load_config(config) if isinstance(config, Path) else config)
    run = create_run(experiment.config, out, experiment.card)
    snapshot = checkpoint.snapshot(experiment.init()._replace(**learned))
    name = checkpoint.write(run.checkpoints, snapshot, {})
    for pointer in ("best", "last"):
        checkpoint.point(run.checkpoints, pointer, name)
    return run, experiment


@pytest.fixture(scope="session", autouse=True)
def undrawn():
    """Have no run draw its figures, which is two thirds of what a tiny one takes; see `drawing`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "draw_experiment", lambda *arguments: [])
        yield


@pytest.fixture(scope="session", autouse=True)
def unflushed():
    """Leave files to the system, which takes its time: no test cuts the power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def untimed():
    """Have no evaluation and no report measure how long predictions take; see `measure_speed`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "measure_speed", lambda *given: Speed(1.5, 8, None, "nothing"))
        yield


@pytest.fixture(scope="session", autouse=True)
def figures_must_be_drawn():
    """Let a figure that cannot be drawn fail the test, which otherwise is a warning."""

    def fail(name, error):
        raise AssertionError(f"{name} could not be drawn") from error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempt, "warn_of", fail)
        yield


def as_users_compile() -> dict[str, str]:
    """Return the environment of a process that trains for long, with LLVM's optimizations."""
    return os.environ | {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_backend_optimization_level=3"
    }


@contextmanager
def drawing():
    """Have the runs within draw their figures, as they do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "draw_experiment", draw_experiment)
        yield


@pytest.fixture
def tiny(tmp_path):
    """The config file of the tiny experiment, with its data beside it."""
    return write_tiny(tmp_path)


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """The tiny run, never stopped; not to be changed."""
    folder = tmp_path_factory.mktemp("whole")
    with drawing():
        return convax.train(load_config(write_tiny(folder)), folder / "run")


@pytest.fixture
def copied(whole, tmp_path):
    """A copy of the tiny run, to be damaged."""
    shutil.copytree(whole.path, tmp_path / "copied")
    return Run(tmp_path / "copied")


@pytest.fixture
def thin_dense(monkeypatch):
    """Make VGG and its like thin: their dense layers are 0.5 GB to write, and no more operations."""
    for name in ("alexnet", "spp_net", "vgg"):
        module = sys.modules[ARCHITECTURES[name].__module__]
        monkeypatch.setattr(module, "dense", partial(_thin, module.dense))


@pytest.fixture
def few_blocks(monkeypatch):
    """Make ConvNeXt-T, ResNet-18, EfficientNet-B0 and the MobileNets of fewer blocks that are alike.

    ConvNeXt-T is thin, too.
    """
    convnext, resnet, mobilenet, efficientnet = (
        sys.modules[ARCHITECTURES[name].__module__]
        for name in ("convnext", "resnet", "mobilenet_v2", "efficientnet")
    )
    monkeypatch.setitem(convnext._SIZES, "tiny", ((8, 16, 24, 32), (1, 1, 2, 1)))
    monkeypatch.setitem(resnet._DEPTHS, 18, (1, (1, 2, 1, 1)))
    monkeypatch.setattr(mobilenet, "_V1", [(64, 1), (128, 2), (128, 1), (1024, 2)])
    short = [
        (expansion, features, 2 if stage == 2 else 1, stride)
        for stage, (expansion, features, _, stride) in enumerate(mobilenet.V2, 1)
    ]
    monkeypatch.setattr(mobilenet, "V2", short)
    monkeypatch.setattr(torch_names, "MOBILENET_V2", short)
    few = [(*stage[:4], 2 if place == 1 else 1) for place, stage in enumerate(efficientnet.STAGES)]
    monkeypatch.setattr(efficientnet, "STAGES", few)


def _thin(dense, features, *arguments, **keywords):
    return dense(min(features, 256), *arguments, **keywords)


@pytest.fixture
def command(monkeypatch, capsys):
    """``command(*arguments) -> (exit code, standard output, standard error)``."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["convax", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        printed = capsys.readouterr()
        assert "Traceback" not in printed.out + printed.err
        return code, printed.out, printed.err

    return run
