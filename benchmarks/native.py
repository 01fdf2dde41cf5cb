"""The native kernels against what convolutions take without them, and against PyTorch.

    make native && python benchmarks/native.py [--only 3x3] [--rounds 7] [--write]

All run on one core, in turns, and are timed by that core's work for the process, not by the clock
on the wall: another program on the core then slows nobody. Each cell is the minimum over the rounds
in ms: today / direct / Winograd / depthwise / PyTorch (channels last; needs torch). The last
columns are the ratios of today's and PyTorch's time to that of what `CONVAX_LOWERING=native` takes,
which is named.

Behind it are what `ops/conv/cpu/native_rules.py` is decided by: the gain of each rule, and where a
rule is wrong: where something else would have taken less than 0.95 of the time.
"""

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from statistics import geometric_mean
from typing import NamedTuple

import jax
import numpy as np
from contest import Page, progress

from convax import ops
from convax.ops.conv.cpu.dispatch import cpu_conv, cpu_input_grad, cpu_kernel_grad, rule_name
from convax.ops.conv.cpu.rule import KINDS, Kind
from convax.ops.conv.geometry import Geometry, resolve_conv
from convax.ops.conv.native.call import native_conv, native_input_grad, native_kernel_grad
from convax.ops.conv.native.library import load_kernels


class Problem(NamedTuple):
    batch: int
    size: int  # of a square image
    Ci: int
    window: int
    Co: int
    stride: int = 1
    padding: int = 1
    groups: int = 1  # or Ci

    def geometry(self) -> Geometry:
        x = (self.batch, self.size, self.size, self.Ci)
        k = (self.window, self.window, self.Ci // self.groups, self.Co)
        return resolve_conv("benchmark", x, k, self.stride, self.padding, 1, self.groups)

    def __str__(self) -> str:
        stride = f" s{self.stride}" if self.stride > 1 else ""
        where = f"{self.batch} x {self.size}x{self.size}"
        depthwise = " depthwise" if self.groups > 1 else ""
        return f"{self.window}x{self.window}{stride}{depthwise}, {self.Ci} -> {self.Co}, {where}"


PROBLEMS = [
    Problem(64, 32, 16, 3, 16),
    Problem(32, 32, 32, 3, 32),
    Problem(32, 32, 64, 3, 64),
    Problem(32, 16, 128, 3, 128),
    Problem(32, 8, 256, 3, 256),
    Problem(32, 7, 512, 3, 512),
    Problem(32, 4, 512, 3, 512),
    Problem(1, 16, 128, 3, 128),
    Problem(32, 32, 3, 3, 64),
    Problem(64, 32, 16, 3, 32, stride=2),
    Problem(32, 32, 64, 3, 128, stride=2),
    Problem(32, 8, 128, 3, 256, stride=2),
    Problem(32, 4, 256, 3, 512, stride=2),
    Problem(128, 28, 1, 5, 6, padding=2),
    Problem(128, 14, 6, 5, 16, padding=0),
    Problem(16, 64, 3, 7, 64, stride=2, padding=3),
    Problem(32, 16, 256, 1, 64, padding=0),
    Problem(32, 16, 24, 1, 144, padding=0),
    Problem(32, 4, 384, 1, 64, padding=0),
    Problem(32, 4, 512, 1, 2048, padding=0),
    Problem(32, 32, 32, 3, 32, groups=32),
    Problem(32, 32, 96, 3, 96, stride=2, groups=96),
    Problem(32, 16, 144, 3, 144, groups=144),
    Problem(32, 8, 192, 3, 192, groups=192),
    Problem(32, 8, 192, 3, 192, stride=2, groups=192),
    Problem(32, 4, 384, 3, 384, groups=384),
    Problem(32, 2, 960, 3, 960, groups=960),
    Problem(8, 56, 144, 3, 144, groups=144),
    Problem(32, 16, 64, 7, 64, padding=3, groups=64),
    Problem(32, 8, 128, 7, 128, padding=3, groups=128),
    Problem(32, 4, 256, 7, 256, padding=3, groups=256),
    Problem(4, 56, 96, 7, 96, padding=3, groups=96),
]
FUNCTIONS = {
    "conv": ("xk", cpu_conv, native_conv),
    "input_grad": ("gk", cpu_input_grad, native_input_grad),
    "kernel_grad": ("xg", cpu_kernel_grad, native_kernel_grad),
}
TURN = 0.02  # seconds that a contestant's turn should last
Run = Callable[[], object]


def contestants(problem: Problem, kind: Kind) -> dict[str, Run]:
    geometry, rng = problem.geometry(), np.random.default_rng(0)
    shapes = {
        "x": (problem.batch, *geometry.size, problem.Ci),
        "k": (*geometry.window, problem.Ci // problem.groups, problem.Co),
        "g": (problem.batch, *geometry.output, problem.Co),
    }
    arrays = {name: rng.standard_normal(s, np.float32) for name, s in shapes.items()}
    roles, today, native = FUNCTIONS[kind]
    plain = problem.groups == 1 and problem.window == 3 and problem.stride == 1
    fitting = {
        "direct": problem.groups == 1,
        "winograd": plain,
        "depthwise": problem.groups > 1,
    }
    functions: dict[str, Callable] = {TODAY: today}
    functions |= {name: partial(native, algorithm=name) for name, fits in fitting.items() if fits}
    operands = [jax.device_put(arrays[role]) for role in roles]

    def run(function):
        compiled = jax.jit(partial(function, geometry=geometry))
        return lambda: jax.block_until_ready(compiled(*operands))

    runs: dict[str, Run] = {name: run(function) for name, function in functions.items()}
    return runs | (torch_run(problem, kind, arrays) if find_spec("torch") else {})


def torch_run(problem: Problem, kind: Kind, arrays: dict[str, np.ndarray]) -> dict[str, Run]:
    import torch

    torch.set_num_threads(1)
    x, g = (torch.from_numpy(arrays[name]).permute(0, 3, 1, 2) for name in "xg")
    k = torch.from_numpy(arrays["k"]).permute(3, 2, 0, 1)
    k = k.contiguous(memory_format=torch.channels_last)
    window = [problem.stride] * 2, [problem.padding] * 2, [1, 1]
    if kind == "conv":
        return {"PyTorch": lambda: torch.conv2d(x, k, None, *window, problem.groups)}
    wanted = [kind == "input_grad", kind == "kernel_grad", False]
    backward = torch.ops.aten.convolution_backward
    return {
        "PyTorch": lambda: backward(g, x, k, None, *window, False, [0, 0], problem.groups, wanted)
    }


def seconds(run: Run, count: int) -> float:
    began = time.process_time()
    for _ in range(count):
        run()
    return (time.process_time() - began) / count


class Timed(NamedTuple):
    """What was found of one function of a convolution."""

    problem: Problem
    kind: Kind
    ms: dict[str, float]  # of each contestant that can compute it
    rule: str  # what is taken with the kernels

    @property
    def taken(self) -> str:
        """The contestant that the rule is: a native one, or what there is without them."""
        return self.rule if self.rule in self.ms else TODAY

    @property
    def best(self) -> str:
        return min((name for name in self.ms if name != PYTORCH), key=lambda name: self.ms[name])

    def gain(self, over: str) -> float:
        return self.ms[over] / self.ms[self.taken]

    def __str__(self) -> str:
        times = [f"{self.ms[n]:.2f}" if n in self.ms else "" for n in CONTESTANTS]
        ratios = [f"{self.gain(n):.2f}" if n in self.ms else "" for n in (TODAY, PYTORCH)]
        cells = (str(self.problem), self.kind, *times, self.rule, *ratios)
        return f"| {' | '.join(cells)} |"


def measure(problem: Problem, kind: Kind, rounds: int) -> Timed:
    runs = contestants(problem, kind)
    counts = {}
    for name, run in runs.items():
        run()  # compiles
        counts[name] = min(max(round(TURN / seconds(run, 1)), 1), 100)
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, run in runs.items():
            best[name] = min(best[name], 1e3 * seconds(run, counts[name]))
    with ops.implementation("native"):
        rule = rule_name(kind, problem.geometry(), problem.Ci, problem.Co, batch=problem.batch)
    return Timed(problem, kind, best, rule)


TODAY, PYTORCH = "today", "PyTorch"
CONTESTANTS = (TODAY, "direct", "winograd", "depthwise", PYTORCH)
TOLERATED = 0.95


def gains(found: list[Timed]) -> list[str]:
    """A line for each native rule: its gain over today, and over PyTorch."""
    lines = [
        "| rule | of | times | today / taken | least | PyTorch / taken | least |",
        "|---" * 7 + "|",
    ]
    for rule in CONTESTANTS[1:-1]:
        for kind in KINDS:
            of = [each for each in found if (each.rule, each.kind) == (rule, kind)]
            if of:
                cells = [f"{rule} | {kind} | {len(of)}"]
                for over in (TODAY, PYTORCH):
                    ratios = [each.gain(over) for each in of if over in each.ms]
                    told = f"{geometric_mean(ratios):.2f} | {min(ratios):.2f}" if ratios else " | "
                    cells.append(told)
                lines.append(f"| {' | '.join(cells)} |")
    return lines


def mistakes(found: list[Timed]) -> list[str]:
    """A line for each convolution that something else computes faster than what is taken."""
    wrong = [each for each in found if each.ms[each.best] < TOLERATED * each.ms[each.taken]]
    slower = [each for each in wrong if each.gain(TODAY) < TOLERATED]
    lines = [
        f"{len(found)} functions; in {len(wrong)} what is taken is not the fastest, and in "
        f"{len(slower)} (bold) slower than without the kernels.",
        *("", "| | | taken | fastest | its time / taken |", "|---" * 5 + "|"),
    ]
    for each in wrong:
        ratio = each.ms[each.best] / each.ms[each.taken]
        told = f"**{ratio:.2f}**" if each in slower else f"{ratio:.2f}"
        lines.append(f"| {each.problem} | {each.kind} | {each.rule} | {each.best} | {told} |")
    return lines if wrong else lines[:1]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", metavar="WORD", help="problems with this in the name")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="put it into benchmarks/results, too")
    options = parser.parse_args()
    options.device = "cpu"
    if options.write and options.only:
        parser.error("--write is for whole runs: leave out --only")
    if hasattr(os, "sched_setaffinity"):  # before JAX and PyTorch count the cores
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    jax.config.update("jax_platforms", "cpu")
    page = Page("native", options)
    page.versions = {"convax-kernels": str(load_kernels()), "jax": jax.__version__}
    page.versions |= {"torch": version("torch")} if find_spec("torch") else {}
    heads = ["", "", *(f"{n}, ms" for n in CONTESTANTS), "taken", "today / taken"]
    heads.append("PyTorch / taken")
    page.add(f"| {' | '.join(heads)} |", "|---" * len(heads) + "|")
    wanted = [problem for problem in PROBLEMS if options.only in str(problem)]
    found: list[Timed] = []
    for i, problem in enumerate(wanted):
        for kind in KINDS:
            progress(f"{i + 1} of {len(wanted)}: {problem}, {kind}")
            found.append(measure(problem, kind, options.rounds))
            progress("")
            page.add(str(found[-1]))
    page.add("", "## Gains", "", *gains(found), "", "## Rules", "", *mistakes(found))
    page.finish()


if __name__ == "__main__":
    main()
