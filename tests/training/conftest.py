"""What the tests of training share."""

import pytest

from convax.training import loop


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch):
    """A training in a test draws nothing: pictures take as long as all else that is tiny."""
    if "drawn" not in request.keywords:
        monkeypatch.setattr(loop, "draw_experiment", lambda *arguments: [])
