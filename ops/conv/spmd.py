"""Convolutions on a mesh: every device computes its part, after an exchange of halos.

Under ``jax.set_mesh(mesh)``, a mesh whose axes have the names below, a convolution and its two
gradients are cut along them, whatever their operands look like; what does not divide stays whole:

    data, fsdp   the batch; a kernel gradient is summed over both
    model        output channels, or whole groups where there are several
    spatial      the first spatial axis, the rows; each device first fetches from its neighbors
                 the rows that its windows reach into, the halo, and returns to them the halo's
                 input gradient, which they add to theirs

With h = H / n input and ho = Ho / n output rows on each of n devices, where H = s Ho, the windows
of device j begin at row s ho j - p = h j - p: at the same place of each device's rows. They end
with row h j + s (ho - 1) + d (K - 1) - p. So each needs p rows from above, and from below

    s (ho - 1) + d (K - 1) + 1 - p - h

At the borders of the image what is fetched is zeros, the padding. Where H is not s Ho, as without
padding, the rows stay whole.

What is not cut at all is computed by every device on whole arrays, and this is said as well. For
XLA cuts up convolutions by itself, but (jaxlib 0.10.2 and 0.12.0) not rightly: the kernel gradient
of a 1x1 convolution with stride 2 and rows shared out lacks most of its sum, so does that of one
without padding whose rows do not divide, and one with groups whose channels are shared out is wrong
or does not compile.
"""

from collections.abc import Callable
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ..common.mesh import BATCH_AXES, CHANNEL_AXIS, ROW_AXIS, axes_around
from ..common.padding import is_int
from .geometry import Geometry


class Partition(NamedTuple):
    """The axes of the mesh that share a convolution out, and what each device then computes."""

    mesh: jax.sharding.AbstractMesh
    batch: tuple[str, ...]
    channels: tuple[str, ...]
    rows: tuple[str, ...]
    halo_above: int  # rows to fetch from there
    halo_below: int
    geometry: Geometry  # of one device
    grouped: bool  # whether x has channels of its own for each part of g


def on_mesh(
    impl: Callable[..., jax.Array], roles: str, a, b, *, geometry: Geometry, batch_ndim: int = 0
) -> jax.Array:
    """Compute ``impl(a, b, geometry=geometry)``, each device its part where there is a mesh.

    Args:
        impl: computes a convolution, or a gradient of one.
        roles: of a, b and the result, as "xkg".
        a: the first operand; behind `batch_ndim` axes, which stay whole, that of a convolution.
        b: the second operand, as `a`.
        geometry: of the convolution.
        batch_ndim: 1 for a stack of convolutions, else 0.

    Returns:
        What `impl` returns, shared out as the mesh says.
    """
    sizes = axes_around(a)
    if not sizes:
        return impl(a, b, geometry=geometry)
    if batch_ndim:  # of a stack the batch alone: shared out otherwise its gradients came out wrong
        sizes = {name: size for name, size in sizes.items() if name in BATCH_AXES}
    partition = _make_partition(
        sizes, a.shape[batch_ndim:], b.shape[batch_ndim:], geometry, jax.typeof(a).sharding.mesh
    )
    spec_a, spec_b, spec_out = (
        _partition_spec(role, partition, batch_ndim, a.ndim) for role in roles
    )

    def per_device(a, b):
        if roles[0] == "x":
            a = _exchange_halo(a, partition, 1 + batch_ndim)
        out = impl(a, b, geometry=partition.geometry)
        if roles[2] == "x":
            out = _scatter_add_halo(out, partition, 1 + batch_ndim)
            over = () if partition.grouped else partition.channels
        else:
            over = partition.batch + partition.rows if roles[2] == "k" else ()
        return lax.psum(out, over) if over else out

    mapped = jax.shard_map(
        per_device,
        mesh=partition.mesh,
        in_specs=(spec_a, spec_b),
        out_specs=spec_out,
        check_vma=False,
    )
    return mapped(a, b)


def _make_partition(sizes: dict[str, int], a_shape, b_shape, geometry: Geometry, mesh) -> Partition:
    N, Co = a_shape[0], b_shape[-1]  # of x and k, x and g, or g and k
    batch = tuple(name for name in BATCH_AXES if name in sizes)
    if not is_int(N) or N == 0 or N % prod(sizes[name] for name in batch):
        batch = ()
    shards, G = sizes.get(CHANNEL_AXIS, 1), geometry.groups
    channels_divide = shards > 1 and (Co if G == 1 else G) % shards == 0
    channels = (CHANNEL_AXIS,) if channels_divide else ()
    halo_above, halo_below, per_device = _partition_rows(geometry, sizes.get(ROW_AXIS, 1))
    rows = () if per_device is geometry else (ROW_AXIS,)
    per_device = per_device._replace(groups=G // shards if channels_divide and G > 1 else G)
    return Partition(mesh, batch, channels, rows, halo_above, halo_below, per_device, G > 1)


def _partition_rows(geometry: Geometry, n: int) -> tuple[int, int, Geometry]:
    """Return the rows of the halo above and below, and the convolution of one device."""
    i, w, o, s, d, (low, _) = geometry.axes[0]
    if n == 1 or i % n or o % n or i != s * o:
        return 0, 0, geometry
    h, ho = i // n, o // n
    high = s * (ho - 1) + d * (w - 1) + 1 - low - h
    halo_above, halo_below = max(low, 0), max(high, 0)
    if max(halo_above, halo_below) > h:  # from further away than the next device
        return 0, 0, geometry
    size = (halo_above + h + halo_below, *geometry.size[1:])
    padding = ((min(low, 0), min(high, 0)), *geometry.padding[1:])
    output = (ho, *geometry.output[1:])
    return halo_above, halo_below, geometry._replace(size=size, padding=padding, output=output)


def _partition_spec(role: str, partition: Partition, batch_ndim: int, rank: int) -> jax.P:
    """Return how the array of this role is shared out."""
    others = (None,) * (rank - batch_ndim - 3)
    channels = partition.channels if partition.grouped or role != "x" else None
    if role == "k":
        return jax.P(*(None,) * (rank - 1), channels)
    return jax.P(*(None,) * batch_ndim, partition.batch, partition.rows, *others, channels)


def _exchange_halo(x, partition: Partition, axis: int):
    """Fetch the halo of this device's rows from its neighbors; zeros at the borders."""
    if not partition.rows:
        return x
    n, h = partition.mesh.shape[ROW_AXIS], x.shape[axis]
    parts = [x]
    if partition.halo_above:
        last = lax.slice_in_dim(x, h - partition.halo_above, h, axis=axis)
        parts.insert(0, lax.ppermute(last, ROW_AXIS, [(j, j + 1) for j in range(n - 1)]))
    if partition.halo_below:
        first = lax.slice_in_dim(x, 0, partition.halo_below, axis=axis)
        parts.append(lax.ppermute(first, ROW_AXIS, [(j + 1, j) for j in range(n - 1)]))
    return jnp.concatenate(parts, axis)


def _scatter_add_halo(gx, partition: Partition, axis: int):
    """Return the halo to the neighbors, which add it up: the transpose of `_exchange_halo`."""
    if not partition.rows:
        return gx
    n = partition.mesh.shape[ROW_AXIS]
    h = gx.shape[axis] - partition.halo_above - partition.halo_below
    own = lax.slice_in_dim(gx, partition.halo_above, partition.halo_above + h, axis=axis)
    if partition.halo_above:
        first = lax.slice_in_dim(gx, 0, partition.halo_above, axis=axis)
        first = lax.ppermute(first, ROW_AXIS, [(j + 1, j) for j in range(n - 1)])
        own += _pad(first, h - partition.halo_above, 0, axis)
    if partition.halo_below:
        last = lax.slice_in_dim(gx, partition.halo_above + h, gx.shape[axis], axis=axis)
        last = lax.ppermute(last, ROW_AXIS, [(j, j + 1) for j in range(n - 1)])
        own += _pad(last, 0, h - partition.halo_below, axis)
    return own


def _pad(a, before: int, after: int, axis: int):
    pads = [(before, after) if i == axis else (0, 0) for i in range(a.ndim)]
    return jnp.pad(a, pads)
