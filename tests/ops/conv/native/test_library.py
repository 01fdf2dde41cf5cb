"""Warn once of what keeps native kernels from being used, and say what to do."""

import ctypes
import errno
import hashlib
import re
import warnings
from base64 import urlsafe_b64encode
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from convax import ops
from convax.cli import doctor
from convax.ops.conv.native import library, self_test
from convax.ops.conv.native.library import KernelsError, KernelsMissingError, load_kernels
from convax.training.run import provenance
from convax.training.run.provenance import lowering_remedy

X, K = jnp.ones((2, 8, 8, 16)), jnp.ones((3, 3, 16, 16))
LEVELS = ("plain", "x86-64-v3", "x86-64-v4")


@pytest.fixture
def fresh(monkeypatch):
    """As in a process that has not loaded kernels yet, under the default."""
    for function in (library._load, library._warn_once):
        function.cache_clear()
    monkeypatch.delenv("CONVAX_LOWERING", raising=False)
    yield
    for function in (library._load, library._warn_once):
        function.cache_clear()


@pytest.fixture
def installed(fresh, tmp_path, monkeypatch):
    """Three files that are no libraries, installed as a package's wheel would be."""
    package, info = tmp_path / "convax_kernels", tmp_path / "convax_kernels-9.9.dist-info"
    package.mkdir()
    info.mkdir()
    records = []
    for level in LEVELS:
        file = package / f"libconvax_kernels_{level}.so"
        file.write_bytes(b"no library")
        digest = urlsafe_b64encode(hashlib.sha256(b"no library").digest()).decode().rstrip("=")
        records.append(f"convax_kernels/{file.name},sha256={digest},10")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: convax-kernels\nVersion: 9.9\n")
    (info / "RECORD").write_text("\n".join(records))
    found = metadata.PathDistribution(info)
    monkeypatch.setattr(metadata, "distribution", lambda name: found)
    return package


def loads(monkeypatch, **functions):
    """Let every library that is loaded have these functions."""
    usual = {
        "convax_kernels_interface": lambda: library._INTERFACE,
        "convax_kernels_ffi_api": lambda major, minor: None,  # 0.0
        "convax_kernels_supports": lambda level: 0,
        "convax_kernels_run": lambda *arguments: 0,
    }
    monkeypatch.setattr(library.ctypes, "CDLL", lambda path: SimpleNamespace(**usual | functions))


def api(*version):
    def tell(major, minor):
        major._obj.value, minor._obj.value = version

    return tell


@pytest.fixture
def missing(fresh, monkeypatch):
    """As where nobody has installed kernels."""

    def find(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", find)


def test_kernels_that_are_asked_for_and_not_installed_are_one_warning(missing, monkeypatch):
    monkeypatch.setenv("CONVAX_LOWERING", "native")
    message = (
        r"^no native convolutions: convax-kernels is not installed: make native, in a clone of convax, "
        r"installs it; they run as under CONVAX_LOWERING=cpu$"
    )
    with pytest.warns(RuntimeWarning, match=message) as caught:
        y = ops.conv(X[:, :7], K)
        ops.conv(X[:1], K)
    assert len(caught) == 1
    with ops.implementation("cpu"):
        np.testing.assert_array_equal(y, ops.conv(X[:, :7], K))
    with pytest.raises(KernelsMissingError):
        load_kernels()
    fine, text = doctor._kernels()
    assert not fine and "make native" in text


def test_by_default_kernels_that_are_not_installed_are_no_warning(missing):
    with warnings.catch_warnings(action="error"):
        y = ops.conv(X[:, :6], K)
    with ops.implementation("cpu"):
        np.testing.assert_array_equal(y, ops.conv(X[:, :6], K))
    fine, text = doctor._kernels()
    assert fine and "make native" in text
    assert provenance.convolutions_in_use() == "cpu"


def test_kernels_are_looked_for_where_a_convolution_is_to_take_them_and_nowhere_else(
    fresh, monkeypatch
):
    monkeypatch.setattr(metadata, "distribution", lambda name: pytest.fail("looked for"))
    ops.max_pool(ops.relu(X[:, :5]), 2)
    for chosen in "cpu", "xla", "jaxpr":
        with ops.implementation(chosen):
            ops.conv(X[:, :5], K)


def test_a_run_that_was_made_with_kernels_names_what_brings_them_back(missing):
    of = lambda lowering: {"environment": {"CONVAX_LOWERING": lowering}}  # noqa: E731
    assert lowering_remedy(of("native"), of("cpu")) == (
        "CONVAX_LOWERING=native, and convax-kernels is not installed: make native, in a clone of "
        "convax, installs it"
    )
    assert lowering_remedy(of("cpu"), of("native")) == "CONVAX_LOWERING=cpu"
    assert lowering_remedy(of(""), of("native")) == "CONVAX_LOWERING=cpu"
    assert lowering_remedy(of(""), of("cpu")) is None


def test_a_file_that_is_no_library(installed):
    with pytest.raises(
        KernelsError, match=r"plain\.so cannot be loaded: .*; make native, in a clone"
    ):
        load_kernels()
    assert not doctor._kernels()[0]


def test_a_damaged_file_is_not_loaded(installed, monkeypatch):
    """It would end the process."""
    loads(monkeypatch)
    (installed / "libconvax_kernels_plain.so").write_bytes(b"no libra")
    with pytest.raises(KernelsError, match=r"plain\.so is damaged; make native, in a clone"):
        load_kernels()


def test_a_file_that_cannot_be_read_is_a_warning_too(installed, monkeypatch):
    def refused(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.warns(RuntimeWarning, match=r"cannot be read: .*Permission denied.*plain\.so"):
        assert library.resolve_implementation("auto") == "cpu"


def test_levels_that_the_compiler_did_not_know_are_passed_over(installed, monkeypatch):
    loads(monkeypatch, convax_kernels_supports=lambda level: True)
    (installed / "libconvax_kernels_x86-64-v4.so").unlink()
    with pytest.raises(KernelsError, match=r"9\.9 \(x86-64-v3\) computes a wrong"):
        load_kernels()


def test_a_file_that_is_missing(installed, monkeypatch):
    (installed / "libconvax_kernels_plain.so").unlink()
    with pytest.raises(KernelsError, match=r"^convax-kernels lacks its library for plain; make"):
        load_kernels()


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        (
            {"convax_kernels_interface": lambda: 0},
            r"9\.9 is not for this convax \(interface 0, not",
        ),
        (
            {"convax_kernels_ffi_api": api(0, 99)},
            r"built for XLA's FFI 0\.99, jaxlib has 0\.\d+: pip",
        ),
        (
            {"convax_kernels_ffi_api": api(1, 0)},
            r"built for XLA's FFI 1\.0, jaxlib has 0\.\d+: pip",
        ),
        ({}, r"9\.9 \(plain\) computes a wrong direct conv on this processor"),
        ({"convax_kernels_run": lambda *a: 2}, r"computes a wrong direct conv on this processor"),
    ],
)
def test_a_library_that_does_not_fit(installed, monkeypatch, functions, message):
    monkeypatch.setattr(library.jax.ffi, "register_ffi_target", lambda *a, **k: pytest.fail("late"))
    loads(monkeypatch, **functions)
    with pytest.raises(KernelsError, match=message):
        load_kernels()


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (None, None),
        ((0, 2), "direct kernel_grad"),
        ((1, 1), "winograd input_grad"),
        ((2, 0), "depthwise conv"),
    ],
)
def test_the_self_test_names_the_kernel_that_is_wrong(wrong, name):
    """Of a library whose answers are the self-test's own, but for one element of one kernel's."""
    trials = [
        (number, trial) for number, of in enumerate(self_test._TRIALS.values()) for trial in of
    ]
    answers = iter(
        [(number, k, v) for number, t in trials for k, v in enumerate(self_test._problem(*t)[2])]
    )

    def run(number, kind, shape, a, b, result, threads):
        *asked, value = next(answers)
        assert asked == [number, kind]
        value.flat[-1] += asked == list(wrong or ())
        pointer = ctypes.cast(result, ctypes.POINTER(ctypes.c_float))
        np.ctypeslib.as_array(pointer, value.shape)[...] = value
        return 0

    assert self_test.kernel_failing(SimpleNamespace(convax_kernels_run=run)) == name


def test_the_kernels_are_built_for_the_oldest_jaxlib_that_is_supported():
    """Against whose headers, native/CMakeLists.txt says why."""
    root = Path(__file__).parents[4]
    of_convax = (root / "pyproject.toml").read_text()
    (oldest,) = re.findall(r'"jax>=([\d.]+)"', of_convax)
    assert f'"jaxlib=={oldest}"' in (root / "native" / "pyproject.toml").read_text()
