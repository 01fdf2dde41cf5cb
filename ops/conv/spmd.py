"""Convolutions on a mesh: every device computes its part, in the form that is the fastest for it.

Under ``jax.set_mesh(mesh)``, a mesh whose axes have the names below, a convolution and its two
gradients are cut along them, whatever their operands look like; what does not divide stays whole:

    data, fsdp   the batch; a kernel gradient is summed over both
    model        output channels, or whole groups where there are several
    spatial      the first spatial axis, the rows; each device first fetches from its neighbours
                 the rows that its windows reach into, and returns to them their input gradient

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


class Cut(NamedTuple):
    """Along which axes of the mesh a convolution is cut, and what each device then computes."""

    mesh: jax.sharding.AbstractMesh
    batch: tuple[str, ...]
    channels: tuple[str, ...]
    rows: tuple[str, ...]
    above: int  # rows to fetch from there
    below: int
    geometry: Geometry  # of one device
    grouped: bool  # whether x has channels of its own for each part of g


def on_mesh(
    form: Callable[..., jax.Array], roles: str, a, b, *, geometry: Geometry, lead: int = 0
) -> jax.Array:
    """``form(a, b, geometry=geometry)``, cut up where there is a mesh; `roles` as "xkg".

    Behind `lead` axes, which are not cut, the arrays are those of a convolution.
    """
    sizes = axes_around(a)
    if not sizes:
        return form(a, b, geometry=geometry)
    if lead:  # of a stack the batch alone: cut along channels and rows its gradients came out wrong
        sizes = {name: size for name, size in sizes.items() if name in BATCH_AXES}
    cut = _cut(sizes, a.shape[lead:], b.shape[lead:], geometry, jax.typeof(a).sharding.mesh)
    of_a, of_b, of_out = (_spec(role, cut, lead, a.ndim) for role in roles)

    def part(a, b):
        if roles[0] == "x":
            a = _fetched(a, cut, 1 + lead)
        out = form(a, b, geometry=cut.geometry)
        if roles[2] == "x":
            out = _returned(out, cut, 1 + lead)
            over = () if cut.grouped else cut.channels
        else:
            over = cut.batch + cut.rows if roles[2] == "k" else ()
        return lax.psum(out, over) if over else out

    mapped = jax.shard_map(
        part, mesh=cut.mesh, in_specs=(of_a, of_b), out_specs=of_out, check_vma=False
    )
    return mapped(a, b)


def _cut(sizes: dict[str, int], a_shape, b_shape, geometry: Geometry, mesh) -> Cut:
    N, Co = a_shape[0], b_shape[-1]  # of x and k, x and g, or g and k
    batch = tuple(name for name in BATCH_AXES if name in sizes)
    if not is_int(N) or N == 0 or N % prod(sizes[name] for name in batch):
        batch = ()
    parts, G = sizes.get(CHANNEL_AXIS, 1), geometry.groups
    apart = parts > 1 and (Co if G == 1 else G) % parts == 0
    channels = (CHANNEL_AXIS,) if apart else ()
    above, below, part = _rows(geometry, sizes.get(ROW_AXIS, 1))
    rows = () if part is geometry else (ROW_AXIS,)
    part = part._replace(groups=G // parts if apart and G > 1 else G)
    return Cut(mesh, batch, channels, rows, above, below, part, G > 1)


def _rows(geometry: Geometry, n: int) -> tuple[int, int, Geometry]:
    """How many rows to fetch from above and below, and the convolution of a device's rows."""
    i, w, o, s, d, (low, _) = geometry.axes[0]
    if n == 1 or i % n or o % n or i != s * o:
        return 0, 0, geometry
    h, ho = i // n, o // n
    high = s * (ho - 1) + d * (w - 1) + 1 - low - h
    above, below = max(low, 0), max(high, 0)
    if max(above, below) > h:  # from further away than the next device
        return 0, 0, geometry
    size = (above + h + below, *geometry.size[1:])
    padding = ((min(low, 0), min(high, 0)), *geometry.padding[1:])
    output = (ho, *geometry.output[1:])
    return above, below, geometry._replace(size=size, padding=padding, output=output)


def _spec(role: str, cut: Cut, lead: int, rank: int) -> jax.P:
    """How the array of this role lies."""
    others = (None,) * (rank - lead - 3)
    channels = cut.channels if cut.grouped or role != "x" else None
    if role == "k":
        return jax.P(*(None,) * (rank - 1), channels)
    return jax.P(*(None,) * lead, cut.batch, cut.rows, *others, channels)


def _fetched(x, cut: Cut, axis: int):
    """The rows of this device, and those that it needs of its neighbours; or zeros."""
    if not cut.rows:
        return x
    n, h = cut.mesh.shape[ROW_AXIS], x.shape[axis]
    parts = [x]
    if cut.above:
        last = lax.slice_in_dim(x, h - cut.above, h, axis=axis)
        parts.insert(0, lax.ppermute(last, ROW_AXIS, [(j, j + 1) for j in range(n - 1)]))
    if cut.below:
        first = lax.slice_in_dim(x, 0, cut.below, axis=axis)
        parts.append(lax.ppermute(first, ROW_AXIS, [(j + 1, j) for j in range(n - 1)]))
    return jnp.concatenate(parts, axis)


def _returned(gx, cut: Cut, axis: int):
    """The transpose of `_fetched`: what belongs to the neighbours' rows is added up there."""
    if not cut.rows:
        return gx
    n, h = cut.mesh.shape[ROW_AXIS], gx.shape[axis] - cut.above - cut.below
    own = lax.slice_in_dim(gx, cut.above, cut.above + h, axis=axis)
    if cut.above:
        first = lax.slice_in_dim(gx, 0, cut.above, axis=axis)
        first = lax.ppermute(first, ROW_AXIS, [(j + 1, j) for j in range(n - 1)])
        own += _padded(first, h - cut.above, 0, axis)
    if cut.below:
        last = lax.slice_in_dim(gx, cut.above + h, gx.shape[axis], axis=axis)
        last = lax.ppermute(last, ROW_AXIS, [(j, j + 1) for j in range(n - 1)])
        own += _padded(last, 0, h - cut.below, axis)
    return own


def _padded(a, before: int, behind: int, axis: int):
    pads = [(before, behind) if i == axis else (0, 0) for i in range(a.ndim)]
    return jnp.pad(a, pads)
