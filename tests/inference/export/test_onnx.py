"""A network as an ONNX file: what ONNX Runtime says of it, and what is refused."""

import json
import sys
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convax
from convax import model, ops
from convax.inference.export import onnx as onnx_file
from convax.inference.export.manifest import BundleError
from convax.inference.export.onnx import export_onnx
from convax.model.layers.activation import ActivationName
from convax.training.config.schema import load_config
from tests.inference.export.test_bundle import write_task


@pytest.fixture
def onnx():
    for name in ("jax2onnx", "onnxruntime"):
        with onnx_file.quiet():
            pytest.importorskip(name)
    return pytest.importorskip("onnx")


def run_file(file, images, **more):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {"images": images, **more})
    return outputs[0] if len(outputs) == 1 else outputs, session


def images_of(*shape):
    """Return the input of a converted function: its shape counts."""
    return {"images": np.zeros((1, *shape), np.uint8)}


NAMES = {
    "embedding": ["embeddings"],
    "instance_segmentation": ["boxes", "scores", "classes", "masks"],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "task", ["classification", "segmentation", "embedding", "instance_segmentation"]
)
def test_every_task_says_what_the_live_network_says(task, onnx, tmp_path, rng):
    config = load_config(write_task(task, tmp_path), overrides=["training.steps=2"])
    run = convax.train(config, tmp_path / "run")
    told = export_onnx(run.path, tmp_path / "net.onnx")
    assert told.images and told.origin == "the first of the test split"
    assert told.difference <= told.tolerance
    live = convax.load(run.path)
    for count in (1, 3, 70):  # any number of images, one file
        images = rng.integers(0, 256, (count, *live.image_shape), np.uint8)
        said, session = run_file(tmp_path / "net.onnx", images)
        expected = jax.tree.leaves(live(images))
        for got, wanted in zip(said if len(expected) > 1 else [said], expected, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
    outputs = [out.name for out in session.get_outputs()]
    assert outputs == NAMES.get(task, ["probabilities"])
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["task"]) == task
    assert json.loads(said["labels"]) == list(live.classes)
    onnx.checker.check_model(onnx.load(tmp_path / "net.onnx"), full_check=True)


def test_pools_are_over_space(onnx):
    def function(images):
        x = images.astype(jnp.float32)
        return ops.max_pool(x, 3, stride=2, padding=1)

    packages = onnx_file.load_packages()
    written = onnx_file._converted(packages, function, images_of(7, 6, 2), ["probabilities"])
    (pool,) = [node for node in written.graph.node if node.op_type == "MaxPool"]
    of = {a.name: onnx.helper.get_attribute_value(a) for a in pool.attribute}
    assert (of["kernel_shape"], of["strides"], of["pads"]) == ([3, 3], [2, 2], [1, 1, 1, 1])
    images = np.random.default_rng(0).integers(0, 256, (2, 7, 6, 2), np.uint8)
    said, _ = run_file(written.SerializeToString(), images)
    np.testing.assert_array_equal(said, function(jnp.asarray(images)))


LAYERS = {
    "local response norm": model.local_response_norm(),
    "group norm": model.group_norm(2),
    "instance norm": model.instance_norm(),
    "layer norm, GELU": model.serial(model.layer_norm(), model.gelu()),
    "maxout": model.maxout(2),
    "pyramid": model.serial(model.spatial_pyramid_pool([3, 2, 1]), model.dense(3)),
    "depthwise": model.depthwise_conv(7, padding=3),
    "groups": model.conv(8, 3, padding=1, groups=2),
    "dilated": model.conv(8, 3, padding=2, dilation=2),
    "transposed": model.conv_transpose(3, 4, stride=2, padding=1),
    "average pool": model.avg_pool(3, stride=2, padding=1),
    "average pool, ceil mode": model.avg_pool(2, ceil_mode=True),
    "overlapping pool": model.max_pool(3, stride=2),
    "dilated pool": model.max_pool(2, stride=1, padding=1, dilation=2),
    "p-norm pool": model.lp_pool(3, stride=2, padding=1),
    "p-norm pool that tiles": model.lp_pool(2, p=3.0),
    "columns and back": model.serial(model.unfold(2), model.fold([8, 9], 2)),
    "averaged by a cubic": model.upsample(0.4, method="bicubic", antialias=True),
    "full padding": model.serial(model.conv(4, 3, padding="FULL"), model.max_pool(2)),
    "activations": model.serial(
        *(model.activation(name) for name in get_args(ActivationName)), model.glu()
    ),
    "PReLU": model.prelu(),
}


@pytest.mark.parametrize("net", LAYERS.values(), ids=LAYERS)
def test_each_layer(net, onnx, rng):
    _, params, state = net.init(jax.random.key(0), (1, 8, 9, 4))

    def function(images):
        return net.apply(params, state, images.astype(jnp.float32) / 255)[0]

    written = onnx_file._converted(
        onnx_file.load_packages(), function, images_of(8, 9, 4), ["probabilities"]
    )
    for count in (1, 3):
        images = rng.integers(0, 256, (count, 8, 9, 4), np.uint8)
        said, _ = run_file(written.SerializeToString(), images)
        np.testing.assert_allclose(said, function(jnp.asarray(images)), rtol=1e-4, atol=1e-5)


def test_jax_is_left_as_it_was(onnx):
    modules = jax, jnp, jax.lax, jax.nn
    before = [dict(vars(module)) for module in modules]
    onnx_file._converted(
        onnx_file.load_packages(), lambda images: images / 255, images_of(2, 2, 1), ["out"]
    )
    for module, names in zip(modules, before, strict=True):
        assert [k for k, v in names.items() if vars(module)[k] is not v] == []


def test_what_it_refuses(whole, onnx, tmp_path, monkeypatch):
    with pytest.raises(BundleError, match="exists; choose another file"):
        export_onnx(whole.path, tmp_path)
    file = tmp_path / "net.onnx"
    with pytest.raises(BundleError, match=r"cannot be written: No such file"):
        export_onnx(whole.path, tmp_path / "none" / "net.onnx")
    real = onnx_file._run
    raised = lambda *a: {name: array + 1 for name, array in real(*a).items()}  # noqa: E731
    monkeypatch.setattr(onnx_file, "_run", raised)
    with pytest.raises(BundleError, match="wrong predictions: ONNX Runtime differs by up to 1"):
        export_onnx(whole.path, file)
    monkeypatch.setattr(onnx_file, "_run", lambda *a: real(a[0], b"", *a[2:]))
    with pytest.raises(BundleError, match="ONNX Runtime refuses it"):
        export_onnx(whole.path, file)

    def unknown(*_):
        raise NotImplementedError("No plugin for primitive 'fft'\nand more")

    monkeypatch.setattr(onnx_file, "_converted", unknown)
    with pytest.raises(BundleError, match=r"jax2onnx cannot convert .*: No plugin .*'fft'$"):
        export_onnx(whole.path, file)
    assert not file.exists()


def test_the_operation_that_cannot_be_converted_is_named(whole, onnx, tmp_path, monkeypatch):
    """Name the operation: a converter may say no more than that a dimension is symbolic."""
    source = "def lower(*_):\n    raise ValueError('symbolic dimension')"
    converter: dict = {}
    exec(compile(source, "/somewhere/jax2onnx/plugins/jax/lax/pad.py", "exec"), converter)
    monkeypatch.setattr(onnx_file, "_converted", converter["lower"])
    with pytest.raises(BundleError, match=r"cannot convert this network: lax\.pad: symbolic dim"):
        export_onnx(whole.path, tmp_path / "net.onnx")


def test_the_command_line(command, whole, onnx, tmp_path):
    code, out, _ = command("export", whole.path, tmp_path / "net.onnx", "--onnx", "--json")
    found = json.loads(out)
    assert code == 0 and (found["images"], found["origin"]) == (8, "the first of the test split")
    assert (tmp_path / "net.onnx").exists()


def test_without_the_packages(command, whole, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    code, _, error = command("export", whole.path, tmp_path / "net.onnx", "--onnx")
    assert code == 2 and "needs jax2onnx: pip install 'convax[onnx]'" in error


def test_a_program_without_our_primitives():
    x, k = jnp.ones((1, 5, 5, 2)), jnp.ones((3, 3, 2, 4))
    conv = lambda x, k: ops.conv(x, k).sum()  # noqa: E731
    names = lambda: str(jax.make_jaxpr(jax.grad(conv, 1))(x, k))  # noqa: E731
    assert "convax_conv" in names()
    expected = jax.grad(conv, 1)(x, k)
    with ops.implementation("jaxpr"):
        assert "convax_conv" not in names() and "conv_general_dilated" in names()
        np.testing.assert_allclose(jax.grad(conv, 1)(x, k), expected, rtol=1e-5)
