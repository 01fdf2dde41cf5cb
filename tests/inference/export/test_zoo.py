"""Networks of the zoo on their way out: as a bundle, and as an ONNX file."""

import tomllib

import pytest

from convax.inference.export import bundle, onnx
from convax.inference.export.bundle import export
from convax.inference.export.onnx import export_onnx
from convax.inference.export.verify import verify
from convax.training.config.schema import load_config, validate
from tests.tiny import SHALLOW, untrained, write_tiny
from tests.training.tasks.test_segmentation import write_scenes

SHIPPED = [
    *("alexnet-2012-cifar10", "alexnet-cifar10", "convnext-tiny-cifar10", "dilated-mnist"),
    *("fcn-pennfudan", "lenet5-1998-mnist", "mobilenet-v1-cifar10", "mobilenet-v2-cifar10"),
    *("resnet18-cifar10", "resnet20-cifar10", "spp-net-cifar10", "unet-pennfudan", "vgg16-cifar10"),
]


def run_of(name, folder):
    """The network of a shipped config, untrained, on pictures that were made up."""
    config = load_config(name, SHALLOW.get(name, []))
    segmentation = config.task == "segmentation"
    raw = tomllib.loads((write_scenes if segmentation else write_tiny)(folder).read_text())
    side = 64 if segmentation else config.input.size[0]
    raw["model"] = config.model.model_dump(mode="json")
    raw["input"] = {"size": [side, side], "fit": "resize"}
    raw["optimizer"] = {"name": "sgd", "learning_rate": 0.1, "momentum": 0.0, "nesterov": False}
    raw["optimizer"]["weight_decay"] = 0.0  # nor has it a state, to be written
    return untrained(validate(raw, name), folder / "run")[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.usefixtures("thin_dense", "few_blocks")
def test_as_a_bundle_and_as_an_onnx_file(name, tmp_path, monkeypatch):
    run, verified = run_of(name, tmp_path), []
    monkeypatch.setattr(bundle, "verify", lambda folder: verified.append(verify(folder)))
    export(run.path, tmp_path / "bundle")
    (told,) = verified
    assert told.difference <= told.tolerance
    for package in ("jax2onnx", "onnxruntime", "onnx"):
        with onnx.quiet():
            pytest.importorskip(package)
    written = export_onnx(run.path, tmp_path / "net.onnx")
    assert written.difference <= written.tolerance
