"""Weights under the names of other libraries: which table a file is read by, and what comes out."""

import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from convax import model
from convax.model.torch.names import names_of
from convax.model.torch.other_names import OTHERS, closest, other_names_of
from convax.training.config.schema import load_config
from convax.training.experiment import prepare
from convax.training.initialize import _read
from convax.training.weights.safetensors_io import write_safetensors
from convax.training.weights.torch_state_dict import load_torch, torch_mapping
from convax.training.weights.weights import by_name

SPECS = {
    "mobilenet_v2": {"name": "mobilenet_v2"},
    "convnext": {"name": "convnext", "size": "tiny"},
    "efficientnet": {"name": "efficientnet", "size": "b0"},
}
# timm's networks whose names a table gives, of full depth.
TIMM = {
    "mobilenetv2_100": ({"name": "mobilenet_v2"}, 0),
    "convnext_tiny": ({"name": "convnext"}, 0),
    "efficientnet_b0": ({"name": "efficientnet", "size": "b0"}, 0),
    "tf_efficientnet_b1": ({"name": "efficientnet", "size": "b1"}, 0),
    "tf_efficientnet_lite0": ({"name": "efficientnet", "size": "lite0"}, 0),
}


def tables_of(spec):
    net = model.build(spec, 3)
    return net, [names_of(spec, net), *other_names_of(spec)]


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.usefixtures("few_blocks")
def test_a_file_is_read_by_the_table_whose_names_it_has(name):
    net, tables = tables_of(SPECS[name])
    _, *shapes = model.init_shapes(net, (1, 32, 32, 3))
    paths = by_name(*shapes)
    called = [torch_mapping(net, (1, 32, 32, 3), rules).called for rules in tables]
    assert all(names.keys() == paths.keys() for names in called)
    for rules, names in zip(tables, called, strict=True):
        assert closest(tables, paths, names.values()) is rules
    assert closest(tables, paths, ["what", "else"]) is tables[0]
    assert closest([None], paths, ["what", "else"]) is None


@pytest.mark.usefixtures("few_blocks")
def test_init_from_reads_other_names(tiny, tmp_path):
    net, (*_, flat) = tables_of({"name": "efficientnet", "size": "lite0"})
    _, *shapes = model.init_shapes(net, (1, 8, 8, 3))
    arrays = jax.tree.map(lambda a: np.full(a.shape, 2, a.dtype), by_name(*shapes))
    file = tmp_path / "theirs.safetensors"
    tensors = torch_mapping(net, (1, 8, 8, 3), flat).to_torch(arrays)
    assert "_blocks.2._depthwise_conv.weight" in tensors
    write_safetensors(file, tensors)
    config = load_config(
        tiny, ['model={name="efficientnet",size="lite0"}', f"init_from.path={file}"]
    )
    experiment = prepare(config)
    _, *wanted = model.init_shapes(experiment.net, (1, 8, 8, 3))
    assert config.init_from is not None
    source = _read(config.init_from, experiment, by_name(*wanted))
    assert source.arrays.keys() == by_name(*wanted).keys()
    assert source.called["stem/conv/kernel"] == "_conv_stem.weight"


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM)
def test_the_names_are_timms(name, torch):
    timm = pytest.importorskip("timm")
    spec, place = TIMM[name]
    with torch.device("meta"):
        theirs = set(timm.create_model(name).state_dict())
    net = model.build(spec, 1000)
    called = torch_mapping(net, (1, 64, 64, 3), other_names_of(spec)[place]).called
    assert set(called.values()) == {n for n in theirs if not n.endswith("num_batches_tracked")}


@pytest.mark.slow
def test_efficientnet_lite0_knows_a_photograph(data_dir):
    """With real weights of ImageNet; scikit-learn's photograph is of a temple in Beijing."""
    file = data_dir / "weights" / "efficientnet_lite0.safetensors"
    if not file.exists():
        pytest.skip(f"{file} is not there")
    net = model.efficientnet(1000, size="lite0")
    flat = other_names_of({"name": "efficientnet", "size": "lite0"})[-1]
    params, state = load_torch(file, net, (1, 160, 160, 3), names=flat)
    image = Image.fromarray(load_sample_image("china.jpg")).resize((160, 160))
    x = (np.asarray(image, np.float32)[None] - 127) / 128
    logits, _ = jax.jit(net.apply)(params, state, x)
    likely = set(np.argsort(logits[0])[-5:].tolist())
    # bell cote, monastery, mosque, palace, stupa
    assert len(likely & {442, 663, 668, 698, 832}) >= 4
