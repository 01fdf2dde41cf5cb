"""Errors that a user can act on have one base, and say with what the command line ends."""

import importlib
import pkgutil
from types import SimpleNamespace

import jax
import pytest

import convax
from convax.cli import main as cli
from convax.training.common.errors import ConvaxError
from convax.training.distributed import processes
from convax.training.loop.nonfinite import NonFiniteError
from convax.training.loop.signals import InterruptedRun
from convax.training.run.directory import RunError

STOPPED = InterruptedRun(SimpleNamespace(again="convax train --resume x"), 3, 9, 15)  # type: ignore[arg-type]


def exceptions(package):
    """All public exception classes that the modules of a package define."""
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        module = importlib.import_module(found.name)
        for name, value in vars(module).items():
            here = isinstance(value, type) and value.__module__ == found.name
            if here and issubclass(value, Exception) and not name.startswith("_"):
                yield value


@pytest.mark.parametrize("room", [convax.training, convax.inference, convax.explain])
def test_every_error_of_a_room_descends_from_convax_error(room):
    found = list(exceptions(room))
    assert found
    # What becomes an HTTP status, or another error where a lock or a download is asked for.
    internal = {
        "RequestRejected",
        "NoLocksError",
        "DownloadError",
        "TooLargeError",
        "OutOfTimeError",
    }
    assert [e for e in found if not issubclass(e, ConvaxError) and e.__name__ not in internal] == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RunError("x: no such run directory"), 2),
        (NonFiniteError("the loss is not finite"), 1),
        (processes.ProcessError("the processes did not connect"), 2),
        (processes.LostProcessError("lost another process"), 75),
        (STOPPED, 143),
        (convax.model.LayerTypeError("conv1", "dtypes do not match"), 2),
        (convax.model.LayerValueError("conv1", "channels do not match"), 2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_printed_and_gives_the_exit_code(capsys, monkeypatch, error, code):
    def broken():
        raise error

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == code
    assert capsys.readouterr().err == f"error: {error}\n"


@pytest.mark.parametrize(
    ("error", "waits"),
    [
        (STOPPED, False),
        (NonFiniteError("the loss is not finite"), False),
        (processes.ProcessError("stopped because process 0 could not"), False),
        (processes.LostProcessError("lost another process"), True),
        (RunError("disk full"), True),
        (KeyboardInterrupt(), True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_others_wait_for_a_process_unless_all_raise_the_same_error(monkeypatch, error, waits):
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    assert processes.must_abort(error) is waits
