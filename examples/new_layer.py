"""A new layer in ten lines: squeeze-and-excitation, in a network for the handwritten digits.

    python examples/new_layer.py [--steps 300]

A layer is a pair of pure functions, made here out of other layers: the mean of each channel over
the image goes through two dense layers, and what comes out scales the channel.

    y = x * sigmoid(W2 relu(W1 mean(x)))            Hu et al., arXiv:1709.01507, eqs. 2 to 4
"""

import argparse

import jax
import jax.numpy as jnp
from sklearn.datasets import load_digits

from convax import model, ops
from convax.training.optim.optimizer import adam, apply_updates


def squeeze_excite(hidden):
    """Scales each channel by what the whole image says of it."""
    gate = lambda channels: model.serial(  # noqa: E731
        model.global_avg_pool(), model.dense(hidden), model.relu(), model.dense(channels),
        model.sigmoid())  # fmt: skip

    def init(key, in_shape):
        return in_shape, *gate(in_shape[-1]).init(key, in_shape)[1:]

    def apply(params, state, x, *, train=False, key=None):
        scale, state = gate(x.shape[-1]).apply(params, state, x)
        return x * scale[:, None, None, :], state

    return model.Layer(init, apply)


def block(features):
    """Two convolutions and the new layer, around which the input takes a short cut."""
    return model.residual(
        model.serial(
            model.conv(features, 3, padding="SAME"), model.relu(),
            model.conv(features, 3, padding="SAME"), excite=squeeze_excite(hidden=4),
        )
    )  # fmt: skip


NET = model.serial(
    stem=model.conv(16, 3, padding="SAME"), relu=model.relu(),
    block1=block(16), block2=block(16),
    pool=model.global_avg_pool(), head=model.dense(10),
)  # fmt: skip


def main():
    """Train it, and print what it makes of digits it has not seen."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--steps", type=int, default=300)
    steps = arguments.parse_args().steps

    digits = load_digits()
    images = jnp.asarray(digits.images[..., None] / 16, jnp.float32)
    labels = jnp.asarray(digits.target)
    (x, unseen), (y, answers) = ((a[:1500], a[1500:]) for a in (images, labels))

    _, params, state = NET.init(jax.random.key(0), (1, 8, 8, 1))
    optimizer = adam(1e-2)

    def loss(params, x, y):
        logits, _ = NET.apply(params, state, x, train=True)
        return ops.softmax_cross_entropy(logits, y).mean()

    @jax.jit
    def train(params):
        def step(carry, key):
            params, moments = carry
            chosen = jax.random.choice(key, len(x), (64,), replace=False)
            value, gradient = jax.value_and_grad(loss)(params, x[chosen], y[chosen])
            updates, moments = optimizer.update(gradient, moments, params)
            return (apply_updates(params, updates), moments), value

        keys = jax.random.split(jax.random.key(1), steps)
        (params, _), losses = jax.lax.scan(step, (params, optimizer.init(params)), keys)
        return params, losses

    params, losses = train(params)
    logits, _ = jax.jit(NET.apply)(params, state, unseen)
    print(model.summarize(NET, (8, 8, 1)).as_table())
    print(f"loss: {losses[0]:.3f} in the first step, {losses[-1]:.3f} in the last of {steps}")
    print(f"accuracy on {len(unseen)} unseen digits: {(logits.argmax(-1) == answers).mean():.2%}")


if __name__ == "__main__":
    main()
