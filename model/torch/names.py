"""What PyTorch's networks call the layers of ours: a table for each architecture.

A rule is a regular expression for the whole path of a layer of ours, and the name of its module in
PyTorch, in which ``{group}`` stands for what that group of the expression matched, and
``{group-1}`` for a number that counts from another place.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from ..architectures.efficientnet import STAGES as EFFICIENTNET_STAGES
from ..architectures.efficientnet import EfficientNetSize
from ..architectures.mobilenet import V2 as MOBILENET_V2
from ..architectures.vgg import DEPTHS as VGG_DEPTHS
from ..layer import Layer
from ..registry import LAYERS


class Rule(NamedTuple):
    """``Rule(r"conv(?P<i>\\d+)", "features.{i-1}")``."""

    ours: str
    torch: str
    array: bool = False  # the names are those of one array, not of a layer
    kind: str = ""  # `Layout.kind`, where the layer is within one that has no parts


Rules: TypeAlias = Sequence[Rule]

# Our names of arrays, and those of PyTorch's modules.
LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "slope": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def array_name(path: str, rules: Rules) -> str | None:
    """Return PyTorch's name of our array at `path`, by the first rule that matches, or None."""
    rule, leaf = rule_of(path, rules), path.rpartition("/")[2]
    if rule is None:
        return None
    found = _match(path, rule)
    assert found is not None
    name = re.sub(r"\{(\w+)([+-]\d+)?\}", partial(_fill, found), rule.torch)
    return name if rule.array else f"{name}.{LEAVES[leaf]}".lstrip(".")


def rule_of(path: str, rules: Rules) -> Rule | None:
    """Return the first rule that matches our array at `path`."""
    return next((rule for rule in rules if _match(path, rule)), None)


def _match(path: str, rule: Rule) -> re.Match[str] | None:
    layer, _, leaf = path.rpartition("/")
    if rule.array:
        return re.fullmatch(rule.ours, path)
    return re.fullmatch(rule.ours, layer) if leaf in LEAVES else None


def _fill(found: re.Match[str], place: re.Match[str]) -> str:
    text, offset = found[place[1]], place[2]
    return str(int(text) + int(offset)) if offset else text


def sequential(net: Layer) -> Rules | None:
    """Name layers as a `torch.nn.Sequential` of the same does: by place, counted from 0.

    None where the network is more than layers one after the other, or PyTorch has no such layer.
    """
    rules: list[Rule] = []

    def walk(layer: Layer, path: str, name: str) -> bool:
        about = layer.info
        if not about.parts:
            rules.append(Rule(re.escape(path), name))
            return about.kind in _WITHOUT_TENSORS or (
                about.kind in LAYERS and about.kind not in _OURS_ALONE
            )
        return about.topology == "serial" and all(
            walk(part, f"{path}/{key}".strip("/"), f"{name}.{i}".strip("."))
            for i, (key, part) in enumerate(about.parts.items())
        )

    return rules if walk(net, "", "") else None


_OURS_ALONE = ("spatial_pyramid_pool", "layer_scale")
_WITHOUT_TENSORS = ("l2_normalize",)  # a module of one's own there, around `normalize`


def alexnet() -> Rules:
    """Name arrays as torchvision's AlexNet does."""
    convs = zip(range(1, 6), (0, 3, 6, 8, 10), strict=True)
    fcs = zip((6, 7, 8), (1, 4, 6), strict=True)
    return [Rule(f"conv{i}", f"features.{n}") for i, n in convs] + [
        Rule(f"fc{i}", f"classifier.{n}") for i, n in fcs
    ]


def vgg(*, depth: int, batch_norm: bool) -> Rules:
    """Name arrays as torchvision's VGG: layers are counted through all stages."""
    rules, place = [], 0
    for stage, convs in enumerate(VGG_DEPTHS[depth], 1):
        for i in range(1, convs + 1):
            rules.append(Rule(f"stage{stage}/conv{i}", f"features.{place}"))
            if batch_norm:
                rules.append(Rule(f"stage{stage}/bn{i}", f"features.{place + 1}"))
            place += 3 if batch_norm else 2
        place += 1
    return rules + [Rule(f"fc{i}", f"classifier.{3 * i - 3}") for i in (1, 2, 3)]


def zf5() -> Rules:
    """Name arrays in the frame of torchvision's AlexNet."""
    convs = zip(range(1, 6), (0, 4, 8, 10, 12), strict=True)
    return [Rule(f"conv{i}", f"features.{n}") for i, n in convs]


def spp_net(**_: Any) -> Rules:
    """Name arrays in the frame of torchvision's AlexNet: `features`, the pyramid, `classifier`."""
    fcs = zip((6, 7, 8), (0, 3, 6), strict=True)
    return [Rule(f"trunk/{rule.ours}", rule.torch) for rule in zf5()] + [
        Rule(f"fc{i}", f"classifier.{n}") for i, n in fcs
    ]


def resnet(**_: Any) -> Rules:
    """Name arrays as torchvision's ResNet of any depth does."""
    block = r"stage(?P<s>\d+)/block(?P<b>\d+)"
    return [
        Rule("(?P<layer>conv1|bn1|fc)", "{layer}"),
        Rule(f"{block}/(?P<layer>(conv|bn)\\d)", "layer{s}.{b-1}.{layer}"),
        Rule(f"{block}/shortcut/conv", "layer{s}.{b-1}.downsample.0"),
        Rule(f"{block}/shortcut/bn", "layer{s}.{b-1}.downsample.1"),
    ]


def wide_resnet(**_: Any) -> Rules:
    """Name arrays as https://github.com/xternalz/WideResNet-pytorch does, and others after it."""
    block = r"stage(?P<s>\d+)/block(?P<b>\d+)"
    return [
        Rule("(?P<layer>conv1|fc)", "{layer}"),
        Rule(f"{block}/(?P<layer>(conv|bn)\\d)", "block{s}.layer.{b-1}.{layer}"),
        Rule(f"{block}/shortcut", "block{s}.layer.{b-1}.convShortcut"),
        Rule("bn", "bn1"),
    ]


def mobilenet_v1(**_: Any) -> Rules:
    """Name arrays as timm's `mobilenetv1_100`, which counts blocks anew wherever channels grow."""
    rules = [Rule("stem/conv", "conv_stem"), Rule("stem/bn", "bn1"), Rule("fc", "classifier")]
    starts = (1, 2, 4, 6, 12)  # the first block of 64, 128, 256, 512 and 1024 channels
    for block in range(1, 14):
        stage = sum(start <= block for start in starts) - 1
        theirs = f"blocks.{stage}.{block - starts[stage]}"
        rules += [
            Rule(f"block{block}/depthwise", f"{theirs}.conv_dw"),
            Rule(f"block{block}/pointwise", f"{theirs}.conv_pw"),
            Rule(f"block{block}/(?P<bn>bn[12])", f"{theirs}.{{bn}}"),
        ]
    return rules


def mobilenet_v2(**_: Any) -> Rules:
    """Name arrays as torchvision's MobileNetV2: blocks are counted through all stages."""
    rules, place = [*_conv_bn("stem", "features.0")], 1
    for stage, (_expansion, _features, repeats, _stride) in enumerate(MOBILENET_V2, 1):
        for i in range(1, repeats + 1):
            ours, theirs = f"stage{stage}/block{i}", f"features.{place}.conv"
            wide = stage > 1  # the first stage's block does not expand
            if wide:
                rules += [
                    Rule(f"{ours}/expand", f"{theirs}.0.0"),
                    Rule(f"{ours}/bn1", f"{theirs}.0.1"),
                ]
            rules += [
                Rule(f"{ours}/depthwise", f"{theirs}.{int(wide)}.0"),
                Rule(f"{ours}/bn2", f"{theirs}.{int(wide)}.1"),
                Rule(f"{ours}/project", f"{theirs}.{1 + wide}"),
                Rule(f"{ours}/bn3", f"{theirs}.{2 + wide}"),
            ]
            place += 1
    return [*rules, *_conv_bn("last", f"features.{place}"), Rule("fc", "classifier.1")]


def convnext(**_: Any) -> Rules:
    """Name arrays as torchvision's ConvNeXt: stages and what precedes each are counted together."""
    rules = [Rule("stem/conv", "features.0.0"), Rule("stem/norm", "features.0.1")]
    for stage in (1, 2, 3, 4):
        ours, theirs = f"stage{stage}/block(?P<b>\\d+)", f"features.{2 * stage - 1}.{{b-1}}"
        rules += [
            Rule(f"stage{stage}/downsample/norm", f"features.{2 * stage - 2}.0"),
            Rule(f"stage{stage}/downsample/conv", f"features.{2 * stage - 2}.1"),
            Rule(f"{ours}/depthwise", f"{theirs}.block.0"),
            Rule(f"{ours}/norm", f"{theirs}.block.2"),
            Rule(f"{ours}/dense1", f"{theirs}.block.3"),
            Rule(f"{ours}/dense2", f"{theirs}.block.5"),
            Rule(f"{ours}/scale/scale", f"{theirs}.layer_scale", array=True),
        ]
    return [*rules, Rule("norm", "classifier.0"), Rule("fc", "classifier.2")]


def efficientnet(*, size: EfficientNetSize = "b0", **_: Any) -> Rules:
    """Name arrays as torchvision's EfficientNet does; those of Lite, which it has not, likewise."""
    rules, squeezes = [*_conv_bn("stem", "features.0")], not size.startswith("lite")
    for stage, (expansion, *_rest) in enumerate(EFFICIENTNET_STAGES, 1):
        ours, theirs = f"stage{stage}/block(?P<b>\\d+)", f"features.{stage}.{{b-1}}.block"
        wide = int(expansion > 1)  # the first stage's block does not expand
        if wide:
            rules += [Rule(f"{ours}/expand", f"{theirs}.0.0"), Rule(f"{ours}/bn1", f"{theirs}.0.1")]
        rules += [
            Rule(f"{ours}/depthwise", f"{theirs}.{wide}.0"),
            Rule(f"{ours}/bn2", f"{theirs}.{wide}.1"),
            Rule(f"{ours}/se/reduce", f"{theirs}.{wide + 1}.fc1"),
            Rule(f"{ours}/se/expand", f"{theirs}.{wide + 1}.fc2"),
            Rule(f"{ours}/project", f"{theirs}.{wide + 1 + squeezes}.0"),
            Rule(f"{ours}/bn3", f"{theirs}.{wide + 1 + squeezes}.1"),
        ]
    last = len(EFFICIENTNET_STAGES) + 1
    return [*rules, *_conv_bn("last", f"features.{last}"), Rule("fc", "classifier.1")]


def unet(*, features: Sequence[int], batch_norm: bool, upsampling: str) -> Rules:
    """Name arrays as https://github.com/milesial/Pytorch-UNet does, for any number of levels.

    Without batch norm its double convolutions have no place for one; behind bilinear upsampling
    stands a 1x1 convolution in ours: ``up1.up`` is a `Sequential` of the two.
    """
    rules, levels, path = [Rule("head", "outc.conv")], len(features), "levels"

    def double(ours: str, theirs: str) -> None:
        for n, place in ((1, 0), (2, 3 if batch_norm else 2)):
            rules.append(Rule(f"{ours}/conv{n}", f"{theirs}.double_conv.{place}"))
            rules.append(Rule(f"{ours}/bn{n}", f"{theirs}.double_conv.{place + 1}"))

    for level in range(levels):
        down = path if level == levels - 1 else f"{path}/down"
        double(down, f"down{level}.maxpool_conv.1" if level else "inc")
        if level < levels - 1:
            up = f"up{levels - 1 - level}"
            rules.append(Rule(f"{path}/join/below/up", f"{up}.up"))
            rules.append(Rule(f"{path}/join/below/up/conv", f"{up}.up.1"))
            double(f"{path}/up", f"{up}.conv")
        path += "/join/below/level"
    return rules


def fcn(*, backbone: str, stride: int, hidden: int) -> Rules:
    """Torchvision's names of the classifier under ``backbone``; of the rest, those of the paper's
    own files: ``fc6``, ``fc7``, ``score_fr``, ``score_pool4``, ``upscore8`` ...
    """
    del hidden
    plain = backbone.removesuffix("_bn")
    if plain.startswith("vgg"):
        trunk, last = vgg(depth=int(plain.removeprefix("vgg")), batch_norm=plain != backbone), 5
    else:
        trunk, last = resnet(), 4
    top = f"head/score_stage{last}"
    return [
        *(Rule(f"backbone/(?:{rule.ours})", f"backbone.{rule.torch}") for rule in trunk),
        Rule(f"{top}/conv1", "fc6"),
        Rule(f"{top}/conv2", "fc7"),
        Rule(f"{top}/score", "score_fr"),
        Rule(f"head/score_stage{last - 1}", "score_pool4"),
        Rule(f"head/score_stage{last - 2}", "score_pool3"),
        Rule(f"head/twice_stage{last - 1}", "upscore2"),
        Rule(f"head/twice_stage{last - 2}", "upscore_pool4"),
        Rule("head/enlarge", f"upscore{stride if stride < 32 else ''}"),
    ]


def rcnn(*, backbone: str, fpn: int = 256, head_features: Sequence[int] = (), **_: Any) -> Rules:
    """Name arrays as torchvision's `FasterRCNN` and `MaskRCNN` do, those of "v2" too.

    So are those of a detector whose proposals are given, which torchvision does not have.
    """
    kind, body = backbone.removesuffix("_bn"), "backbone.body" if fpn else "backbone"
    if kind.startswith("vgg"):
        trunk = vgg(depth=int(kind.removeprefix("vgg")), batch_norm=kind != backbone)
    else:
        plain = {"mobilenet_v2": mobilenet_v2, "alexnet": alexnet, "zf5": zf5}
        trunk = plain.get(kind, resnet)()
    dense = f"roi_heads.box_head.{len(head_features) + 1}"  # behind convolutions and a flatten
    return [
        *(Rule(f"backbone/(?:{rule.ours})", f"{body}.{rule.torch}") for rule in trunk),
        Rule(r"fpn/lateral(?P<i>\d)(/conv)?", "backbone.fpn.inner_blocks.{i-1}.0"),
        Rule(r"fpn/lateral(?P<i>\d)/[bg]n", "backbone.fpn.inner_blocks.{i-1}.1"),
        Rule(r"fpn/output(?P<i>\d)(/conv)?", "backbone.fpn.layer_blocks.{i-1}.0"),
        Rule(r"fpn/output(?P<i>\d)/[bg]n", "backbone.fpn.layer_blocks.{i-1}.1"),
        Rule(r"rpn/conv(?P<i>\d)", "rpn.head.conv.{i-1}.0"),
        Rule("rpn/logits", "rpn.head.cls_logits"),
        Rule("rpn/deltas", "rpn.head.bbox_pred"),
        Rule(r"head/conv(?P<i>\d+)", "roi_heads.box_head.{i-1}.0"),
        Rule(r"head/[bg]n(?P<i>\d+)", "roi_heads.box_head.{i-1}.1"),
        Rule("head/(?P<fc>fc[67])", dense if head_features else "roi_heads.box_head.{fc}"),
        Rule("predictor/logits", "roi_heads.box_predictor.cls_score"),
        Rule("predictor/deltas", "roi_heads.box_predictor.bbox_pred"),
        Rule(r"mask_head/conv(?P<i>\d)", "roi_heads.mask_head.{i-1}.0"),
        Rule(r"mask_head/[bg]n(?P<i>\d)", "roi_heads.mask_head.{i-1}.1"),
        Rule("mask_predictor/up", "roi_heads.mask_predictor.conv5_mask"),
        Rule("mask_predictor/logits", "roi_heads.mask_predictor.mask_fcn_logits"),
        Rule("(?P<part>svm|bbox_reg)/scale", "roi_heads.{part}.scale", array=True),
        Rule("(?P<part>svm|bbox_reg)", "roi_heads.{part}"),
    ]


# Named architectures: rules from the keywords of their table in a config.
ARCHITECTURES: dict[str, Callable[..., Rules]] = {
    "alexnet": alexnet,
    "vgg": vgg,
    "spp_net": spp_net,
    "resnet": resnet,
    "resnet_cifar": resnet,
    "wide_resnet": wide_resnet,
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "convnext": convnext,
    "efficientnet": efficientnet,
    "unet": unet,
    "fcn": fcn,
    "rcnn": partial(rcnn, backbone="alexnet", fpn=0),
    "spp_detector": partial(rcnn, backbone="zf5", fpn=0),
    "fast_rcnn": partial(rcnn, backbone="vgg16", fpn=0),
    "faster_rcnn": rcnn,
    "mask_rcnn": rcnn,
}


def names_of(spec: Mapping[str, Any], net: Layer) -> Rules | None:
    """Return the rules for the network of a config's ``[model]`` table, or None without any."""
    keywords = {key: value for key, value in spec.items() if key != "name"}
    make = ARCHITECTURES.get(spec.get("name", ""))
    return make(**keywords) if make else sequential(net)


def _conv_bn(ours: str, theirs: str) -> Rules:
    return [Rule(f"{ours}/conv", f"{theirs}.0"), Rule(f"{ours}/bn", f"{theirs}.1")]
