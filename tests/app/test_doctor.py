"""What doctor says of versions of JAX known to be wrong, and of memory and what saves page faults."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from convax.cli import doctor

TRANSPARENT = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def memory_in_a_new_process(**environment):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", "from convax.cli import doctor; print(doctor._memory()[1])"]
    done = subprocess.run(command, env=clean | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="devices have allocators of their own")
def test_the_advice_helps_where_it_is_followed():
    assert memory_in_a_new_process().endswith(f"started with {doctor.HUGE_PAGES}")
    if not TRANSPARENT.is_file() or "[never]" in TRANSPARENT.read_text():
        pytest.skip("this kernel gives no huge pages")
    name, value = doctor.HUGE_PAGES.split("=", maxsplit=1)
    assert memory_in_a_new_process(**{name: value}).endswith("page faults for 64 MiB")


def test_another_c_library_has_no_such_setting(monkeypatch):
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    monkeypatch.setattr("jax.devices", lambda: [Device("cpu")])
    assert doctor._memory() == (
        True,
        "managed by the C library; convax has no setting to recommend",
    )


def test_a_device_has_memory_of_its_own(monkeypatch):
    monkeypatch.setattr("jax.devices", lambda: [Device("gpu", {"bytes_limit": 3 * 2**29})])
    assert doctor._memory() == (True, "device memory, 1.5 GiB")
    monkeypatch.setattr("jax.devices", lambda: [Device("tpu")])
    assert doctor._memory() == (True, "device memory")


@pytest.mark.parametrize(
    ("jaxlib", "known"),
    [
        *(
            (old, "silently computes wrong vmapped matrix-vector products on CPU (jax#39103)")
            for old in ("0.4.38", "0.9.0", "0.10.2")
        ),
        ("0.11.0", "crashes in fusions on CPU (jax#39257)"),
    ],
)
def test_versions_of_jax_known_to_be_wrong_fail(jaxlib, known, monkeypatch):
    monkeypatch.setattr(doctor, "version", lambda name: jaxlib if name == "jaxlib" else "1.0")
    fine, text = doctor._packages()
    assert not fine
    assert known in text and text.endswith("pip install --upgrade 'jax>=0.11.2'")


@pytest.mark.parametrize("jaxlib", ["0.11.2", "0.12.0.1", "0.13.0.dev20270101", "1.0"])
def test_other_versions_of_jax_are_fine(jaxlib, monkeypatch):
    monkeypatch.setattr(doctor, "version", lambda name: jaxlib)
    fine, text = doctor._packages()
    assert fine and text.endswith(f"safetensors {jaxlib}")


class Device:
    def __init__(self, platform, stats=None):
        self.platform, self.stats = platform, stats

    def memory_stats(self):
        return self.stats
