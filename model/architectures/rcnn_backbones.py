"""The networks whose maps detectors with regions look at."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from ..combinators import serial
from ..intermediates import backbone as trunk_of
from ..layer import Layer
from ..layers.activation import relu
from ..layers.arguments import check_choice, check_positive
from ..layers.conv import conv
from ..layers.norm import NORMS, NormName
from .alexnet import alexnet
from .mobilenet import mobilenet_v2
from .resnet import ResNetName, basic_block, projection, resnet
from .spp_net import zf5
from .vgg import DEPTHS as VGG_DEPTHS
from .vgg import VGGName, vgg

BackboneName: TypeAlias = Literal["small", ResNetName, "mobilenet_v2", VGGName, "alexnet", "zf5"]


class Backbone(NamedTuple):
    """A backbone as a detector is asked for it.

    Attributes:
        function: the detector, for messages.
        name: of the network.
        norm, norm_eps, width: of a ResNet or "small".
        stages: whose maps are taken; None for the default.
    """

    function: str
    name: BackboneName
    norm: NormName
    norm_eps: float
    width: int
    stages: list[int] | None


class _Stages(NamedTuple):
    """A network, and where its stages end.

    Attributes:
        net: a classifier, or its convolutions.
        maps: the path of each stage's map, of half the resolution of the one before or less.
        sixteenth: the stage whose map has a sixteenth of the image's size.
        pools: the path of the pool behind a stage, of those that have one.
    """

    net: Layer
    maps: Mapping[int, str]
    sixteenth: int
    pools: Mapping[int, str] = {}


def trunk_on_image(backbone: Backbone, *, pyramid: bool = False) -> tuple[Layer, list[str]]:
    """Return the layer that gives the maps by path, and the paths, fine to coarse.

    Args:
        backbone: which; its default stages are all for a pyramid, else that of a sixteenth.
        pyramid: whether there may be several maps.

    Raises:
        ValueError: an unknown backbone or norm, or stages that it does not have.
    """
    found = _stages_of(backbone)
    stages = backbone.stages
    if stages is None:
        stages = list(found.maps) if pyramid else [found.sixteenth]
    if (
        not stages
        or set(stages) - set(found.maps)
        or sorted(set(stages)) != stages
        or (len(stages) > 1 and not pyramid)
    ):
        known = f"{list(found.maps)} of {backbone.name}"
        need = f"some of {known}, in order" if pyramid else f"one of {known}: there is no pyramid"
        raise ValueError(f"{backbone.function}: bad stages: got {stages}, need {need}")
    paths = [found.maps[i] for i in stages]
    return trunk_of(found.net, paths), paths


def trunk_on_crops(backbone: Backbone) -> Layer:
    """Return the layer that gives the last map of a stage, pooled where the network does so.

    Args:
        backbone: which, with one stage; by default its last.

    Raises:
        ValueError: as `trunk_on_image`.
    """
    found = _stages_of(backbone)
    stages = [max(found.maps)] if backbone.stages is None else backbone.stages
    _, (path,) = trunk_on_image(backbone._replace(stages=stages))
    pooled = [found.pools.get(i, path) for i in stages]
    return trunk_of(found.net, pooled)


def _stages_of(backbone: Backbone) -> _Stages:
    name, norm = backbone.name, backbone.norm
    check_choice(backbone.function, "norm", norm, NORMS)
    check_positive(backbone.function, width=backbone.width)
    check_choice(backbone.function, "backbone", name, get_args(BackboneName))
    kind = name.removesuffix("_bn").rstrip("0123456789")
    if kind == "vgg":
        depth: Any = int(name.removesuffix("_bn").removeprefix("vgg"))
        net, convs = vgg(1, depth=depth, batch_norm=name.endswith("_bn")), VGG_DEPTHS[depth]
        # Ahead of the stage's pool: the second stage has half the resolution of the image.
        maps = {i: f"stage{i}/act{convs[i - 1]}" for i in range(2, 6)}
        return _Stages(net, maps, 5, {i: f"stage{i}/pool" for i in maps})
    if kind == "resnet":
        depth = int(name.removeprefix("resnet"))
        net = resnet(1, depth=depth, norm=norm, norm_eps=backbone.norm_eps, width=backbone.width)
        return _Stages(net, {i: f"stage{i}" for i in range(1, 5)}, 3)
    if kind == "mobilenet_v":
        # The last map of each resolution.
        return _Stages(mobilenet_v2(1), {i: f"stage{i}" for i in (2, 3, 5, 7)}, 5)
    if kind == "alexnet":
        paths = {i: f"act{i}" for i in (1, 2, 5)}
        return _Stages(alexnet(1), paths, 5, {i: f"pool{i}" for i in paths})
    if kind == "zf":
        return _Stages(zf5(), {2: "act2", 5: "act5"}, 5, {2: "pool2"})
    return _Stages(_small(backbone.width, norm), {i: f"stage{i}" for i in range(1, 5)}, 3)


def _small(width: int, norm: NormName) -> Layer:
    """Make a 3x3 convolution and four basic residual blocks, each of half the resolution."""
    name, make_norm = NORMS[norm]
    blocks = {}
    for i in range(1, 5):
        features = width * 2 ** (i - 1)
        shortcut = projection(features, 2, NORMS[norm])
        blocks[f"stage{i}"] = basic_block(features, 2, shortcut, norm=NORMS[norm])
    return serial(
        conv1=conv(width, 3, stride=2, padding=1, bias=False),
        **{f"{name}1": make_norm(width)},
        relu=relu(),
        **blocks,
    )
