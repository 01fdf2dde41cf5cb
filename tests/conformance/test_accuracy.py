"""What the table of accuracy is made of; `make accuracy` makes it."""

import numpy as np
import pytest

from .catalog import ENTRIES


def test_pytorch_computes_in_float32():
    """As `make accuracy` asks of it; the other tests give it float64."""
    torch = pytest.importorskip("torch")
    wide = []
    for entry in ENTRIES:
        if isinstance(entry.torch, str):
            continue
        drawn = entry.draw(np.random.default_rng(0))
        arrays = [torch.tensor(a.astype(np.float32), requires_grad=True) for a in drawn]
        y = entry.torch(torch, *arrays)
        outputs = y if isinstance(y, tuple) else (y,)
        if any(output.dtype == torch.float64 for output in outputs):
            wide.append((entry.op, entry.case))
    assert wide == []
