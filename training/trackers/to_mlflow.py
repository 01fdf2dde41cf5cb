"""MLflow: ``pip install 'convax[mlflow]'``; MLFLOW_TRACKING_URI says where.

That is a server, or a file: ``sqlite:///mlflow.db`` in the current folder by default.
"""

import logging
import time
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from .tracker import Ending, Subject, Tracker, flat

_STATUS: dict[Ending, str] = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
_LONGEST = 500  # characters of a parameter
_MOST = 100  # parameters in a request


def open_mlflow(subject: Subject, known: str | None) -> Tracker:
    """Open a run there; see `tracker.Open`."""
    mlflow = import_module("mlflow")
    make_param = import_module("mlflow.entities").Param
    logging.getLogger("mlflow").setLevel(logging.WARNING)  # not each table of a new file
    client = mlflow.MlflowClient()
    if known is not None:
        client.update_run(known, status="RUNNING")
        return _Run(client, known)
    experiment = client.get_experiment_by_name(subject.project)
    where = (
        client.create_experiment(subject.project)
        if experiment is None
        else experiment.experiment_id
    )
    run = client.create_run(where, run_name=subject.name)
    keys = flat(subject.config)
    params = [make_param(key, str(value)[:_LONGEST]) for key, value in keys.items()]
    for start in range(0, len(params), _MOST):
        client.log_batch(run.info.run_id, params=params[start : start + _MOST])
    return _Run(client, run.info.run_id)


class _Run:
    def __init__(self, client: Any, id: str):
        self._client, self.id = client, id

    def log(self, figures: Mapping[str, float], step: int) -> None:
        make_metric = import_module("mlflow.entities").Metric
        now = int(1000 * time.time())
        metrics = [make_metric(name, value, now, step) for name, value in figures.items()]
        self._client.log_batch(self.id, metrics=metrics)

    def finish(self, ending: Ending) -> None:
        self._client.set_terminated(self.id, _STATUS[ending])
