"""`.ci/python` finds the newest Python that will do, and says what to do where there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "python"
OURS = "{}.{}".format(*sys.version_info)
pytestmark = pytest.mark.skipif(os.name == "nt", reason="a script for a Unix shell")


@pytest.fixture
def find(tmp_path):
    """``find(*versions)`` where the PATH has what `commands` and `pyenv` put there."""

    def run(*versions):
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYENV_ROOT": str(tmp_path / "pyenv")}
        return subprocess.run(
            [SCRIPT, *versions], env=environment, capture_output=True, text=True, check=False
        )

    return run


def write(path, script):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_one_on_the_path_is_found(find, tmp_path):
    (tmp_path / f"python{OURS}").symlink_to(sys.executable)
    assert find(OURS).stdout.strip() == str(tmp_path / f"python{OURS}")


def test_pyenv_is_looked_at_where_the_shim_does_not_run(find, tmp_path):
    write(tmp_path / f"python{OURS}", "echo 'pyenv: command not found' >&2; exit 127")
    version = tmp_path / "pyenv" / "versions" / f"{OURS}.1" / "bin" / "python"
    version.parent.mkdir(parents=True)
    version.symlink_to(sys.executable)
    assert find(OURS).stdout.strip() == str(version)


def test_another_version_of_that_name_is_not_taken(find, tmp_path):
    (tmp_path / "python3.99").symlink_to(sys.executable)
    write(tmp_path / "uv", "exit 1")
    assert find("3.99").returncode == 1


def test_uv_brings_one_where_there_is_none(find, tmp_path):
    write(tmp_path / "uv", 'echo "$@" >> "$0.log"; echo /from/uv')
    assert find("3.99").stdout.strip() == "/from/uv"
    assert (tmp_path / "uv.log").read_text().startswith("python install 3.99\n")


def test_without_any_one_line_says_what_to_do(find, tmp_path):
    write(tmp_path / "uv", "exit 1")
    done = find("3.99")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(".ci/python: no Python 3.99 here")
    assert line.endswith("install one, and name it: make PYTHON=/path/to/python3.99")
