"""What else the arrays of PyTorch's networks are called: in other libraries, and in older files.

A file is read under the names that most of its own are: those of `names`, or of a table here.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from ..architectures.efficientnet import EfficientNetSize, repeats
from .names import Rule, Rules, array_name


def timm_mobilenet_v2(**_: Any) -> Rules:
    """Name arrays as timm's `mobilenetv2_100` and its like."""
    block = r"stage(?P<s>\d)/block(?P<b>\d+)"
    return [
        *_timm_ends(),
        Rule("stage1/block1/depthwise", "blocks.0.0.conv_dw"),
        Rule("stage1/block1/bn2", "blocks.0.0.bn1"),
        Rule("stage1/block1/project", "blocks.0.0.conv_pw"),
        Rule("stage1/block1/bn3", "blocks.0.0.bn2"),
        *_timm_block(block, "blocks.{s-1}.{b-1}"),
    ]


def timm_efficientnet(**_: Any) -> Rules:
    """Name arrays as timm's `efficientnet_b0`, `tf_efficientnet_b0`, `tf_efficientnet_lite0` ..."""
    first = "stage1/block(?P<b>\\d+)"
    return [
        *_timm_ends(),
        Rule(f"{first}/depthwise", "blocks.0.{b-1}.conv_dw"),
        Rule(f"{first}/bn2", "blocks.0.{b-1}.bn1"),
        Rule(f"{first}/project", "blocks.0.{b-1}.conv_pw"),
        Rule(f"{first}/bn3", "blocks.0.{b-1}.bn2"),
        *_timm_block(r"stage(?P<s>\d)/block(?P<b>\d+)", "blocks.{s-1}.{b-1}"),
    ]


def timm_convnext(**_: Any) -> Rules:
    """Name arrays as timm's `convnext_tiny` and its like."""
    block, theirs = r"stage(?P<s>\d)/block(?P<b>\d+)", "stages.{s-1}.blocks.{b-1}"
    return [
        Rule("stem/conv", "stem.0"),
        Rule("stem/norm", "stem.1"),
        Rule(r"stage(?P<s>\d)/downsample/norm", "stages.{s-1}.downsample.0"),
        Rule(r"stage(?P<s>\d)/downsample/conv", "stages.{s-1}.downsample.1"),
        Rule(f"{block}/depthwise", f"{theirs}.conv_dw"),
        Rule(f"{block}/norm", f"{theirs}.norm"),
        Rule(f"{block}/dense1", f"{theirs}.mlp.fc1"),
        Rule(f"{block}/dense2", f"{theirs}.mlp.fc2"),
        Rule(f"{block}/scale/scale", f"{theirs}.gamma", array=True),
        Rule("norm", "head.norm"),
        Rule("fc", "head.fc"),
    ]


def flat_efficientnet(*, size: EfficientNetSize, **_: Any) -> Rules:
    """Name arrays as https://github.com/lukemelas/EfficientNet-PyTorch, and what was made of it.

    Blocks are counted through all stages. The file of Lite0 that goes around is of this kind.
    """
    rules, counts = [], repeats(size)
    for stage in range(1, len(counts) + 1):
        before = sum(counts[: stage - 1]) - 1
        ours, theirs = f"stage{stage}/block(?P<b>\\d+)", f"_blocks.{{b{before:+d}}}"
        rules += [
            Rule(f"{ours}/expand", f"{theirs}._expand_conv"),
            Rule(f"{ours}/bn1", f"{theirs}._bn0"),
            Rule(f"{ours}/depthwise", f"{theirs}._depthwise_conv"),
            Rule(f"{ours}/bn2", f"{theirs}._bn1"),
            Rule(f"{ours}/se/(?P<conv>reduce|expand)", f"{theirs}._se_{{conv}}"),
            Rule(f"{ours}/project", f"{theirs}._project_conv"),
            Rule(f"{ours}/bn3", f"{theirs}._bn2"),
        ]
    ends = {"stem/conv": "_conv_stem", "stem/bn": "_bn0", "last/conv": "_conv_head"}
    ends |= {"last/bn": "_bn1", "fc": "_fc"}
    return [*rules, *(Rule(ours, theirs) for ours, theirs in ends.items())]


def _timm_ends() -> Rules:
    ends = {"stem/conv": "conv_stem", "stem/bn": "bn1", "last/conv": "conv_head"}
    ends |= {"last/bn": "bn2", "fc": "classifier"}
    return [Rule(ours, theirs) for ours, theirs in ends.items()]


def _timm_block(ours: str, theirs: str) -> Rules:
    layers = {"expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl"}
    layers |= {"se/reduce": "se.conv_reduce", "se/expand": "se.conv_expand"}
    return [
        *(Rule(f"{ours}/{name}", f"{theirs}.{other}") for name, other in layers.items()),
        Rule(f"{ours}/(?P<bn>bn[123])", f"{theirs}.{{bn}}"),
    ]


# Named architectures: further tables, each from the keywords of a config's ``[model]``.
OTHERS: dict[str, tuple[Callable[..., Rules], ...]] = {
    "mobilenet_v2": (timm_mobilenet_v2,),
    "efficientnet": (timm_efficientnet, flat_efficientnet),
    "convnext": (timm_convnext,),
}


def other_names_of(spec: Mapping[str, Any]) -> list[Rules]:
    """Return the further rules for the network of a config's ``[model]`` table."""
    keywords = {key: value for key, value in spec.items() if key != "name"}
    return [make(**keywords) for make in OTHERS.get(spec.get("name", ""), ())]


def closest(
    tables: Sequence[Rules | None], paths: Iterable[str], names: Collection[str]
) -> Rules | None:
    """Return the table under which most of our arrays are there; of several, the first.

    Args:
        tables: to choose from; None, which has no names, only if it is the first.
        paths: of our arrays.
        names: in the file.
    """
    paths, there = list(paths), set(names)

    def found(rules: Rules | None) -> int:
        return sum(array_name(path, rules) in there for path in paths) if rules else 0

    return max(tables, key=found)


# Names in the detectors that torchvision published in 2019, which it renames itself on reading.
_RENAMED = [
    (r"rpn\.head\.conv\.(weight|bias)", lambda m: f"rpn.head.conv.0.0.{m[1]}"),
    (
        r"(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.(weight|bias)",
        lambda m: f"{m[1]}.0.{m[2]}",
    ),
    (
        r"roi_heads\.mask_head\.mask_fcn(\d)\.(weight|bias)",
        lambda m: f"roi_heads.mask_head.{int(m[1]) - 1}.0.{m[2]}",
    ),
]


def renamed(name: str) -> str:
    """Return what torchvision calls an array whose name it has changed; else the name itself.

    Example:
        >>> renamed("roi_heads.mask_head.mask_fcn1.weight")
        'roi_heads.mask_head.0.0.weight'
    """
    for pattern, change in _RENAMED:
        if found := re.fullmatch(pattern, name):
            return change(found)
    return name


# Where a layer of a MobileNetV2 block was, by how many places the block had, and where it is.
_FLAT_BLOCKS = {
    5: {0: "0.0", 1: "0.1", 3: "1", 4: "2"},  # the first block, which does not expand
    8: {0: "0.0", 1: "0.1", 3: "1.0", 4: "1.1", 6: "2", 7: "3"},
}


def nested_blocks(names: Iterable[str]) -> dict[str, str]:
    """Return new names of the arrays in MobileNetV2 blocks that are one list of layers.

    So they are in https://github.com/tonylins/pytorch-mobilenet-v2, whose weights go around, and in
    what was made of it; torchvision's block is a list of lists. A name alone does not tell which.

    Example:
        >>> nested_blocks(["features.1.conv.4.weight"])
        {'features.1.conv.4.weight': 'features.1.conv.2.weight'}
    """
    matches = [re.fullmatch(r"((?:.*\.)?features\.\d+\.conv)\.(\d+)\.(\w+)", n) for n in names]
    found = [(m[1], int(m[2]), m[3]) for m in matches if m]
    places: dict[str, int] = {}
    for block, place, _ in found:
        places[block] = max(places.get(block, 0), place + 1)
    return {
        f"{block}.{place}.{leaf}": f"{block}.{layers[place]}.{leaf}"
        for block, place, leaf in found
        if place in (layers := _FLAT_BLOCKS.get(places[block], {}))
    }
