"""Training on a mesh of devices: the same trajectory as on one, and clear errors."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from convax.training.config.schema import ConfigError, Mesh, load_config
from convax.training.distributed.sharding import axis_sizes
from tests.tiny import TINY, write_tiny

SCRIPT = Path(__file__).with_name("on_eight_devices.py")
ROOT = Path(__file__).parents[3]

# A bit of everything: groups for the model axis, strides and windows over the border of bands, batch norm.
NETWORK = """
[model]
layers = [
    { type = "conv", features = 32, window = 3, padding = "SAME", bias = false },
    { type = "batch_norm" },
    { type = "relu" },
    { type = "conv", features = 64, window = 5, groups = 2, padding = "SAME" },
    { type = "max_pool", window = 3, stride = 2, padding = "SAME" },
    { type = "conv", features = 16, window = 1, stride = 2 },
    { type = "relu" },
    { type = "flatten" },
    { type = "dropout", rate = 0.2 },
    { type = "dense", features = 3 },
]
"""


# Adam makes whole steps of the rounding where a gradient is zero but for it.
MOMENTUM = """
[optimizer]
name = "sgd"
learning_rate = 0.02
momentum = 0.9
nesterov = false
weight_decay = 0.0
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What `on_eight_devices` prints; one process for all tests here."""
    return on_eight_devices(tmp_path_factory.mktemp("mesh"))


@pytest.fixture(scope="module")
def recipes(tmp_path_factory):
    return on_eight_devices(tmp_path_factory.mktemp("recipes"), "recipes")


def on_eight_devices(folder, *arguments):
    config = write_tiny(folder)
    text = config.read_text()
    model = TINY[TINY.index("[model]") : TINY.index("[loss]")]
    adam = TINY[TINY.index("[optimizer]") : TINY.index("[schedule]")]
    text = (
        text.replace(adam, MOMENTUM)
        .replace(model, NETWORK)
        .replace("size = [8, 8]", "size = [16, 16]")
    )
    # Of other batches a maximum or a relu may turn with the rounding, and the trajectory with it.
    text = text.replace("validation = 20", "validation = 20\nstratify = false")
    text = text.replace("steps = 60", "steps = 12").replace('"20 steps"', '"6 steps"')
    config.write_text(text.replace("log_every = 7", "log_every = 4"))
    cache = {  # the same programs again where a run is resumed
        "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    flags = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=8 "
    flags += "--xla_cpu_collective_call_terminate_timeout_seconds=600"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(config), str(folder), *arguments],
        env=os.environ
        | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "NPROC": "64", "PYTHONPATH": str(ROOT)}
        | cache,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["data", "fsdp", "all three", "8 to 1", "1 to 8"])
def test_eight_devices_follow_the_trajectory_of_one(found, mesh):
    """Parameters, batch statistics and moments after 12 steps; docs/scale.md states the bound."""
    assert found["devices"] == 8
    assert found["differences"][mesh] < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["accumulate", "ema", "skip_nonfinite", "clip"])
def test_every_option_of_a_step_works_on_eight_devices(recipes, recipe):
    assert recipes[recipe][0] < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["bfloat16", "float16"])
def test_eight_devices_in_low_precision_stay_near_one(recipes, recipe):
    between_devices, to_float32 = recipes[recipe]
    assert between_devices < to_float32


@pytest.mark.slow
def test_mesh_compiles_to_another_program(found):
    hashes = found["hashes"]
    assert len({hashes[name] for name in ("one", "data", "all three")}) == 3


@pytest.mark.slow
def test_sharded_run_resumes_after_sigkill_to_the_same_bytes(found):
    assert found["hashes"]["resumed"] == found["hashes"]["data"]


@pytest.mark.slow
def test_sharded_evaluation_counts_every_example_once(found):
    """53 do not divide by the devices."""
    tests = found["tests"]
    assert {each["count"] for each in tests.values()} == {53}
    assert max(abs(each["loss"] - tests["one"]["loss"]) for each in tests.values()) < 1e-3


@pytest.mark.slow
def test_fsdp_cuts_parameters_and_moments(found):
    whole, part = found["kernel"]
    assert whole == [5, 5, 16, 64]
    assert part == [5, 5, 16, 16]
    assert part in found["moments"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "message"),
    [
        (
            "devices",
            "mesh: data 4 x spatial 4 needs 16 devices, but there are 8 (cpu, 1 process); ",
        ),
        ("rest", "mesh.data: 8 devices do not divide by the 3 of the other axes"),
        ("batch", "mesh.data: a batch of 20 does not divide into 8 equal parts; set "),
        ("height", "mesh.spatial: images of 12 rows do not divide into 8 equal bands; set "),
        ("model", "whose groups divide by 8, as alexnet_2012 has; this one has groups of 2; "),
        ("no groups", "whose groups divide by 2, as alexnet_2012 has; this one has none; leave"),
    ],
)
def test_mesh_that_does_not_fit_is_one_line(found, case, message):
    text = found["refusals"][case]
    assert message in text
    assert "\n" not in text
    assert found["refusals"]["fits"] is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("mesh.date=2", "mesh.date: unknown key; did you mean 'data'?"),
        ("mesh.data=0", "mesh.data: should be greater than 0 or should be -1 or 'all'; got 0"),
        ("mesh={data='all',fsdp=-1}", 'data and fsdp are "all": only one axis can take the'),
    ],
)
def test_mesh_table_that_is_wrong_is_one_line(tiny, override, message):
    with pytest.raises(ConfigError) as caught:
        load_config(tiny, [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_mesh_axis_all_takes_the_devices_left():
    sizes = axis_sizes(Mesh(fsdp=-1, spatial=2), 8)
    assert sizes == {"data": 1, "fsdp": 4, "model": 1, "spatial": 2}


def test_resume_takes_another_mesh_and_nothing_else(command, tiny, tmp_path):
    out = tmp_path / "run"
    assert command("train", tiny, "--out", out, "--set", "mesh.data=1")[0] == 0
    code, _, err = command("train", "--resume", out, "--set", "training.steps=9")
    assert (code, "every --set except those of mesh" in err) == (2, True)
    code, _, err = command("train", "--resume", out, "--set", "mesh.data=1")
    assert (code, "this run is finished" in err) == (2, True)
