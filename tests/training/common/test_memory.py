"""Memory: what a compiled step says of itself, and the peak of the process."""

import resource

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax.training.common import memory
from convax.training.common.memory import format_bytes, memory_usage, peak_bytes


def test_memory_usage_counts_a_donated_argument_once():
    x = jax.ShapeDtypeStruct((256, 256), jnp.float32)
    kept = jax.jit(lambda x: x + 1).lower(x).compile()
    donated = jax.jit(lambda x: x + 1, donate_argnums=0).lower(x).compile()
    assert memory_usage(kept) == 2 * 256 * 256 * 4
    assert memory_usage(donated) == 256 * 256 * 4


@pytest.mark.parametrize("answer", [None, NotImplementedError])
def test_memory_usage_is_none_where_the_backend_does_not_tell(answer):
    class Compiled:
        def memory_analysis(self):
            if answer is not None:
                raise answer

    assert memory_usage(Compiled()) is None


def test_peak_bytes_covers_memory_that_is_held():
    held = np.ones(2**23)
    assert peak_bytes()["process"] > held.nbytes


@pytest.mark.parametrize(("system", "unit"), [("linux", 1024), ("darwin", 1)])
def test_peak_bytes_without_proc_uses_getrusage(monkeypatch, tmp_path, system, unit):
    monkeypatch.setattr(memory, "Path", lambda _: tmp_path / "absent")
    monkeypatch.setattr("sys.platform", system)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert peak_bytes()["process"] == pytest.approx(peak * unit, rel=0.1)


def test_format_bytes_in_mib_and_gib():
    assert [format_bytes(n) for n in (10 * 2**20, 1000 * 2**20, 3 * 2**29)] == [
        "10 MiB",
        "1,000 MiB",
        "1.5 GiB",
    ]
