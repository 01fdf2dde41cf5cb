"""Published weights by name: fetched from a server on this machine, converted, begun with."""

import functools
import hashlib
import http.server
import json
import sys
import threading

import jax
import numpy as np
import pytest

from convax import model
from convax.model.torch.names import names_of
from convax.training.common.pytree_paths import named_leaves
from convax.training.config.errors import ConfigError
from convax.training.config.schema import load_config
from convax.training.data import DataError
from convax.training.experiment import prepare
from convax.training.initialize import init_from_source, resolve_weights_path
from convax.training.pretrained import check_fits, fetch_pretrained, pretrained_path
from convax.training.weights import published
from convax.training.weights.published import CLASSES, IN_SHAPE, PUBLISHED, ROOT
from convax.training.weights.torch_state_dict import torch_mapping
from convax.training.weights.weights import by_name

TINY = {"name": "resnet_cifar", "depth": 8, "shortcut": "B"}
CONFIG = [
    'model={name="resnet_cifar",depth=8,shortcut="B"}',
    'init_from={pretrained="resnet18",skip="conv1/.*"}',  # of three channels, and the data has one
]


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and remembers what was asked for."""

    asked: list[str]

    def do_GET(self):
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_):  # type: ignore[override]
        pass


@pytest.fixture
def weights(torch, tmp_path, monkeypatch):
    """A small network's, of ones, under the name of larger ones; ``weights.asked`` of the server."""
    net = model.build(TINY, CLASSES)
    _, *shapes = model.init_shapes(net, IN_SHAPE)
    arrays = jax.tree.map(lambda a: np.ones(a.shape, a.dtype), by_name(*shapes))
    tensors = torch_mapping(net, IN_SHAPE, names_of(TINY, net)).to_torch(arrays)
    folder = tmp_path / "server"
    folder.mkdir()
    torch.save({name: torch.tensor(array) for name, array in tensors.items()}, folder / "x.pth")
    digest = hashlib.sha256((folder / "x.pth").read_bytes()).hexdigest()
    file = (folder / "x.pth").rename(folder / f"tiny-{digest[:8]}.pth")
    entry = PUBLISHED["resnet18"]._replace(model=TINY, file=file.name, size=10**6)
    monkeypatch.setitem(PUBLISHED, "resnet18", entry)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    handler = type("Asked", (Handler,), {"asked": [], "file": file})
    serve = functools.partial(handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        monkeypatch.setattr(
            "convax.training.pretrained.ROOT", f"http://127.0.0.1:{server.server_port}/"
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield handler
        server.shutdown()


def test_a_network_begins_with_weights_that_are_named(weights, tiny, command):
    code, out, _ = command("pretrained", "resnet18", "--json")
    path = json.loads(out)["path"]
    assert code == 0 and path == str(pretrained_path("resnet18"))
    config = resolve_weights_path(load_config(tiny, CONFIG), None)
    assert config.init_from is not None and config.init_from.path == path
    assert weights.asked == [f"/{weights.file.name}"]  # once, though it was needed twice
    state, report = init_from_source(prepare(config))
    assert report is not None
    kept = {"conv1/kernel", "fc/kernel", "fc/bias"}  # of other classes
    assert set(report.initial) == kept
    for name, leaf in named_leaves(state.params):
        assert name in kept or (np.asarray(leaf) == 1).all(), name
    assert str(report).endswith(
        'note: input.normalize is "standard", and resnet18 was trained with input.normalize = '
        '"imagenet"'
    )
    code, out, _ = command("pretrained", "--json")
    assert code == 0
    assert {name for name, known in json.loads(out).items() if known["path"]} == {"resnet18"}


def test_where_the_file_lies_can_be_said(weights, tiny, tmp_path):
    """Then nothing is fetched; the network is looked at all the same."""
    there = f'init_from={{pretrained="resnet18",path="{weights.file}"}}'
    config = resolve_weights_path(load_config(tiny, [CONFIG[0], there]), None)
    assert config.init_from is not None and config.init_from.path == str(weights.file)
    assert not weights.asked
    with pytest.raises(ConfigError, match=r"model\.name is 'mlp'; write model\.name = \"resnet_"):
        resolve_weights_path(load_config(tiny, [there]), None)


def test_what_is_not_the_file_is_refused(weights, command):
    weights.file.write_bytes(weights.file.read_bytes()[:-1] + b"x")
    code, _, problem = command("pretrained", "resnet18")
    assert code == 2 and "wrong checksum" in problem
    assert not pretrained_path("resnet18").exists()


def test_nothing_is_fetched_that_could_not_be_read(weights, command, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    code, _, problem = command("pretrained", "resnet18")
    assert code == 2 and "pip install torch" in problem
    assert not weights.asked


def test_names_that_are_not_known():
    with pytest.raises(
        DataError, match=r"unknown weights: got 'resnet9', need one of alexnet, vgg"
    ):
        fetch_pretrained("resnet9")


def test_the_network_has_to_be_the_one_they_are_for(tiny):
    plain = model_table(tiny, 'model={name="resnet",depth=18}')
    check_fits("resnet18", plain)
    with pytest.raises(ConfigError, match=r"model\.depth is 18; write .*, model\.depth = 50"):
        check_fits("resnet50", plain)
    same = model_table(tiny, 'model={name="efficientnet",padding="SAME"}')
    with pytest.raises(ConfigError, match=r"model\.padding is 'SAME'; write .*, no model\.padding"):
        check_fits("efficientnet_b0", same)


def model_table(tiny, *overrides):
    return load_config(tiny, overrides).model.model_dump()


def test_the_list_says_what_is_published(command):
    code, out, _ = command("pretrained")
    assert code == 0
    line = next(line for line in out.splitlines() if line.startswith("resnet18 "))
    assert line.split()[1:] == [
        *("69.76", "%", "89.08", "%", "BSD-3-Clause", "f37072fd..."),
        *("no", f"{ROOT}resnet18-f37072fd.pth"),
    ]


def test_the_table_is_torchvisions():
    models = pytest.importorskip("torchvision").models
    for name, known in PUBLISHED.items():
        theirs = models.get_model_weights(name).IMAGENET1K_V1
        metrics = theirs.meta["_metrics"]["ImageNet-1K"]
        assert theirs.url == ROOT + known.file
        assert (metrics["acc@1"], metrics["acc@5"]) == (known.top1, known.top5)
        assert known.size * 0.9 < theirs.meta["_file_size"] * 2**20 < known.size
        chosen = theirs.transforms()
        assert chosen.mean == [0.485, 0.456, 0.406] and chosen.std == [0.229, 0.224, 0.225]
    assert published.NORMALIZE == "imagenet"
