"""`[init_from]`: what is taken, what is not, and that both are said."""

import shutil
from typing import Any

import jax
import numpy as np
import pytest
import safetensors.numpy

import convax
from convax import model
from convax.model.torch.names import names_of
from convax.training.common.pytree_paths import named_leaves
from convax.training.config.errors import ConfigError
from convax.training.config.init_from import InitFrom
from convax.training.config.schema import load_config
from convax.training.experiment import prepare
from convax.training.experiments.study import train_study
from convax.training.initialize import _chosen, _read, _torch_prefix, init_from_source
from convax.training.loop.signals import InterruptedRun
from convax.training.run import checkpoint
from convax.training.run.directory import RunError, open_run
from convax.training.run.load_model import load_model, save_run_weights
from convax.training.weights.safetensors_io import WeightsError
from convax.training.weights.torch_state_dict import save_torch, torch_mapping
from convax.training.weights.weights import by_name, save_weights
from tests.tiny import EMBEDDING, untrained
from tests.training.loop.test_loop import Recorder, final_bytes
from tests.training.tasks.test_detection import write_squares
from tests.training.tasks.test_segmentation import write_scenes

HEAD = ["dense2/bias", "dense2/kernel"]


def begin(tiny, *overrides) -> tuple[Any, Any]:
    """The state before the first step, and what was taken."""
    return init_from_source(prepare(load_config(tiny, list(overrides))))


def assert_taken(state, run, *, but=()):
    """The parameters are those of the best checkpoint of `run`, except for some."""
    there = dict(named_leaves(load_model(run.path).params))
    for path, leaf in named_leaves(state.params):
        assert (path in but) != np.array_equal(leaf, there.get(path)), path


@pytest.fixture
def two_classes(tiny):
    """The tiny experiment with another number of classes."""
    data = tiny.parent / "tiny.npz"
    arrays = dict(np.load(data))
    arrays |= {name: arrays[name] % 2 for name in ("y_train", "y_test")}
    np.savez(data, **arrays)
    return tiny


def test_init_from_leaves_what_is_fitted_behind_the_training(whole, tiny):
    experiment = prepare(load_config(tiny, [f"init_from.path={whole.path}"]))
    task = experiment.task._replace(finalized=("dense2",))
    state, taken = init_from_source(experiment._replace(task=task))
    assert_taken(state, whole, but=HEAD)
    assert taken is not None and taken.initial == HEAD


@pytest.mark.parametrize("kind", ["run", "ours", "torch", "pt"])
def test_init_from_takes_everything_from_any_source(kind, whole, tiny, tmp_path, request):
    path = tmp_path / {"ours": "w.safetensors", "torch": "t.safetensors", "pt": "t.pt"}.get(
        kind, ""
    )
    if kind == "run":
        path = whole.path
    elif kind == "pt":
        torch = request.getfixturevalue("torch")
        save_run_weights(whole.path, tmp_path / "t.safetensors", torch=True)
        tensors = safetensors.numpy.load_file(tmp_path / "t.safetensors")
        torch.save({name: torch.tensor(array) for name, array in tensors.items()}, path)
    else:
        save_run_weights(whole.path, path, torch=kind == "torch")
    state, taken = begin(tiny, f"init_from.path={path}")
    assert_taken(state, whole)
    assert taken.taken == [path for path, _ in named_leaves(state.params)]
    assert taken.initial == taken.left == []
    assert int(state.step) == 0


def test_init_from_takes_the_last_checkpoint(whole, tiny, monkeypatch):
    asked = []
    real = checkpoint.restore_network
    monkeypatch.setattr(
        "convax.training.run.load_model.restore_network",
        lambda *a, **k: asked.append(a[1]) or real(*a, **k),
    )
    begin(tiny, f"init_from.path={whole.path}", "init_from.checkpoint=last")
    assert asked == ["last"]


def test_another_number_of_classes_starts_the_head_anew(whole, two_classes):
    state, taken = begin(two_classes, f"init_from.path={whole.path}")
    assert_taken(state, whole, but=HEAD)
    assert taken.initial == HEAD
    plain, nothing = begin(two_classes)
    assert nothing is None
    for path, leaf in named_leaves(state.params["dense2"]):
        np.testing.assert_array_equal(leaf, plain.params["dense2"][path])
    for a, e in zip(
        jax.tree.leaves(state.opt_state), jax.tree.leaves(plain.opt_state), strict=True
    ):
        np.testing.assert_array_equal(a, e)


def renamed(tiny, *names):
    """The tiny experiment with other names of its classes."""
    data = tiny.parent / "tiny.npz"
    arrays = dict(np.load(data))
    np.savez(data, **arrays, classes=list(names))
    return tiny


@pytest.mark.parametrize("names", [("cat", "dog", "cow"), ("0", "2", "1")])
def test_as_many_classes_of_other_names_start_the_head_anew(whole, tiny, names):
    state, taken = begin(renamed(tiny, *names), f"init_from.path={whole.path}")
    assert_taken(state, whole, but=HEAD)
    assert taken.initial == HEAD
    assert str(taken).endswith("; the head starts anew: the classes there are '0', '1', '2'")


def test_the_head_is_taken_where_classes_have_the_same_names_or_match_says_so(whole, tiny):
    state, taken = begin(tiny, f"init_from.path={whole.path}")
    assert_taken(state, whole)
    assert str(taken).endswith(": 4 arrays; with the head, of the same classes")
    other = renamed(tiny, "cat", "dog", "cow")
    state, taken = begin(other, f"init_from.path={whole.path}", "init_from.match='dense.*'")
    assert_taken(state, whole)
    assert str(taken).endswith("as match has it, though the classes there are '0', '1', '2'")


def test_the_head_of_layers_is_their_last_one(tiny, tmp_path):
    layers = "model={layers=[{type='flatten'},{type='dense',features=4},{type='dense',features=3}]}"
    run, _ = untrained(load_config(tiny, [layers]), tmp_path / "run")
    _, taken = begin(renamed(tiny, "cat", "dog", "cow"), layers, f"init_from.path={run.path}")
    assert [path.split("/")[0] for path in taken.taken] == ["dense1"] * 2
    assert [path.split("/")[0] for path in taken.initial] == ["dense2"] * 2


def test_embeddings_have_no_head(tiny, tmp_path):
    run, _ = untrained(load_config(tiny, EMBEDDING), tmp_path / "run")
    other, source = renamed(tiny, "cat", "dog", "cow"), f"init_from.path={run.path}"
    _, taken = begin(other, *EMBEDDING, source)
    assert (len(taken.taken), taken.initial, taken.head) == (4, [], None)
    _, taken = begin(other, source)  # a classifier out of vectors of as many numbers
    assert (
        taken.initial == HEAD
        and taken.head == "the head starts anew: the network there has no classes"
    )


def test_init_from_takes_what_match_and_skip_leave(whole, tiny):
    source = f"init_from.path={whole.path}"
    state, taken = begin(tiny, source, "init_from.skip='dense2/.*'")
    assert_taken(state, whole, but=HEAD)
    assert taken.initial == HEAD
    state, taken = begin(tiny, source, "init_from.match='.*/kernel'", "init_from.skip='dense2/.*'")
    assert taken.taken == ["dense1/kernel"]
    assert_taken(state, whole, but=[*HEAD, "dense1/bias"])


def test_init_from_lists_arrays_that_the_network_lacks(whole, tiny, tmp_path):
    save_run_weights(whole.path, tmp_path / "w.safetensors")
    arrays = safetensors.numpy.load_file(tmp_path / "w.safetensors")
    safetensors.numpy.save_file(
        arrays | {"aux/kernel": np.zeros(2, np.float32)}, tmp_path / "w.safetensors"
    )
    source = f"init_from.path={tmp_path}/w.safetensors"
    with pytest.raises(ConfigError, match="aux/kernel: not in the network"):
        begin(tiny, source)
    state, taken = begin(tiny, source, "init_from.skip='aux/.*'")
    assert_taken(state, whole)
    assert (
        str(taken) == f"initialized from {tmp_path}/w.safetensors: 4 arrays; left there: aux/kernel"
        "; with the head, whose classes a file does not name"
    )


def test_every_misfit_is_listed_with_the_remedy(whole, tiny):
    with pytest.raises(ConfigError) as caught:
        begin(tiny, f"init_from.path={whole.path}", "model.hidden=[17, 5]")
    where = f"init_from: {whole.path}: "
    assert str(caught.value).splitlines() == [
        f"{where}dense3/bias: missing",
        f"{where}dense3/kernel: missing",
        f"{where}dense1/bias: of shape (16,), but the network has (17,)",
        f"{where}dense1/kernel: of shape (64, 16), but the network has (64, 17)",
        f"{where}dense2/bias: of shape (3,), but the network has (5,)",
        f"{where}dense2/kernel: of shape (16, 3), but the network has (17, 5)",
        "init_from.skip: what it matches is left out; skip = 'dense1/.*|dense2/.*|dense3/.*' "
        "leaves these",
    ]
    with pytest.raises(ConfigError, match=r"nothing is loaded: .* widen match"):
        begin(
            tiny,
            f"init_from.path={whole.path}",
            "model.hidden=[17, 5]",
            "init_from.skip='dense1/.*|dense2/.*|dense3/.*'",
        )


def test_init_from_ignores_skipped_arrays_in_finding_the_head(whole, two_classes):
    """Another width, left out by hand, and another number of classes beside it."""
    source = [f"init_from.path={whole.path}", "model.hidden=[16, 16]"]
    _, taken = begin(two_classes, *source, "init_from.skip='dense[23]/.*'")
    assert taken.taken == ["dense1/bias", "dense1/kernel"]
    with pytest.raises(ConfigError, match=r"skip = 'dense1/bias\|dense2/\.\*\|dense3/\.\*'"):
        begin(two_classes, *source, "init_from.skip='dense1/bias'")


def test_a_wrong_prefix_of_all_names_is_one_line(whole, tiny, tmp_path):
    file = tmp_path / "w.safetensors"
    save_run_weights(whole.path, file)
    arrays = safetensors.numpy.load_file(file)
    safetensors.numpy.save_file({f"net/{name}": a for name, a in arrays.items()}, file)
    with pytest.raises(ConfigError) as caught:
        begin(tiny, f"init_from.path='{file}'")
    (line,) = str(caught.value).splitlines()
    assert f"init_from: {file}: the names in it begin with 'net/', which those of the" in line


def test_mismatch_names_pytorch_arrays_beside_ours(whole, tiny, tmp_path):
    file = tmp_path / "t.safetensors"
    save_run_weights(whole.path, file, torch=True)
    tensors = safetensors.numpy.load_file(file)
    del tensors["1.bias"]
    safetensors.numpy.save_file(tensors, file)
    with pytest.raises(ConfigError, match=r"dense1/bias \(1\.bias\): missing"):
        begin(tiny, f"init_from.path={file}")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ours", "torch"])
def test_a_classifier_becomes_the_backbone_of_an_fcn(kind, tmp_path):
    classifier = model.resnet(10, depth=18)
    _, *shapes = model.init_shapes(classifier, (1, 32, 32, 3))
    params, state = jax.tree.map(lambda a: np.full(a.shape, 0.5, np.float32), shapes)
    path = tmp_path / "resnet18.safetensors"
    if kind == "ours":
        save_weights(path, params, state)
    else:
        names = names_of({"name": "resnet", "depth": 18}, classifier)
        save_torch(path, classifier, (1, 32, 32, 3), params, state, names=names)
    config = write_scenes(tmp_path)
    fcn = 'model={name="fcn",backbone="resnet18",stride=16,hidden=0}'
    inputs = ["input.size=[32, 32]", "data.channels=3"]

    def begin(init_from):
        experiment = prepare(load_config(config, [fcn, *inputs, f"init_from={{{init_from}}}"]))
        _, *shapes = model.init_shapes(experiment.net, (1, 32, 32, 3))
        wanted, spec = by_name(*shapes), experiment.config.init_from
        source, called, _ = _read(spec, experiment, wanted)
        return wanted, source, _chosen(spec, source, wanted, called, set())

    with pytest.raises(ConfigError, match=r"backbone/conv1/kernel( \(backbone\.\S+\))?: missing"):
        begin(f'path="{path}"')
    with pytest.raises(
        ConfigError, match=r"init_from\.target: .* got 'trunk', .*: backbone, head$"
    ):
        begin(f'path="{path}", target="trunk"')
    wanted, source, taken = begin(f'path="{path}", target="backbone"')
    assert taken.taken == [name for name in wanted if name.startswith("backbone/")]
    assert all(np.all(source[name] == 0.5) for name in taken.taken)
    assert len(taken.left) == 2 and all("backbone" in name for name in taken.left)


@pytest.mark.parametrize(("fpn", "body"), [(0, "backbone."), (8, "backbone.body.")])
def test_a_classifier_of_pytorch_becomes_the_trunk_of_a_detector(fpn, body):
    """The trunk has another name there where a pyramid stands on it."""
    trunk = {"backbone": "resnet18", "width": 8}
    spec = {"name": "faster_rcnn", **trunk, "fpn": fpn, "stages": [3]}
    spec["rpn"] = {"anchor_sizes": [[8.0]] * (2 if fpn else 1)}
    net = model.build(spec, 1)
    *_, params, state = model.init_shapes(net, (1, 32, 32, 3))
    called = torch_mapping(net, (1, 32, 32, 3), names_of(spec, net)).called
    assert _torch_prefix("backbone/", called) == body
    assert _torch_prefix("", called) == ""
    wanted = by_name(params, state)
    inside = [name for name in wanted if name.startswith("backbone/")]
    head = {f"{body}fc.weight": np.zeros((10, 64))}
    source = {name: wanted[name] for name in inside} | head
    spec = InitFrom(path="x", target="backbone")
    taken = _chosen(spec, source, wanted, called, set())
    assert (taken.taken, taken.left) == (inside, [*head])
    deeper = {f"{body}layer3.2.conv1.weight": np.zeros((32, 32, 3, 3))}
    with pytest.raises(ConfigError, match=r"layer3\.2\.conv1\.weight: not in the network"):
        _chosen(spec, source | deeper, wanted, called, set())


def test_another_number_of_classes_starts_the_whole_head_of_an_fcn_anew():
    net = model.fcn(5, backbone="resnet18", stride=16, hidden=0)
    _, *shapes = model.init_shapes(net, (1, 32, 32, 3))
    wanted = by_name(*shapes)
    source = {
        name: np.zeros([7 if n == 5 else n for n in leaf.shape]) for name, leaf in wanted.items()
    }
    head = [name for name in wanted if name.startswith("head/")]
    taken = _chosen(InitFrom(path="x"), source, wanted, {}, set(head))
    assert taken.initial == head
    odd = source | {"backbone/conv1/kernel": np.zeros((7, 7, 3, 7))}
    with pytest.raises(ConfigError, match="head/"):
        _chosen(InitFrom(path="x"), odd, wanted, {}, set(head))


def test_a_detector_of_other_classes_starts_classes_boxes_and_masks_anew(tmp_path):
    run, experiment = untrained(load_config(write_squares(tmp_path)), tmp_path / "run")
    *_, params, state = model.init_shapes(
        model.build(experiment.config.model.model_dump(exclude_none=True), 5), (1, 32, 32, 1)
    )
    of_five = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), (params, state))
    save_weights(tmp_path / "five.safetensors", *of_five)
    layers = ("mask_predictor/logits", "predictor/deltas", "predictor/logits")
    head = [f"{layer}/{leaf}" for layer in layers for leaf in ("bias", "kernel")]

    def begin(source, classes, **more):
        spec = {"init_from": InitFrom(path=str(source), **more)}
        card = experiment.card._replace(classes=classes)
        config = experiment.config.model_copy(update=spec)
        return init_from_source(experiment._replace(config=config, card=card))[1]

    same, others = experiment.card.classes, ("cat", "dog")
    taken = begin(run.path, same)
    assert taken is not None
    assert taken.initial == [] and taken.head == "with the head, of the same classes"
    taken = begin(run.path, others)
    assert taken is not None
    assert taken.initial == head and str(taken.head).startswith("the head starts anew: the cla")
    # So it is where a part of the head is not there.
    taken = begin(run.path, others, skip="mask_.*")
    assert taken is not None
    assert set(head) < set(taken.initial) and "mask_head" in str(taken.initial)
    taken = begin(tmp_path / "five.safetensors", same)
    assert taken is not None
    assert taken.initial == head


def test_another_number_of_channels_is_no_head():
    """Even where they are as many as the classes."""
    source, wanted = ({"conv1/kernel": np.zeros((5, 5, n, 6)), "a/b": np.zeros(1)} for n in (1, 3))
    with pytest.raises(ConfigError, match=r"conv1/kernel: of shape \(5, 5, 1, 6\)"):
        _chosen(InitFrom(path="x"), source, wanted, {}, {"conv1/kernel"})


def test_names_without_a_layer_are_skipped_whole():
    wanted = {"kernel": np.zeros((2, 3))}
    source = wanted | {"fc.weight": np.zeros(1)}
    with pytest.raises(ConfigError, match=r"skip = 'fc\\.weight'") as caught:
        _chosen(InitFrom(path="x"), source, wanted, {}, {"kernel"})
    skip = str(caught.value).partition("skip = '")[2].partition("'")[0]
    assert _chosen(InitFrom(path="x", skip=skip), source, wanted, {}, {"kernel"}).left == [
        "fc.weight"
    ]


@pytest.mark.parametrize("extra", ["stage1/block2/conv", "stage1.1.conv.weight"])
def test_a_deeper_classifier_is_no_backbone(extra):
    """A head may stay behind, and half a stage may not."""
    wanted = {"trunk/stage1/block1/conv": np.zeros(2), "head/kernel": np.zeros(3)}
    called = {"trunk/stage1/block1/conv": "trunk.stage1.0.conv.weight"}
    source = {"trunk/stage1/block1/conv": np.zeros(2), "trunk/fc/kernel": np.zeros(5)}
    spec = InitFrom(path="x", target="trunk")
    taken = _chosen(spec, source, wanted, called, {"head/kernel"})
    assert (taken.taken, taken.initial) == (["trunk/stage1/block1/conv"], ["head/kernel"])
    assert taken.left == ["trunk/fc/kernel"]
    with pytest.raises(ConfigError, match=rf"trunk.{extra}: not in the network"):
        _chosen(spec, source | {f"trunk{extra[6]}{extra}": np.zeros(2)}, wanted, called, set())


@pytest.mark.parametrize("key", ["match", "skip"])
def test_an_expression_that_matches_nothing_is_an_error(key, whole, tiny):
    with pytest.raises(
        ConfigError, match=rf"^init_from\.{key}: matches nothing: got 'dens.*', need"
    ):
        begin(tiny, f"init_from.path={whole.path}", f"init_from.{key}=dens")
    with pytest.raises(ConfigError, match=rf"init_from\.{key}: should be a regular expression"):
        load_config(tiny, ["init_from.path=x", f"init_from.{key}=("])


def test_init_from_rejects_unreadable_sources(tiny, tmp_path, torch):
    with pytest.raises(
        ConfigError, match=r"^init_from\.path: none is not there: tried .*; correct"
    ):
        convax.train(
            load_config(tiny, ["init_from.path=none"]), tmp_path / "r", config_dir=tmp_path
        )
    with pytest.raises(RunError, match="not a run directory"):
        begin(tiny, f"init_from.path={tmp_path}")
    (tmp_path / "bad.pth").write_bytes(b"bad")
    with pytest.raises(WeightsError, match=r"bad\.pth: not a PyTorch file"):
        begin(tiny, f"init_from.path={tmp_path}/bad.pth")
    assert not (tmp_path / "r").exists()


def test_run_reports_init_from_and_resumes_without_the_source(whole, two_classes, tmp_path):
    shutil.copytree(whole.path, tmp_path / "source")
    config = load_config(two_classes, ["init_from.path=source"])
    display = Recorder()
    one = convax.train(config, tmp_path / "one", config_dir=tmp_path, display=display)
    note = f"initialized from {tmp_path}/source: 2 arrays; at their first values: dense2/bias, dense2/kernel"
    note += "; the head starts anew: the classes there are '0', '1', '2'"
    assert note in display.notes
    (spec,) = filter(None, [one.config().init_from])
    assert spec.path == str(tmp_path / "source")  # wherever it is read
    assert one.info()["init_from"] == {
        "path": str(tmp_path / "source"),
        "taken": ["dense1/bias", "dense1/kernel"],
        "initial": HEAD,
        "left": [],
        "head": note.partition("kernel; ")[2],
        "note": None,
    }
    with pytest.raises(InterruptedRun):
        convax.train(config, tmp_path / "two", config_dir=tmp_path, display=Recorder(20))
    shutil.rmtree(tmp_path / "source")
    assert final_bytes(convax.resume(tmp_path / "two")) == final_bytes(one)


def test_study_reports_init_from(whole, two_classes, tmp_path):
    display = Recorder()
    config = load_config(two_classes, [f"init_from.path={whole.path}", "training.steps=2"])
    study = train_study(config, tmp_path / "study", seeds=(0, 1), display=display)
    said = [note for note in display.notes if note.startswith(f"initialized from {whole.path}")]
    assert len(said) == 2
    assert open_run(study.path / "seed-1").info()["init_from"]["initial"] == HEAD


@pytest.mark.slow
def test_a_run_killed_before_its_first_evaluation_needs_no_source_either(whole, tiny, tmp_path):
    class Dies(Recorder):
        def step(self, step, total, record):
            raise MemoryError

    shutil.copytree(whole.path, tmp_path / "source")
    config = load_config(tiny, ["init_from.path=source"])
    one = convax.train(config, tmp_path / "one", config_dir=tmp_path)
    with pytest.raises(MemoryError):
        convax.train(config, tmp_path / "two", config_dir=tmp_path, display=Dies())
    shutil.rmtree(tmp_path / "source")
    assert final_bytes(convax.resume(tmp_path / "two")) == final_bytes(one)
    assert sorted(p.name for p in open_run(tmp_path / "two").checkpoints.glob("step-*")) == sorted(
        p.name for p in one.checkpoints.glob("step-*")
    )


def test_fine_tuning_the_head_alone(whole, two_classes, tmp_path):
    """The whole of it: another task, a frozen stem, a new head."""
    overrides = [
        f"init_from.path={whole.path}",
        'optimizer.groups=[{match="dense1/.*", frozen=true}]',
        "optimizer.learning_rate=0.05",
    ]
    run = convax.train(load_config(two_classes, overrides), tmp_path / "run")
    params = load_model(run.path).params
    there = load_model(whole.path).params
    for name, leaf in there["dense1"].items():
        np.testing.assert_array_equal(params["dense1"][name], leaf)
    assert params["dense2"]["kernel"].shape == (16, 2)
    assert run.info()["result"]["test"]["accuracy"] > 0.9
