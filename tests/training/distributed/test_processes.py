"""Several processes as one run, over loopback: the same result, signals, and one that dies."""

import os
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import safetensors.numpy

import convax
from convax.training.config.schema import load_config
from convax.training.distributed import processes as distributed
from convax.training.loop import loop
from convax.training.run import checkpoint
from convax.training.run.directory import RunError, open_run
from tests.tiny import write_tiny

HEARTBEAT = 10  # seconds
LENGTH = ["training.steps=600", 'training.evaluate_every="100 steps"', "training.log_every=50"]


class Processes:
    """Those of one run, each with its output in a file."""

    def __init__(self, count, folder, *arguments):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        folder.mkdir()
        self.outputs = [folder / f"{i}.txt" for i in range(count)]
        self.running = []
        for i, output in enumerate(self.outputs):
            place = [f"--coordinator={address}", f"--processes={count}", f"--process-id={i}"]
            limits = [f"--heartbeat-timeout={HEARTBEAT}", "--startup-timeout=120"]
            command = [sys.executable, "-m", "convax", "train", *map(str, arguments), *place]
            with output.open("w") as file:
                process = subprocess.Popen(
                    command + limits,
                    env=os.environ | {"JAX_PLATFORMS": "cpu"},
                    cwd=folder,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                )
            self.running.append(process)

    def texts(self):
        return [output.read_text() for output in self.outputs]

    def codes(self, timeout=240):
        codes = [process.wait(timeout) for process in self.running]
        assert "Traceback" not in "".join(self.texts())
        return codes

    def send(self, number, to, *, after):
        """A signal to one process, once process 0 has said something."""
        while after not in self.outputs[0].read_text():
            assert all(process.poll() is None for process in self.running), self.texts()
            time.sleep(0.01)
        self.running[to].send_signal(number)


def content(path):
    run = open_run(path)
    folder = run.checkpoints / checkpoint.named(run.checkpoints, "last")
    names = ("params", "state", "training")
    return {name: (folder / f"{name}.safetensors").read_bytes() for name in names}


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """``(config file, arguments of a run, the run of two processes that nothing stopped)``."""
    folder = tmp_path_factory.mktemp("processes")
    config = write_tiny(folder)
    length = [argument for key in LENGTH for argument in ("--set", key)]
    arguments = [config, *length, "--set", "mesh.data=all"]
    whole = Processes(2, folder / "outputs", *arguments, "--out", folder / "run")
    assert whole.codes() == [0, 0], whole.texts()
    return config, arguments, folder / "run", whole.texts()


def difference(path, config, tmp_path):
    """The largest difference from a run of one process, relative to an array's largest element."""
    alone = content(convax.train(load_config(config, LENGTH), tmp_path / "alone").path)
    arrays, others = (safetensors.numpy.load(each["params"]) for each in (content(path), alone))
    return max(float(np.abs(arrays[k] - others[k]).max() / np.abs(others[k]).max()) for k in others)


@pytest.mark.slow
def test_two_processes_come_to_what_one_does(setting, tmp_path):
    config, _, run, (first, second) = setting
    assert difference(run, config, tmp_path) < 1e-3
    assert "2 devices (data 2), cpu" in first
    assert [line for line in second.splitlines() if not line.startswith("[Gloo]")] == []
    steps = [r["step"] for r in open_run(run).metrics() if r["kind"] == "validation"]
    assert steps == [100, 200, 300, 400, 500, 600]  # one process writes


@pytest.mark.slow  # two more starts of two processes, and the heartbeat of a dead one
def test_run_resumes_to_the_same_bytes_after_a_process_dies(setting, tmp_path):
    _, arguments, whole, _ = setting
    run = tmp_path / "run"
    processes = Processes(2, tmp_path / "killed", *arguments, "--out", run)
    processes.send(signal.SIGKILL, to=1, after="validation at step 200")
    codes = processes.codes(timeout=3 * HEARTBEAT)
    assert codes == [75, -signal.SIGKILL], processes.texts()
    line = processes.texts()[0].splitlines()[-1]
    assert line.startswith("error: process 0 of 2: lost another process (")
    assert line.endswith(f"start all processes again with: convax train --resume {run}")
    resumed = Processes(2, tmp_path / "resumed", "--resume", run)
    assert resumed.codes() == [0, 0], resumed.texts()
    assert content(run) == content(whole)


@pytest.mark.slow
@pytest.mark.parametrize("to", [0, 1])
def test_a_signal_to_one_stops_and_saves_all(setting, tmp_path, to):
    _, arguments, whole, _ = setting
    run = tmp_path / "run"
    processes = Processes(2, tmp_path / "stopped", *arguments, "--out", run)
    processes.send(signal.SIGTERM, to=to, after="validation at step 200")
    assert processes.codes() == [143, 143], processes.texts()
    assert "state saved" in processes.texts()[0]
    resumed = Processes(2, tmp_path / "resumed", "--resume", run)
    assert resumed.codes() == [0, 0], resumed.texts()
    assert content(run) == content(whole)


@pytest.mark.slow
def test_loss_of_the_coordinator_ends_the_others(setting, tmp_path):
    """Either our line, or that of JAX, which ends a process without its coordinator by itself."""
    _, arguments, _, _ = setting
    processes = Processes(2, tmp_path / "killed", *arguments, "--out", tmp_path / "run")
    processes.send(signal.SIGKILL, to=0, after="validation at step 200")
    codes = processes.codes(timeout=3 * HEARTBEAT)
    assert codes[0] == -signal.SIGKILL
    assert codes[1] in (75, 1, -signal.SIGABRT)
    text = processes.texts()[1]
    assert "lost another process" in text or "another task died" in text


@pytest.mark.slow
def test_four_processes_come_to_what_one_does(setting, tmp_path):
    config, arguments, _, _ = setting
    run = tmp_path / "run"
    more = ["--set", "mesh={data=2,fsdp='all'}", "--out", run]
    processes = Processes(4, tmp_path / "four", *arguments[:-2], *more)
    assert processes.codes() == [0, 0, 0, 0], processes.texts()
    assert difference(run, config, tmp_path) < 1e-3


@pytest.mark.slow
def test_an_error_of_one_is_known_to_all(setting, tmp_path):
    _, arguments, run, _ = setting
    processes = Processes(2, tmp_path / "outputs", *arguments, "--out", run)
    assert processes.codes() == [2, 2]
    first, second = processes.texts()
    assert "exists already" in first
    assert "stopped because process 0 could not begin" in second
    processes = Processes(2, tmp_path / "more", *arguments[:-2], "--out", tmp_path / "run")
    assert processes.codes() == [2, 2]
    assert "error: mesh: missing; 2 processes need a mesh" in processes.texts()[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--coordinator=here"], "--coordinator: got 'here', need HOST:PORT of process 0"),
        (
            ["--coordinator=127.0.0.1:1", "--processes=2", "--process-id=1", "--startup-timeout=1"],
            "--coordinator 127.0.0.1:1: cannot be reached within 1 s",
        ),
    ],
)
def test_start_fails_when_processes_do_not_meet(command, tiny, arguments, message):
    code, _, err = command("train", tiny, *arguments)
    assert (code, message in err) == (2, True), err
    assert err.count("\n") == 1


def test_start_fails_when_nothing_tells_processes_apart(tiny):
    """In a process of its own, as JAX has to be fresh."""
    done = subprocess.run(
        [sys.executable, "-m", "convax", "train", str(tiny), "--distributed"],
        cwd=tiny.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert (
        "the environment does not identify the processes; give --coordinator HOST:PORT"
        in done.stderr
    )
    assert done.stderr.count("\n") == 1


def test_all_processes_agree_on_signals_and_on_who_has_failed(monkeypatch):
    assert distributed.sync(3, [15], failed=False) == (3, [15], [])
    assert distributed.sync(3, [], failed=True) == (3, [], [0])
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(
        distributed, "process_allgather", lambda mine: np.stack([mine, [8, 0, 1], [9, 2, 0]])
    )
    assert distributed.sync(7, [15], failed=False) == (7, [15, 2], [1])
    assert str(distributed.failed_elsewhere([1], "read its data")).startswith(
        "process 0: stopped because process 1 could not read its data; "
    )


def test_error_with_a_network_word_in_a_path_is_no_lost_process(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    known = ValueError("runs/gloo-test: no peer")
    known.add_note(distributed.AGREED)
    for error in (RunError("runs/gloo-test: exists already"), known):
        with (
            pytest.raises(ValueError, match="gloo-test") as caught,
            distributed.detect_peer_loss(tmp_path),
        ):
            raise error
        assert caught.value is error
    lost = pytest.raises(distributed.LostProcessError, match=r"\(Connection closed by peer\); noth")
    for broken in (ValueError, RuntimeError):  # as JAX says it
        with lost, distributed.detect_peer_loss(tmp_path):
            raise broken("FAILED_PRECONDITION: Gloo all-reduce failed: Connection closed by peer")


def test_a_final_ctrl_c_does_not_wait_for_the_others(command, tiny, monkeypatch):
    """JAX would, in the end of the process, for as long as `--startup-timeout` says."""

    def stop(*_, **__):
        raise KeyboardInterrupt

    def leave(code):
        raise SystemExit(f"left with {code}")

    monkeypatch.setattr(loop, "train", stop)
    monkeypatch.setattr(os, "_exit", leave)
    assert command("train", tiny)[0] == 130
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    code, _, err = command("train", tiny)
    assert code == "left with 130"
    assert err.startswith("error: stopped at once by Ctrl-C")
