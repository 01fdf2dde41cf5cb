"""``[logging]``: the metrics of a run for others to look at, as it is trained.

All of it follows ``metrics.jsonl``, line by line, so that none differs from it: TensorBoard's event
files, and the trackers that the config names (`training.trackers`), each on a thread of its own. A
tracker that cannot be used is given up with one line; training goes on.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..common.text import text_of_name
from ..config.schema import Config
from ..run.directory import Run, parse_record
from ..trackers.to_mlflow import open_mlflow
from ..trackers.to_trackio import open_trackio
from ..trackers.to_wandb import open_wandb
from ..trackers.tracker import Ending, Service, Subject
from ..trackers.worker import Worker
from . import tensorboard
from .progress import Display
from .signals import InterruptedRun

TRACKERS = {
    "wandb": Service(
        open_wandb, "WANDB_MODE=offline needs no network, and `wandb sync` sends later"
    ),
    "mlflow": Service(open_mlflow, "see MLFLOW_TRACKING_URI: sqlite:///mlflow.db needs no network"),
    "trackio": Service(open_trackio, "see TRACKIO_DIR, the folder of its records"),
}


_ENDINGS: dict[str, Ending] = {"finished": "finished", "diverged": "failed"}  # by the run's status


@contextmanager
def followed(
    run: Run, config: Config, display: Display, warn: Callable[[str], None] | None = None
) -> Iterator[Display]:
    """Yield a display that keeps all that the config wants up with the run.

    Args:
        run: whose metrics are followed.
        config: its config.
        display: where progress goes.
        warn: where a line about a tracker goes; by default to the display.
    """
    names = [name for name in TRACKERS if getattr(config.logging, name)]
    with tensorboard.followed(run, config, display) as display:
        if not names:
            yield display
            return
        tracking = Tracking(run, config, names, display, warn or display.note)
        ending: Ending = "failed"
        try:
            yield tracking
            ending = "finished"
        except (InterruptedRun, KeyboardInterrupt):
            ending = "stopped"
            raise
        finally:  # in a study all end together, each as it did
            tracking.finish(_ENDINGS.get(run.info().get("status", ""), ending))


class Tracking:
    """A display in front of another, which sends trackers what is new at each call.

    Args:
        run, config: what is tracked.
        names: of the trackers.
        display: the other one.
        warn: where a line about a tracker goes.
    """

    def __init__(
        self,
        run: Run,
        config: Config,
        names: list[str],
        display: Display,
        warn: Callable[[str], None],
    ):
        subject = Subject(
            text_of_name(run.path.resolve().name),
            run.path,
            config.logging.project,
            config.model_dump(mode="json", exclude_none=True),
        )
        self._workers = [
            Worker(name, TRACKERS[name], subject, tensorboard.scalars) for name in names
        ]
        self._file, self._read = run.path / "metrics.jsonl", 0
        self._display, self._warn = display, warn

    def note(self, text: str) -> None:
        """Catch up, and pass it on."""
        self._catch_up()
        self._display.note(text)

    def step(self, step: int, total: int, record: Mapping[str, Any]) -> None:
        """Catch up, and pass it on."""
        self._catch_up()
        self._display.step(step, total, record)

    def close(self) -> None:
        """Pass it on."""
        self._display.close()

    def finish(self, ending: Ending) -> None:
        """Send what is left, and end what is followed."""
        self._catch_up()
        for worker in self._workers:
            worker.finish(ending)
        self._give_up()

    def _catch_up(self) -> None:
        """Send what is new in the metrics."""
        self._give_up()
        if not self._file.is_file():
            return
        with self._file.open("rb") as file:
            file.seek(self._read)
            lines = file.read().splitlines(keepends=True)
        for line in (one for one in lines if one.endswith(b"\n")):
            self._read += len(line)
            if (record := parse_record(line)) is not None:
                for worker in self._workers:
                    worker.send(record)

    def _give_up(self) -> None:
        """Say what trackers have failed at, and leave them."""
        for worker in [worker for worker in self._workers if worker.problem is not None]:
            self._workers.remove(worker)
            self._warn(
                f"note: logging.{worker.name}: {worker.problem}; training goes on without it"
            )
