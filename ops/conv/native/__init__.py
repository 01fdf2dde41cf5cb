"""Convolution on CPU by the native kernels of the package convax-kernels (`native/`).

    library.py      finds, checks and registers the kernels; says what is wrong with them
    self_test.py    every kernel against sums in float64, in a few milliseconds
    call.py         the three functions, as calls of the kernels

They are taken where the package is installed, for the convolutions that `ops.conv.cpu.native_rules`
names. What keeps kernels that are installed from being used is one warning, and the other rules
apply, as they do under `CONVAX_LOWERING=cpu`. Nothing is looked for or loaded before a program for
the CPU needs a convolution. The room imports `ops.common` and, of `ops.conv`, `geometry`.
"""
