"""What is compiled, and when: each shape once, on demand ahead of time, and kept on disk."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
import pytest
from jax import monitoring
from PIL import Image

import convax
from convax.inference import compile_cache
from convax.inference.compile_cache import enable_compile_cache

COMPILED = "/jax/core/compile/backend_compile_duration"


@contextmanager
def counted():
    """A list that grows with each program that XLA compiles, for whatever reason."""
    found = []

    def listen(event, duration, **about):
        if event == COMPILED:
            found.append(about)

    monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        monitoring.unregister_event_duration_listener(listen)


def test_a_shape_already_seen_compiles_nothing(whole):
    images = np.random.default_rng(0).integers(0, 256, (70, 6, 6, 1), dtype=np.uint8)
    for options in ({}, {"tta": True}):
        predictor = convax.load(whole.path, **options)
        with counted() as compiled:
            for count in (1, 3, 8):
                predictor(images[:count])
        assert len(compiled) == 2  # for 1 and for 8 images
        with counted() as compiled:
            for count in (1, 2, 5, 7, 8):
                predictor(images[:count])
                predictor(list(images[:count]))
                predictor.top_k(images[:count], 2)
            list(predictor.stream(list(images[:9]), batch=4))
            predictor(images[0])
        assert not compiled


def test_warming_up(whole):
    images = np.zeros((600, 6, 6, 1), np.uint8)
    predictor = convax.load(whole.path)
    with counted() as compiled:
        predictor.warm_up((2, 9))
    assert len(compiled) == 2
    with counted() as compiled:
        for count in (1, 2, 8, 9, 10):
            predictor(images[:count])
    assert not compiled
    with counted() as compiled:
        predictor.warm_up()
    assert len(compiled) == 2  # what was left: 64 and 512
    with counted() as compiled:
        for count in (1, 600):
            predictor(images[:count])
        predictor.warm_up(())
    assert not compiled
    with counted() as compiled:
        predictor.warm_up((1,), dtype=np.float32)
    assert len(compiled) == 1
    with counted() as compiled:
        predictor(images[:1].astype(np.float64))
    assert not compiled
    with pytest.raises(ValueError, match="warm_up: sizes: got 0, need 1 or more"):
        predictor.warm_up((3, 0))


SCRIPT = """
import sys
from jax import monitoring
events = []
monitoring.register_event_listener(lambda name, **about: events.append(name.split("/")[-1]))
from convax.cli.main import main
sys.argv[0] = "convax"
try:
    main()
finally:
    print(*(events.count(name) for name in ("cache_hits", "cache_misses")))
"""


def test_a_second_process_finds_what_the_first_compiled(whole, tmp_path):
    """The answer is the same to the last bit, nothing is said of it, and damage is no error."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 6), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    wanted = {"XDG_CACHE_HOME": str(tmp_path / "caches"), "JAX_ENABLE_COMPILATION_CACHE": "true"}
    environment = {**os.environ, **wanted}
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        environment.pop(name, None)  # those of this run of the tests

    def ask():
        arguments = ["predict", whole.path, tmp_path / "a.png", "--json"]
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, *map(str, arguments)],
            env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        answer, counts = done.stdout.splitlines()
        return answer, *map(int, counts.split())

    first, hits, misses = ask()
    assert hits == 0 and misses > 0
    kept = [p for p in (tmp_path / "caches").rglob("*") if p.is_file()]
    assert kept and all("convax/compiled" in p.as_posix() for p in kept)
    second, hits, again = ask()
    assert (second, hits, again) == (first, misses, 0)
    assert json.loads(first)["probability"] > 1 / 3
    for path in kept:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert ask()[:2] == (first, 0)


@pytest.fixture
def jax_settings(monkeypatch):
    """JAX as a process has it that begins, and as it was afterwards."""
    names = ("enable_compilation_cache", "compilation_cache_dir")
    names += ("persistent_cache_min_compile_time_secs",)
    before = {name: getattr(jax.config, f"jax_{name}") for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", True)
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", raising=False)
    yield
    for name, value in before.items():
        jax.config.update(f"jax_{name}", value)


def test_the_folder(jax_settings, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    folder = enable_compile_cache()
    assert folder is not None and folder.parent == tmp_path / "caches" / "convax" / "compiled"
    assert jax.config.jax_compilation_cache_dir == str(folder)
    assert folder.stat().st_mode & 0o777 == folder.parent.stat().st_mode & 0o777 == 0o700
    # What was chosen for JAX wins, and so does turning it off.
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "mine"))
    assert enable_compile_cache() == tmp_path / "mine" == Path(jax.config.jax_compilation_cache_dir)
    jax.config.update("jax_enable_compilation_cache", False)
    assert enable_compile_cache() is None


def test_no_folder_is_no_error(jax_settings, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "convax").write_text("a file")
    assert enable_compile_cache() is None
    (tmp_path / "convax").unlink()
    (tmp_path / "convax" / "compiled").mkdir(parents=True)
    (tmp_path / "convax" / "compiled").chmod(0o777)  # where others may put programs
    assert enable_compile_cache() is None
    monkeypatch.setattr(compile_cache, "cache_directory", lambda: Path("/proc/none"))
    assert enable_compile_cache() is None

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(compile_cache, "cache_directory", homeless)
    assert enable_compile_cache() is None and jax.config.jax_compilation_cache_dir is None
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert compile_cache.cache_directory().is_absolute()
