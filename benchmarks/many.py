"""Many networks in one program: a step of all against so many steps of one, and whole trainings.

    python benchmarks/many.py [--count 8] [--rounds 7] [--net lenet5 ...]
    python benchmarks/many.py --whole [--count 8] [--epochs 1] [--net lenet5 ...]

The first compares within one process, in turns: the time of a chunk of steps of all networks over
that of the same chunks of one network after the other, by the clock and of the processor (median of
the rounds, and their range), and the time that each program took to compile. The second runs
`convax train` in fresh processes: one network, and all of them in each form; from the start of the
process to its end, by the clock and of the processor. What as many processes would take in turn is
K times the first of these.

MNIST is needed (CONVAX_DATA), for all of the networks.
"""

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import jax
import jax.numpy as jnp
import numpy as np

from convax.training.config.schema import load_config
from convax.training.experiment import make_step_spec, resolve_data_path
from convax.training.experiments.batched_program import make_batched_steps
from convax.training.experiments.traced_hparams import hparams_of, prepare_members
from convax.training.loop.chunks import ChunkSizer, chunks
from convax.training.step.train_step import make_train_steps

# Config and overrides; the steps of a chunk.
NETS = {
    "mlp": ("mlp-mnist", [], 40),
    "lenet5": ("lenet5-mnist", [], 20),
    "resnet8": ("lenet5-mnist", ['model={name="resnet_cifar", depth=8}'], 2),
}


def main() -> None:
    about, _, usage = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=usage, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=8, help="networks")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--net", nargs="*", choices=NETS, default=list(NETS))
    parser.add_argument("--whole", action="store_true", help="whole trainings, in fresh processes")
    parser.add_argument("--epochs", type=float, default=1.0, help="of a whole training")
    options = parser.parse_args()
    print(f"jax {jax.__version__}, {jax.default_backend()}, load {os.getloadavg()[0]:.1f}")
    measure = whole if options.whole else steps
    for net in options.net:
        measure(net, options)


def steps(net: str, options: argparse.Namespace) -> None:
    """A chunk of all networks in each form, against the same chunk of one after the other."""
    name, overrides, size = NETS[net]
    overrides = [*overrides, f"training.log_every={size}"]
    configs = [load_config(name, [*overrides, f"seed={seed}"]) for seed in range(options.count)]
    experiments = prepare_members([resolve_data_path(config, None) for config in configs])
    batches = [first_chunk(experiment, size) for experiment in experiments]
    images, labels = (jnp.stack([getattr(b, k) for b in batches]) for k in ("images", "labels"))
    numbers = stacked([hparams_of(e, []) for e in experiments])
    counts, count = jnp.full(options.count, size, jnp.int32), np.int32(size)

    def compiled(program, *arguments):
        began = time.perf_counter()
        return program.lower(*arguments).compile(), time.perf_counter() - began

    def begin():
        return [experiment.init() for experiment in experiments]

    one, seconds = compiled(
        make_train_steps(make_step_spec(experiments[0])), begin()[0], images[0], labels[0], count
    )
    contestants, compile_seconds = {}, {"one after the other": seconds}

    def in_sequence(states):
        return [one(s, images[i], labels[i], count)[0] for i, s in enumerate(states)]

    contestants["one after the other"] = [in_sequence, begin()]
    for form in ("map", "vmap"):
        states, arguments = stacked(begin()), (numbers, images, labels, counts)
        program = make_batched_steps(experiments[0], form, shared=False)
        program, compile_seconds[form] = compiled(program, states, *arguments)
        contestants[form] = [lambda s, p=program, a=arguments: p(s, *a)[0], states]

    times: dict[str, list[tuple[float, float]]] = {form: [] for form in contestants}
    for turn in range(options.rounds + 1):  # the first is for warming up
        for form in random.sample(list(contestants), len(contestants)):
            run, states = contestants[form]
            wall, processor = time.perf_counter(), time.process_time()
            contestants[form][1] = jax.block_until_ready(run(states))
            if turn:
                taken = time.perf_counter() - wall, time.process_time() - processor
                times[form].append(taken)
    for form, seconds in compile_seconds.items():
        print(f"{net:8}  {form:20}  compiled in {seconds:.1f} s")
        for i, clock in enumerate(("by the clock", "of the processor")):
            taken, base = ([t[i] for t in times[f]] for f in (form, "one after the other"))
            ratios = sorted(t / b for t, b in zip(taken, base, strict=True))
            print(
                f"{net:8}  {form:20}  {1e3 * median(taken) / size:8.2f} ms {clock} a step of all "
                f"{options.count}  ratio {median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            )


def whole(net: str, options: argparse.Namespace) -> None:
    """`convax train` from start to end, in fresh processes."""
    name, overrides, _ = NETS[net]
    sets = [*overrides, f"training.epochs={options.epochs}"]
    command = [sys.executable, "-m", "convax", "train", name]
    command += [word for override in sets for word in ("--set", override)]
    seeds = ["--seeds", str(options.count)]
    ways = {
        "one network": [],
        "map": [*seeds, "--batching", "map"],
        "vmap": [*seeds, "--batching", "vmap"],
    }
    taken: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way in random.sample(list(ways), len(ways)):
            with tempfile.TemporaryDirectory() as folder:
                out = ["--out", str(Path(folder) / "out")]
                began, before = time.perf_counter(), processor_seconds()
                subprocess.run([*command, *ways[way], *out], check=True, capture_output=True)
                taken[way].append((time.perf_counter() - began, processor_seconds() - before))
    one = [median(times) for times in zip(*taken["one network"], strict=True)]
    for way, found in taken.items():
        wall, processor = (median(times) for times in zip(*found, strict=True))
        line = f"{net:8}  {way:12}  {wall:7.1f} s, {processor:7.1f} s of the processor"
        if way != "one network":
            shares = [t / (options.count * o) for t, o in zip((wall, processor), one, strict=True)]
            line += f"; {shares[0]:.2f} and {shares[1]:.2f} of {options.count} processes in turn"
        print(f"{line}  ({len(found)} runs)", flush=True)


def processor_seconds() -> float:
    """Of all processes that were started from here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def first_chunk(experiment, size: int):
    sizer = ChunkSizer()
    sizer.steps = size
    split, config = experiment.dataset.train, experiment.config
    return next(chunks(split, config, sizer, start=0, total=10**6, every=1e9))


def stacked(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


if __name__ == "__main__":
    main()
