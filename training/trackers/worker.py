"""A tracker on a thread of its own: what it takes long for, or fails at, stops no training."""

import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

from ..common.text import first_line, plain_line
from .record import TrackerRecord
from .tracker import Ending, Service, Subject, TrackerError

_OPENING = threading.Lock()  # the first of a study's runs makes the experiment, or its database
PATIENCE = 60.0  # seconds that the end of a training waits for


class Worker:
    """Feeds one tracker.

    Args:
        name: of the tracker, which is that of its package and of its extra.
        service: how it is opened, and what helps where that fails.
        subject: the run.
        figures_of: ``figures_of(record)``: the figures of a line of ``metrics.jsonl``, by name.

    Attributes:
        problem: why it is given up, in a line; None while it is not.
    """

    def __init__(
        self,
        name: str,
        service: Service,
        subject: Subject,
        figures_of: Callable[[Mapping[str, Any]], dict[str, float]],
    ):
        self.name, self.problem = name, None
        self._service, self._subject, self._figures_of = service, subject, figures_of
        self._waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def send(self, record: Mapping[str, Any]) -> None:
        """Have a line of ``metrics.jsonl`` sent."""
        self._waiting.put(record)

    def finish(self, ending: Ending, patience: float = PATIENCE) -> None:
        """Wait until all is sent, as long as that takes no longer than so many seconds."""
        self._waiting.put(ending)
        self._thread.join(patience)
        if self._thread.is_alive() and self.problem is None:
            self.problem = f"it is not done after {patience:.0f} s; {self._service.remedy}"

    def _work(self) -> None:
        try:
            record = TrackerRecord(self._subject.path, self.name)
            with _OPENING:
                tracker = self._service.open(self._subject, record.id)
            record.id = tracker.id
            record.write()
            while not isinstance(found := self._waiting.get(), str):
                figures = self._figures_of(found)
                if figures and record.take(found):
                    tracker.log(figures, int(found["step"]))
            tracker.finish(found)  # type: ignore[arg-type] -- an `Ending`
        except ImportError as error:
            missing = error.name == self.name
            self.problem = (
                f"not installed: pip install 'convax[{self.name}]'"
                if missing
                else self._shown(error)
            )
        except TrackerError as error:
            self.problem = str(error)
        except BaseException as error:  # SystemExit, too: this is the end of a thread, of no more
            self.problem = self._shown(error)

    def _shown(self, error: BaseException) -> str:
        said = f": {first_line(error)}" if isinstance(error, Exception) else ""
        return f"{plain_line(type(error).__name__ + said, 250)}; {self._service.remedy}"
