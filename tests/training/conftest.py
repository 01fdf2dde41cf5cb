"""What the tests of training share."""

import pytest

from convax.training.loop import loop


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """A training within a test draws nothing: figures take as long as all else that is tiny.

    Those of fixtures that several tests share come before this one, and do draw.
    """
    monkeypatch.setattr(loop, "draw_experiment", lambda *arguments: [])
