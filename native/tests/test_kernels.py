"""Every kernel of every instruction set against loops in float64: values, bits, memory.

`make native-test` runs it on what is installed, `make native-sanitize` on libraries that are built
with AddressSanitizer and UBSan, and with ThreadSanitizer.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import ALGORITHMS, KINDS, ROLES, Axis, Conv, expected, run, run_into

SIZES = [1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 40]


WIDEST = {"direct": (5, 4, 3), "winograd": (3, 1, 1), "depthwise": (7, 2, 1)}  # along columns


@st.composite
def axes(draw, window: int, stride: int, dilation: int):
    """With any padding: cropping, wider than the window, and beside the image altogether."""
    return Axis(
        draw(st.integers(1, 12)),
        window if window == 3 else draw(st.integers(1, window)),
        draw(st.integers(1, 12)),
        draw(st.integers(1, stride)),
        draw(st.integers(1, dilation)),
        draw(st.integers(-4, 8)),
    )


@st.composite
def problems(draw):
    algorithm = draw(st.sampled_from(ALGORITHMS))
    channels, columns = st.sampled_from(SIZES), WIDEST[algorithm]
    rows = columns if algorithm == "winograd" else WIDEST["direct"]
    conv = Conv(
        draw(st.integers(1, 5)),
        draw(channels),
        draw(channels),
        draw(axes(*rows)),
        draw(axes(*columns)),
    )
    if algorithm == "depthwise":
        conv = conv.depthwise()
    return algorithm, draw(st.sampled_from(KINDS)), conv


def operands(kind: str, conv: Conv, seed: int = 0):
    rng = np.random.default_rng(seed)
    shapes = conv.shapes()
    return [rng.standard_normal(shapes[role], np.float32) for role in ROLES[kind][:2]]


def assert_close(got, kind, conv, a, b):
    """To 1e-5 of the largest sum of magnitudes; Winograd rounds what lies beside a window, too."""
    want, scale = expected(kind, conv, a, b), expected(kind, conv, np.abs(a), np.abs(b))
    assert got.shape == want.shape
    largest = max(scale.max(), np.abs(a).max() * np.abs(b).max())
    assert np.abs(got - want).max() <= 1e-5 * largest


@settings(max_examples=300, deadline=None, derandomize=True, database=None)  # the same every time
@given(problems(), st.integers(1, 3), st.booleans(), st.integers(0, 9))
def test_drawn_shapes(libraries, problem, threads, misaligned, seed):
    """The values, and the same bits from AVX2 and AVX-512, and from any number of threads."""
    algorithm, kind, conv = problem
    a, b = operands(kind, conv, seed)
    results = {
        level: run(library, algorithm, kind, conv, a, b, threads, misaligned)
        for level, library in libraries.items()
    }
    for level, got in results.items():
        assert_close(got, kind, conv, a, b)
        if threads > 1:
            alone = run(libraries[level], algorithm, kind, conv, a, b)
            np.testing.assert_array_equal(got, alone)
    if {"x86-64-v3", "x86-64-v4"} <= results.keys():
        np.testing.assert_array_equal(results["x86-64-v3"], results["x86-64-v4"])


LARGE = {
    "many chunks of a panel": Conv(2, 130, 49, Axis(6, 3, 6, low=1), Axis(6, 3, 6, low=1)),
    "many blocks of an image": Conv(1, 40, 8, Axis(70, 3, 35, 2, low=1), Axis(90, 3, 90, low=1)),
    "many tiles and slices": Conv(9, 24, 20, Axis(25, 3, 25, low=1), Axis(27, 3, 27, low=1)),
    "channels in several parts": Conv(3, 150, 70, Axis(9, 3, 9, low=1), Axis(9, 3, 9, low=1)),
}


@pytest.mark.parametrize("name, kind", list(itertools.product(LARGE, KINDS)))
def test_several_blocks(libraries, name, kind):
    for algorithm in ALGORITHMS:
        conv = LARGE[name].depthwise() if algorithm == "depthwise" else LARGE[name]
        if algorithm == "winograd" and conv.rows.stride > 1:
            continue
        a, b = operands(kind, conv)
        found = {}
        for level, library in libraries.items():
            for threads in (1, 2, 4):
                got = run(library, algorithm, kind, conv, a, b, threads)
                assert_close(got, kind, conv, a, b)
                found.setdefault(level == "plain", []).append(got)  # which rounds otherwise
        for same in found.values():
            assert all(np.array_equal(same[0], other) for other in same)


@pytest.mark.parametrize("algorithm, kind", list(itertools.product(ALGORITHMS, KINDS)))
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3e38])
def test_what_is_not_finite_stays_where_it_belongs(libraries, algorithm, kind, value):
    """Also a value whose transform overflows although no sum does."""
    conv = Conv(2, 17, 5, Axis(11, 3, 9), Axis(10, 3, 8))  # no padding: nothing is 0 times infinity
    conv = conv.depthwise() if algorithm == "depthwise" else conv
    a, b = operands(kind, conv)
    a, b = np.abs(a), np.abs(b) / 100
    a[1, 4, 5, 2] = value
    with np.errstate(invalid="ignore"):
        want = expected(kind, conv, a, b)
    for library in libraries.values():
        got = run(library, algorithm, kind, conv, a, b)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        finite = np.isfinite(want) & (np.abs(want) < 3e38)
        np.testing.assert_allclose(got[finite], want[finite], rtol=1e-4)
        np.testing.assert_array_equal(got[np.isinf(want)], want[np.isinf(want)])


@pytest.mark.parametrize("algorithm, kind", list(itertools.product(ALGORITHMS, KINDS[::2])))
@pytest.mark.parametrize("low", [1, 3])  # with 3 a window meets padding alone
def test_padding_is_zeros_that_an_infinity_meets(libraries, algorithm, kind, low):
    axis = Axis(5, 3, 4 + low, low=low)
    conv = Conv(2, 17, 5, axis, axis)
    conv = conv.depthwise() if algorithm == "depthwise" else conv
    a, b = operands(kind, conv)
    b[0, 0, 0, 1] = np.inf
    inside = axis._replace(size=6 + low, low=0)
    pads = ((0, 0), (low, 1), (low, 1), (0, 0))
    for library in libraries.values():
        got = run(library, algorithm, kind, conv, a, b)
        written_out = conv._replace(rows=inside, columns=inside)
        want = run(library, algorithm, kind, written_out, np.pad(a, pads), b)
        assert np.isnan(got).any() and np.isfinite(got).any()
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("algorithm, kind", list(itertools.product(ALGORITHMS, KINDS)))
@pytest.mark.parametrize(
    "batch, ci, co, output", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)]
)
def test_nothing_to_do(libraries, algorithm, kind, batch, ci, co, output):
    """Sums of nothing are zero."""
    conv = Conv(batch, ci, co, Axis(5, 3, output, low=1), Axis(5, 3, 5, low=1))
    if algorithm == "depthwise":
        if not ci * co:
            return  # groups without channels are refused
        conv = conv.depthwise()
    for library in libraries.values():
        got = run(library, algorithm, kind, conv, *operands(kind, conv))
        np.testing.assert_array_equal(got, np.zeros(conv.shapes()[ROLES[kind][2]]))


HUGE = {
    "a batch": Conv(2**40, 1, 1, Axis(1, 1, 1), Axis(1, 1, 1)),
    "an array of many sizes": Conv(2**30, 2**30, 1, Axis(1, 1, 1), Axis(1, 1, 1)),
    "a dilation": Conv(1, 1, 1, Axis(4, 3, 4, dilation=2**62), Axis(1, 1, 1)),
    "a stride": Conv(1, 1, 1, Axis(4, 3, 4, stride=2**31), Axis(1, 1, 1)),
    "a padding": Conv(1, 1, 1, Axis(4, 3, 4, low=-(2**63)), Axis(1, 1, 1)),
    "windows that reach far both ways": Conv(
        *(1, 2**20, 1), *[Axis(1, 2, 1, stride=2**30, dilation=2**30)] * 2
    ),
    "an empty batch of images": Conv(0, 2**31, 1, *[Axis(2**31, 1, 2**31)] * 2),
    "no window": Conv(1, 1, 1, Axis(4, 0, 4), Axis(1, 1, 1)),
    "no stride": Conv(1, 1, 1, Axis(4, 3, 4, stride=0), Axis(1, 1, 1)),
}


@pytest.mark.parametrize("name, kind", list(itertools.product(HUGE, KINDS)))
def test_sizes_that_overflow_are_refused(libraries, name, kind):
    small = np.zeros((1, 4, 4, 1), np.float32)
    for library in libraries.values():
        with pytest.raises(ValueError):
            run_into(small, library, "direct", kind, HUGE[name], small, small)


def test_arrays_that_are_not_aligned_as_floats_are_refused(libraries):
    conv = Conv(1, 1, 1, Axis(1, 1, 1), Axis(1, 1, 1))
    good, bad = np.zeros(1, np.float32), np.zeros(8, np.uint8)[1:5].view(np.float32)
    for library in libraries.values():
        shape = conv.numbers()
        for arrays in ((bad, good, good), (good, bad, good), (good, good, bad)):
            pointers = [array.ctypes.data for array in (shape, *arrays)]
            assert library.convax_kernels_run(0, 0, *pointers, 1) == 1


REFUSED = {
    "winograd": [Conv(1, 4, 4, Axis(8, 3, 4, 2, low=1), Axis(8, 3, 8, low=1))],
    "direct": [Conv(1, 4, 4, Axis(8, 3, 6), Axis(8, 3, 6), groups=4)],
    "depthwise": [
        Conv(1, 4, 4, Axis(8, 3, 6), Axis(8, 3, 6)),
        Conv(1, 4, 8, Axis(8, 3, 6), Axis(8, 3, 6), groups=4),
        Conv(1, 4, 4, Axis(8, 3, 6), Axis(8, 3, 6), groups=2),
        Conv(1, 4, 4, Axis(8, 3, 6), Axis(19, 9, 11), groups=4),
        Conv(1, 4, 4, Axis(8, 3, 6), Axis(8, 3, 2, stride=3), groups=4),
        Conv(1, 4, 4, Axis(8, 3, 6), Axis(8, 3, 4, dilation=2), groups=4),
    ],
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_algorithm_refuses_what_it_is_not_for(libraries, algorithm):
    for library in libraries.values():
        for conv in REFUSED[algorithm]:
            with pytest.raises(ValueError):
                run(library, algorithm, "conv", conv, *operands("conv", conv))


def test_more_memory_than_there_is(libraries):
    """Rows of padding as long as the windows reach: an error, and no end of the process."""
    conv = Conv(1, 64, 1, Axis(1, 1, 1), Axis(1, 2, 2, stride=2**29, dilation=2**29))
    for library in libraries.values():
        with pytest.raises(MemoryError):
            run(library, "direct", "conv", conv, *operands("conv", conv))
