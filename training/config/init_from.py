"""``[init_from]``: where the first parameters come from."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..weights.published import PUBLISHED
from .groups import Expression
from .table import Table


class InitFrom(Table):
    """The first parameters out of a run or a file of weights; see `training.initialize`.

    `pretrained` names published weights, and `path` is then where they lie: in the cache if left
    out, fetched into it if they are not there.
    """

    path: str = ""
    pretrained: Literal[tuple(PUBLISHED)] | None = None  # type: ignore[valid-type]
    checkpoint: Literal["best", "last"] = "best"
    target: Annotated[str, Field(min_length=1)] | None = None
    match: Expression | None = None
    skip: Expression | None = None

    @model_validator(mode="after")
    def _from_somewhere(self):
        if not self.path and self.pretrained is None:
            raise ValueError(
                'needs path, of a run or a file of weights, or pretrained, e.g. "resnet18"'
            )
        return self
