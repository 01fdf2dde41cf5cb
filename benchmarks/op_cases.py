"""The operations that are timed one by one: where plain XLA is known to lose, and real networks."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Conv(NamedTuple):
    x: tuple[int, int, int, int]  # N, H, W, Ci
    kernel: tuple[int, int, int, int]  # KH, KW, Ci // G, Co
    stride: int = 1
    groups: int = 1
    dilation: int = 1
    padding: int | None = None  # as much as keeps the size at stride 1; none for even windows

    @property
    def pad(self) -> int:
        k = self.kernel[0]
        return self.dilation * (k // 2) * (k % 2) if self.padding is None else self.padding


class Other(NamedTuple):
    op: str  # its name in convax.ops
    x: tuple[int, int, int, int]
    options: Mapping[str, Any] = {}


def dense(N: int, size: int, Ci: int, Co: int, window: int = 3, **options: Any) -> Conv:
    return Conv((N, size, size, Ci), (window, window, Ci, Co), **options)


def depthwise(N: int, size: int, C: int, window: int = 3, **options: Any) -> Conv:
    return Conv((N, size, size, C), (window, window, 1, C), groups=C, **options)


KINDS = {
    "depthwise 3x3, 64": depthwise(32, 32, 64),
    "depthwise 3x3 s2, 64": depthwise(32, 32, 64, stride=2),
    "depthwise 3x3, 192 16x16": depthwise(32, 16, 192),
    "depthwise 7x7, 96 16x16": depthwise(32, 16, 96, window=7),
    "grouped 3x3, 8 of 8": Conv((32, 32, 32, 64), (3, 3, 8, 64), groups=8),
    "grouped 3x3, 32 of 4": Conv((32, 16, 16, 128), (3, 3, 4, 128), groups=32),
    "grouped 5x5, 2 of 48 -> 128": Conv((32, 15, 15, 96), (5, 5, 48, 256), groups=2),
    "1x1, 64 -> 128": dense(32, 32, 64, 128, 1),
    "1x1 s2, 64 -> 128": dense(32, 32, 64, 128, 1, stride=2),
    "1x1, 32 -> 192 16x16": dense(32, 16, 32, 192, 1),
    "first 5x5, 1 -> 6": dense(128, 32, 1, 6, 5, padding=0),
    "second 5x5, 6 -> 16 14x14": dense(128, 14, 6, 16, 5, padding=0),
    "first 3x3, 3 -> 32": dense(32, 32, 3, 32),
    "first 7x7 s2, 3 -> 64 64x64": dense(32, 64, 3, 64, 7, stride=2),
    "first 11x11 s4, 3 -> 96 128x128": dense(8, 128, 3, 96, 11, stride=4, padding=2),
    "first 4x4 s4, 3 -> 96 64x64": dense(32, 64, 3, 96, 4, stride=4),
    "3x3, 16": dense(64, 32, 16, 16),
    "3x3, 32": dense(32, 32, 32, 32),
    "3x3, 64": dense(32, 32, 64, 64),
    "3x3, 128 16x16": dense(32, 16, 128, 128),
    "3x3, 256 8x8": dense(32, 8, 256, 256),
    "3x3, 512 4x4": dense(32, 4, 512, 512),
    "3x3 s2, 64 -> 128": dense(32, 32, 64, 128, stride=2),
    "3x3 s2, 16 -> 32": dense(64, 32, 16, 32, stride=2),
    "3x3 d2, 64": dense(32, 32, 64, 64, dilation=2),
    "3x3 d4, 64": dense(32, 32, 64, 64, dilation=4),
    "4x4 s2, 64 -> 128": dense(32, 32, 64, 128, 4, stride=2, padding=1),
    "2x2 s2, 64 -> 128": dense(32, 32, 64, 128, 2, stride=2),
}

RESNET50 = {  # the different convolutions of 224x224 images, batch 8
    "7x7 s2, 3 -> 64 224x224": dense(8, 224, 3, 64, 7, stride=2),
    "1x1, 64 56x56": dense(8, 56, 64, 64, 1),
    "3x3, 64 56x56": dense(8, 56, 64, 64),
    "1x1, 64 -> 256 56x56": dense(8, 56, 64, 256, 1),
    "1x1, 256 -> 64 56x56": dense(8, 56, 256, 64, 1),
    "1x1 s2, 256 -> 512 56x56": dense(8, 56, 256, 512, 1, stride=2),
    "3x3 s2, 128 56x56": dense(8, 56, 128, 128, stride=2),
    "3x3, 128 28x28": dense(8, 28, 128, 128),
    "1x1, 128 -> 512 28x28": dense(8, 28, 128, 512, 1),
    "1x1 s2, 512 -> 1024 28x28": dense(8, 28, 512, 1024, 1, stride=2),
    "3x3, 256 14x14": dense(8, 14, 256, 256),
    "1x1, 256 -> 1024 14x14": dense(8, 14, 256, 1024, 1),
    "3x3 s2, 512 14x14": dense(8, 14, 512, 512, stride=2),
    "3x3, 512 7x7": dense(8, 7, 512, 512),
    "1x1, 512 -> 2048 7x7": dense(8, 7, 512, 2048, 1),
}

MOBILENET_V2 = {  # the same
    "3x3 s2, 3 -> 32 224x224": dense(8, 224, 3, 32, stride=2),
    "depthwise, 32 112x112": depthwise(8, 112, 32),
    "1x1, 16 -> 96 112x112": dense(8, 112, 16, 96, 1),
    "depthwise s2, 96 112x112": depthwise(8, 112, 96, stride=2),
    "1x1, 144 -> 24 56x56": dense(8, 56, 144, 24, 1),
    "depthwise, 144 56x56": depthwise(8, 56, 144),
    "depthwise s2, 144 56x56": depthwise(8, 56, 144, stride=2),
    "depthwise, 192 28x28": depthwise(8, 28, 192),
    "depthwise, 384 14x14": depthwise(8, 14, 384),
    "depthwise s2, 576 14x14": depthwise(8, 14, 576, stride=2),
    "1x1, 96 -> 576 14x14": dense(8, 14, 96, 576, 1),
    "depthwise, 960 7x7": depthwise(8, 7, 960),
    "1x1, 160 -> 960 7x7": dense(8, 7, 160, 960, 1),
    "1x1, 320 -> 1280 7x7": dense(8, 7, 320, 1280, 1),
}

CONVOLUTIONS = {
    **KINDS,
    **{f"resnet50 {name}": case for name, case in RESNET50.items()},
    **{f"mobilenet_v2 {name}": case for name, case in MOBILENET_V2.items()},
}

IMAGES = (32, 32, 32, 64)
OTHERS = {
    "max_pool 2x2": Other("max_pool", IMAGES, dict(window=2, stride=2, padding=0)),
    "max_pool 3x3 s2": Other("max_pool", IMAGES, dict(window=3, stride=2, padding=1)),
    "max_pool 3x3 s1": Other("max_pool", IMAGES, dict(window=3, stride=1, padding=1)),
    "max_pool resnet50": Other("max_pool", (8, 112, 112, 64), dict(window=3, stride=2, padding=1)),
    "avg_pool 2x2": Other("avg_pool", IMAGES, dict(window=2, stride=2, padding=0)),
    "avg_pool 3x3 s1": Other("avg_pool", IMAGES, dict(window=3, stride=1, padding=1)),
    "global_avg_pool": Other("global_avg_pool", (32, 7, 7, 2048)),
    "batch_norm 64 32x32": Other("batch_norm", IMAGES),
    "batch_norm 256 56x56": Other("batch_norm", (8, 56, 56, 256)),
    "group_norm, 8 groups of 8": Other("group_norm", IMAGES, dict(groups=8)),
    "group_norm, 32 groups of 8 16x16": Other("group_norm", (32, 16, 16, 256), dict(groups=32)),
    "layer_norm 96 16x16": Other("layer_norm", (32, 16, 16, 96)),
    "layer_norm 768 7x7": Other("layer_norm", (32, 7, 7, 768)),
    "instance_norm 64 32x32": Other("instance_norm", IMAGES),
    "local_response_norm 96 31x31": Other("local_response_norm", (32, 31, 31, 96)),
    "upsample bilinear x2": Other("upsample", IMAGES),
}
