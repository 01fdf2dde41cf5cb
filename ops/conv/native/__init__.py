"""Convolution on CPU by the native kernels of the package convax-kernels (`native/`).

    library.py      finds, checks and registers the kernels; says what is wrong with them
    self_test.py    every kernel against sums in float64, in a few milliseconds
    call.py         the three functions, as calls of the kernels

They are taken under `CONVAX_LOWERING=native`, where `ops.conv.cpu.native_rules` says so. What keeps
the kernels from being used is one warning, and the other rules apply. The room imports `ops.common`
and, of `ops.conv`, `geometry`.
"""
