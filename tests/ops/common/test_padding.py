"""What the hyper-parameters of windows come to."""

import pytest

from convax.ops.common.padding import resolve_windows

NONE = (0, 0)
CASES = {  # size, window, hyper-parameters; then the padding and the output, per axis
    "same": ((5, 6), (3, 3), {}, ((1, 1), (1, 1)), (5, 6)),
    "same, even window": ((5, 6), (2, 4), {}, ((0, 1), (1, 2)), (5, 6)),
    "same, stride": ((6, 7), (3, 3), {"stride": 2}, ((0, 1), (1, 1)), (3, 4)),
    "same, stride over window": ((7, 8), (2, 1), {"stride": 3}, ((0, 1), NONE), (3, 3)),
    "same, dilation": ((7, 7), (3, 2), {"dilation": (2, 3)}, ((2, 2), (1, 2)), (7, 7)),
    "any case": ((5, 5), (3, 3), {"padding": "Valid"}, (NONE, NONE), (3, 3)),
    "full": ((5, 5), (3, 2), {"padding": "FULL"}, ((2, 2), (1, 1)), (7, 6)),
    "full, dilation": ((5,), (3,), {"padding": "full", "dilation": 2}, ((4, 4),), (9,)),
    "int": ((5, 4), (3, 3), {"padding": 2}, ((2, 2), (2, 2)), (7, 6)),
    "int per axis": ((5, 4), (3, 3), {"padding": (0, 2)}, (NONE, (2, 2)), (3, 6)),
    "pairs": ((5, 4), (3, 3), {"padding": ((0, 3), (4, 1))}, ((0, 3), (4, 1)), (6, 7)),
    "a rest": ((8, 7), (2, 3), {"stride": (3, 2), "padding": 0}, (NONE, NONE), (3, 3)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_padding_and_output_size_equal_hand_arithmetic(case):
    size, window, options, padding, output = case
    options = {"stride": 1, "padding": "SAME", "dilation": 1, **options}
    windows = resolve_windows("test", size, window, **options)
    assert (windows.padding, windows.output) == (padding, output)
