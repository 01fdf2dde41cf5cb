"""Show what initialization does to a deep network of ReLUs: many seeds, and both, in one program.

    python examples/initialization.py [--depth 24] [--seeds 8] [--steps 200] [--out FILE.png]

Where half of what a layer adds up is cut off by a ReLU, weights of variance 2 / (n_in + n_out)
(Xavier) halve the signal's in each layer, those of variance 2 / n_in (He) keep it. Deep enough, the
former does not learn: He et al., arXiv:1502.01852, section 2.2 and figure 3. Here both train on
the handwritten digits, with the same data in the same order, each from several seeds, and the
whole experiment is one jitted function of the seeds.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from convax import model, ops
from convax.training.optim.optimizer import apply_updates, sgd

INITIALIZERS = {"Xavier": ops.xavier_normal, "He": ops.he_normal}


def network(depth, initializer):
    """So many 3x3 convolutions with ReLU, and a dense layer."""
    layers = []
    for _ in range(depth):
        layers += [model.conv(8, 3, padding="SAME", kernel_init=initializer), model.relu()]
    return model.serial(*layers, model.flatten(), model.dense(10))


def training(net, x, y, steps):
    """``losses(params, state) -> (steps,)``: the loss at each step of a training from there."""
    optimizer = sgd(0.01, momentum=0.9)

    def loss(params, state, x, y):
        logits, _ = net.apply(params, state, x, train=True)
        return ops.softmax_cross_entropy(logits, y).mean()

    def losses(params, state):
        def step(carry, key):
            params, velocity = carry
            chosen = jax.random.choice(key, len(x), (64,), replace=False)
            value, gradient = jax.value_and_grad(loss)(params, state, x[chosen], y[chosen])
            updates, velocity = optimizer.update(gradient, velocity, params)
            return (apply_updates(params, updates), velocity), value

        keys = jax.random.split(jax.random.key(99), steps)  # the same batches for every seed
        return jax.lax.scan(step, (params, optimizer.init(params)), keys)[1]

    return losses


def main():
    """Train all of them, print a table and draw the curves."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--depth", type=int, default=24)
    arguments.add_argument("--seeds", type=int, default=8)
    arguments.add_argument("--steps", type=int, default=200)
    arguments.add_argument("--out", type=Path, default=Path("initialization.png"))
    given = arguments.parse_args()

    digits = load_digits()
    x = jnp.asarray(digits.images[..., None] / 16, jnp.float32)
    x, y = (x - x.mean()) / x.std(), jnp.asarray(digits.target)

    networks = {name: network(given.depth, init) for name, init in INITIALIZERS.items()}
    # They differ in where they begin alone, so one program trains both.
    train = jax.jit(jax.vmap(training(networks["He"], x, y, given.steps)))
    keys = jax.vmap(jax.random.key)(jnp.arange(given.seeds))

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    print(f"{given.depth} convolutions, {given.seeds} seeds, {given.steps} steps; chance: 2.303")
    for name, net in networks.items():
        # Not jitted: every layer draws alike, so each draw is compiled once, and not once a layer.
        _, params, state = jax.vmap(net.init, in_axes=(0, None))(keys, (1, *x.shape[1:]))
        curves = train(params, state)
        mean, deviation = curves.mean(0), curves.std(0)
        print(f"{name:>6}: loss {mean[-1]:.3f} +- {deviation[-1]:.3f} in the last step")
        axes.plot(mean, label=f"{name}: mean and deviation of {given.seeds} seeds")
        axes.fill_between(range(given.steps), mean - deviation, mean + deviation, alpha=0.3)
    axes.set(xlabel="step", ylabel="loss", title=f"A network of {given.depth} convolutions")
    axes.legend()
    figure.savefig(given.out, dpi=120)
    print(given.out)


if __name__ == "__main__":
    main()
