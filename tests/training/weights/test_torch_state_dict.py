"""PyTorch's weights in and out: equal logits, equal gradients, the same file back."""

import builtins
import json

import jax
import numpy as np
import pytest
import safetensors.numpy

from convax import model
from convax.model import ARCHITECTURES
from convax.model.torch.names import Rule, array_name, names_of
from convax.model.torch.other_names import nested_blocks
from convax.training.weights.safetensors_io import WeightsError
from convax.training.weights.torch_file import read_state_dict
from convax.training.weights.torch_state_dict import load_torch, save_torch, torch_mapping
from tests.training.weights.torch_parity import assert_same_network


def convnet(nn):
    """Every leaf there is: grouped, depthwise and transposed kernels, norms, PReLU, flatten."""
    ours = model.serial(
        model.conv(6, 3, padding=1, bias=False),
        model.batch_norm(),
        model.prelu(),
        model.conv(8, [3, 2], stride=2, groups=2),
        model.group_norm(4),
        model.depthwise_conv(3, multiplier=2, padding=1),
        model.relu(),
        model.conv_transpose(12, 3, stride=2, groups=4),
        model.serial(model.batch_norm(scale=True), model.max_pool(2)),
        model.flatten(),
        model.batch_norm(),
        model.relu(),
        model.dense(7),
        model.relu(),
        model.dense(3, bias=False),
    )
    theirs = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.PReLU(6),
        nn.Conv2d(6, 8, (3, 2), stride=2, groups=2),
        nn.GroupNorm(4, 8),
        nn.Conv2d(8, 16, 3, padding=1, groups=8),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 12, 3, stride=2, groups=4),
        nn.Sequential(nn.BatchNorm2d(12), nn.MaxPool2d(2)),
        nn.Flatten(),
        nn.BatchNorm1d(12 * 5 * 3),
        nn.ReLU(),
        nn.Linear(12 * 5 * 3, 7),
        nn.ReLU(),
        nn.Linear(7, 3, bias=False),
    )
    return ours, theirs, (11, 7, 3)


def lenet(nn):
    ours = ARCHITECTURES["lenet5"](10, activation="tanh", pool="avg")
    theirs = nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.Tanh(), nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10),
    )  # fmt: skip
    return ours, theirs, (32, 32, 1)


def mlp(nn):
    ours = ARCHITECTURES["mlp"](4, hidden=[9], activation="relu")
    theirs = nn.Sequential(nn.Flatten(), nn.Linear(5 * 4 * 3, 9), nn.ReLU(), nn.Linear(9, 4))
    return ours, theirs, (5, 4, 3)


def one_dimension(nn):
    ours = model.serial(
        model.conv(4, 3), model.relu(), model.conv_transpose(5, 2, stride=2), model.flatten(),
        model.dense(2),
    )  # fmt: skip
    theirs = nn.Sequential(
        nn.Conv1d(3, 4, 3), nn.ReLU(), nn.ConvTranspose1d(4, 5, 2, stride=2), nn.Flatten(),
        nn.Linear(5 * 12, 2),
    )  # fmt: skip
    return ours, theirs, (8, 3)


def three_dimensions(nn):
    ours = model.serial(model.conv(4, [2, 3, 1]), model.relu(), model.flatten(), model.dense(2))
    theirs = nn.Sequential(
        nn.Conv3d(2, 4, (2, 3, 1)), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 3 * 2 * 5, 2)
    )
    return ours, theirs, (4, 4, 5, 2)


def fully_convolutional(nn):
    ours = model.serial(model.conv_transpose(2, 3, stride=2, padding=1, output_padding=1))
    theirs = nn.Sequential(nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1))
    return ours, theirs, (5, 4, 3)


def of_whole_images(nn):
    """A norm over (H, W, C), which PyTorch has as (C, H, W), and one slope for all channels."""
    ours = model.serial(
        model.conv(4, 3), model.layer_norm(axes=(-3, -2, -1)), model.prelu(per_channel=False),
        model.flatten(), model.dense(2),
    )  # fmt: skip
    theirs = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.LayerNorm((4, 4, 4)), nn.PReLU(), nn.Flatten(), nn.Linear(64, 2)
    )
    return ours, theirs, (6, 6, 3)


NETS = [of_whole_images, convnet, lenet, mlp, one_dimension, three_dimensions, fully_convolutional]


@pytest.mark.slow
@pytest.mark.parametrize("make", NETS, ids=lambda make: make.__name__)
def test_load_torch_reads_a_sequential_of_the_same_layers(make, torch, tmp_path):
    ours, theirs, image_shape = make(torch.nn)
    assert_same_network(torch, theirs, ours, image_shape, tmp_path, train=True)


@pytest.fixture
def small(tmp_path):
    """A network, and a state dict that fits it."""
    net = model.serial(model.conv(2, 3), model.batch_norm(), model.flatten(), model.dense(3))
    _, params, state = net.init(jax.random.key(0), (1, 5, 5, 1))
    file = tmp_path / "model.safetensors"
    save_torch(file, net, (1, 5, 5, 1), params, state)
    return net, file


def test_nothing_of_pytorch_is_needed_for_safetensors(small, monkeypatch):
    monkeypatch.setattr(builtins, "__import__", refuse_torch(builtins.__import__))
    net, file = small
    params, state = load_torch(file, net, (1, 5, 5, 1))
    assert params["conv1"]["kernel"].shape == (3, 3, 1, 2)
    assert state["batch_norm1"]["var"].shape == (2,)


def refuse_torch(real):
    def imported(name, *arguments, **keywords):
        if name.partition(".")[0] == "torch":
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    return imported


def test_without_pytorch_a_pt_file_is_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(builtins, "__import__", refuse_torch(builtins.__import__))
    with pytest.raises(
        WeightsError, match=r"m\.pt: reading this needs PyTorch: pip install torch;"
    ):
        read_state_dict(tmp_path / "m.pt")


PREFIXES = ["module.", "model.", "_orig_mod.", "model.module.", "model._orig_mod."]


@pytest.mark.parametrize(
    "wrap", ["plain", "state_dict", "model", "model_state_dict", "network", *PREFIXES]
)
def test_load_torch_reads_a_state_dict_that_pytorch_saved(small, wrap, torch, tmp_path):
    net, file = small
    tensors = {name: torch.tensor(array) for name, array in read_state_dict(file).items()}
    if wrap in PREFIXES:
        loaded = {f"{wrap}{name}": tensor for name, tensor in tensors.items()}
    else:
        loaded = tensors if wrap == "plain" else {wrap: tensors, "epoch": 3}
    torch.save(loaded, tmp_path / "model.pth")
    found = load_torch(tmp_path / "model.pth", net, (1, 5, 5, 1))
    expected = load_torch(file, net, (1, 5, 5, 1))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize(
    "names",
    [
        ["n_averaged", "module.0.weight", "module.2.bias"],  # torch.optim.swa_utils.AveragedModel
        ["0._orig_mod.weight", "2.bias"],  # a part of it went through torch.compile
        ["_orig_mod.module.0.weight", "_orig_mod.module.2.bias"],
        ["_fsdp_wrapped_module.0._fsdp_wrapped_module.weight", "_fsdp_wrapped_module.2.bias"],
        ["module.0._checkpoint_wrapped_module.weight", "module.2.bias"],
        ["_fsdp_wrapped_module._fpw_module.0.weight", "_forward_module.2._orig_mod.bias"],
    ],
)
def test_state_dicts_of_wrappers_are_those_of_what_they_wrap(names, tmp_path):
    tensors = {name: np.zeros(1, np.float32) for name in names}
    safetensors.numpy.save_file(tensors, tmp_path / "m.safetensors")
    assert sorted(read_state_dict(tmp_path / "m.safetensors")) == ["0.weight", "2.bias"]


def test_a_tensor_that_is_there_wrapped_and_unwrapped_is_refused(tmp_path):
    names = ("0.weight", "2.bias", "0._orig_mod.weight")
    tensors = {name: np.full(1, i, np.float32) for i, name in enumerate(names)}
    safetensors.numpy.save_file(tensors, tmp_path / "m.safetensors")
    with pytest.raises(WeightsError, match=r"m.safetensors: 0.weight is there twice, one of them"):
        read_state_dict(tmp_path / "m.safetensors")


def test_parts_that_are_wrapped_by_themselves_are_taken(small, tmp_path):
    """As by DataParallel(net.features): "module" in the middle of some names."""
    net, file = small
    tensors, file = read_state_dict(file), tmp_path / "m.safetensors"
    inner = dict.fromkeys(["0.module.weight", "0.n_averaged", "1.module.num_batches_tracked"])
    wrapped = {k: np.zeros(1, np.float32) for k in inner} | tensors
    wrapped["0.module.weight"] = wrapped.pop("0.weight")
    safetensors.numpy.save_file(wrapped, file)
    bridge = torch_mapping(net, (1, 5, 5, 1))
    found = bridge.to_ours(read_state_dict(file))
    expected = bridge.to_ours(tensors)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    safetensors.numpy.save_file(wrapped | {"0.weight": tensors["0.weight"] + 1}, file)
    with pytest.raises(WeightsError, match=r"0\.module\.weight: not in the network$"):
        load_torch(file, net, (1, 5, 5, 1))
    twice = wrapped | {"module.0.weight": tensors["0.weight"] + 1}
    safetensors.numpy.save_file(twice, file)
    with pytest.raises(WeightsError, match=r"the names in it begin with 'module\.'"):
        load_torch(file, net, (1, 5, 5, 1))


def test_a_wrong_prefix_is_one_line(small, tmp_path):
    net, file = small
    tensors = {f"encoder.{name}": array for name, array in read_state_dict(file).items()}
    tensors["encoder.9.weight"] = tensors.pop("encoder.3.weight")  # one that does not fit besides
    safetensors.numpy.save_file(tensors, tmp_path / "odd.safetensors")
    with pytest.raises(WeightsError) as caught:
        load_torch(tmp_path / "odd.safetensors", net, (1, 5, 5, 1))
    (line,) = str(caught.value).splitlines()
    assert "odd.safetensors: the names in it begin with 'encoder.', which those of the" in line
    assert "name.removeprefix('encoder.')" in line
    many = {f"{i}.running_mean": np.zeros(1, np.float32) for i in range(10, 60)}
    safetensors.numpy.save_file(many, tmp_path / "many.safetensors")
    with pytest.raises(WeightsError) as caught:
        load_torch(tmp_path / "many.safetensors", net, (1, 5, 5, 1))
    lines = str(caught.value).splitlines()
    assert len(lines) == 20 and lines[-1].endswith(": 39 more do not fit")


@pytest.mark.parametrize("name", ["m.SAFETENSORS", "m.SafeTensors"])
def test_the_ending_of_a_file_may_be_in_capitals(name, small, monkeypatch):
    monkeypatch.setattr(builtins, "__import__", refuse_torch(builtins.__import__))
    _, file = small
    assert read_state_dict(file.rename(file.with_name(name))).keys() >= {"0.weight", "3.bias"}


@pytest.mark.parametrize(
    ("name", "maker"),
    [("w.h5", "Keras"), ("w.KERAS", "Keras"), ("w.msgpack", "Flax"), ("w.onnx", "ONNX")],
)
def test_files_of_other_libraries_are_known_by_their_ending(name, maker, tmp_path, monkeypatch):
    monkeypatch.setattr(builtins, "__import__", refuse_torch(builtins.__import__))
    message = (
        rf"{name}: a file of {maker}'s: got .*, need .safetensors, or .*; save the arrays with"
    )
    with pytest.raises(WeightsError, match=message):
        read_state_dict(tmp_path / name)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "Q4_K"])
def test_a_type_that_is_not_read_is_named(dtype, tmp_path):
    head = {"0.weight": {"dtype": dtype, "shape": [4], "data_offsets": [0, 4]}}
    text = json.dumps(head).encode()
    (tmp_path / "w.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    with pytest.raises(WeightsError, match=f"of type {dtype}, which convax does not read: cast it"):
        read_state_dict(tmp_path / "w.safetensors")


def test_a_tensor_that_numpy_does_not_have_is_named(torch, tmp_path):
    odd = {
        "torch.float8_e4m3fn": torch.zeros(2).to(torch.float8_e4m3fn),
        "torch.sparse_coo": torch.eye(2).to_sparse(),
    }
    for said, tensor in odd.items():
        torch.save({"0.weight": tensor}, tmp_path / "w.pt")
        with pytest.raises(
            WeightsError, match=rf"w\.pt: 0\.weight: of type .*{said}.*, which convax"
        ):
            read_state_dict(tmp_path / "w.pt")


def test_load_torch_casts_floating_point(small, torch, tmp_path):
    net, file = small
    tensors = {name: torch.tensor(array) for name, array in read_state_dict(file).items()}
    half = {n: t.bfloat16() if t.is_floating_point() else t for n, t in tensors.items()}
    torch.save(half, tmp_path / "half.pt")
    params, _ = load_torch(tmp_path / "half.pt", net, (1, 5, 5, 1))
    expected, _ = load_torch(file, net, (1, 5, 5, 1))
    assert params["dense1"]["kernel"].dtype == np.float32
    np.testing.assert_allclose(params["dense1"]["kernel"], expected["dense1"]["kernel"], 2**-8)


def test_load_torch_lists_all_that_does_not_fit(small, tmp_path):
    net, file = small
    tensors = read_state_dict(file)
    del tensors["0.bias"]
    tensors["4.weight"] = np.zeros(3, np.float32)
    tensors["3.weight"] = np.zeros((4, 18), np.float32)
    tensors["1.weight"] = np.zeros((2, 3), np.float32)
    safetensors.numpy.save_file(tensors, tmp_path / "odd.safetensors")
    with pytest.raises(WeightsError) as caught:
        load_torch(tmp_path / "odd.safetensors", net, (1, 5, 5, 1))
    assert [line.partition(": ")[2] for line in str(caught.value).splitlines()] == [
        "conv1/bias (0.bias): missing",
        "4.weight: not in the network",
        "batch_norm1/scale (1.weight): of shape (2, 3), but the network has (2,)",
        "dense1/kernel (3.weight): of shape (18, 4), but the network has (18, 3)",
    ]


@pytest.mark.parametrize("shape", [(18,), (3, 17), (3, 18, 1)])
def test_a_wrong_rank_is_said_not_guessed(small, shape, tmp_path):
    net, file = small
    tensors = read_state_dict(file) | {"3.weight": np.zeros(shape, np.float32)}
    safetensors.numpy.save_file(tensors, tmp_path / "odd.safetensors")
    with pytest.raises(WeightsError, match=r"dense1/kernel \(3\.weight\): of shape"):
        load_torch(tmp_path / "odd.safetensors", net, (1, 5, 5, 1))


def test_a_scalar_behind_a_flatten_is_said_too(tmp_path):
    net = model.serial(model.flatten(), model.batch_norm())
    _, params, state = net.init(jax.random.key(0), (1, 2, 2, 3))
    file = tmp_path / "m.safetensors"
    save_torch(file, net, (1, 2, 2, 3), params, state)
    tensors = read_state_dict(file) | {"1.weight": np.zeros((), np.float32)}
    safetensors.numpy.save_file(tensors, file)
    with pytest.raises(WeightsError, match=r"batch_norm1/scale \(1\.weight\): of shape \(\), but"):
        load_torch(file, net, (1, 2, 2, 3))


def test_read_state_dict_rejects_unreadable_files(tmp_path, torch):
    with pytest.raises(WeightsError, match=r"none\.pt: cannot be read: No such file"):
        read_state_dict(tmp_path / "none.pt")
    with pytest.raises(WeightsError, match=r"none\.safetensors: cannot be read: No such file"):
        read_state_dict(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"\x07")
    with pytest.raises(WeightsError, match=r"bad\.safetensors: damaged, or not a safetensors file"):
        read_state_dict(tmp_path / "bad.safetensors")
    (tmp_path / "bad.pt").write_bytes(b"bad")
    with pytest.raises(WeightsError, match=r"bad\.pt: not a PyTorch file of tensors only"):
        read_state_dict(tmp_path / "bad.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(
        WeightsError, match=r"module\.pt: not a PyTorch file .* save model\.state_dict\(\)"
    ):
        read_state_dict(tmp_path / "module.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(WeightsError, match=r"list\.pt: not a state dict: names with tensors"):
        read_state_dict(tmp_path / "list.pt")


def test_names_count_from_other_places():
    rules = [
        Rule(r"stage(?P<s>\d+)/block(?P<b>\d+)/conv(?P<c>\d)", "layer{s}.{b-1}.conv{c}"),
        Rule("(?P<where>.*)/gamma/scale", "{where}.gamma", array=True),
    ]
    assert array_name("stage2/block11/conv3/kernel", rules) == "layer2.10.conv3.weight"
    assert array_name("stage2/block11/conv33/kernel", rules) is None
    assert array_name("stage2/block11/conv3/codes", rules) is None
    assert array_name("a/gamma/scale", rules) == "a.gamma"


def test_what_pytorch_has_no_layers_for_has_no_names():
    assert names_of({"name": "lenet5_1998"}, ARCHITECTURES["lenet5_1998"](10)) is None


KEYWORDS = {
    "lenet5": {"activation": "relu", "pool": "max"},
    "mlp": {"hidden": [3], "activation": "relu"},
    "vgg": {"depth": 11, "batch_norm": True},
    "dilated": {"features": 4, "dilations": [1, 2]},
    "resnet": {"depth": 18},
    "resnet_cifar": {"depth": 8, "shortcut": "A"},
    "unet": {"features": [4, 8], "batch_norm": True, "upsampling": "transposed"},
    "fcn": {"backbone": "vgg11", "stride": 16, "hidden": 4},
    "siamese": {"features": 2, "normalize": True},
    "rcnn": {"size": 67},
    "spp_detector": {"svm": {}},
    "faster_rcnn": {"backbone": "mobilenet_v2", "fpn": 8},
    "mask_rcnn": {"backbone": "vgg11_bn", "fpn": 8, "mask_features": [8, 8]},
}


@pytest.mark.parametrize("name", sorted(ARCHITECTURES.keys() - {"lenet5_1998"}))
def test_every_other_architecture_has_names(name):
    keywords = KEYWORDS.get(name, {})
    net, size = ARCHITECTURES[name](10, **keywords), 227 if name == "alexnet_2012" else 64
    bridge = torch_mapping(net, (1, size, size, 3), names_of({"name": name, **keywords}, net))
    assert len(bridge.called) == len(bridge.shapes) > 0


def test_the_names_of_detectors_published_in_2019_are_read():
    spec = {"name": "mask_rcnn", "backbone": "resnet18", "fpn": 8, "mask_features": [8, 8]}
    net = model.build(spec, 3)
    mapping = torch_mapping(net, (1, 64, 64, 3), names_of(spec, net))
    former = {
        name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        .replace("_blocks.1.0.", "_blocks.1.")
        .replace("mask_head.1.0.", "mask_head.mask_fcn2."): np.zeros(1)
        for name in mapping.called.values()
    }
    assert len(former.keys() - set(mapping.called.values())) == 8
    assert mapping.to_ours(former).keys() == mapping.called.keys()


def test_mobilenet_blocks_that_are_one_list_of_layers_are_read():
    """Convolution, norm and activation of each step count there: of the first block, two steps."""
    spec = {"name": "mobilenet_v2"}
    net = model.build(spec, 3)
    mapping = torch_mapping(net, (1, 32, 32, 3), names_of(spec, net))
    steps = {"features.1.conv": ["depthwise", "project"]}
    steps["features.2.conv"] = ["expand", *steps["features.1.conv"]]
    flat, expected = {}, []
    for stage, (block, names) in enumerate(steps.items(), 1):
        for i, name in enumerate(names):
            flat[f"{block}.{3 * i}.weight"] = np.zeros((2, 2, 1, 1))
            flat[f"{block}.{3 * i + 1}.running_var"] = np.zeros(2)
            norm = f"bn{i + 4 - len(names)}"
            ours = f"stage{stage}/block1"
            expected += [f"{ours}/{name}/kernel", f"{ours}/{norm}/var"]
    assert sorted(mapping.to_ours(flat)) == sorted(expected)
    theirs = dict.fromkeys(mapping.called.values())
    assert nested_blocks(theirs) == {}
    assert {*nested_blocks(flat).values()} < theirs.keys()


def test_a_transposed_kernel_inside_a_layer_of_ones_own(torch, tmp_path):
    up = model.conv_transpose(5, 3, stride=2, padding=1, output_padding=1)
    net = model.Layer(lambda *a: up.init(*a), lambda *a, **k: up.apply(*a, **k))
    theirs = torch.nn.Sequential(
        torch.nn.ConvTranspose2d(3, 5, 3, stride=2, padding=1, output_padding=1)
    )
    names = [Rule("", "0", kind="conv_transpose")]
    assert_same_network(torch, theirs, net, (5, 4, 3), tmp_path, names=names)


@pytest.mark.parametrize(
    ("net", "names", "message"),
    [
        (
            model.serial(model.residual(model.dense(4))),
            None,
            "no PyTorch names are known for the layers of this network; pass names",
        ),
        (
            model.serial(a=model.dense(4), b=model.dense(4)),
            [Rule("a", "fc")],
            "no PyTorch names are known for b/bias, b/kernel",
        ),
        (
            model.serial(a=model.dense(4), b=model.dense(4)),
            [Rule(".*", "fc")],
            r"several arrays would be called fc\.bias, fc\.weight",
        ),
    ],
)
def test_save_torch_needs_known_names(net, names, message):
    with pytest.raises(WeightsError, match=message):
        torch_mapping(net, (1, 4), names)
