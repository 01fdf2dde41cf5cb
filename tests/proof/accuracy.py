"""How far float32 is from the truth: each operation against its float64 loops, PyTorch beside it."""

import platform
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from rich.progress import track

from .checks import one_or_all, value_and_grads
from .convolution import conv_entry, options, transpose_entry
from .entry import Entry

SEEDS = 5

# Convolutions of the size that networks have, too large for loops.
LAYERS = {
    "5x5, 1 -> 6 at 32x32": conv_entry("", (8, 32, 32, 1), (5, 5, 1, 6), options(2)),
    "3x3, 64 -> 64 at 32x32": conv_entry(
        "", (8, 32, 32, 64), (3, 3, 64, 64), options(2, padding=1)
    ),
    "3x3, 256 -> 256 at 8x8": conv_entry(
        "", (8, 8, 8, 256), (3, 3, 256, 256), options(2, padding=1)
    ),
    "3x3 stride 2, 64 -> 128 at 32x32": conv_entry(
        "", (8, 32, 32, 64), (3, 3, 64, 128), options(2, stride=2, padding=1)
    ),
    "3x3 depthwise, 64 at 32x32": conv_entry(
        "", (8, 32, 32, 64), (3, 3, 1, 64), options(2, padding=1, groups=64)
    ),
    "4x4 stride 2 transposed, 64 -> 32 at 16x16": transpose_entry(
        "", (8, 16, 16, 64), (4, 4, 64, 32), options(2, stride=2, padding=1)
    ),
}


def write_accuracy(path: str, entries: list[Entry]) -> None:
    """Write the tables as a page of the documentation."""
    worst: dict[str, list[float]] = {}
    for entry in track(entries, "measuring"):
        if isinstance(entry.loops, str):
            continue
        errors = [measure(entry, seed, by_loops) for seed in range(SEEDS)]
        worst[entry.op] = np.fmax.reduce([worst.get(entry.op, errors[0]), *errors]).tolist()
    layers = {
        name: measure(entry, 0, by_plain)
        for name, entry in track(LAYERS.items(), "measuring layers")
    }
    page = PAGE.format(
        versions=versions(),
        seeds=SEEDS,
        rows=table((f"`{op}`", errors) for op, errors in worst.items()),
        layers=table(layers.items()),
    )
    Path(path).write_text(page)
    print(f"wrote {path}")


def table(rows) -> str:
    return "\n".join(f"| {name} | {' | '.join(map(shown, errors))} |" for name, errors in rows)


def measure(entry: Entry, seed: int, reference: Callable) -> tuple[float, float, float, float]:
    """The relative errors of value and gradients: ours, then PyTorch's."""
    rng = np.random.default_rng(seed)
    single = tuple(a.astype(np.float32) for a in entry.draw(rng))
    # From the rounded numbers, so that both sides begin with the same.
    g, y, gradients = reference(entry, rng, tuple(a.astype(np.float64) for a in single))
    ours = value_and_grads(entry.function, single, g)
    theirs = ([], []) if isinstance(entry.torch, str) else by_torch(entry, single, g)
    return (
        error(leaves(ours[0]), y),
        error(leaves(ours[1]), gradients),
        error(theirs[0], y),
        error(theirs[1], gradients),
    )


def by_loops(entry, rng, arrays):
    """A random g, then the value and the gradients for that g, by the NumPy loops."""
    y = leaves(entry.loops(*arrays))
    g = draw_like(rng, y)
    return g, y, leaves(entry.loops_grad(one_or_all(g), *arrays))


def by_plain(entry, rng, arrays):
    """The same by JAX in float64."""
    with jax.enable_x64(True):
        g = draw_like(rng, leaves(entry.plain(*arrays)))
        y, gradients = value_and_grads(entry.plain, arrays, g)
        return g, leaves(y), leaves(gradients)


def draw_like(rng, y):
    return [rng.integers(-4, 5, a.shape) / 2 for a in y]


def by_torch(entry, arrays, g):
    """PyTorch's value and gradients, in float32."""
    import torch

    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    y = entry.torch(torch, *tensors)
    outputs = list(y) if isinstance(y, tuple) else [y]
    torch.autograd.backward(outputs, [torch.tensor(a, dtype=torch.float32) for a in g])
    zero = [np.zeros(t.shape) if t.grad is None else t.grad.numpy() for t in tensors]
    return [t.detach().numpy() for t in outputs], zero


def error(actual, expected) -> float:
    """The largest error, relative to the largest element of its array."""
    pairs = zip(actual, expected, strict=False)
    sizes = [(np.max(np.abs(a - b), initial=0), np.max(np.abs(b), initial=0)) for a, b in pairs]
    return max((off / size for off, size in sizes if size > 0), default=float("nan"))


def leaves(tree):
    return [np.asarray(a, np.float64) for a in jax.tree.leaves(tree)]


def shown(value: float) -> str:
    return "" if np.isnan(value) else "exact" if value == 0 else f"{value:.0e}"


def versions() -> str:
    import torch

    parts = (
        f"jax {jax.__version__}",
        f"PyTorch {torch.__version__}",
        f"Python {platform.python_version()}",
    )
    return ", ".join(parts)


PAGE = """# Accuracy

The relative error of float32: the largest error of a value or of a gradient, over the largest element
of the same array, against the NumPy loops of `tests/reference` in float64. The worst of the cases that
`tests/proof` has for each operation, with {seeds} draws of random numbers each; beside it the error of
PyTorch, or of the same formula composed of its operations, on the same numbers. One rounding to float32
is 6e-08.

Written by `make accuracy` with {versions}, on CPU.

| operation | value | gradient | PyTorch, value | PyTorch, gradient |
|---|---|---|---|---|
{rows}

Convolutions of the size that networks have, against `lax.conv_general_dilated` in float64:

| layer, batch 8 | value | gradient | PyTorch, value | PyTorch, gradient |
|---|---|---|---|---|
{layers}

bfloat16 and float16 are added up in float32 and rounded once, at the end; the column "16 bit" of
`make proof` holds them to that.
"""
