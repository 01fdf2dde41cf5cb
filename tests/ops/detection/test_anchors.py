"""Anchors: against loops and torchvision to the bit, by hand, as a program, messages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import ops
from tests.golden.detection import golden
from tests.reference import detection as reference


def test_anchors_equal_torchvision_to_the_bit():
    with golden() as g:
        cells = ops.cell_anchors((32, 64, 100), (0.5, 1.0, 2.0))
        np.testing.assert_array_equal(cells, g["cells"])
        grid = ops.grid_anchors((3, 5), (48 // 3, 80 // 5), cells)
        np.testing.assert_array_equal(grid, g["grid"])
        assert grid.dtype == jnp.float32


def test_anchors_equal_loops():
    cells = ops.cell_anchors((16, 24.5), (0.5, 3.0), rounded=False)
    np.testing.assert_allclose(cells, reference.cell_anchors((16, 24.5), (0.5, 3.0)), rtol=1e-6)
    grid = ops.grid_anchors((2, 3), (8, 4), cells, offset=0.5)
    expected = reference.grid_anchors((2, 3), (8, 4), cells, 0.5)
    np.testing.assert_allclose(grid, expected, rtol=1e-6, atol=1e-5)


def test_the_ratio_is_height_over_width():
    (x1, y1, x2, y2) = ops.cell_anchors([10], [4.0])[0]  # 5 wide, 20 high; 2.5 rounds to even
    np.testing.assert_array_equal((x1, y1, x2, y2), (-2, -10, 2, 10))


def test_a_program_carries_no_grid():
    cells = ops.cell_anchors([32], [0.5, 1.0, 2.0])
    text = jax.jit(lambda: ops.grid_anchors((200, 304), (4, 4), cells)).lower().as_text()
    assert len(text) < 20_000


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.cell_anchors([], [1.0]), r"cell_anchors: bad sizes: got \[\]"),
        (lambda: ops.cell_anchors([16], [0.0]), r"cell_anchors: bad aspect_ratios: got \[0.0\]"),
        (
            lambda: ops.grid_anchors((0, 2), (8, 8), np.ones((1, 4), np.float32)),
            r"grid_anchors: bad map_size: got \(0, 2\), need two positive integers",
        ),
        (
            lambda: ops.grid_anchors((2, 2), (8, 8.5), np.ones((1, 4), np.float32)),
            "grid_anchors: bad strides",
        ),
        (
            lambda: ops.grid_anchors((2, 2), (8, 8), np.ones(4, np.float32)),
            "grid_anchors: cells are no list of boxes",
        ),
    ],
)
def test_errors_name_the_argument_and_the_remedy(call, message):
    with pytest.raises(ValueError, match=message):
        call()
