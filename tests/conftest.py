"""What every test shares: strict JAX, one seed, the oracle and the data.

`CONVAX_TEST_SEED=n` reruns with other random inputs, `CONVAX_DATA=folder` enables the tests that
need real data.
"""

import gc
import os
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import hypothesis

# LLVM's optimizations take a sixth of the time of all tests, and it is not they that are tested: XLA's own
# are as everywhere. What trains for long, and the values and gradients of every operation, are compiled
# as users compile (`as_users_compile`, `tests/conformance/checks.py`). What XLA_FLAGS says goes before.
#
# What one test has compiled, others find, in the other processes too: JAX's cache on disk, but in a
# folder of this run (or one that the environment names), not in the user's. To keep what takes less
# than this takes longer.
if "PYTEST_XDIST_WORKER" not in os.environ:  # workers inherit the environment, and the folder
    flags = ["--xla_backend_optimization_level=0", os.environ.get("XLA_FLAGS", "")]
    os.environ["XLA_FLAGS"] = " ".join(flags).strip()
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        compiled = tempfile.TemporaryDirectory(prefix="convax-compiled-")
        os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled.name
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "true"
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.05"

os.environ["CONVAX_DATA_CACHE"] = "off"  # what is kept of images is the user's

import jax
import numpy as np
import pytest

SEED = int(os.environ.get("CONVAX_TEST_SEED", "0"))

sys.path.append(str(Path(__file__).parents[1]))  # for `from tests.reference import ...`

from tests.tiny import (  # noqa: E402 -- fixtures
    command,  # noqa: F401
    copied,  # noqa: F401
    few_blocks,  # noqa: F401
    figures_must_be_drawn,  # noqa: F401
    thin_dense,  # noqa: F401
    tiny,  # noqa: F401
    undrawn,  # noqa: F401
    unflushed,  # noqa: F401
    untimed,  # noqa: F401
    whole,  # noqa: F401
)

# Silent casts and silent broadcasts are errors in tests, so that none is in the code.
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# What is imported stays; JAX keeps so many objects that to look through them takes a tenth of the time.
gc.freeze()
gc.set_threshold(20_000, 50, 1_000)

# The same examples in every run; compiling takes as long as it takes.
hypothesis.settings.register_profile("convax", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("convax")


# The files that take longest, slow tests included. What begins last, one process does alone.
LONGEST = (
    *("configs/test_shipped.py", "conformance/test_single_form.py"),
    *("conformance/test_several_forms.py", "conformance/test_primitives.py"),
    *("training/weights/test_torch_architectures.py", "training/weights/test_torch_detectors.py"),
    *("ops/loss/test_embedding_losses.py", "training/tasks/test_detection.py"),
    *("ops/pool/test_pool.py", "ops/conv/test_conv.py", "ops/detection/test_roi_align.py"),
    *("model/detection/test_detector.py", "model/architectures/test_zoo.py"),
    *("ops/conv/test_spmd.py", "test_examples.py", "inference/export/test_zoo.py"),
    *("training/loop/test_loop.py", "training/experiments/test_batched_loop.py"),
    *("training/distributed/test_processes.py", "training/distributed/test_sharding.py"),
    *("inference/export/test_bundle.py", "conformance/test_networks.py"),
    *("training/tasks/test_segmentation.py", "fault_injection/test_fault_injection.py"),
)


def pytest_collection_modifyitems(items):
    """Begin with the longest files."""
    place = {f"tests/{file}": n for n, file in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(place)))


def pytest_report_header(config):
    """Say how to repeat this run."""
    return f"convax: CONVAX_TEST_SEED={SEED}, jax {jax.__version__}"


@pytest.fixture
def rng(request) -> np.random.Generator:
    """Random numbers of this test's own, the same in every run with the same seed."""
    print(f"CONVAX_TEST_SEED={SEED}")  # shown with the failure, if the test fails
    return np.random.default_rng([SEED, zlib.crc32(request.node.nodeid.encode())])


@pytest.fixture(scope="session")
def torch():
    """PyTorch on CPU, the oracle."""
    torch = pytest.importorskip(
        "torch", reason="PyTorch (the oracle) is not installed: pip install 'convax[oracle]'"
    )
    torch.set_num_threads(1)
    return torch


@pytest.fixture
def run_on_four_devices(tmp_path):
    """Run a script in a process in which the CPU counts as four devices."""

    def run(script: str, **environment: str) -> None:
        file = tmp_path / "sharded.py"
        file.write_text(script)
        finished = subprocess.run(
            [sys.executable, str(file)],
            env=os.environ
            | {
                "XLA_FLAGS": os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=4",
                "JAX_PLATFORMS": "cpu",
                "NPROC": "64",
            }
            | environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert finished.returncode == 0, finished.stderr[-3000:]

    return run


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with real data."""
    folder = os.environ.get("CONVAX_DATA")
    if not folder:
        pytest.skip("CONVAX_DATA is not set: set it to the folder with the data sets")
    path = Path(folder)
    if not path.is_dir():
        pytest.skip(f"CONVAX_DATA is {folder}, which is no folder")
    return path
