"""All entries, and the problems drawn at random, by family."""

from collections.abc import Callable

from . import (
    activations,
    convolution,
    dense,
    detection,
    losses,
    normalization,
    pooling,
    rearrangement,
    regions,
    regularization,
    resampling,
    sampling,
)
from .entry import Entry

FAMILIES = {
    "convolution": convolution,
    "dense": dense,
    "rearrangement": rearrangement,
    "pooling": pooling,
    "resampling": resampling,
    "sampling": sampling,
    "regions": regions,
    "activations": activations,
    "normalization": normalization,
    "regularization": regularization,
    "losses": losses,
    "detection": detection,
}

ENTRIES: list[Entry] = [entry for family in FAMILIES.values() for entry in family.ENTRIES]
# The families with primitives of ours, whose rules follow what JAX asks of one.
PRIMITIVES = ("convolution", "resampling")
# The families with operations that `ops.implementation` chooses the implementation of.
SWITCHED = (*PRIMITIVES, "pooling", "regions", "normalization")
# Entries of these that are one program whatever is chosen: there is nothing to prove twice.
UNSWITCHED = {
    *("max_pool, dilated", "max_unpool"),
    *("stochastic_pool, drawn, tiles", "global_avg_pool", "adaptive_avg_pool, equal bins"),
    *("roi_pool", "roi_pyramid_pool", "paste_masks", "crop_masks"),
}

PROBLEMS: dict[str, Callable] = {name: family.problems for name, family in FAMILIES.items()}

# Public functions without an entry, and why.
WITHOUT: dict[str, str] = {
    "conv_output_shape": "arithmetic on shapes",
    "conv_transpose_output_shape": "arithmetic on shapes",
    "pool_output_shape": "arithmetic on shapes",
    "cell_anchors": "makes constants in NumPy",
    "roi_levels": "gives whole numbers, of which none is differentiated: tested in tests/ops/detection/test_levels.py",
    "INITIALIZERS": "a table of functions",
    "implementation": "computes nothing: chooses the implementation of the others",
    **dict.fromkeys(
        (
            *("xavier_uniform", "xavier_normal", "he_uniform", "he_normal", "lecun_normal"),
            *("lecun_uniform", "normal", "truncated_normal", "bilinear", "zeros", "ones"),
        ),
        "makes numbers, of which none is differentiated: moments and shapes are tested in tests/ops/test_initializers.py",
    ),
}
