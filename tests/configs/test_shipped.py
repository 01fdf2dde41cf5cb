"""Every shipped config, run for a step on made-up data; and for real, among the slow tests."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from statistics import mean

import jax
import numpy as np
import pytest
from PIL import Image

import convax
from convax import model
from convax.model.torch.names import names_of
from convax.training.config.files import shipped_configs
from convax.training.config.schema import load_config
from convax.training.weights.torch_state_dict import save_torch
from tests.tiny import SHALLOW, as_users_compile

CONFIGS = sorted(shipped_configs())
ROOT = Path(__file__).parents[2]


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def made_up_mnist(tmp_path, rng, monkeypatch):
    """Thirty pictures of noise where the configs look for MNIST."""
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        write_idx(folder / f"{part}-images-idx3-ubyte", rng.integers(0, 256, (30, 28, 28)))
        write_idx(folder / f"{part}-labels-idx1-ubyte", np.arange(30) % 10)
    monkeypatch.setenv("CONVAX_DATA", str(tmp_path / "data"))


@pytest.fixture
def made_up_photographs(tmp_path, rng, monkeypatch):
    """Thirty of noise, with masks, where a config looks for Penn-Fudan."""
    for folder, suffix, shape in (("PNGImages", "", (16, 16, 3)), ("PedMasks", "_mask", (16, 16))):
        place = tmp_path / "data" / "PennFudanPed" / folder
        place.mkdir(parents=True)
        for i in range(30):
            array = rng.integers(0, 256 if not suffix else 3, shape).astype(np.uint8)
            Image.fromarray(array).save(place / f"{i}{suffix}.png")
    monkeypatch.setenv("CONVAX_DATA", str(tmp_path / "data"))


@pytest.fixture
def made_up_cifar(tmp_path, rng, monkeypatch):
    """Two pictures of noise for training and one for testing of each of ten classes, packed."""
    made = tmp_path / "made"
    for part, count in (("train", 2), ("test", 1)):
        for label in range(10):
            place = made / part / f"class{label}"
            place.mkdir(parents=True)
            for i in range(count):
                array = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)
                Image.fromarray(array).save(place / f"{i:04}.jpg")
    (tmp_path / "data").mkdir(exist_ok=True)
    shutil.make_archive(str(tmp_path / "data" / "cifar10-jpeg"), "gztar", made)
    monkeypatch.setenv("CONVAX_DATA", str(tmp_path / "data"))


def made_up_mobilenet(path):
    """Weights of zero where a config looks for those of ImageNet, under PyTorch's names."""
    net = model.mobilenet_v2(2)
    _, *shapes = model.init_shapes(net, (1, 32, 32, 3))
    arrays = jax.tree.map(lambda a: np.zeros(a.shape, np.float32), shapes)
    save_torch(path, net, (1, 32, 32, 3), *arrays, names=names_of({"name": "mobilenet_v2"}, net))


# One pyramid of two small maps, and images without change of colors.
DETECTOR = [
    *("data.size=[32,32]", "input.size=[32,32]", "augment={flip=true}", "training.batch_size=2"),
    *("model.stages=[3]", "model.fpn=8", "model.rpn.anchor_sizes=[[8.0],[16.0]]"),
    "model.hidden=8",
]
MASKS = ["model.mask_features=[8]"]
# The trunk ends with the third stage.
MOBILENET = [
    "init_from.path=mobilenet.safetensors",
    r"init_from.skip='backbone\.body\.features\.[5-9]\..*'",
]
# Proposals without a search, of which some are near the objects, which fill their images; a trunk of two stages.
PROPOSED = [
    *(override for override in DETECTOR if not override.startswith(("model.fpn", "model.rpn"))),
    'proposals={method="sliding", sides=[12.0, 28.0], ratios=[1.0]}',
    *("model.stages=[2]", "init_from.path=mobilenet.safetensors"),
    r"init_from.skip='backbone\.features\.([4-9]|1.)\..*'",
]
TINY_SCENES = [
    *("data.size=[64,64]", "input.size=[64,64]", "data.scale=[0.4,1.0]"),
    *("data.train=8", "data.test=4", "training.batch_size=2", "model.hidden=16"),
]
# Overrides for quickness: one step of the whole takes long to compile, or to compute. Every kind of block
# is still there, and `test_summary` has all of them.
SMALLER = {
    "fcn-pennfudan": ["data.size=[32,32]", "input.size=[32,32]"],
    "unet-pennfudan": ["data.size=[32,32]", "input.size=[32,32]", "model.features=[4,8]"],
    "fasterrcnn-scenes": TINY_SCENES,
    "maskrcnn-scenes": [*TINY_SCENES, *MASKS],
    "fastrcnn-pennfudan": PROPOSED,
    "sppnet-detector-pennfudan": PROPOSED,
    "rcnn-pennfudan": [*PROPOSED, "model.size=16", "model.context=1"],
    "fasterrcnn-pennfudan": [*DETECTOR, "model.width=8"],
    "fasterrcnn-mobilenet-pennfudan": [*DETECTOR, *MOBILENET],
    "maskrcnn-mobilenet-pennfudan": [*DETECTOR, *MASKS, *MOBILENET],
    "maskrcnn-pennfudan": [*DETECTOR, *MASKS, "model.width=8"],
    **{name: ["training.batch_size=2"] for name in CONFIGS if name.endswith("-cifar10")},
}
for name in ("resnet18", "mobilenet-v1", "mobilenet-v2", "convnext-tiny", "spp-net"):
    SMALLER[f"{name}-cifar10"].append("input.size=[32,32]")
SMALLER["mobilenet-finetune-cifar10"] += [
    *("input.size=[32,32]", "data.path=cifar10-jpeg.tar.gz"),
    "init_from.path=mobilenet.safetensors",
]
for name, shallow in SHALLOW.items():
    SMALLER[name] += shallow
# What is quick enough to be tried each time: one of each task, and one spelled out.
QUICK = {"lenet5-digits", "layers-digits", "siamese-mnist", "unet-pennfudan", "mlp-mnist"}
# The answer to one image, of the data that is made up here.
ANSWERS = {
    "fcn-pennfudan": (32, 32, 2),
    "unet-pennfudan": (32, 32, 2),
    "siamese-mnist": (32,),
    **{name: (50, 4) for name in CONFIGS if "rcnn" in name or "detector" in name},
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in CONFIGS]
)
@pytest.mark.usefixtures(
    "made_up_mnist", "made_up_photographs", "made_up_cifar", "thin_dense", "few_blocks"
)
def test_one_step(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the run that one begins with is looked for
    short = ["training.steps=1", "data.validation=5"]
    config = load_config(name, [*short, *SMALLER.get(name, [])])
    if config.init_from is not None:
        path = Path(config.init_from.path)
        if path.suffix == ".safetensors":
            made_up_mobilenet(path)
        else:
            convax.train(load_config(path.name, short), path)
    run = convax.train(config, tmp_path / "run")
    assert run.info()["status"] == "finished"
    assert run.info()["result"]["test"]["count"] > 0
    predict = convax.load(run.path)
    answers = predict(np.zeros((2, *predict.image_shape), np.uint8))
    if config.task in ("detection", "instance_segmentation"):
        answers = answers.boxes
    assert answers.shape == (2, *ANSWERS.get(name, (10,)))


PARAMETERS = {
    "alexnet-2012-cifar10": 20_209_034,
    "alexnet-cifar10": 57_044_810,
    "convnet-mnist": 144_298,
    "convnext-tiny-cifar10": 27_827_818,
    "dilated-mnist": 28_394,
    "fasterrcnn-mobilenet-pennfudan": 2_861_022,
    "fasterrcnn-pennfudan": 2_276_798,
    "fasterrcnn-scenes": 999_605,
    "fastrcnn-pennfudan": 1_815_370,
    "fcn-pennfudan": 11_179_462,
    "finetune-digits": 61_706,
    "layers-digits": 6_090,
    "lenet5-1998-mnist": 60_000,
    "lenet5-digits": 61_706,
    "lenet5-mnist": 61_706,
    "maskrcnn-mobilenet-pennfudan": 2_951_456,
    "maskrcnn-pennfudan": 2_308_704,
    "maskrcnn-scenes": 1_031_808,
    "mlp-mnist": 266_610,
    "mobilenet-finetune-cifar10": 2_236_682,
    "mobilenet-v1-cifar10": 3_217_226,
    "mobilenet-v2-cifar10": 2_236_682,
    "rcnn-pennfudan": 1_010_769,
    "resnet18-cifar10": 11_181_642,
    "resnet20-cifar10": 269_722,
    "resnet56-cifar10": 853_018,
    "siamese-mnist": 238_850,
    "spp-net-cifar10": 35_232_906,
    "sppnet-detector-pennfudan": 1_859_409,
    "unet-pennfudan": 1_286_722,
    "vgg16-cifar10": 134_309_962,
    "wide-resnet-cifar10": 2_748_890,
}


@pytest.mark.parametrize("name", CONFIGS)
def test_summary(name, tmp_path, monkeypatch, command):
    """Without the data, which have ten classes, and the channels that the config or source says."""
    monkeypatch.setenv("CONVAX_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    code, out, _ = command("summary", name, "--json")
    assert code == 0
    assert json.loads(out)["parameters"] == PARAMETERS[name]


@pytest.mark.parametrize("name", CONFIGS)
def test_the_header_is_true(name):
    """Its first line fits into `convax configs`, and its commands are what can be typed."""
    head = shipped_configs()[name].partition("seed = ")[0].splitlines()
    assert len(head[0]) <= 100 and head[0].endswith((".", ":"))
    commands = [line.lstrip("# ") for line in head if line.startswith("#     convax ")]
    trained = []
    for command in commands:
        _, verb, *arguments = shlex.split(command)
        assert verb in ("train", "fetch")
        if verb == "train":
            trained += arguments[:1] or ["lenet5-digits"]
            overrides = [value for flag, value in pairwise(arguments) if flag == "--set"]
            load_config(trained[-1], overrides)
    assert name in trained


@pytest.mark.slow
def test_the_default_learns_the_digits(tmp_path):
    accuracies = []
    for seed in range(3):
        result = result_of("lenet5-digits", tmp_path / str(seed), "--set", f"seed={seed}")
        assert result["count"] == 359
        accuracies.append(result["accuracy"])
    assert mean(accuracies) >= 0.985


@pytest.mark.slow
def test_lenet5_learns_mnist(data_dir, tmp_path):
    result = result_of("lenet5-mnist", tmp_path / "run")
    assert result["count"] == 10_000
    assert result["accuracy"] >= 0.99


def result_of(config, out, *arguments):
    """Return what the test of a whole training says, by the command line, compiled as users compile."""
    train = [sys.executable, "-m", "convax", "train", config, "--out", out, *arguments, "--json"]
    done = subprocess.run(train, env=as_users_compile(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)["result"]["test"]


@pytest.mark.slow
def test_the_wheel_holds_everything(tmp_path):
    """Built and unpacked elsewhere, it finds its packages and its configs."""
    pip = [sys.executable, "-m", "pip", "--quiet"]
    wheels, target = tmp_path / "wheels", tmp_path / "site"
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", wheels, ROOT], check=True)
    (wheel,) = wheels.glob("convax-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", target, wheel], check=True)
    program = """
import convax, convax.ops, convax.training.data
from convax.training.config.files import shipped_configs
print(convax.__file__, *shipped_configs())
"""
    environment = {**os.environ, "PYTHONPATH": str(target)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    file, *configs = done.stdout.split()
    assert Path(file).is_relative_to(target)
    assert configs == CONFIGS
