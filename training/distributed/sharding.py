"""How training is spread over devices: one mesh, and where on it each array lies.

The mesh of ``[mesh]`` has four axes, each with a number of devices, most often 1:

    data       the examples of a batch are shared out; parameters are on every device
    fsdp       likewise, and of parameters and optimizer state each device keeps a part
    model      channels are shared out: of a convolution with groups, whole groups
    spatial    images are cut into bands of rows; windows fetch what they need from the next one

Nothing else changes: a step is the same program over the whole batch, and XLA cuts it up by where
its arguments lie (``jit`` with shardings; convolutions: `ops.conv.spmd`). So batch norm sees the
statistics of the whole batch, and dropout and augmentation draw the same numbers on any number of
devices. What differs is the order of sums.

Axes are `AxisType.Auto`: with explicit sharding every reshape and every sum of every layer would
have to say where its result goes, and layers know nothing of meshes.

References:
    Xu et al., GSPMD, arXiv:2105.04663; Zhao et al., PyTorch FSDP, arXiv:2304.11277;
    Krizhevsky, One weird trick for parallelizing convolutional neural networks, arXiv:1404.5997.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ...model.summary import group_counts
from ...ops.common.mesh import BATCH_AXES, CHANNEL_AXIS, ROW_AXIS
from ..config.errors import ConfigError
from ..config.schema import Mesh
from ..experiment import Experiment

AXES = (*BATCH_AXES, CHANNEL_AXIS, ROW_AXIS)
SMALL = 4096  # elements; of fewer, `fsdp` keeps the whole array on every device


class ShardingPlan(NamedTuple):
    """Where everything lies; on one device, without a mesh, every method leaves all as it is."""

    mesh: jax.sharding.Mesh | None
    shardings: Any = None  # of the train state, leaf by leaf

    def __str__(self) -> str:
        """Format for people: the device, or "8 devices (data 4 x fsdp 2), cpu"."""
        if self.mesh is None:
            return jax.default_backend()
        axes = " x ".join(f"{axis} {size}" for axis, size in self.mesh.shape.items() if size > 1)
        return f"{self.mesh.size} devices ({axes}), {jax.default_backend()}"

    def scope(self) -> AbstractContextManager[Any]:
        """Return the context in which programs are compiled."""
        return nullcontext() if self.mesh is None else jax.set_mesh(self.mesh)

    def constrain(self, experiment: Experiment) -> Experiment:
        """Return the experiment with a network that says where its parameters and images lie."""
        if self.mesh is None:
            return experiment
        return experiment._replace(net=experiment.net._replace(apply=_constrain(experiment, self)))

    def device_put(self, train_state: Any) -> Any:
        """Put a train state that every process has on the devices."""
        if self.mesh is None:
            return train_state
        return jax.tree.map(_device_put, train_state, self.shardings)

    def put_trained(self, params: Any, state: Any) -> tuple[Any, Any]:
        """Put parameters and state alone on the devices."""
        if self.mesh is None:
            return params, state
        wanted = (self.shardings.params, self.shardings.state)
        return jax.tree.map(_device_put, (params, state), wanted)

    def gather(self, train_state: Any) -> Any:
        """Gather a train state for this process to read; all processes have to call it at once."""
        return train_state if self.mesh is None else jax.tree.map(_gather, train_state)

    def batches(self, rank: int, *, lead: int) -> NamedSharding | None:
        """Return the sharding of an array of this rank with its batch behind `lead` axes."""
        if self.mesh is None:
            return None
        spec = PartitionSpec(*(None,) * lead, BATCH_AXES, *(None,) * (rank - lead - 1))
        return NamedSharding(self.mesh, spec)

    def local_rows(self, batch_size: int) -> slice:
        """Return the part of a batch that this process feeds."""
        if self.mesh is None:
            return slice(0, batch_size)
        sharding: Any = self.batches(1, lead=0)
        places = sharding.addressable_devices_indices_map((batch_size,))
        ends = [index[0].indices(batch_size) for index in places.values()]
        return slice(min(start for start, *_ in ends), max(stop for _, stop, _ in ends))

    def from_host(self, array: np.ndarray, *, lead: int, size: int, rows: slice) -> Any:
        """Place an array whose batch is behind `lead` axes; of `size` examples it has `rows`."""
        if self.mesh is None:
            return array
        shape = (*array.shape[:lead], size, *array.shape[lead + 1 :])

        def part(index: tuple[slice, ...]) -> np.ndarray:
            start, stop, _ = index[lead].indices(size)
            own = slice(start - rows.start, stop - rows.start)
            return array[(*index[:lead], own, *index[lead + 1 :])]

        sharding = self.batches(array.ndim, lead=lead)
        return jax.make_array_from_callback(shape, sharding, part)  # type: ignore[arg-type]

    def feed_batches(
        self, images: np.ndarray, labels: Any, size: int, rows: slice
    ) -> tuple[Any, Any]:
        """Place the images and labels of several batches, of which this process has `rows`."""
        feed = partial(self.from_host, lead=1, size=size, rows=rows)
        return feed(images), jax.tree.map(feed, labels)

    def evaluating(self, eval_step: Callable[..., Any]) -> Callable[..., Any]:
        """Make an evaluation step that shares out its batch; arrays in and out are the host's."""
        return eval_step if self.mesh is None else partial(_evaluate, self, eval_step)

    @property
    def out_shardings(self) -> Any:
        """Return the shardings of a training step's results: the new state lies as the old one."""
        if self.mesh is None:
            return None
        return self.shardings, NamedSharding(self.mesh, PartitionSpec())


def sharding_plan(experiment: Experiment) -> ShardingPlan:
    """Make the plan that the config of an experiment asks for, on the devices that there are.

    Raises:
        ConfigError: it cannot be done: a line for each reason.
    """
    spec, processes, count = experiment.config.mesh, jax.process_count(), jax.device_count()
    if spec is None and processes > 1:
        raise ConfigError(
            f"mesh: missing; {processes} processes need a mesh: write [mesh] with "
            'data = "all", or --set mesh.data=all'
        )
    sizes: dict[str, int] = dict.fromkeys(AXES, 1)
    if spec is not None:
        sizes = axis_sizes(spec, count)
    wanted = math.prod(sizes.values())
    if wanted > count or (processes > 1 and wanted < count):
        asked = " x ".join(f"{axis} {size}" for axis, size in sizes.items() if size > 1) or "1"
        raise ConfigError(
            f"mesh: {asked} needs {wanted} devices, but there are {count} "
            f"({jax.default_backend()}, {processes} {'process' if processes == 1 else 'processes'})"
            f"; the product has to be {count}{'' if processes > 1 else ' or less'}: give one axis "
            '"all"'
        )
    problems = _misfits(experiment, sizes)
    if problems:
        raise ConfigError("\n".join(problems))
    if wanted == 1:
        return ShardingPlan(None)
    mesh = jax.make_mesh(
        tuple(sizes.values()), AXES, (AxisType.Auto,) * len(AXES), devices=jax.devices()[:wanted]
    )
    shardings = jax.tree.map(
        lambda leaf: NamedSharding(mesh, leaf_spec(leaf.shape, sizes)), experiment.template
    )
    return ShardingPlan(mesh, shardings)


def axis_sizes(spec: Mesh, count: int) -> dict[str, int]:
    """Compute the devices along each axis of the mesh, of `count` devices.

    Example:
        >>> axis_sizes(Mesh(data="all", spatial=2), 8)
        {'data': 4, 'fsdp': 1, 'model': 1, 'spatial': 2}
    """
    written = {axis: getattr(spec, axis) for axis in AXES}
    fixed = {axis: n for axis, n in written.items() if n not in (-1, "all")}
    rest, over = divmod(count, math.prod(fixed.values()))
    if len(fixed) < len(AXES) and (over or not rest):
        (axis,) = written.keys() - fixed.keys()
        raise ConfigError(
            f"mesh.{axis}: {count} devices do not divide by the {math.prod(fixed.values())} of the "
            "other axes; write other numbers there"
        )
    return {axis: fixed.get(axis, rest) for axis in AXES}


def leaf_spec(shape: tuple[int, ...], sizes: dict[str, int]) -> PartitionSpec:
    """Return the axes along which a parameter, or its like in the optimizer, is cut.

    Output channels, the last axis, are shared out over `model`; of what is left, the largest axis
    that divides (of equals the last) over `fsdp`. What does not divide is whole on every device.

    Example:
        >>> tuple(leaf_spec((3, 3, 64, 96), {"fsdp": 4, "model": 2}))
        (None, None, 'fsdp', 'model')
        >>> tuple(leaf_spec((96,), {"fsdp": 4, "model": 1}))
        (None,)
    """
    axes: list[str | None] = [None] * len(shape)
    if sizes[CHANNEL_AXIS] > 1 and shape and shape[-1] % sizes[CHANNEL_AXIS] == 0:
        axes[-1] = CHANNEL_AXIS
    whole = [
        i for i, size in enumerate(shape) if axes[i] is None and size and size % sizes["fsdp"] == 0
    ]
    if sizes["fsdp"] > 1 and math.prod(shape) >= SMALL and whole:
        axes[max(whole, key=lambda i: (shape[i], i))] = "fsdp"
    return PartitionSpec(*axes)


def _misfits(experiment: Experiment, sizes: dict[str, int]) -> list[str]:
    """List what of the experiment does not divide."""
    config, lines = experiment.config, []
    parts = sizes["data"] * sizes["fsdp"]
    batch_size = config.training.batch_size
    if batch_size % parts:
        keys = " x ".join(f"mesh.{axis}" for axis in BATCH_AXES if sizes[axis] > 1)
        lines.append(
            f"{keys}: a batch of {batch_size} does not divide into {parts} equal parts; set "
            f"training.batch_size to a multiple of {parts}, e.g. {-(-batch_size // parts) * parts}"
        )
    bands, height = sizes[ROW_AXIS], experiment.card.preprocessing.size[0]
    if height % bands:
        lines.append(
            f"mesh.spatial: images of {height} rows do not divide into {bands} equal bands; set "
            f"input.size to a multiple of {bands}, e.g. {-(-height // bands) * bands}"
        )
    parts = sizes[CHANNEL_AXIS]
    if parts > 1:
        in_shape = (1, *experiment.card.preprocessing.size, experiment.card.image_shape[-1])
        groups = group_counts(experiment.net, in_shape) - {1}
        if not any(count % parts == 0 for count in groups):
            has = f"groups of {', '.join(map(str, sorted(groups)))}" if groups else "none"
            lines.append(
                f"mesh.model: needs a network with convolutions whose groups divide by {parts}, "
                f"as alexnet_2012 has; this one has {has}; leave model out"
            )
    return lines


def _constrain(experiment: Experiment, plan: ShardingPlan) -> Callable[..., Any]:
    """Constrain a network's function to whole parameters (or cut by channel) and image bands."""
    mesh, apply = plan.mesh, experiment.net.apply
    assert mesh is not None
    sizes = dict(mesh.shape) | {"fsdp": 1}

    def constrain(params: Any, state: Any, x: jax.Array, **more: Any) -> Any:
        whole = jax.tree.map(lambda leaf: NamedSharding(mesh, leaf_spec(leaf.shape, sizes)), params)
        params = jax.lax.with_sharding_constraint(params, whole)
        rest = (None,) * (x.ndim - 2)
        bands = NamedSharding(mesh, PartitionSpec(BATCH_AXES, ROW_AXIS, *rest))
        return apply(params, state, jax.lax.with_sharding_constraint(x, bands), **more)

    return constrain


def _evaluate(plan: ShardingPlan, eval_step, params, state, *batch):
    mesh: Any = plan.mesh
    size = len(batch[0])
    parts = mesh.shape["data"] * mesh.shape["fsdp"]
    whole = -(-size // parts) * parts

    def placed(array: np.ndarray) -> Any:  # weights of zero behind the end
        array = np.pad(array, ((0, whole - size), *((0, 0),) * (array.ndim - 1)))
        return plan.from_host(array, lead=0, size=whole, rows=slice(0, whole))

    arrays = jax.tree.map(placed, batch)
    with plan.scope():
        sums, kept = jax.tree.map(_gather, eval_step(params, state, *arrays))
    return sums, jax.tree.map(lambda leaf: np.asarray(leaf)[:size], kept)


def _device_put(leaf: Any, sharding: NamedSharding) -> jax.Array:
    if _is_key(leaf):
        data = _device_put(jax.random.key_data(leaf), NamedSharding(sharding.mesh, PartitionSpec()))
        return jax.random.wrap_key_data(data)
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def _gather(leaf: jax.Array) -> Any:
    if _is_key(leaf):
        return jax.random.wrap_key_data(_gather(jax.random.key_data(leaf)))
    if not (leaf.is_fully_addressable or leaf.is_fully_replicated):
        everywhere = NamedSharding(leaf.sharding.mesh, PartitionSpec())  # type: ignore[attr-defined]
        leaf = _copied(leaf, everywhere)
    return np.asarray(leaf)


def _copied(leaf: jax.Array, sharding: NamedSharding) -> jax.Array:
    return jax.jit(_same, out_shardings=sharding)(leaf)


def _same(leaf: jax.Array) -> jax.Array:
    return leaf


def _is_key(leaf: Any) -> bool:
    return jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
