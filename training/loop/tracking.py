"""``[logging]``: the metrics of a run for others to look at, as it is trained.

All of it follows ``metrics.jsonl``, line by line, so that none differs from it: TensorBoard's event
files, and the trackers that the config names (`training.trackers`), each on a thread of its own. A
tracker that cannot be used is given up with one line; training goes on.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..common.text import text_of_name
from ..config.schema import Config
from ..run.directory import Run
from ..trackers.to_mlflow import open_mlflow
from ..trackers.to_trackio import open_trackio
from ..trackers.to_wandb import open_wandb
from ..trackers.tracker import Ending, Service, Subject
from ..trackers.worker import Worker
from . import tensorboard
from .following import Following
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
        tracking = Tracking(run, config, names, warn or display.note)
        following = Following(run, display, tracking.send)
        ending: Ending = "failed"
        try:
            yield following
            ending = "finished"
        except (InterruptedRun, KeyboardInterrupt):
            ending = "stopped"
            raise
        finally:  # in a study all end together, each as it did
            following.catch_up()
            tracking.finish(_ENDINGS.get(run.info().get("status", ""), ending))


class Tracking:
    """The trackers of a run, each on a thread of its own.

    Args:
        run, config: what is tracked.
        names: of the trackers.
        warn: where a line about a tracker goes.
    """

    def __init__(self, run: Run, config: Config, names: list[str], warn: Callable[[str], None]):
        subject = Subject(
            text_of_name(run.path.resolve().name),
            run.path,
            config.logging.project,
            config.model_dump(mode="json", exclude_none=True),
        )
        self._workers = [
            Worker(name, TRACKERS[name], subject, tensorboard.scalars) for name in names
        ]
        self._warn = warn

    def send(self, records: list[dict[str, Any]]) -> None:
        """Send records of the metrics."""
        self._give_up()
        for record in records:
            for worker in self._workers:
                worker.send(record)

    def finish(self, ending: Ending) -> None:
        """End what is tracked, once all is sent."""
        for worker in self._workers:
            worker.finish(ending)
        self._give_up()

    def _give_up(self) -> None:
        """Say what trackers have failed at, and leave them."""
        for worker in [worker for worker in self._workers if worker.problem is not None]:
            self._workers.remove(worker)
            self._warn(
                f"note: logging.{worker.name}: {worker.problem}; training goes on without it"
            )
