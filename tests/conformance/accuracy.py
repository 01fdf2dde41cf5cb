"""How far float32 is from the truth: operations, the forms of convolutions, and whole networks."""

import platform
from pathlib import Path

import jax
import numpy as np
from rich.progress import track

from convax import ops
from convax.ops.common.implementation import Implementation
from convax.ops.conv.native.library import load_kernels

from .checks import one_or_all, value_and_grads
from .entry import Entry
from .networks import NETWORKS, Network, draw, gradient_error, gradients
from .rules import BATCH, KINDS, LAYERS

SEEDS = 5
IMPLEMENTATIONS: tuple[Implementation, ...] = ("cpu", "native", "xla")


def write_accuracy(path: str, entries: list[Entry]) -> None:
    """Write the tables as a page of the documentation."""
    worst: dict[str, list[float]] = {}
    for entry in track(entries, "measuring"):
        if isinstance(entry.loops, str):
            continue
        errors = [measure(entry, seed) for seed in range(SEEDS)]
        worst[entry.op] = np.fmax.reduce([worst.get(entry.op, errors[0]), *errors]).tolist()
    cases = [
        (kind, layer.rule(kind), layer.rule(kind, "native"), layer)
        for kind in KINDS
        for layer in LAYERS
    ]
    forms = {
        f"{kind} | {rule} | {native if native != rule else ''} | {layer.name}": form_errors(
            layer.entry(kind)
        )
        for kind, rule, native, layer in track(sorted(cases), "measuring forms")
    }
    networks = {
        name: network_errors(network)
        for name, network in track(NETWORKS.items(), "measuring networks")
    }
    page = PAGE.format(
        versions=versions(),
        seeds=SEEDS,
        rows=table((f"`{op}`", errors) for op, errors in worst.items()),
        forms=table(forms.items()),
        networks=table(networks.items()),
        batch=BATCH,
    )
    Path(path).write_text(page)
    print(f"wrote {path}")


def table(rows) -> str:
    return "\n".join(f"| {name} | {' | '.join(map(shown, errors))} |" for name, errors in rows)


def measure(entry: Entry, seed: int) -> tuple[float, ...]:
    """The relative errors of value and gradients: ours, then PyTorch's."""
    rng = np.random.default_rng(seed)
    # From the rounded numbers, so that both sides begin with the same.
    single = tuple(a.astype(np.float32) for a in entry.draw(rng))
    double = tuple(a.astype(np.float64) for a in single)
    y = leaves(entry.loops(*double))
    g = [rng.integers(-4, 5, a.shape) / 2 for a in y]
    gradients = leaves(entry.loops_grad(one_or_all(g), *double))
    with ops.implementation("cpu"):
        ours = value_and_grads(entry.function, single, g)
    theirs = ([], []) if isinstance(entry.torch, str) else by_torch(entry, single, g)
    return (
        error(leaves(ours[0]), y),
        error(leaves(ours[1]), gradients),
        error(theirs[0], y),
        error(theirs[1], gradients),
    )


def form_errors(entry: Entry) -> tuple[float, ...]:
    """The relative errors of the value: by each implementation, then by PyTorch."""
    import torch

    single = tuple(a.astype(np.float32) for a in entry.draw(np.random.default_rng(0)))
    with jax.enable_x64(True):
        expected = leaves(jax.jit(entry.plain)(*(a.astype(np.float64) for a in single)))
    values = []
    for implementation in IMPLEMENTATIONS:
        with ops.implementation(implementation):
            values.append(leaves(jax.jit(entry.function)(*single)))
    theirs = entry.torch(torch, *map(torch.tensor, single)).detach().numpy()
    return tuple(error(actual, expected) for actual in (*values, [theirs]))


def network_errors(network: Network) -> tuple[float, ...]:
    """Relative errors over seeds, of each implementation: the last columns are of the worst draw."""
    problems = [draw(network, seed, BATCH) for seed in range(SEEDS)]
    with ops.implementation("xla"):
        expected = gradients(network, problems, "float64")
    single = []
    for implementation in IMPLEMENTATIONS:
        with ops.implementation(implementation):
            single.append(gradients(network, problems, "float32"))
    errors = [
        [gradient_error(found, true) for found in several]
        for *several, true in zip(*single, expected, strict=True)
    ]
    columns = (("whole", np.median), ("worst", np.median), ("loss", np.median), ("whole", np.max))
    return tuple(
        float(over([getattr(several[n], field) for several in errors]))
        for field, over in columns
        for n in range(len(IMPLEMENTATIONS))
    )


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
        f"convax-kernels {load_kernels()}",
        f"PyTorch {torch.__version__}",
        f"Python {platform.python_version()}",
    )
    return ", ".join(parts)


PAGE = """# Accuracy

The relative error of float32: the largest error of a value or of a gradient, over the largest element
of the same array, against the NumPy loops of `tests/reference` in float64. The worst of the cases that
`tests/conformance` has for each operation, with {seeds} draws of random numbers each, without native kernels; beside it the error of
PyTorch, or of the same formula composed of its operations, on the same numbers. One rounding to float32
is 6e-08.

Written by `make accuracy` with {versions}, on CPU.

| operation | value | gradient | PyTorch, value | PyTorch, gradient |
|---|---|---|---|---|
{rows}

`box_iou`, `box_giou` and the losses of boxes meet kinks here: some draws have two boxes with an edge in common,
where the loops take another of the possible derivatives than convax and PyTorch do.

## The forms of convolutions

On CPU a convolution and its two gradients take one of several forms, by the rules of `ops/conv/cpu/dispatch.py`.
Here is every rule at layers of real networks that it is for, batch {batch}: the form without and with
the [native kernels](native.md), where that is another, the same as plain lax (`ops.implementation("xla")`),
and PyTorch's, all in float32 from the same normal numbers, against JAX's own `lax.conv_general_dilated`
and its derivatives in float64.

| | rule | native rule | layer | without | native | plain | PyTorch |
|---|---|---|---|---|---|---|---|
{forms}

## Whole networks

The gradient of the loss of a batch of {batch} in float32, without and with the native kernels, and all of it plain (pools and norms too),
against the plain forms in float64 from the same weights. The error is the l2 norm of the difference
over that of the gradient in float64: of all parameter arrays and the images together, and of the array
where it is largest. The median of {seeds} draws of weights and images; in the last two columns the worst of
them. A draw in which one unit lies so near to a kink, of ReLU or of max pooling, that float32 and float64
fall on different sides of it has a gradient that is off by far more than rounding, on all lowerings alike.

| network | gradient: without | native | plain | worst array: without | native | plain | loss: without | native | plain | worst draw: without | native | plain |
|---|---|---|---|---|---|---|---|---|---|---|---|---|
{networks}

bfloat16 and float16 are added up in float32 and rounded once, at the end; the column "16 bit" of
`make conformance` holds them to that.
"""
