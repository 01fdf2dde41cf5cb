"""Boxes drawn at random, those that make trouble among them."""

import numpy as np
from hypothesis import strategies as st

COUNT = 6  # in a problem, so that all share a program


@st.composite
def random_boxes(draw, size: tuple[int, int]) -> np.ndarray:
    """Draw boxes (COUNT, 4) of float32 about an image (H, W).

    Of any place and size; at whole and half pixels; of one pixel; without width, height or both;
    1e-7 apart; out of the image; equal to one before; padding.
    """
    H, W = size
    anywhere = st.floats(-0.5, 1.5, width=32)
    halves = lambda n: st.integers(-n, 4 * n).map(lambda a: a / 2)  # noqa: E731
    boxes: list[tuple[float, ...]] = []
    for _ in range(COUNT):
        kinds = ["any", "halves", "pixel", "flat", "point", "near", "outside", "equal", "padding"]
        kind = draw(st.sampled_from(kinds))
        x, y = draw(halves(W)), draw(halves(H))
        if kind == "any":
            a, b = (sorted((draw(anywhere), draw(anywhere))) for _ in range(2))
            box = (a[0] * W, b[0] * H, a[1] * W, b[1] * H)
        elif kind == "halves":
            box = (x, y, max(x, draw(halves(W))), max(y, draw(halves(H))))
        elif kind == "outside":
            box = (x + 4 * W, y - 5 * H, x + 5 * W, y - 4 * H)
        elif kind == "equal" and boxes:
            box = boxes[-1]
        elif kind in ("equal", "padding"):
            box = (0.0, 0.0, 0.0, 0.0)
        else:
            sides = {"pixel": (1.0, 1.0), "point": (0.0, 0.0), "flat": (3.0, 0.0)}
            w, h = sides.get(kind, (1e-7, 2.0))
            box = (x, y, x + w, y + h)
        boxes.append(box)
    return np.array(boxes, np.float32)
