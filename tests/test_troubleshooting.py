"""docs/troubleshooting.md: each message there is what is said, and what it advises is there."""

import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from convax.cli import main
from tests.tiny import untrained

TEXT = (Path(__file__).parents[1] / "docs" / "troubleshooting.md").read_text()
MESSAGES = re.findall(r"```text\n(.*?)```", TEXT, flags=re.DOTALL)


def message(words):
    """The one message of the page with these words, with numbers as N: they depend on the network."""
    (found,) = (text for text in MESSAGES if words in text)
    return numbered(found)


def numbered(text):
    return re.sub(r"(?<=here )\d\S*\d|\d{4,}(?= bytes)", "N", text)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """An empty folder of runs in the current one."""
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    return Path("runs")


def test_a_changed_run_is_not_resumed(tiny, runs, command):
    run, _ = untrained(tiny, runs / "my")
    config = run.path / "config.toml"
    config.write_text(config.read_text().replace("learning_rate = 0.01", "learning_rate = 0.002"))
    assert command("train", "--resume", "runs/my") == (2, "", message("changed since this run"))


def test_a_finished_run_is_not_resumed_and_none_is_overwritten(whole, tiny, runs, command):
    shutil.copytree(whole.path, "runs/my")
    assert command("train", "--resume", "runs/my") == (2, "", message("this run is finished"))
    said = command("train", tiny, "--out", "runs/my")
    assert said == (2, "", message("exists already"))


def test_a_step_that_is_not_finite(tiny, runs, command):
    code, _, said = command(
        "train", tiny, "--out", "runs/nan", "--set", "optimizer.learning_rate=1e38"
    )
    assert code == 1
    assert numbered(said) == message("update_norm is inf")


def test_no_memory(capsys):
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        jnp.zeros(1 << 44)
    assert main._explain(caught.value) == 2
    assert numbered(capsys.readouterr().err) == message("out of memory")


def test_no_gpu(capsys, monkeypatch):
    def none():
        raise AssertionError

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(jax, "devices", none)
    assert main._explain(RuntimeError()) == 2
    assert capsys.readouterr().err == message("JAX finds no cuda")


def test_images_that_cannot_be_read(runs, command, rng):
    for name in "ab":
        (Path("photos") / name).mkdir(parents=True)
        for i in range(4):
            image = rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)
            Image.fromarray(image).save(f"photos/{name}/{i}.png")
    Image.fromarray(rng.random((16, 16)).astype(np.float32)).save("photos/a/float.tif")
    Path("photos/b/broken.jpg").write_bytes(b"\xff\xd8\xff")
    Path("photos/b/page.png").write_text("<html>")
    assert command("new", "photos")[0] == 0
    code, _, said = command("train", "photos.toml", "--set", "data.unreadable=error")
    assert code == 2
    assert said.replace(f"{Path.cwd()}/", "") == message("files cannot be used")
    Path("photos/b").rename("b")
    code, _, said = command("train", "photos.toml")
    assert (code, said) == (2, message("all images are of one class"))
