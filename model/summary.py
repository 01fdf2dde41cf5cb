"""What a network is, from shapes alone: nothing is computed, no array is made.

FLOPs count two for each multiply-add of convolutions and matrix products, as the literature
does; biases, activations, pooling and normalization are left out. They are read off the traced
program of each layer, so a layer written by a user is counted as well.

A receptive field is the extent of the input that one output element depends on:

.. math:: r_l = r_{l-1} + (k_l - 1)\\, d_l\\, j_{l-1}, \\qquad j_l = j_{l-1}\\, s_l

with k the window, d its dilation, s the stride and j the jump between neighboring outputs.
What enlarges by s has a stride of 1/s, and what follows sees whole elements of what was enlarged:
at most so many. Where branches meet, the larger one counts.
"""

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple, TypeAlias

import jax

from ..ops.common.jax_compat import Jaxpr, inner_jaxprs
from ..ops.conv.cpu.dispatch import rule_name
from ..ops.conv.primitive import conv_p, input_grad_p
from .layer import GLOBAL, Layer, Shape, Window, as_arrays, init_shapes, layer_scope, part_shapes


class ReceptiveField(NamedTuple):
    """A receptive field along one axis."""

    size: int | Fraction
    jump: int | Fraction  # between neighbors
    # Of each enlargement on the way: the jump of what was enlarged, and what is seen from there on
    # beside one element of it. Whole elements of it are seen, so that is rounded up.
    upsampled: tuple[tuple[int | Fraction, int | Fraction], ...] = ()

    @property
    def pixels(self) -> int:
        """Return the size, at most."""
        beside: int | Fraction = 0
        for coarse, seen in reversed(self.upsampled):
            beside = math.ceil((beside + seen) / coarse) * coarse
        return math.ceil(self.size + beside)

    def through(self, k: int, s: int | Fraction, d: int) -> "ReceptiveField":
        """Return the field behind one more layer, of window k, stride s and dilation d."""
        more, size, upsampled = (k - 1) * d * self.jump, self.size, self.upsampled
        if upsampled:
            *before, (coarse, seen) = upsampled
            upsampled = (*before, (coarse, seen + more))
        else:
            size += more
        if 0 < s < 1 and self.jump:
            upsampled = (*upsampled, (self.jump, 0))
        return ReceptiveField(size, self.jump * s, upsampled)


Field: TypeAlias = tuple[ReceptiveField, ...]  # along each spatial axis


class Lowerings(NamedTuple):
    """The forms of a convolution and its gradients on CPU: see `ops.conv.cpu.dispatch`."""

    forward: str
    input_grad: str
    kernel_grad: str


class Row(NamedTuple):
    """One layer of a summary; sizes are for one image."""

    path: str
    kind: str
    out_shape: Shape  # without the batch
    parameters: int
    flops: int
    activation_bytes: int
    receptive_field: Shape | None  # None: nobody said what the layer sees
    lowerings: tuple[Lowerings, ...]  # one for each convolution


class Summary(NamedTuple):
    """The rows of a network and their totals."""

    rows: tuple[Row, ...]
    in_shape: Shape
    parameters: int
    flops: int
    activation_bytes: int
    receptive_field: Shape | None

    def as_dict(self) -> dict[str, Any]:
        """Return the summary for JSON."""
        totals = {k: v for k, v in self._asdict().items() if k != "rows"}
        return totals | {"layers": [row._asdict() for row in self.rows]}

    def as_table(self, *, lowering: bool = False) -> str:
        """Return the summary as a table; with implementations of convolutions on CPU if wanted."""
        total = Row(
            "total",
            "",
            (),
            self.parameters,
            self.flops,
            self.activation_bytes,
            self.receptive_field,
            (),
        )
        cells = [_HEADER, *(_cells(row) for row in (*self.rows, total))]
        if not lowering:
            cells = [row[: -len(Lowerings._fields)] for row in cells]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(_aligned(row, widths)).rstrip() for row in cells]
        rule = "-" * max(map(len, lines))
        note = f"for one image of {_times(self.in_shape)}; FLOPs: 2 for each multiply-add"
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1], note])


def summarize(net: Layer, image_shape: Shape) -> Summary:
    """Summarize each layer: output shape, parameters, FLOPs, activation memory, receptive field.

    Args:
        net: the network.
        image_shape: ``(*spatial, C)``, without the batch.

    Raises:
        LayerError: the network does not fit the image; names the layer.
    """
    spatial = len(image_shape) - 1
    _, field, rows = _walk(net, "", (1, *image_shape), (ReceptiveField(1, 1),) * spatial)
    return Summary(
        rows=tuple(rows),
        in_shape=image_shape,
        parameters=sum(row.parameters for row in rows),
        flops=sum(row.flops for row in rows),
        activation_bytes=sum(row.activation_bytes for row in rows),
        receptive_field=_pixels(field),
    )


_HEADER = ("layer", "kind", "output", "parameters", "FLOPs", "activations", "sees")
_HEADER += ("forward", "input gradient", "kernel gradient")


def _cells(row: Row) -> tuple[str, ...]:
    memory = f"{row.activation_bytes / 1024:,.1f} KiB"
    field = "?" if row.receptive_field is None else _times(row.receptive_field)
    numbers = (f"{row.parameters:,}", f"{row.flops:,}", memory, field)
    forms = (" + ".join(form) for form in zip(*row.lowerings, strict=True))
    forms = tuple(forms) if row.lowerings else ("",) * len(Lowerings._fields)
    return (row.path, row.kind, _times(row.out_shape), *numbers, *forms)


def _aligned(cells: tuple[str, ...], widths: list[int]) -> list[str]:
    """Align words to the left, numbers to the right."""
    pairs = enumerate(zip(cells, widths, strict=True))
    return [cell.rjust(width) if 3 <= i < 7 else cell.ljust(width) for i, (cell, width) in pairs]


def _times(shape: Shape) -> str:
    return "x".join(map(str, shape))


def group_counts(layer: Layer, in_shape: Shape) -> set[int]:
    """Return the numbers of groups of a network's convolutions.

    Example:
        >>> from convax import model
        >>> net = model.serial(model.conv(8, 3), model.conv(8, 3, groups=4))
        >>> sorted(group_counts(net, (1, 8, 8, 3)))
        [1, 4]
    """
    _, params, state = init_shapes(layer, in_shape)
    return set(_groups(_program(layer, params, state, in_shape)))


def _walk(
    layer: Layer, path: str, in_shape: Shape, field: Field | None
) -> tuple[Shape, Field | None, list[Row]]:
    """Return the shape and field that `layer` leaves, and the rows of all leaves under it."""
    if not layer.info.parts:
        out_shape, params, state = init_shapes(layer, in_shape)
        field = _field_behind(layer, in_shape, field)
        program = _program(layer, params, state, in_shape)
        row = Row(
            path=path,
            kind=layer.info.kind,
            out_shape=out_shape[1:],
            parameters=sum(leaf.size for leaf in jax.tree.leaves(params)),
            flops=2 * _multiply_adds(program),
            activation_bytes=4 * math.prod(out_shape),
            receptive_field=_pixels(field),
            lowerings=tuple(_lowerings(program)),
        )
        return out_shape, field, [row]

    if layer.info.topology == "each":
        return init_shapes(layer, in_shape)[0], None, _rows_of_each(layer, path, in_shape)
    rows, fields, shape, seen = [], [], in_shape, field
    own = part_shapes(layer, in_shape) if layer.info.topology == "custom" else {}
    for name, part in layer.info.parts.items():
        if layer.info.topology == "parallel":
            shape, seen = in_shape, field
        elif own:
            shape, seen = own[name], None  # what it sees nobody said
        with layer_scope(name):
            shape, seen, part_rows = _walk(part, f"{path}/{name}".strip("/"), shape, seen)
        fields.append(seen)
        rows += part_rows
    if layer.info.topology == "parallel":
        seen = _widest([f for f in fields if f is not None]) if None not in fields else None
    if layer.info.kind != "serial":  # whose output is the last part's; tracing it again takes time
        shape = init_shapes(layer, in_shape)[0]
    return shape, seen, rows


def _rows_of_each(layer: Layer, path: str, in_shape: Any) -> list[Row]:
    """Return the rows of a layer on each of several arrays: shapes of the first, sums of all."""
    (part,) = layer.info.parts.values()
    runs = [_walk(part, path, shape, None)[2] for shape in in_shape.values()]
    return [
        row._replace(
            flops=sum(run[i].flops for run in runs),
            activation_bytes=sum(run[i].activation_bytes for run in runs),
        )
        for i, row in enumerate(runs[0])
    ]


def _pixels(field: Field | None) -> Shape | None:
    return None if field is None else tuple(extent.pixels for extent in field)


def _widest(fields: list[Field]) -> Field:
    """Return the field where branches meet: along each axis, the larger, and the larger jump."""
    return tuple(
        max(along, key=lambda extent: extent.pixels)._replace(jump=max(r.jump for r in along))
        for along in zip(*fields, strict=True)
    )


def _field_behind(layer: Layer, in_shape: Shape, field: Field | None) -> Field | None:
    """Return the field behind one leaf layer."""
    window = layer.info.window
    if field is None or window is None or isinstance(in_shape, dict):
        return None
    spatial = len(field)
    if window == GLOBAL:
        # A stride of 0: each output sees all there is, and what follows sees no more.
        window = Window(in_shape[1:-1] if len(in_shape) == spatial + 2 else 1, 0)
    axes = zip(*(_per_axis(value, spatial) for value in window), strict=True)
    return tuple(extent.through(*axis) for extent, axis in zip(field, axes, strict=True))


def _per_axis(value: Any, spatial: int) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,) * spatial


def _program(layer: Layer, params, state, in_shape: Shape) -> Jaxpr:
    def forward(params, state, x):
        return layer.apply(params, state, x)[0]

    return jax.make_jaxpr(forward)(params, state, as_arrays(in_shape)).jaxpr


def _multiply_adds(jaxpr: Jaxpr) -> int:
    """Count the multiply-adds of convolutions and matrix products in a program."""
    total = 0
    for eqn in jaxpr.eqns:
        out, ins = _array(eqn.outvars[0]), [_array(v) for v in eqn.invars]
        if eqn.primitive is conv_p:
            total += out.size * math.prod(ins[1].shape[:-1])
        elif eqn.primitive is input_grad_p:  # a transposed convolution
            total += ins[0].size * math.prod(ins[1].shape[:-1])
        elif eqn.primitive.name == "conv_general_dilated":
            kernel, spec = ins[1].shape, eqn.params["dimension_numbers"].rhs_spec
            total += out.size * math.prod(kernel) // kernel[spec[0]]
        elif eqn.primitive.name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            total += out.size * math.prod(ins[0].shape[i] for i in contracted)
        else:
            repeats = eqn.params.get("length", 1) if eqn.primitive.name == "scan" else 1
            total += repeats * sum(_multiply_adds(inner) for inner in inner_jaxprs(eqn.params))
    return total


def _lowerings(jaxpr: Jaxpr) -> Iterator[Lowerings]:
    """Yield the implementations of every convolution in a program and those it calls."""
    for eqn in jaxpr.eqns:
        if eqn.primitive in (conv_p, input_grad_p):
            geometry, kernel = eqn.params["geometry"], _array(eqn.invars[1]).shape
            channels = (kernel[-2] * geometry.groups, kernel[-1])
            # A transposed convolution is an input gradient, and its own input gradient the conv.
            order = ("conv", "input_grad") if eqn.primitive is conv_p else ("input_grad", "conv")
            dtype = _array(eqn.invars[1]).dtype
            kinds = (*order, "kernel_grad")
            names = (rule_name(kind, geometry, *channels, dtype) for kind in kinds)
            yield Lowerings(*names)
        for inner in inner_jaxprs(eqn.params):
            yield from _lowerings(inner)


def _groups(jaxpr: Jaxpr) -> Iterator[int]:
    """Yield the groups of every convolution in a program and those it calls."""
    for eqn in jaxpr.eqns:
        if eqn.primitive is conv_p:
            yield eqn.params["geometry"].groups
        for inner in inner_jaxprs(eqn.params):
            yield from _groups(inner)


def _array(variable: Any) -> jax.ShapeDtypeStruct:
    return variable.aval
