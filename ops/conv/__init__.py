"""Convolution: three primitives that are each other's transposes, and functions over them.

    geometry.py    shapes and hyper-parameters, checked and resolved
    xla.py         the three in XLA's own operations
    spmd.py        the three on a mesh: partition and exchange of halos
    cpu/           the three on CPU: a table of implementations
    batching.py    batching rules: `vmap` of one operand, and of both
    primitive.py   the primitives themselves: types, lowerings, derivatives
    conv.py        conv, convolve, depthwise_conv, separable_conv
    gradients.py   conv_input_grad, conv_kernel_grad
    transpose.py   conv_transpose

Begin with `primitive`. A new implementation for CPU is a file of `cpu` and a rule there; nothing
else has to know of it. The room imports `ops.common`; `geometry`, `xla` and `spmd` stand below
`cpu`, the rest above.
"""
