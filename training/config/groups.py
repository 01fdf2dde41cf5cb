"""``[[optimizer.groups]]``: the table of one group, and regular expressions in a config."""

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from ..common.pytree_paths import expression_problem
from .table import PositiveFloat, Table


def _expression(text: str) -> str:
    if not text:
        raise ValueError('should be a regular expression such as "stem/.*"')
    if problem := expression_problem(text):
        raise ValueError(f'should be a regular expression such as "stem/.*" ({problem})')
    return text


Expression = Annotated[str, AfterValidator(_expression)]


class Group(Table):
    """Parameters with settings of their own, by the whole path; see `training.param_groups`."""

    match: Expression
    learning_rate_scale: PositiveFloat | None = None
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    frozen: bool | None = None

    @model_validator(mode="after")
    def _states_something(self):
        if self.model_fields_set == {"match"}:
            raise ValueError("needs learning_rate_scale, weight_decay or frozen beside match")
        return self
