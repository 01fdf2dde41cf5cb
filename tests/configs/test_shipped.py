"""Every shipped config, run for a step on made-up data; and for real, among the slow tests."""

import os
import subprocess
import sys
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
from PIL import Image

import convax
from convax.training.config import load_config, shipped_configs

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


# Overrides for quickness: one step of the whole takes long to compile, or to compute.
SMALLER = {"unet-pennfudan": ["data.size=[32,32]", "input.size=[32,32]", "model.features=[4,8]"]}
# The answer to one image, of the data that is made up here.
ANSWERS = {"unet-pennfudan": (32, 32, 2), "siamese-mnist": (32,)}


@pytest.mark.parametrize("name", CONFIGS)
def test_one_step(name, made_up_mnist, made_up_photographs, tmp_path):
    overrides = ["training.steps=1", "data.validation=5", *SMALLER.get(name, [])]
    config = load_config(name, overrides)
    run = convax.train(config, tmp_path / "run")
    assert run.info()["status"] == "finished"
    assert run.info()["result"]["test"]["count"] > 0
    predict = convax.load(run.path)
    answers = predict(np.zeros((2, *predict.image_shape), np.uint8))
    assert answers.shape == (2, *ANSWERS.get(name, (10,)))


@pytest.mark.slow
def test_the_default_learns_the_digits(tmp_path):
    accuracies = []
    for seed in range(3):
        config = load_config("lenet5-digits", [f"seed={seed}"])
        run = convax.train(config, tmp_path / str(seed))
        result = run.info()["result"]["test"]
        assert result["count"] == 359
        accuracies.append(result["accuracy"])
    assert mean(accuracies) >= 0.985


@pytest.mark.slow
def test_lenet5_learns_mnist(data_dir, tmp_path):
    run = convax.train(load_config("lenet5-mnist"), tmp_path / "run")
    result = run.info()["result"]["test"]
    assert result["count"] == 10_000
    assert result["accuracy"] >= 0.99


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
from convax.training.config import shipped_configs
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
