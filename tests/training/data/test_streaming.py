"""Images left in their files: the same images and batches as in memory, and what can go wrong."""

import contextlib
import errno
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import convax
from convax.training.config.schema import ConfigError, load_config
from convax.training.data import (
    DataError,
    Streamed,
    batches,
    fingerprint,
    load_folder,
    load_table,
    read_batches,
)
from convax.training.data.preprocess import STATISTICS_SAMPLE, measure


@pytest.fixture
def folder(tmp_path, rng):
    """Seven noisy images of two classes for training, two for testing, of two sizes."""
    for name in ("train/a/0", "train/a/1", "train/a/2", "train/b/0", "train/b/1", "train/b/2"):
        write(tmp_path / f"{name}.png", rng, (9, 7, 3))
    write(tmp_path / "train/b/3.png", rng, (5, 5, 3))
    for name in ("test/a/0", "test/b/0"):
        write(tmp_path / f"{name}.png", rng, (9, 7, 3))
    return tmp_path


def write(path, rng, shape):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, shape).astype(np.uint8)).save(path)


def both(folder):
    read = {"size": [8, 6], "channels": 3}
    return load_folder(folder, **read), load_folder(folder, **read, stream=True, num_workers=2)


def test_streamed_behaves_as_an_array(folder):
    held, streamed = (dataset.train.images for dataset in both(folder))
    assert isinstance(streamed, Streamed)
    assert (streamed.shape, streamed.dtype, len(streamed)) == (held.shape, held.dtype, len(held))
    np.testing.assert_array_equal(streamed, held)
    np.testing.assert_array_equal(streamed[3], held[3])
    np.testing.assert_array_equal(streamed[2:5], held[2:5])
    np.testing.assert_array_equal(streamed[np.array([4, 0])][::-1], held[[0, 4]])
    assert np.asarray(streamed, np.float32).dtype == np.float32
    assert streamed[:0].shape == (0, 8, 6, 3)


def test_statistics_of_few_streamed_images_are_of_all(folder):
    held, streamed = (dataset.train for dataset in both(folder))
    spec = load_config("lenet5-digits").input
    assert measure(streamed, spec) == measure(held, spec)


def test_statistics_of_many_streamed_images_are_of_a_part(folder, monkeypatch):
    monkeypatch.setattr("convax.training.data.preprocess.STATISTICS_SAMPLE", 3)
    held, streamed = (dataset.train for dataset in both(folder))
    assert STATISTICS_SAMPLE >= 1000
    spec = load_config("lenet5-digits").input
    few = held._replace(images=held.images[::3], labels=held.labels[::3])
    assert measure(streamed, spec) == measure(few, spec)


def test_fingerprint_of_streamed_images_is_of_names_and_lengths(folder):
    first = fingerprint(both(folder)[1])
    assert fingerprint(both(folder)[1]) == first
    image = folder / "train/a/1.png"
    image.write_bytes(image.read_bytes() + b"\0")
    second = fingerprint(both(folder)[1])
    image.rename(folder / "train/a/1b.png")
    assert len({first, second, fingerprint(both(folder)[1])}) == 3


def test_images_beside_a_table_are_known_where_their_folder_moves(folder):
    (folder / "train/a/t.csv").write_text("file,x\n0.png,1\n1.png,2\n")

    def found(table):
        how = {"columns": ["x"], "size": [8, 6], "stream": True}
        return fingerprint(load_table(table, **how))

    before = found(folder / "train/a/t.csv")
    assert found((folder / "train/a").rename(folder / "moved") / "t.csv") == before


def test_batches_from_files_equal_those_in_memory(folder):
    pytest.importorskip("grain")
    held, streamed = (dataset.train for dataset in both(folder))
    wanted = list(read_batches(held, seed=1, batch_size=3, start=2, stop=7))
    found = list(read_batches(streamed, seed=1, batch_size=3, start=2, stop=7))
    assert len(found) == len(wanted) == 5
    for (images, labels), (theirs, their_labels) in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(images, theirs)
        np.testing.assert_array_equal(labels, their_labels)


def test_streaming_names_a_damaged_image_when_its_turn_comes(folder):
    pytest.importorskip("grain")
    (folder / "train/b/1.png").write_bytes(b"not an image")
    batches = read_batches(both_streamed(folder), seed=0, batch_size=4, start=0, stop=9)
    with pytest.raises(DataError, match=r"b/1.png: cannot be read as an image"):
        list(batches)


def both_streamed(folder):
    return load_folder(folder, size=[8, 6], channels=3, stream=True, num_workers=1).train


def test_streaming_without_grain_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    batches = read_batches(both_streamed(folder), seed=0, batch_size=4, start=0, stop=9)
    with pytest.raises(DataError, match=r'needs Grain.*pip install "convax\[stream\]"'):
        next(batches)


def test_a_worker_that_is_killed_is_named_in_a_line(folder):
    """As the system does where memory runs out."""
    pytest.importorskip("grain")
    batches = read_batches(both_streamed(folder), seed=0, batch_size=4, start=0, stop=1000)
    next(batches)
    (worker,) = multiprocessing.active_children()
    worker.kill()
    message = (
        r"^a worker process that decodes images was killed, as the system does where memory runs "
        r"out: give it more memory, or lower data.num_workers \(in the config.toml of a run\)$"
    )
    with pytest.raises(DataError, match=message):
        list(batches)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            RuntimeError("Worker process was terminated unexpectedly with exit code -7. Search"),
            "a worker process that decodes images was ended by SIGBUS: give it more memory",
        ),
        (
            RuntimeError("Grain worker process 0 was terminated unexpectedly with exit code 1. S"),
            "a worker process that decodes images has ended with exit code 1, and its own output",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "worker processes that decode images cannot be started: No space left on device; they "
            r"need a little of /dev/shm \(of a container: docker run --shm-size=2g\)$",
        ),
        (
            OSError(errno.EMFILE, "Too many open files"),
            r"cannot be started: Too many open files; allow more open files \(ulimit -n\), or lower",
        ),
        (
            OSError(errno.EAGAIN, "Resource temporarily unavailable"),
            r"unavailable; allow more processes \(ulimit -u\), or lower data.num_workers",
        ),
        (
            PermissionError(errno.EPERM, "Operation not permitted", "/proc/x"),
            "cannot be started: /proc/x: Operation not permitted$",
        ),
    ],
)
def test_what_ends_the_workers_is_said_in_a_line(folder, monkeypatch, error, message):
    monkeypatch.setattr(batches, "_prefetched", lambda *_: _Failing(error))
    with pytest.raises(DataError, match=message):
        list(read_batches(both_streamed(folder), seed=0, batch_size=4, start=0, stop=9))


def test_an_error_that_is_none_of_the_workers_stays_as_it_is(folder, monkeypatch):
    monkeypatch.setattr(batches, "_prefetched", lambda *_: _Failing(RuntimeError("of ours")))
    with pytest.raises(RuntimeError, match="of ours"):
        list(read_batches(both_streamed(folder), seed=0, batch_size=4, start=0, stop=9))


def test_what_fails_later_is_not_called_a_start(folder, monkeypatch):
    lost = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
    monkeypatch.setattr(batches.Spool, "take", lambda *_: [np.zeros(4)])
    monkeypatch.setattr(batches, "_prefetched", lambda *_: _Failing(lost, [("file", ())]))
    reading = read_batches(both_streamed(folder), seed=0, batch_size=4, start=0, stop=9)
    next(reading)
    message = "^worker processes that decode images cannot be read from: Connection reset by peer$"
    with pytest.raises(DataError, match=message):
        next(reading)


class _Failing:
    """Steps, the last of which fails."""

    def __init__(self, error, steps=()):
        self._error, self._steps = error, iter(steps)

    def __iter__(self):
        return self

    def __next__(self):
        for step in self._steps:
            return step
        raise self._error

    def close(self):
        pass


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "no memory to decode a batch: give it more memory, or lower data.num_w"),
        (
            OSError(errno.EMFILE, "Too many open files", "x.png"),
            "a batch cannot be decoded: x.png: T",
        ),
        (OSError("of a decoder"), "a batch cannot be decoded: of a decoder"),
    ],
)
def test_what_fails_in_a_worker_is_said_in_a_line(error, message):
    class Failing:
        def __len__(self):
            return 8

        def read(self, indices):
            raise error

    decoder = batches._Decoder([Failing()], lambda step: np.arange(4), slice(None), None)
    assert decoder(0).startswith(message)


READS = """
import os, signal, sys
from convax.training.data import load_folder, read_batches
if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: None)
    split = load_folder(sys.argv[1], size=[8, 6], channels=3, stream=True, num_workers=2).train
    batches = read_batches(split, seed=0, batch_size=4, start=0, stop=1000)
    for _ in range(4):  # both workers are there
        next(batches)
    os.killpg(0, signal.SIGTERM)
    for _ in range(40):
        next(batches)
    print("read", flush=True)
    sys.stdin.read()
"""


def test_workers_outlive_a_signal_to_all_but_not_the_first_process(folder):
    """SLURM and systemd send SIGTERM to each process of a job; a kill of the first one ends all."""
    pytest.importorskip("grain")
    script = folder / "reads.py"
    script.write_text(READS)
    arguments = [sys.executable, str(script), str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(arguments, start_new_session=True, **pipes) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "read\n"
            process.kill()
            process.communicate(timeout=20)  # the pipe ends with the last one that holds it
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("num_workers=1", "num_workers is for stream = true; write that, or leave num_workers out"),
        ("stream=true", r"stream = true needs the size of all images, e.g. size = \[224, 224\]"),
    ],
)
def test_config_of_streamed_data_rejects_wrong_keys(override, message):
    data = f'data={{source="folder", path="x", channels=3, validation=1, {override}}}'
    with pytest.raises(ConfigError, match=message):
        load_config("lenet5-digits", [data])


def test_an_archive_is_not_streamed(folder, tmp_path):
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", folder, "train")
    with pytest.raises(DataError, match=r"packed.zip: an archive cannot be streamed: unpack it"):
        load_folder(packed, size=[8, 6], stream=True)


@pytest.mark.slow
def test_streamed_run_ends_with_the_bytes_of_one_in_memory(folder, tmp_path):
    """As with all images in memory."""
    pytest.importorskip("grain")
    data = {"source": "folder", "path": str(folder), "channels": 3, "validation": 2, "size": [8, 6]}
    short = ["training.steps=6", "training.batch_size=3", 'training.evaluate_every="2 steps"']
    written = ", ".join(f"{key}={value!r}".replace("'", '"') for key, value in data.items())
    ends = []
    for name, more in (("held", ""), ("streamed", ", stream=true, num_workers=2")):
        override = f"data={{{written}{more}}}"
        run = convax.train(load_config("lenet5-digits", [override, *short]), tmp_path / name)
        files = sorted(run.checkpoints.glob("step-00000006/*.safetensors"))
        ends.append([file.read_bytes() for file in files])
    assert ends[0] == ends[1]
