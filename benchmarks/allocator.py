"""What the C library's allocator costs a training step on Linux, and what its settings change.

    python benchmarks/allocator.py [--rounds 5] [--seconds 3] [settings ...]

A round trains each network in a fresh process for each setting in turn, with one step a call and
with several. XLA allocates a step's temporaries anew in each call; glibc takes large blocks from
the kernel and hands them back, and the kernel fills every page with zeros when it is first touched.
The table gives medians over the rounds: milliseconds a step by the clock, of the processor, and of
these in the kernel; page faults a step; peak memory; and, of the processor's time, the ratio to the
first setting's in the same round (the clock also counts what else the machine does).
"""

import argparse
import ctypes
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from functools import partial
from importlib.metadata import version

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -3, -4, -8  # of mallopt, <malloc.h>
GIB = 2**30

# name -> (environment, mallopt calls before JAX is imported)
KEEP = {MMAP_THRESHOLD: GIB, TRIM_THRESHOLD: 2 * GIB - 1}
HUGE = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
SETTINGS: dict[str, tuple[dict[str, str], dict[int, int]]] = {
    "default": ({}, {}),
    "keep": ({}, KEEP),
    "keep, no mmap": ({}, KEEP | {MMAP_MAX: 0}),
    "keep, one arena": ({}, KEEP | {ARENA_MAX: 1}),
    "huge pages": (HUGE, {}),
    "huge, one arena": (HUGE, KEEP | {ARENA_MAX: 1}),
}
NETS = {"LeNet-5": 16, "VGG-like": 4}  # and the several steps a call


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--nets", nargs="*", choices=list(NETS), default=list(NETS))
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("settings", nargs="*", help="some of the settings; the first is the 1.00")
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(*options.child, options.seconds)))
        return
    names = options.settings or list(SETTINGS)
    cores = len(os.sched_getaffinity(0))
    print(f"jax {version('jax')}, glibc {platform.libc_ver()[1]}, {cores} core(s)")
    for net in options.nets:
        rounds: dict[str, list[dict[str, dict[str, float]]]] = {name: [] for name in names}
        for _ in range(options.rounds):
            for name in names:
                rounds[name].append(run_child(name, net, options.seconds))
        for form in ("one step a call", f"{NETS[net]} steps a call"):
            print(f"\n{net}, batch 64, {form}")
            print(f"{'':16}{'ms':>9}{'cpu':>9}{'kernel':>9}{'faults':>9}{'peak MB':>9}{'ratio':>7}")
            for name in names:
                rows = [r[form] for r in rounds[name]]
                ratios = [
                    row["cpu"] / first[form]["cpu"]
                    for row, first in zip(rows, rounds[names[0]], strict=True)
                ]
                median = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
                print(
                    f"{name:16}{median['ms']:9.2f}{median['cpu']:9.2f}{median['kernel']:9.2f}"
                    f"{median['faults']:9.0f}"
                    f"{median['peak'] / 2**20:9.0f}{statistics.median(ratios):7.2f}",
                    flush=True,
                )


def run_child(setting: str, net: str, seconds: float) -> dict[str, dict[str, float]]:
    environment, _ = SETTINGS[setting]
    command = [sys.executable, __file__, "--seconds", str(seconds), "--child", setting, net]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def measure(setting: str, net: str, seconds: float) -> dict[str, dict[str, float]]:
    """Both forms of the step, in this process."""
    for parameter, value in SETTINGS[setting][1].items():
        if not ctypes.CDLL(None).mallopt(parameter, value):
            raise OSError(f"mallopt({parameter}, {value}) was refused")
    import jax
    import numpy as np

    from convax import model, ops
    from convax.training.optim.optimizer import adam
    from convax.training.step.train_step import StepSpec, init_train_state, make_train_steps
    from convax.training.tasks.classification.task import accuracy

    if net == "LeNet-5":
        network, channels = model.lenet5(10, activation="relu", pool="max"), 1
    else:
        network, channels = model.from_layers(vgg_like()), 3
    many, shape = NETS[net], (64, 32, 32, channels)
    _, params, state = network.init(jax.random.key(0), shape)
    optimizer = adam(1e-3)
    loss = partial(ops.softmax_cross_entropy, label_smoothing=0.0, reduction="none")
    recipe = StepSpec(network, loss, optimizer, lambda x: x.astype(np.float32) / 255, accuracy)
    steps = make_train_steps(recipe)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (many, *shape)).astype(np.uint8)
    labels = rng.integers(0, 10, (many, shape[0])).astype(np.int32)
    train_state = init_train_state(params, state, optimizer, jax.random.key(1))
    figures = {}
    for form, count in {"one step a call": 1, f"{many} steps a call": many}.items():
        for _ in range(2):  # compiles, and fills what is kept
            train_state, _ = jax.block_until_ready(steps(train_state, images, labels, count))
        before, began, taken = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter(), 0
        while taken < 2 * many or time.perf_counter() - began < seconds:
            train_state, _ = jax.block_until_ready(steps(train_state, images, labels, count))
            taken += count
        after, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - began
        kernel, user = after.ru_stime - before.ru_stime, after.ru_utime - before.ru_utime
        figures[form] = {
            "ms": 1e3 * wall / taken,
            "cpu": 1e3 * (user + kernel) / taken,
            "kernel": 1e3 * kernel / taken,
            "faults": (after.ru_minflt - before.ru_minflt) / taken,
            "peak": after.ru_maxrss * 1024,
        }
    return figures


def vgg_like() -> list[dict[str, object]]:
    """Six convolutions of 3x3 with batch norm, 64 channels on 32x32 and half the pixels twice."""
    block: list[dict[str, object]] = [
        {"type": "conv", "features": 64, "window": 3, "padding": "SAME"},
        {"type": "batch_norm"},
        {"type": "relu"},
    ]
    stages = [*block, *block, {"type": "max_pool", "window": 2}] * 3
    return [*stages, {"type": "flatten"}, {"type": "dense", "features": 10}]


if __name__ == "__main__":
    main()
