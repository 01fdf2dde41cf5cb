"""The LeNet-5 training step of convax, Flax and PyTorch, side by side in one process.

    make benchmark        or        python benchmarks/train_step.py [--batch 128] [--rounds 15]

Every contestant trains the same network (61,706 parameters, ReLU, max pooling) with Adam on the
same float32 batch. A round times each in turn, `--steps` steps at a time; the table gives the
median over the rounds and the ratio to convax within each round (median, and the range of the
middle half). Compilation is timed apart. A contestant that is not installed is left out.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np

Step = Callable[[], None]  # one training step; returns when it is done


def convax_step(images: np.ndarray, labels: np.ndarray) -> Step:
    from convax import model
    from convax.training.config import SoftmaxCrossEntropy
    from convax.training.optimizer import adam
    from convax.training.step import init_train_state, make_loss, make_train_step

    net = model.lenet5(10, activation="relu", pool="max")
    _, params, state = net.init(jax.random.key(0), images.shape)
    optimizer = adam(1e-3)
    loss = make_loss(SoftmaxCrossEntropy(name="softmax_cross_entropy", label_smoothing=0.0))
    train_step = make_train_step(net, loss, optimizer, lambda x: x)
    train_state = init_train_state(params, state, optimizer, jax.random.key(1))

    def step() -> None:
        nonlocal train_state
        train_state, metrics = train_step(train_state, images, labels)
        metrics["loss"].block_until_ready()

    return step


def flax_step(images: np.ndarray, labels: np.ndarray) -> Step:
    import optax
    from flax import linen as nn

    class LeNet5(nn.Module):
        @nn.compact
        def __call__(self, x):
            for features in (6, 16):
                x = nn.relu(nn.Conv(features, (5, 5), padding="VALID")(x))
                x = nn.max_pool(x, (2, 2), strides=(2, 2))
            x = x.reshape(x.shape[0], -1)
            for features in (120, 84):
                x = nn.relu(nn.Dense(features)(x))
            return nn.Dense(10)(x)

    net, optimizer = LeNet5(), optax.adam(1e-3)
    params = net.init(jax.random.key(0), images)
    opt_state = optimizer.init(params)

    def update(params, opt_state, x, y):
        def loss(params):
            logits = net.apply(params, x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        value, grads = jax.value_and_grad(loss)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value

    update = jax.jit(update, donate_argnums=(0, 1))

    def step() -> None:
        nonlocal params, opt_state
        params, opt_state, value = update(params, opt_state, images, labels)
        value.block_until_ready()

    return step


def torch_step(images: np.ndarray, labels: np.ndarray) -> Step:
    import torch
    from torch import nn

    net = nn.Sequential(
        *(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(400, 120), nn.ReLU()),
        *(nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    y = torch.from_numpy(labels.astype(np.int64))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        loss.item()

    return step


CONTESTANTS = {"convax": convax_step, "flax": flax_step, "pytorch": torch_step}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    images = rng.standard_normal((options.batch, 32, 32, 1)).astype(np.float32)
    labels = rng.integers(0, 10, options.batch).astype(np.int32)
    steps: dict[str, Step] = {}
    for name, make in CONTESTANTS.items():
        try:
            began = time.perf_counter()
            steps[name] = make(images, labels)
            steps[name]()
        except ImportError as error:
            print(f"{name}: left out, {error.name} is not installed")
            continue
        print(f"{name}: first step after {time.perf_counter() - began:.2f} s, imports included")

    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(options.rounds):
        for name, step in steps.items():
            began = time.perf_counter()
            for _ in range(options.steps):
                step()
            times[name].append((time.perf_counter() - began) / options.steps * 1e3)

    print(
        f"\nLeNet-5, batch {options.batch}, Adam, float32; {options.rounds} rounds of "
        f"{options.steps} steps; {platform.machine()}, {os.cpu_count()} cores, "
        f"{jax.default_backend()}; Python {platform.python_version()}, jax {jax.__version__}"
    )
    print(f"{'':10}{'ms a step':>10}{'time / convax':>16}{'middle half':>18}")
    for name, own in times.items():
        ratios = [t / ours for t, ours in zip(own, times["convax"], strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        print(
            f"{name:10}{statistics.median(own):>10.2f}{statistics.median(ratios):>16.2f}"
            f"{f'{low:.2f} to {high:.2f}':>18}"
        )


if __name__ == "__main__":
    main()
