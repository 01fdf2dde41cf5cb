"""The two ways to compute a strided convolution's input gradient on CPU, over a grid of shapes.

    python benchmarks/conv_phases.py

Prints the time of `conv_plain` over that of `conv_phases`, alternating in one process, median of
`--repeats`; the rule in ops/conv_phases.py is read off it. Above 1 the phases are faster.
"""

import argparse
import statistics
import time
from functools import partial

import jax

from convax.ops.conv_geometry import resolve_conv
from convax.ops.conv_phases import phases_input_grad, phases_pay_for_input_grad
from convax.ops.conv_plain import plain_input_grad

CASES = {  # batch 32: x, kernel, stride, groups
    "3x3 s2, 64 -> 128": ((32, 32, 32, 64), (3, 3, 64, 128), 2, 1),
    "3x3 s2, 16 -> 32": ((32, 32, 32, 16), (3, 3, 16, 32), 2, 1),
    "1x1 s2, 64 -> 128": ((32, 32, 32, 64), (1, 1, 64, 128), 2, 1),
    "2x2 s2, 64 -> 128": ((32, 32, 32, 64), (2, 2, 64, 128), 2, 1),
    "4x4 s2, 64 -> 128": ((32, 32, 32, 64), (4, 4, 64, 128), 2, 1),
    "4x4 s2, 16 -> 32": ((32, 32, 32, 16), (4, 4, 16, 32), 2, 1),
    "5x5 s2, 32 -> 64": ((32, 32, 32, 32), (5, 5, 32, 64), 2, 1),
    "7x7 s2, 3 -> 64": ((32, 64, 64, 3), (7, 7, 3, 64), 2, 1),
    "4x4 s4, 3 -> 96": ((32, 64, 64, 3), (4, 4, 3, 96), 4, 1),
    "16x16 s8, 21 -> 21": ((4, 128, 128, 21), (16, 16, 21, 21), 8, 1),
    "3x3 s2, 8 groups of 8": ((32, 32, 32, 64), (3, 3, 8, 64), 2, 8),
    "3x3 s2, depthwise 64": ((32, 32, 32, 64), (3, 3, 1, 64), 2, 64),
    "3 s2, 1-D, 64 -> 128": ((32, 1024, 64), (3, 64, 128), 2, 1),
    "3x3x3 s2, 3-D, 16 -> 32": ((4, 16, 16, 16, 16), (3, 3, 3, 16, 32), 2, 1),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("cases", nargs="*", help="parts of the names of the cases to run")
    args = parser.parse_args()
    print(f"jax {jax.__version__}, time of plain / time of phases")
    for name, (x, kernel, stride, groups) in CASES.items():
        if args.cases and not any(part in name for part in args.cases):
            continue
        ratio, plain = measure(x, kernel, stride, groups, args.repeats)
        geometry = resolve_conv("benchmark", x, kernel, stride, "SAME", 1, groups)
        rule = "phases" if phases_pay_for_input_grad(geometry) else "plain"
        print(f"{name:26} {ratio:6.2f}   plain {1e3 * plain:8.1f} ms   rule: {rule}", flush=True)


def measure(x, kernel, stride, groups, repeats):
    geometry = resolve_conv("benchmark", x, kernel, stride, "SAME", 1, groups)
    g = jax.random.normal(jax.random.key(0), (x[0], *geometry.output, kernel[-1]))
    k = jax.random.normal(jax.random.key(1), kernel)
    forms = [jax.jit(partial(f, geometry=geometry)) for f in (plain_input_grad, phases_input_grad)]
    times: list[list[float]] = [[], []]
    for _ in range(repeats + 1):  # the first compiles
        for form, seconds in zip(forms, times, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(form(g, k))
            seconds.append(time.perf_counter() - start)
    plain, phases = (statistics.median(seconds[1:]) for seconds in times)
    return plain / phases, plain


if __name__ == "__main__":
    main()
