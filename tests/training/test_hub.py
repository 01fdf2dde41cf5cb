"""``hf://``: a file in the hub's own cache is found without a network, and all else gets a line."""

import sys

import numpy as np
import pytest

from convax.training.config.schema import load_config
from convax.training.hub import download
from convax.training.initialize import resolve_weights_path
from convax.training.weights.safetensors_io import WeightsError, write_safetensors

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A repository in the cache, as the package leaves it there, and no network."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "models--timm--tiny.tv_in1k"
    file = folder / "snapshots" / COMMIT / "model.safetensors"
    file.parent.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    write_safetensors(file, {"conv1.weight": np.ones(3, np.float32)})
    return file


def test_a_file_that_is_in_the_cache_is_found(cached, tiny):
    name = "hf://timm/tiny.tv_in1k"
    for address in (name, f"{name}@main/model.safetensors", f"{name}@{COMMIT}"):
        assert download(address) == cached
    config = resolve_weights_path(load_config(tiny, [f"init_from.path={name}"]), None)
    assert config.init_from is not None and config.init_from.path == str(cached)


@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize("address", ["hf://timm/other", "hf://timm/tiny.tv_in1k/other.safetensors"])
def test_what_the_hub_does_not_give_is_one_line(address):
    with pytest.raises(WeightsError) as refused:
        download(address)
    said = str(refused.value)
    assert said.startswith(f"{address}: the hub does not give ") and "\n" not in said


@pytest.mark.parametrize("address", ["hf://", "hf://timm", "hf://timm/a b", "hf://timm/x/\n"])
def test_another_form_is_refused(address):
    with pytest.raises(WeightsError, match=r"not the address of a file: need hf://OWNER/NAME"):
        download(address)


def test_without_the_package_a_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(WeightsError, match=r"pip install 'convax\[hub\]'"):
        download("hf://timm/resnet18.tv_in1k")
