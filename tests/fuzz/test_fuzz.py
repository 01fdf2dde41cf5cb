"""A few spoiled configs and damaged files; `make fuzz` tries thousands."""

import subprocess
import sys

import pytest

from convax.training.config.schema import ConfigError, load_config
from convax.training.experiment import prepare
from tests.fuzz.annotations import try_annotations
from tests.fuzz.configs import bench, try_configs
from tests.fuzz.files import Bench, odd_kinds, try_files
from tests.fuzz.verdict import INTERNALS, table


def failed(verdicts):
    return [verdict for verdict in verdicts if verdict.outcome == "FAILED"]


@pytest.mark.slow
def test_spoiled_configs():
    verdicts = try_configs(1, range(120))
    assert not failed(verdicts)
    assert {"accepted", "ConfigError"} < {verdict.outcome for verdict in verdicts}


@pytest.mark.slow
def test_damaged_files():
    verdicts = try_files(1, range(60))
    assert not failed(verdicts)
    outcomes = {verdict.outcome for verdict in verdicts}
    assert {"as stored", "DataError", "DamagedError", "RunError"} <= outcomes


def test_damaged_annotations():
    verdicts = try_annotations(1, range(60))
    assert not failed(verdicts)
    assert {"as stored", "other values", "DataError"} == {v.outcome for v in verdicts}


@pytest.mark.slow
def test_odd_files(tmp_path):
    here = Bench(tmp_path, odd_kinds())
    verdicts = [here.try_kind(name, None, i) for i, name in enumerate(here.kinds)]
    assert not failed(verdicts)
    assert not (tmp_path / "x.png").exists()  # no archive wrote outside
    bomb = next(v for v in verdicts if "bomb.zip" in v.case)
    assert "536,870,913 bytes, need 268,435,456 at most" in bomb.message


def test_a_mutant_is_the_same_every_time():
    with bench() as here:
        assert here.mutant(0, 7) == here.mutant(0, 7) != here.mutant(0, 8)


def test_the_table_counts():
    with bench() as here:
        verdicts = [here.try_one(0, index) for index in range(5)]
    assert table(verdicts).splitlines()[-1].startswith("| all | ")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer.eps=1e-320"], "optimizer.eps: eps should be a number that float32 holds"),
        (["optimizer.learning_rate=1e39"], "learning_rate should be a number that float32 holds"),
        (["data.validation=99999999999999999999"], "validation should fit into 64 bits"),
        (["seed=" + "9" * 5000], r"seed: should be a valid integer; got '9+ \.\.\. 9+'$"),
        (["seed=0x" + "f" * 5000], "seed: "),
        (["seed=" + "[" * 5000], "seed: should be a valid integer"),
        (["seed=2021-02-03"], "seed: should be a valid integer; got 2021-02-03$"),
        (["data.source=1979-05-27"], 'data.source: should be one of "digits".*; got 1979-05-27$'),
        (["data=1979-05-27T07:32:00"], "data: should be a table; got 1979-05-27T07:32:00$"),
        (["a" * 5000], r"^--set a+ \.\.\. a+: write --set key=value"),
        (["input.size." + "9" * 5000 + "=1"], r"'9+ \.\.\. 9+' is not an index below 2"),
        (
            ["input.size=[8, 2147483647]"],
            "input.size.1: should be less than or equal to 32768; got 2147483647",
        ),
        (
            ['model={layers=[{type="adaptive_avg_pool", output_size=1000000}]}'],
            "output_size: adaptive_avg_pool: bad output_size: got 1000000, need 1024 bins along an",
        ),
        (
            ['optimizer.groups=[{match="x{99999999999}", frozen=true}]'],
            r"optimizer.groups.0.match: .* \(the repetition number is too large\)",
        ),
        (
            [f'optimizer.groups=[{{match="{5000 * "("}", frozen=true}}]'],
            r"optimizer.groups.0.match: .* \(5,000 characters, need 1,000 at most\)",
        ),
        (
            [f'init_from={{path="x", match="{499 * "("}{499 * ")"}"}}'],
            r"init_from.match: .* \(groups in one another, far too many\)",
        ),
        (["a\x1b[31m=1"], r"a\\x1b\[31m: unknown key"),
    ],
)
def test_what_is_said(overrides, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_config("lenet5-digits", overrides)
    assert len(str(caught.value)) < 1000


def test_a_learning_rate_that_grows_beyond_all_bounds():
    growing = 'schedule={name="exponential", rate=1e30, decay_steps=0.01, staircase=false}'
    config = load_config("lenet5-digits", [growing])
    with pytest.raises(
        ConfigError, match=r"^schedule: the learning rate of step 9 of 590 is inf, need"
    ):
        prepare(config)


NASTY = {
    "deep": b"seed = " + b"[" * 5000,
    "digits": b"seed = " + b"9" * 5000,
    "nul": b"seed = 0\0",
    "binary": bytes(range(256)),
    "empty": b"",
}
SUMMARIES = [
    ["lenet5-mnist", "--set", "data.path=~nobody-here/x"],
    ["lenet5-mnist", "--set", "data.path=" + "x" * 5000],
    ["unet-pennfudan", "--set", "data.path="],
]


@pytest.mark.parametrize("name", NASTY)
def test_the_command_line_refuses_in_a_line(name, tmp_path, command):
    file = tmp_path / f"{name}.toml"
    file.write_bytes(NASTY[name])
    code, out, err = command("train", file, "--out", tmp_path / "run")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {file}: ")
    assert len(err) < 1500 and not INTERNALS.search(err)


@pytest.mark.parametrize("arguments", SUMMARIES, ids=lambda a: a[-1][:20])
def test_the_command_line_refuses_odd_paths(arguments, tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONVAX_DATA", raising=False)
    code, _, err = command("train", *arguments)
    assert code == 2
    assert err.startswith("error: ") and len(err) < 2500


@pytest.mark.slow
@pytest.mark.parametrize("name", NASTY)
def test_a_process_refuses_in_a_line(name, tmp_path):
    file = tmp_path / f"{name}.toml"
    file.write_bytes(NASTY[name])
    process = [sys.executable, "-m", "convax", "train", str(file)]
    done = subprocess.run(process, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
