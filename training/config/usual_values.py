"""The usual value of each key that a config leaves out: what the error message would suggest."""

import copy
from typing import Any

from pydantic import ValidationError

from . import choices
from .errors import missing_keys
from .schema import Config


def with_usual_values(raw: dict[str, Any]) -> dict[str, Any]:
    """Return a config as it was read, with the usual value of each missing key that has one.

    Example:
        >>> raw = {"optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.5}}
        >>> raw |= {"model": {"name": "lenet5"}, "schedule": {"name": "constant"}}
        >>> with_usual_values(raw)["optimizer"]
        {'name': 'sgd', 'learning_rate': 0.1, 'momentum': 0.5, ..., 'weight_decay': 0.0}
    """
    completed = copy.deepcopy(raw)
    schema = choices.narrow(Config, raw)
    try:
        schema.model_validate(raw)
    except ValidationError as error:
        for path, field in missing_keys(error, schema):
            if field.examples:
                table: Any = completed
                for key in path[:-1]:
                    table = table[key]
                table[path[-1]] = field.examples[0]
    return completed
