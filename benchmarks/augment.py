"""What augmentation adds to a training step on CPU, each operation by itself; and forms of one.

    python benchmarks/augment.py [--rounds 9] [--only affine ...]

One process compiles a step for each operation, as `convax train` takes them: eight in a call. In a
round each takes its turn; the tables have the median over the rounds of the processor's time (the
clock also counts what else the machine does), of what comes on top of the step without augmentation
in the same round, and of the ratio to that. LeNet-5 is the smallest network there is a config for:
others' steps take longer, and augmentation no longer. The last table is of one bilinear warp of a
batch, in the form that is used and in others.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from convax import model, ops
from convax.training.config.schema import Augment
from convax.training.data.augment import make_augmentation
from convax.training.data.augment.interpolate import sample
from convax.training.data.preprocess import Preprocessing, preprocess
from convax.training.optim.optimizer import adam
from convax.training.step.train_step import StepSpec, init_train_state, make_train_steps
from convax.training.tasks.classification.task import accuracy

STEPS = 8  # in a call
AFFINE = {"degrees": 15.0, "translate": [0.1, 0.1], "scale": [0.9, 1.1], "shear": [10.0, 0.0]}
EVERY_ROW: dict[str, dict] = {
    "nothing": {},
    "flip": {"flip": True},
    "flip, alternating": {"flip": "alternating"},
    "translate": {"translate": 4},
    "translate, reflect": {"translate": 4, "padding_mode": "reflect"},
    "crop": {"crop": {"scale": [0.5, 1.0], "ratio": [0.75, 1.3333]}},
    "affine": {"affine": AFFINE},
    "policy, 1 of 14": {"policy": {"num_ops": 1, "magnitude": "random"}},
    "policy, 2 of 14": {"policy": {"num_ops": 2, "magnitude": 9}},
    "brightness, contrast": {
        "color": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.0, "hue": 0.0}
    },
    "color": {"color": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}},
    "cutout": {"cutout": {"size": 8}},
    "mixup": {"mixup": {"alpha": 0.2}},
    "cutmix": {"cutmix": {"alpha": 1.0, "probability": 0.5}},
}
NEEDS_COLOR = ("color",)
BATCHES = {"LeNet-5, 64 images 32x32x1": (64, 1), "LeNet-5, 128 images 32x32x3": (128, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", nargs="*", choices=list(EVERY_ROW), default=list(EVERY_ROW))
    options = parser.parse_args()
    print(f"jax {version('jax')}, {jax.default_backend()}")
    for title, (batch, channels) in BATCHES.items():
        names = [n for n in options.only if channels == 3 or n not in NEEDS_COLOR]
        rows = {n: EVERY_ROW[n] for n in dict.fromkeys(["nothing", *names])}
        turns = {name: training(asked, batch, channels) for name, asked in rows.items()}
        print(f"\n{title}\n\n| | ms of a step | on top, ms | ratio |\n|---|---|---|---|")
        report(turns, options.rounds, STEPS)
    print("\na warp of 128 images 32x32x3\n\n| | ms | on top, ms | ratio |\n|---|---|---|---|")
    report({name: warping(form) for name, form in FORMS.items()}, options.rounds, 1)


def training(asked: dict, batch: int, channels: int) -> Callable[[], None]:
    """Eight steps of LeNet-5 in one call, compiled."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (STEPS, batch, 32, 32, channels)).astype(np.uint8)
    labels = rng.integers(0, 10, (STEPS, batch)).astype(np.int32)
    spec = Preprocessing((32, 32), "pad", (0.5,) * channels, (0.25,) * channels)
    table = Augment(**asked) if asked else None
    net, optimizer = model.lenet5(10, activation="relu", pool="max"), adam(1e-3)
    params, state = model.init_classifier(net, jax.random.key(0), (1, 32, 32, channels), 10)
    recipe = StepSpec(
        net,
        partial(ops.softmax_cross_entropy, label_smoothing=0.0, reduction="none"),
        optimizer,
        partial(preprocess, spec=spec),
        accuracy,
        augment=make_augmentation(table, spec, classes=10, examples=50_000),
    )
    steps = make_train_steps(recipe)
    carried = [init_train_state(params, state, optimizer, jax.random.key(1))]

    def turn() -> None:
        train_state, metrics = steps(carried.pop(), images, labels, np.int32(STEPS))
        carried.append(train_state)
        jax.block_until_ready(metrics)

    turn()
    return turn


Form = Callable[[Array, Array, Array], Array]


def warping(form: Form) -> Callable[[], None]:
    """One warp of a batch: each image turned by an angle of its own."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.uniform(size=(128, 32, 32, 3)).astype(np.float32))
    angle = rng.uniform(-0.5, 0.5, (128, 1, 1))
    down, right = np.mgrid[:32, :32] - 15.5
    rows = np.cos(angle) * down - np.sin(angle) * right + 15.5
    columns = np.sin(angle) * down + np.cos(angle) * right + 15.5
    places = [jnp.asarray(p, jnp.float32) for p in (rows, columns)]
    compiled = jax.jit(form)
    np.testing.assert_allclose(compiled(x, *places), sample(x, *places), atol=1e-4)

    def turn() -> None:
        jax.block_until_ready(compiled(x, *places))

    return turn


def by_map_coordinates(x: Array, rows: Array, columns: Array) -> Array:
    """JAX's own, of each image and channel."""
    one = partial(jax.scipy.ndimage.map_coordinates, order=1, mode="constant")
    channels = jax.vmap(one, in_axes=(-1, None), out_axes=-1)
    return jax.vmap(channels)(x, [rows, columns])


def by_products(x: Array, rows: Array, columns: Array) -> Array:
    """Without gathers: each pixel's weights for all rows and all columns."""
    H, W = x.shape[1:3]
    by_row = jax.nn.relu(1 - abs(rows[..., None] - jnp.arange(H)))
    by_column = jax.nn.relu(1 - abs(columns[..., None] - jnp.arange(W)))
    of_rows = jnp.einsum("nijh,nhwc->nijwc", by_row, x)
    return jnp.einsum("nijwc,nijw->nijc", of_rows, by_column)


def one_image_after_the_other(x: Array, rows: Array, columns: Array) -> Array:
    """The four gathers, in a loop over the images."""
    alone = jax.lax.map(lambda one: sample(*(a[None] for a in one)), (x, rows, columns))
    return alone[:, 0]


FORMS: dict[str, Form] = {
    "four gathers (ours)": sample,
    "four gathers, image by image": one_image_after_the_other,
    "map_coordinates": by_map_coordinates,
    "matrix products": by_products,
}


def report(turns: dict[str, Callable[[], None]], rounds: int, steps: int) -> None:
    """A row for each; the first is what the others are compared with."""
    times: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            times[name].append(1e3 * processor_seconds(turn) / steps)
    first = next(iter(times.values()))
    for name, own in times.items():
        extra = statistics.median(a - b for a, b in zip(own, first, strict=True))
        ratio = statistics.median(a / b for a, b in zip(own, first, strict=True))
        print(f"| {name} | {statistics.median(own):.2f} | {extra:.2f} | {ratio:.2f} |")


def processor_seconds(turn: Callable[[], None], calls: Sequence[int] = range(2)) -> float:
    """Of all threads, the mean of a few calls."""
    began = time.process_time()
    for _ in calls:
        turn()
    return (time.process_time() - began) / len(calls)


if __name__ == "__main__":
    main()
