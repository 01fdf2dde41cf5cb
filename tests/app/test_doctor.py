"""What doctor says of memory: page faults, and the setting that saves most of them."""

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
    assert doctor._memory() == (True, "as the C library has it; there is no setting to advise")


def test_a_device_has_memory_of_its_own(monkeypatch):
    monkeypatch.setattr("jax.devices", lambda: [Device("gpu", {"bytes_limit": 3 * 2**29})])
    assert doctor._memory() == (True, "the device's own, 1.5 GiB")
    monkeypatch.setattr("jax.devices", lambda: [Device("tpu")])
    assert doctor._memory() == (True, "the device's own")


class Device:
    def __init__(self, platform, stats=None):
        self.platform, self.stats = platform, stats

    def memory_stats(self):
        return self.stats
