"""Would a native kernel for dense convolutions pay on CPU? Builds one, checks it and measures it.

    python benchmarks/native/native.py [--torch PYTHON] [--only 3x3] [--rounds 7]

`conv.cc` beside this file is compiled with g++ for this machine, into a folder that is kept between
runs, and called through `jax.ffi`. On odd shapes its three functions are held against
`lax.conv_general_dilated` and its derivatives in float64. Then four contestants take turns, in an
order drawn anew in each round:

    plain     `lax.conv_general_dilated`, its gradients those that JAX derives
    convax    `conv`, `conv_input_grad` and `conv_kernel_grad` of `convax.ops`
    native    `conv.cc`
    PyTorch   channels last, in a process of its own (PYTHON needs torch and jax; without
              ``--torch`` there are three contestants)

All run on one core, the first that the process may use. The times are of that core's work for the
process, not of the clock on the wall: another program on the core then slows nobody. Each cell is
the minimum and, in brackets, the median over the rounds, in ms; a ratio is the median of the
ratios within each round, above 1 where native is the faster.
"""

import argparse
import ctypes
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import jax
import jax.ffi
import jax.numpy as jnp
import numpy as np
from jax import lax

from convax import ops

Pairs = tuple[tuple[int, int], tuple[int, int]]
Run = Callable[[], object]


class Problem(NamedTuple):
    x: tuple[int, int, int, int]  # N, H, W, Ci
    kernel: tuple[int, int, int, int]  # KH, KW, Ci, Co
    stride: tuple[int, int] = (1, 1)
    padding: Pairs = ((1, 1), (1, 1))
    dilation: tuple[int, int] = (1, 1)

    def options(self) -> dict[str, tuple]:
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}

    def output(self) -> tuple[int, int, int, int]:
        arrays = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (self.x, self.kernel))
        return jax.eval_shape(partial(lax_conv, problem=self), *arrays).shape


UNPADDED = ((0, 0), (0, 0))
MEASURED = {
    "3x3, 16": Problem((32, 32, 32, 16), (3, 3, 16, 16)),
    "3x3, 32": Problem((32, 32, 32, 32), (3, 3, 32, 32)),
    "3x3, 64": Problem((32, 32, 32, 64), (3, 3, 64, 64)),
    "3x3, 128 16x16": Problem((32, 16, 16, 128), (3, 3, 128, 128)),
    "3x3, 256 8x8": Problem((32, 8, 8, 256), (3, 3, 256, 256)),
    "3x3 s2, 64 -> 128": Problem((32, 32, 32, 64), (3, 3, 64, 128), (2, 2)),
    "3x3, 3 -> 32": Problem((32, 32, 32, 3), (3, 3, 3, 32)),
    "5x5, 1 -> 6 28x28": Problem((128, 28, 28, 1), (5, 5, 1, 6), padding=((2, 2), (2, 2))),
    "5x5, 6 -> 16 14x14": Problem((128, 14, 14, 6), (5, 5, 6, 16), padding=UNPADDED),
    "7x7 s2, 3 -> 64 64x64": Problem((16, 64, 64, 3), (7, 7, 3, 64), (2, 2), ((3, 3), (3, 3))),
    "1x1, 256 -> 64 16x16": Problem((32, 16, 16, 256), (1, 1, 256, 64), padding=UNPADDED),
}
ODD = {
    "one element": Problem((1, 1, 1, 1), (1, 1, 1, 1), padding=UNPADDED),
    "odd sizes and channels": Problem((2, 9, 7, 5), (3, 3, 5, 3)),
    "unequal axes": Problem((3, 11, 13, 7), (3, 2, 7, 19), (2, 3), ((2, 1), (0, 3)), (1, 2)),
    "dilated": Problem((2, 8, 8, 16), (5, 5, 16, 24), (1, 1), ((4, 4), (4, 4)), (2, 2)),
    "strided 1x1": Problem((1, 7, 7, 33), (1, 1, 33, 40), (2, 2), UNPADDED),
    "cropped": Problem((2, 9, 10, 6), (3, 3, 6, 8), (2, 2), ((-1, 2), (1, -1))),
    "some places meet no tap": Problem((2, 12, 12, 4), (2, 2, 4, 5), (4, 4), UNPADDED, (2, 2)),
    "wider padding than window": Problem((2, 3, 4, 3), (2, 2, 3, 9), (1, 1), ((3, 2), (2, 3))),
    "nothing but padding": Problem((2, 3, 3, 4), (2, 2, 4, 5), padding=((6, -4), (0, 0))),
    "panels in many chunks": Problem((2, 6, 6, 130), (3, 3, 130, 49)),
    "image in many blocks": Problem((1, 70, 90, 40), (3, 3, 40, 8), (2, 1)),
    "stride beyond window": Problem((3, 10, 10, 2), (2, 2, 2, 17), (3, 3), UNPADDED),
}
DIRECTIONS = ("forward", "input grad", "kernel grad")
CONTESTANTS = ("plain", "convax", "native", "PyTorch")
TURN = 0.02  # seconds that a contestant's turn should last

# ----------------------------------------------------------------------- the native functions


def build() -> ctypes.CDLL:
    """Compile `conv.cc` unless this very source was compiled before, for these headers."""
    source, headers = Path(__file__).with_name("conv.cc"), jax.ffi.include_dir()
    flags = ["-std=c++17", "-O3", "-march=native", "-shared", "-fPIC", "-isystem", headers]
    key = hashlib.sha256(source.read_bytes() + " ".join(flags).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"convax-native-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    library = folder / f"{key}.so"
    if not library.exists():
        partly = library.with_suffix(f".{os.getpid()}")
        subprocess.run(["g++", *flags, str(source), "-o", str(partly)], check=True)
        partly.rename(library)
    return ctypes.CDLL(str(library))


def register() -> None:
    library = build()
    for name in ("ConvaxConv", "ConvaxInputGrad", "ConvaxKernelGrad"):
        handler = jax.ffi.pycapsule(getattr(library, name))
        jax.ffi.register_ffi_target(name, handler, platform="cpu")


def native(name: str, shape: tuple[int, ...], a: jax.Array, b: jax.Array, problem: Problem):
    """Call one of the functions of `conv.cc`, whose result has `shape`."""
    low = [before for before, _ in problem.padding]  # what follows is said by the shapes
    attributes = {"stride": problem.stride, "dilation": problem.dilation, "low": low}
    return jax.ffi.ffi_call(name, jax.ShapeDtypeStruct(shape, jnp.float32))(
        a, b, **{key: np.array(value, np.int64) for key, value in attributes.items()}
    )


# ------------------------------------------------------------------------------- contestants


def lax_conv(x: jax.Array, k: jax.Array, *, problem: Problem) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        k,
        problem.stride,
        problem.padding,
        rhs_dilation=problem.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def functions(problem: Problem) -> dict[tuple[str, str], Callable]:
    """(contestant, direction) -> a function of x, k and g."""
    plain, options, y = partial(lax_conv, problem=problem), problem.options(), problem.output()
    return {
        ("plain", "forward"): lambda x, k, g: plain(x, k),
        ("plain", "input grad"): lambda x, k, g: jax.vjp(lambda x: plain(x, k), x)[1](g)[0],
        ("plain", "kernel grad"): lambda x, k, g: jax.vjp(lambda k: plain(x, k), k)[1](g)[0],
        ("convax", "forward"): lambda x, k, g: ops.conv(x, k, **options),
        ("convax", "input grad"): lambda x, k, g: ops.conv_input_grad(g, k, x.shape, **options),
        ("convax", "kernel grad"): lambda x, k, g: ops.conv_kernel_grad(x, g, k.shape, **options),
        ("native", "forward"): lambda x, k, g: native("ConvaxConv", y, x, k, problem),
        ("native", "input grad"): lambda x, k, g: native(
            "ConvaxInputGrad", problem.x, g, k, problem
        ),
        ("native", "kernel grad"): lambda x, k, g: native(
            "ConvaxKernelGrad", problem.kernel, x, g, problem
        ),
    }


def operands(problem: Problem) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = (problem.x, problem.kernel, problem.output())
    return [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]


def check() -> None:
    """Hold the native functions against `lax` in float64.

    Raises:
        AssertionError: an element is off by more than 1e-5 of the largest.
    """
    worst = 0.0
    for name, problem in ODD.items():
        arrays = operands(problem)
        for (who, direction), function in functions(problem).items():
            if who != "native":
                continue
            got = np.asarray(jax.jit(function)(*arrays))
            with jax.enable_x64(True):
                exact = functions(problem)["plain", direction]
                want = np.asarray(jax.jit(exact)(*(a.astype(np.float64) for a in arrays)))
            error = np.abs(got - want).max() / max(np.abs(want).max(), 1e-30)
            assert got.shape == want.shape and error < 1e-5, f"{name}, {direction}: {error:.1e}"
            worst = max(worst, error)
    print(f"{len(ODD)} odd shapes, 3 functions: largest relative error {worst:.1e}\n")


class Jax:
    """Those contestants that run in this process."""

    def prepare(self, problem: Problem) -> None:
        arrays = [jax.device_put(a) for a in operands(problem)]
        self.runs = {
            which: partial(lambda f: jax.block_until_ready(f(*arrays)), jax.jit(function))
            for which, function in functions(problem).items()
        }

    def seconds(self, who: str, direction: str, count: int) -> float:
        return cpu_seconds(self.runs[who, direction], count)


class Torch:
    """PyTorch in a process of its own, which runs `serve_torch`."""

    def __init__(self, python: str):
        command = [python, __file__, "--serve-torch"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, **pipes)

    def prepare(self, problem: Problem) -> None:
        self._ask(problem)

    def seconds(self, who: str, direction: str, count: int) -> float:
        return self._ask((direction, count))

    def _ask(self, request) -> float:
        print(json.dumps(request), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            sys.exit("native.py: the process of PyTorch has ended; its last words are above")
        return json.loads(line)


def serve_torch() -> None:
    """Read problems and ``[direction, count]`` from stdin; answer the latter with the seconds."""
    import torch

    torch.set_num_threads(1)
    runs: dict[str, Run] = {}
    for line in sys.stdin:
        request, seconds = json.loads(line), 0.0
        if len(request) == 2:
            seconds = cpu_seconds(runs[request[0]], request[1])
        else:
            runs = torch_runs(torch, Problem(*request))
        print(seconds, flush=True)


def torch_runs(torch, problem: Problem) -> dict[str, Run]:
    x, k, g = (torch.from_numpy(a) for a in operands(problem))
    x, g = x.permute(0, 3, 1, 2), g.permute(0, 3, 1, 2)  # NCHW, channels last in memory
    k = k.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
    padding = [before for before, _ in problem.padding]  # both sides are alike in MEASURED
    window = (list(problem.stride), padding, list(problem.dilation))

    def backward(*wanted):
        return torch.ops.aten.convolution_backward(
            g, x, k, None, *window, False, [0, 0], 1, [*wanted, False]
        )

    return {
        "forward": lambda: torch.conv2d(x, k, None, *window),
        "input grad": partial(backward, True, False),
        "kernel grad": partial(backward, False, True),
    }


def cpu_seconds(run: Run, count: int) -> float:
    """Of one of `count` runs; one more goes before and fills the caches."""
    run()
    began = time.process_time()
    for _ in range(count):
        run()
    return (time.process_time() - began) / count


# -------------------------------------------------------------------------------- the contest


def contest(workers: dict[str, Jax | Torch], direction: str, rounds: int) -> dict[str, list[float]]:
    """Each contestant's seconds, one entry per round."""
    times: dict[str, list[float]] = {who: [] for who in workers}
    first = {who: worker.seconds(who, direction, 1) for who, worker in workers.items()}
    counts = {who: min(max(round(TURN / seconds), 1), 100) for who, seconds in first.items()}
    for index in range(rounds):
        order = list(workers)
        random.Random(index).shuffle(order)
        for who in order:
            times[who].append(workers[who].seconds(who, direction, counts[who]))
    return times


def row(name: str, direction: str, problem: Problem, times: dict[str, list[float]]) -> str:
    cells = [name if direction == DIRECTIONS[0] else "", direction]
    cells += [f"{1e3 * min(t):.2f} ({1e3 * median(t):.2f})" for t in times.values()]
    flop = 2 * np.prod(problem.output()) * np.prod(problem.kernel[:3])  # zeros of padding included
    cells += [f"{flop / min(times['native']) / 1e9:.0f}"]
    for who in times:
        if who != "native":
            ratios = [t / n for t, n in zip(times[who], times["native"], strict=True)]
            cells.append(f"{median(ratios):.2f}")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--torch", metavar="PYTHON", help="an interpreter with torch and jax")
    parser.add_argument("--only", default="", metavar="WORD", help="what has this in its name")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--serve-torch", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # before JAX and PyTorch count the cores
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    jax.config.update("jax_platforms", "cpu")
    if options.serve_torch:
        return serve_torch()
    register()
    check()
    here = Jax()
    workers: dict[str, Jax | Torch] = dict.fromkeys(CONTESTANTS[:3], here)
    if options.torch:
        workers[CONTESTANTS[3]] = Torch(options.torch)
    ratios = [f"{who} / native" for who in workers if who != "native"]
    heads = ["", "", *(f"{who}, ms" for who in workers), "native, GFLOP/s", *ratios]
    print(f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", sep="\n")
    for name, problem in MEASURED.items():
        if options.only not in name:
            continue
        for worker in {id(worker): worker for worker in workers.values()}.values():
            worker.prepare(problem)
        for direction in DIRECTIONS:
            times = contest(workers, direction, options.rounds)
            print(row(name, direction, problem, times), flush=True)


if __name__ == "__main__":
    main()
