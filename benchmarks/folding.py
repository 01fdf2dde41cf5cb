"""What a prediction costs: with batch norms apart, with them folded, and by a `Predictor`'s call.

    python benchmarks/folding.py [--rounds 9] [--batches 1 64] [--side 32] [configs ...]

Untrained networks of shipped configs, in this one process, on one core of those it may use; CPU
time, so that what else the machine does counts little. In each round every contestant has a turn;
each figure is the least of all rounds. "Apart" and "folded" are the functions that `convax.load`
makes, given arrays and stored pixels, and waited for; "called" is ``predict(images)`` of the folded
one, with its checks, and "constants" the same where the weights are constants of the program.
"""

import argparse
import os
import time
from collections.abc import Callable
from importlib.metadata import version

if hasattr(os, "sched_setaffinity"):  # before JAX counts the cores
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import jax
import numpy as np

from convax.inference.predictor import Predictor, make_predictor
from convax.training.config.schema import load_config
from convax.training.data.preprocess import Preprocessing
from convax.training.run.directory import DatasetCard
from convax.training.run.load_model import LoadedModel, build_network

CONFIGS = ("lenet5-mnist", "resnet18-cifar10", "mobilenet-v2-cifar10")
TURN = 0.2  # seconds of CPU time that a turn takes at least
CLASSES = tuple("0123456789")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 64])
    parser.add_argument("--side", type=int, help="pixels, in place of the configs' input.size")
    parser.add_argument("configs", nargs="*", default=list(CONFIGS))
    options = parser.parse_args()
    print(f"jax {version('jax')}, CPU time on one core, least of {options.rounds} rounds\n")
    columns = ("config", "images", "apart, ms", "folded, ms", "called, ms", "constants, ms")
    columns += ("folded / apart", "called / folded", "constants / called")
    print("|", " | ".join(columns), "|\n" + "|---" * len(columns) + "|")
    for config in options.configs:
        trained = untrained(config, options.side)
        apart, folded = (make_predictor([trained], fold=fold) for fold in (False, True))
        fixed = make_predictor([trained], constants=True)
        for batch in options.batches:
            rng = np.random.default_rng(0)
            images = rng.integers(0, 256, (batch, *folded.image_shape)).astype(np.uint8)
            a, f, c, k = least(
                [
                    *(bare(apart, images), bare(folded, images)),
                    *(lambda: folded(images), lambda: fixed(images)),  # noqa: B023
                ],
                options.rounds,
            )
            of = f"{batch} of {images.shape[1]}x{images.shape[2]}"
            times = [f"{ms:.3f}" for ms in (a, f, c, k)]
            ratios = [f"{f / a:.2f}", f"{c / f:.2f}", f"{k / c:.2f}"]
            print("|", " | ".join((config, of, *times, *ratios)), "|", flush=True)


def untrained(name: str, side: int | None) -> LoadedModel:
    """The network of a shipped config with its first parameters, for ten classes of images as large
    as its input.
    """
    config = load_config(name, [f"input.size=[{side},{side}]"] if side else [])
    channels = 1 if "mnist" in name else 3
    size = (config.input.size[0], config.input.size[1])
    how = Preprocessing(size, "pad", (0.5,) * channels, (0.25,) * channels)
    card = DatasetCard(CLASSES, (*size, channels), {}, how, "")
    net, in_shape = build_network(config, card), (1, *size, channels)
    _, params, state = net.init(jax.random.key(0), in_shape)
    return LoadedModel(config, card, net, in_shape, params, state)


def bare(predictor: Predictor, images: np.ndarray) -> Callable[[], np.ndarray]:
    """The function of a predictor, without what its call looks at."""
    function, params, state = predictor.function, predictor.params, predictor.state
    return lambda: np.asarray(function(params, state, images))


def least(contestants: list[Callable[[], np.ndarray]], rounds: int) -> list[float]:
    """The milliseconds of a call of each."""
    counts, best = [], [float("inf")] * len(contestants)
    for call in contestants:
        call()  # compiles
        began = time.process_time()
        call()
        counts.append(1 + int(TURN / max(time.process_time() - began, 1e-6)))
    for _ in range(rounds):
        for i, call in enumerate(contestants):
            began = time.process_time()
            for _ in range(counts[i]):
                call()
            best[i] = min(best[i], 1e3 * (time.process_time() - began) / counts[i])
    return best


if __name__ == "__main__":
    main()
