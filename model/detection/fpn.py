"""The feature pyramid: Lin et al., Feature Pyramid Networks, arXiv:1612.03144."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

from jax import Array

from ... import ops
from ..combinators import apply_part, init_part, serial
from ..layer import Layer, LayerInfo, Params, Shape, State
from ..layers.arguments import check_choice, check_positive
from ..layers.conv import conv
from ..layers.norm import NORMS


def fpn(
    paths: Sequence[str],
    features: int = 256,
    *,
    norm: Literal["none", "batch", "group"] = "none",
) -> Layer:
    r"""Make maps of equal depth from maps of falling resolution: each sees the coarser ones.

    .. math:: M_l = lateral_l(C_l) + nearest(M_{l+1}), \qquad P_l = output_l(M_l)

    Args:
        paths: of the maps in the input, a dict as `model.backbone` gives it: fine to coarse.
        features: channels of each map of the output.
        norm: behind each convolution, which then has no bias.

    Returns:
        A layer whose output is a dict of maps, fine to coarse: ``p2``, ``p3``, ... as in the
        paper, one for each path, and one more that has every other pixel of the last.

    Note:
        Kernels start by PyTorch's ``kaiming_uniform_(a=1)``, and the coarsest map is subsampled,
        as in torchvision.
    """
    check_positive("fpn", features=features)
    check_choice("fpn", "norm", norm, ["none", *NORMS])

    def block(window: int) -> Layer:
        plain = conv(
            features,
            window,
            padding=window // 2,
            bias=norm == "none",
            kernel_init="lecun_uniform",
        )
        if norm == "none":
            return plain
        return serial(conv=plain, **{NORMS[norm].name: NORMS[norm].layer(features)})

    indices = range(1, len(paths) + 1)
    parts = {f"lateral{i}": block(1) for i in indices} | {f"output{i}": block(3) for i in indices}
    return _fpn(parts, paths=tuple(paths))


def _fpn(parts: Mapping[str, Layer], paths: tuple[str, ...]) -> Layer:
    levels = [(i + 1, path, f"p{i + 2}") for i, path in enumerate(paths)]
    subsampled = f"p{len(paths) + 2}"

    def init(key: Array, in_shape: Mapping[str, Shape]) -> tuple[Any, Params, State]:
        params, state, shapes = {}, {}, {}

        def shape_of(name: str, shape: Shape) -> Shape:
            return init_part(name, parts[name], key, shape, params, state)

        for i, path, name in levels:
            shapes[name] = shape_of(f"output{i}", shape_of(f"lateral{i}", in_shape[path]))
        N, *spatial, C = shapes[levels[-1][2]]
        shapes[subsampled] = (N, *(-(-size // 2) for size in spatial), C)
        return shapes, params, state

    def apply(params, state, x, *, train=False, key=None):
        new_state, maps, above = {}, {}, None

        def value(name: str, x: Array) -> Array:
            return apply_part(name, parts[name], params, state, new_state, x, train, key)

        for i, path, name in reversed(levels):
            merged = value(f"lateral{i}", x[path])
            if above is not None:
                merged += ops.resize(above, merged.shape[1:-1], method="nearest")
            maps[name], above = value(f"output{i}", merged), merged
        fine_to_coarse = {name: maps[name] for *_, name in levels}
        return fine_to_coarse | {subsampled: maps[levels[-1][2]][:, ::2, ::2]}, new_state

    info = LayerInfo("fpn", None, parts, "custom", partial(_fpn, paths=paths))
    return Layer(init, apply, info)  # type: ignore[arg-type] -- takes several maps
