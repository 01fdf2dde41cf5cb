"""The command line, as a person meets it."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from convax.cli.options import COMMANDS, RENAMED_COMMANDS, RENAMED_OPTIONS
from convax.inference import compile_cache
from convax.training.config.errors import ConfigError
from convax.training.config.files import shipped_configs
from convax.training.config.schema import load_config
from tests.tiny import drawing


@pytest.fixture
def convax(command):
    """``convax(*arguments)``."""
    return command


def refused(result, *words, code=2):
    """The command failed with one or two lines that hold these words."""
    assert result[0] == code
    assert 1 <= len(result[2].strip().splitlines()) <= 2
    for word in words:
        assert word in result[2]


def test_train_then_everything_else(convax, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with drawing():
        code, out, err = convax("train", tiny, "--set", "training.steps=40")
    assert (code, err) == (0, "")
    assert "runs/tiny" in out
    assert "step 40/40" in out
    assert "validation at step 40" in out
    assert "test:  loss" in out
    plots = sorted(p.name for p in (tmp_path / "runs/tiny/plots").iterdir())
    assert {"confusion.png", "curves.png", "mistakes.png"} <= set(plots)

    code, out, err = convax("train", tiny, "--set", "training.steps=1", "--json")
    assert "test:  loss" in err and "step 1/1" not in err  # notes and warnings, no progress
    trained = json.loads(out)
    assert (code, trained["path"], trained["status"]) == (0, "runs/tiny-2", "finished")
    assert trained["result"]["test"]["count"] == 53

    code, out, _ = convax("evaluate", "runs/tiny", "--json")
    assert code == 0
    record = json.loads(out)
    metrics = {"accuracy", "balanced_accuracy", "macro_f1"}
    assert record.keys() == {"loss", "count", "split", "speed"} | metrics
    assert (record["count"], record["split"]) == (53, "test")
    code, out, _ = convax("evaluate", "runs/tiny", "--split", "validation")
    assert "(20 images)" in out

    code, out, _ = convax("report", "runs/tiny")
    assert code == 0
    assert "curves.png" in out
    found = json.loads(convax("report", "runs/tiny", "--json")[1])
    assert (
        found["results"]["status"] == "finished"
        and found["files"] == out.split("\n")[-len(found["files"]) - 1 : -1]
    )


def test_augmented_images_are_drawn(convax, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mixed = ("--set", "augment.flip=alternating", "--set", "augment.mixup.alpha=0.5")
    code, out, err = convax("preview-augment", tiny, *mixed)
    assert (code, out, err) == (0, "tiny-augmented.png\n", "")
    first = Image.open("tiny-augmented.png")
    assert min(first.size) > 300
    _, out, _ = convax("preview-augment", tiny, *mixed, "--out", "again.png", "--json")
    assert json.loads(out) == {"path": "again.png"}
    assert np.array_equal(np.asarray(first), np.asarray(Image.open("again.png")))
    assert (
        convax("preview-augment", tiny, "--set", "augment.flip=true", "--out", "other.png")[0] == 0
    )
    refused(
        convax("preview-augment", tiny), "tiny: no [augment] to draw", "--set augment.flip=true"
    )
    refused(convax("preview-augment", tiny, *mixed, "--out", "a.jpg"), "--out: got 'a.jpg'", ".png")


def test_weights(convax, whole, tmp_path):
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    assert convax("export-weights", whole.path, ours) == (0, f"{ours}\n", "")
    last = ("--torch", "--checkpoint", "last", "--json")
    assert json.loads(convax("export-weights", whole.path, theirs, *last)[1]) == {
        "path": str(theirs)
    }
    arrays, tensors = load_file(ours), load_file(theirs)
    assert sorted(arrays) == ["dense1/bias", "dense1/kernel", "dense2/bias", "dense2/kernel"]
    assert sorted(tensors) == ["1.bias", "1.weight", "3.bias", "3.weight"]
    assert arrays["dense1/kernel"].shape == tensors["1.weight"].shape[::-1] == (64, 16)
    refused(convax("export-weights", tmp_path, ours), "not a run directory")
    refused(
        convax("export-weights", whole.path, tmp_path / "no" / "x"),
        "cannot be written: No such file",
    )
    refused(
        convax("export-weights", whole.path, ours, "--checkpoint", "first"),
        "need one of best, last",
    )


def test_predict(convax, whole, tmp_path):
    picture = np.zeros((60, 60), np.uint8)
    picture[:, 40:] = 255
    Image.fromarray(picture).save(tmp_path / "right.png")
    Image.fromarray(255 - picture).convert("RGB").save(tmp_path / "inverted.jpg")

    code, out, _ = convax("predict", whole.path, tmp_path / "right.png", "--json", "--top", "2")
    assert code == 0
    record = json.loads(out)
    assert record["file"].endswith("right.png")
    assert record["class"] == "2"
    assert record["top"][0] == {"class": "2", "probability": record["probability"]}
    assert len(record["top"]) == 2

    code, out, _ = convax("predict", whole.path, tmp_path / "inverted.jpg", "--invert")
    assert f"{tmp_path / 'inverted.jpg'}: 2 " in out

    (tmp_path / "broken.png").write_bytes(b"not a picture")
    result = convax("predict", whole.path, tmp_path / "broken.png", tmp_path / "right.png")
    refused(result, "broken.png")
    assert "right.png: 2" in result[1]


def test_summary(convax, tiny):
    code, out, _ = convax("summary", "lenet5-digits")
    assert code == 0
    assert "61,706" in out
    code, out, _ = convax("summary", tiny, "--json")
    values = json.loads(out)
    assert values["parameters"] == 65 * 16 + 17 * 3
    assert {"flops", "receptive_field"} <= values.keys()


def test_summary_without_the_data_says_what_it_assumes(convax, tmp_path, monkeypatch):
    monkeypatch.setenv("CONVAX_DATA", str(tmp_path))
    code, out, err = convax("summary", "lenet5-mnist")
    assert code == 0
    assert "61,706" in out
    assert "assumed instead: 1 channel(s), 10 classes" in err


def test_summary_of_masks_needs_no_data(convax, tmp_path, monkeypatch):
    monkeypatch.setenv("CONVAX_DATA", str(tmp_path))
    code, _, err = convax("summary", "unet-pennfudan")
    assert (code, err) == (0, "")


def test_configs(convax):
    code, out, _ = convax("configs")
    assert code == 0
    for name in shipped_configs():
        assert name in out
    assert convax("configs", "lenet5-digits")[1] == shipped_configs()["lenet5-digits"]
    assert json.loads(convax("configs", "--json")[1]).keys() == shipped_configs().keys()
    assert json.loads(convax("configs", "lenet5-digits", "--json")[1])["model"]["name"] == "lenet5"
    schema = json.loads(convax("configs", "--schema")[1])
    assert schema["title"] == "Config"
    refused(convax("configs", "lenet5-digit"), "did you mean 'lenet5-digits'")


def test_doctor(convax):
    code, out, _ = convax("doctor")
    assert code == 0
    assert "gradient" in out
    assert "FAIL" not in out
    assert {finding["fine"] for finding in json.loads(convax("doctor", "--json")[1])} == {True}


def test_train_without_mnist_says_how_to_get_it(convax, tmp_path, monkeypatch):
    monkeypatch.setenv("CONVAX_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    refused(convax("train", "lenet5-mnist"), "convax fetch mnist")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "nothing.toml"], ["nothing.toml", "no such file or shipped config"]),
        (["train", "lenet5-digits", "--set", "training.epoch=1"], ["training.epoch", "'epochs'"]),
        (["train", "--resume", "nowhere"], ["nowhere", "no such run directory"]),
        (["train", "lenet5-mnist", "--resume", "x"], ["--resume takes the run's own config"]),
        (["evaluate", "nowhere"], ["nowhere", "no such run directory"]),
        (["evaluate", "nowhere", "--split", "tests"], ["--split: got 'tests', need one of train,"]),
        (
            ["evaluate", "nowhere", "--checkpoint", "x"],
            ["--checkpoint: got 'x', need one of best,"],
        ),
        (["predict", "nowhere", "x.png"], ["nowhere", "no such run directory"]),
        (["summary", "lenet5-digits", "--set", "model.name=lenet6"], ["did you mean 'lenet5'"]),
        (
            ["summary", "lenet5-digits", "--set", "input.size=[9, 9]"],
            ["conv2: conv: the window is"],
        ),
        (["report", "nowhere"], ["nowhere", "no such run directory"]),
        (["fetch", "imagenet"], ["imagenet", "mnist"]),
        (["train", "lenet5-digits", "--out", "/proc/none/run"], ["/proc/none/run: cannot be cre"]),
        (
            ["train", "lenet5-digits", "--set", "optimizer.b1=1.5"],
            ["optimizer.b1: adam: ", "1.5"],
        ),
    ],
    ids=lambda value: " ".join(map(str, value))[:40],
)
def test_what_was_typed_wrong_gets_a_line(convax, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    refused(convax(*arguments), *words)


@pytest.mark.parametrize(("old", "new"), RENAMED_COMMANDS.items())
def test_an_old_command_gets_a_line_that_names_the_new_one(convax, old, new):
    refused(convax(old, "x"), f"error: {old}: unknown command; write {new}")
    assert convax(new, "--help")[0] == 0


@pytest.mark.parametrize(
    ("name", "old"),
    [
        *(("train", old) for old in ("--form", "--heartbeat", "--patience")),
        *(("predict", old) for old in ("--flips", "--raw", "--with")),
        ("serve", "--queue"),
    ],
)
def test_an_old_option_gets_a_line_that_names_the_new_one(convax, name, old):
    new = RENAMED_OPTIONS[old]
    refused(convax(name, f"{old}=1"), f"error: {old}: unknown option; write {new}")
    assert new in convax(name, "--help")[1]


def test_all_old_options_are_known_to_a_test_and_none_is_a_new_one(convax):
    options = " ".join(convax(name, "--help")[1] for name in ("train", "predict", "serve"))
    assert len(RENAMED_OPTIONS) == 7
    assert not [old for old in RENAMED_OPTIONS if re.search(rf"{old}(?![\w-])", options)]


def test_help_and_version(convax):
    code, out, _ = convax("-h")
    assert code == 0
    listed = re.findall(r"^  ([a-z-]+)  ", out.partition("Commands:")[2], re.MULTILINE)
    assert tuple(listed) == COMMANDS
    code, out, _ = convax("--version")
    assert (code, out) == (0, f"convax {version('convax')} jax {version('jax')}\n")


@pytest.mark.parametrize("arguments", [["trian"], ["train", "--sed", "1"], ["predict"]])
def test_usage_errors(convax, arguments):
    code, _, err = convax(*arguments)
    assert code == 2
    assert "Usage" in err


def test_a_diverging_run_exits_with_1(convax, tiny, tmp_path):
    overrides = ["--set", "optimizer.learning_rate=1e30", "--set", "schedule.warmup=0.5"]
    overrides += ["--set", "optimizer.eps=1e-30"]
    result = convax("train", tiny, "--out", tmp_path / "run", *overrides)
    refused(result, "lower optimizer.learning_rate", code=1)


def test_a_bug_is_a_line_too_and_a_traceback_on_request(convax, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("convax.training.config.schema.load_config", broken)
    refused(convax("summary"), "ZeroDivisionError: oops", "CONVAX_DEBUG=1", code=1)
    monkeypatch.setenv("CONVAX_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        convax("summary")


def test_ctrl_c_exits_with_130_and_says_how_to_go_on(tiny, tmp_path):
    command = [sys.executable, "-m", "convax", "train", str(tiny), "--out", str(tmp_path / "run")]
    command += ["--set", "training.steps=100000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        for line in process.stdout or ():
            if line.startswith("step "):
                process.send_signal(2)
                break
        _, err = process.communicate()
    assert process.returncode == 130
    assert f"continue with: convax train --resume {tmp_path / 'run'}" in err
    assert "Traceback" not in err
    assert len(err.splitlines()) == 1


def test_a_config_file_finds_its_data_beside_it(convax, tiny, tmp_path, monkeypatch):
    text = tiny.read_text().replace(str(tmp_path / "tiny.npz"), "tiny.npz")
    (tmp_path / "relative.toml").write_text(text)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert convax("train", "../relative.toml", "--set", "training.steps=2")[0] == 0
    # And the run knows where its data is, from anywhere.
    monkeypatch.chdir("/")
    assert convax("evaluate", elsewhere / "runs/relative")[0] == 0


def test_importing_convax_imports_nothing_heavy():
    """Beyond jax itself: what a command needs is imported when it needs it."""
    program = """
import sys, jax
before = set(sys.modules)
import convax
convax.ops, convax.model, convax.__version__
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    heavy = {
        "matplotlib",
        "sklearn",
        "rich",
        "typer",
        "pydantic",
        "PIL",
        "optax",
        "requests",
        "scipy",
    }
    assert not heavy & set(done.stdout.split())


def test_the_disk_is_full(convax, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "runs/x/metrics.jsonl")

    monkeypatch.setattr("convax.training.config.schema.load_config", full)
    refused(convax("summary"), "runs/x/metrics.jsonl: No space left on device")


def test_a_reader_that_goes_away_does_not_end_the_training(tiny, tmp_path):
    command = [sys.executable, "-m", "convax", "train", str(tiny), "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 0
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "finished"


def test_unknown_attribute():
    import convax

    with pytest.raises(AttributeError, match="module 'convax' has no attribute 'lod'"):
        convax.lod  # noqa: B018
    assert "load" in dir(convax)


def test_the_default_config_is_shipped():
    assert load_config("lenet5-digits").model.name == "lenet5"


def test_a_second_ctrl_c_is_a_line(convax, tiny, tmp_path, monkeypatch):
    def interrupted(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr("convax.training.loop.loop.train", interrupted)
    refused(convax("train", tiny, "--out", tmp_path / "run"), "stopped at once by Ctrl-C", code=130)


def test_force_is_of_resuming(convax, tiny):
    refused(
        convax("train", tiny, "--force"),
        "--force: is for --resume and --extend only; leave it out for a new run",
    )


def test_paths_that_are_no_utf_8(convax, whole, copied, tiny, tmp_path):
    """A config cannot hold them; whatever else they name works."""
    folder = tmp_path / os.fsdecode(b"donn\xe9es")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes no such name")
    shutil.copy(tiny, folder / "c.toml")
    shutil.copy(tiny.with_suffix(".npz"), folder)
    shutil.move(copied.path, folder / "run")
    for path in ("tiny.npz", folder / "tiny.npz"):
        result = convax(
            "train", folder / "c.toml", "--out", tmp_path / "no", "--set", f"data.path={path}"
        )
        refused(result, r"donn\udce9es", "not UTF-8, which a config cannot hold; rename")
    (tmp_path / "link").symlink_to(folder / "run")
    result = convax(
        "train", tiny, "--out", tmp_path / "no", "--set", f'init_from={{path="{tmp_path}/link"}}'
    )
    refused(result, "init_from.path: ", "not UTF-8, which a config cannot hold; rename it")
    assert not (tmp_path / "no").exists()
    for command in (
        ("evaluate", folder / "run"),
        ("report", folder / "run"),
        ("compare", folder / "run", whole.path, "--out", folder / "x.png"),
    ):
        code, _, err = convax(*command)
        assert (code, err) == (0, ""), command


@pytest.mark.parametrize("arguments", [["--device", "tpu", "doctor"], ["doctor", "--device=tpu"]])
def test_the_device_may_be_chosen_on_either_side_of_the_command(arguments, convax, monkeypatch):
    chosen = []
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setattr("jax.config.update", lambda *change: chosen.append(change))
    monkeypatch.setattr("convax.cli.doctor.examine", lambda: iter(()))
    assert convax(*arguments)[0] == 0
    assert chosen == [("jax_platforms", "tpu")] and os.environ["JAX_PLATFORMS"] == "tpu"


@pytest.mark.parametrize("trains", ["train", "lr-find"])
def test_what_trains_keeps_compiled_programs(trains, convax, monkeypatch):
    def enabled():
        raise ConfigError("the cache comes before everything")

    monkeypatch.setattr(compile_cache, "enable_compile_cache", enabled)
    refused(convax(trains, "nowhere"), "the cache comes before everything")


@pytest.mark.parametrize("arguments", [["--no-cache", "configs"], ["configs", "--no-cache"]])
def test_images_are_decoded_anew_on_demand(arguments, convax, monkeypatch):
    monkeypatch.setenv("CONVAX_DATA_CACHE", "3")
    assert convax(*arguments)[0] == 0 and os.environ["CONVAX_DATA_CACHE"] == "off"


def test_details_are_said_on_demand(convax, monkeypatch):
    monkeypatch.setenv("CONVAX_DEBUG", "")  # which is restored behind the test
    code, out, err = convax("summary", "--verbose")
    assert code == 0 and os.environ["CONVAX_DEBUG"] == "1"
    assert re.search(r"^data: 1,797 images of 'digits' read in \d+\.\d s$", err, re.MULTILINE)
    assert convax("summary") == (0, out, "")


def test_a_device_that_does_not_exist_is_refused(convax):
    refused(convax("configs", "--device", "npu"), "--device: got 'npu', need one of cpu, gpu, tpu")


def test_a_device_that_is_not_here_is_one_line_with_the_remedy(convax, monkeypatch, tmp_path):
    """JAX asserts, or says that it is unable to initialize a backend, wherever it is first used."""

    def devices():
        raise RuntimeError("Unable to initialize backend 'cuda': none\nand more")

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr("jax.devices", devices)
    monkeypatch.setattr("convax.training.experiment.split_seed", lambda seed: devices())
    result = convax("train", "lenet5-digits", "--out", tmp_path / "run")
    refused(result, "error: JAX finds no cuda here (Unable", "write --device cpu", "convax[cuda]")
    assert "bug" not in result[2] and len(result[2].strip().splitlines()) == 1
    code, out, _ = convax("doctor")
    assert code == 1 and "FAIL  devices       JAX finds no cuda here" in out
