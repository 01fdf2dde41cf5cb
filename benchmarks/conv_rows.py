"""When a convolution of few channels is faster as matrix products over rows: the CPU rule's table.

    python benchmarks/conv_rows.py [--batch 64] [--rounds 25]

For each shape, `ops.conv_plain` and `ops.conv_rows` take turns; the table gives the median
milliseconds of each and their ratio, and whether the rule takes the rows.
"""

import argparse
import statistics
import time
from functools import partial

import jax
import numpy as np

from convax.ops.conv_plain import Geometry, plain_conv, plain_input_grad
from convax.ops.conv_rows import (
    rows_conv,
    rows_input_grad,
    rows_pay_for_conv,
    rows_pay_for_input_grad,
)

# Ci, Co, window, image size
CONV = [(1, 6, 5, 32), (1, 16, 3, 28), (1, 32, 3, 28), (1, 6, 5, 64), (1, 8, 3, 64), (3, 6, 5, 32)]
CONV += [(3, 16, 3, 32), (3, 32, 3, 32), (6, 16, 5, 14)]
INPUT_GRAD = [(6, 16, 5, 14), (3, 16, 3, 32), (6, 16, 5, 32), (8, 16, 3, 16), (8, 16, 5, 16)]
INPUT_GRAD += [(4, 8, 3, 32), (16, 16, 5, 14), (8, 32, 3, 16), (6, 16, 5, 64)]


def median_ms(forms, arrays, rounds: int) -> list[float]:
    jitted = [jax.jit(form) for form in forms]
    results = [np.asarray(form(*arrays)) for form in jitted]
    np.testing.assert_allclose(results[0], results[1], rtol=1e-3, atol=1e-3)
    times: list[list[float]] = [[] for _ in jitted]
    for _ in range(rounds):
        for form, own in zip(jitted, times, strict=True):
            began = time.perf_counter()
            form(*arrays).block_until_ready()
            own.append((time.perf_counter() - began) * 1e3)
    return [statistics.median(own) for own in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    print(f"jax {jax.__version__}, batch {options.batch}, float32, no padding, stride 1")
    titles = f"{'channels':>12}{'window':>8}{'image':>8}{'plain ms':>10}{'rows ms':>10}{'ratio':>8}"
    print(f"{'':12}{titles}  rule")
    cases = [("conv", case) for case in CONV] + [("input grad", case) for case in INPUT_GRAD]
    for kind, (Ci, Co, window, size) in cases:
        out = size - window + 1
        plain_strides = ((1, 1), (1, 1), ((0, 0), (0, 0)))
        geometry = Geometry((size,) * 2, (window,) * 2, (out,) * 2, *plain_strides, groups=1)
        k_shape = (window, window, Ci, Co)
        if kind == "conv":
            forms, taken = (plain_conv, rows_conv), rows_pay_for_conv(geometry, k_shape)
            first = (options.batch, size, size, Ci)
        else:
            forms = plain_input_grad, rows_input_grad
            taken = rows_pay_for_input_grad(geometry, k_shape)
            first = (options.batch, out, out, Co)
        arrays = [rng.standard_normal(shape).astype(np.float32) for shape in (first, k_shape)]
        forms = [partial(form, geometry=geometry) for form in forms]
        plain, rows = median_ms(forms, arrays, options.rounds)
        channels = f"{Ci} -> {Co}" if kind == "conv" else f"{Ci} <- {Co}"
        print(
            f"{kind:12}{channels:>12}{f'{window}x{window}':>8}{size:>8}{plain:>10.2f}{rows:>10.2f}"
            f"{plain / rows:>8.2f}  {'rows' if taken else 'plain'}"
        )


if __name__ == "__main__":
    main()
