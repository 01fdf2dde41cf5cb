"""The mesh around a computation: the names of its axes, and which of them share out an array.

Under ``jax.set_mesh(mesh)`` an axis of the mesh with one of these names shares out

    data, fsdp   the batch
    model        channels, or whole groups where there are several
    spatial      the first spatial axis: the rows of an image

Axes with other names are not looked at. `ops.conv.spmd` says what a convolution does with them.
"""

import jax
from jax.sharding import AxisType

BATCH_AXES = ("data", "fsdp")
CHANNEL_AXIS = "model"
ROW_AXIS = "spatial"


def axes_around(a: jax.Array) -> dict[str, int]:
    """Return the sizes of the mesh's axes by which the compiler may cut `a`, one device left out.

    Args:
        a: an array or a tracer; inside `shard_map`, and under explicit sharding, it is cut already.

    Returns:
        The number of devices by the name of the axis; empty where there is no mesh.
    """
    mesh = jax.typeof(a).sharding.mesh
    kinds = set(mesh.axis_types)
    if kinds != {AxisType.Auto}:  # inside shard_map, or with explicit sharding
        return {}
    return {name: size for name, size in mesh.shape.items() if size > 1}


def rows_are_sharded(x: jax.Array) -> bool:
    """Return whether images lie in bands of rows, where XLA's gradient of `reduce_window` errs."""
    return ROW_AXIS in axes_around(x)
