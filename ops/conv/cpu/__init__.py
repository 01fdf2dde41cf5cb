"""Implementations of convolution on CPU, where XLA's own is slow.

    dispatch.py         the table of rules: which implementation a convolution takes
    native_rules.py     those of the native kernels, which `ops.conv.native` calls
    rule.py             what such a rule is
    microbatch.py       a few examples at a time
    im2col.py           a matrix product of patches, or of windows side by side (space-to-depth)
    toeplitz_block.py   few channels: a product with a blocked Toeplitz matrix
    toeplitz_row.py     few channels, input gradient: whole rows times Toeplitz matrices
    polyphase.py        input gradient of a stride, phase by phase
    depthwise.py        shift-and-add
    grouped.py          one convolution for each block of groups

Each computes what `ops.conv.xla` does, to rounding, and is tested against it. A rule is changed
where a measurement says so (`python benchmarks/ops.py`), and its number stands beside it. The room
imports `ops.common` and, of `ops.conv`, `geometry` and `xla`.
"""
