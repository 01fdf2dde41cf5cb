"""What all rooms of operations share.

    channels.py        one number per channel: biases, scales, slopes
    checks.py          hyper-parameters that are numbers, and random keys
    dtypes.py          the dtypes taken, and those accumulated in
    implementation.py  the switch between implementations for CPU, XLA's own, and plain programs
    jax_compat.py      JAX's unstable corners, for the whole project
    mesh.py            the names of the mesh's axes, and which of them share out an array
    padding.py         window arithmetic: strides, padding, output sizes
    sparse_linear.py   a fixed sparse linear map along one axis, as a primitive

A function belongs here if two rooms of operations need it. It imports jax and numpy alone.
"""
