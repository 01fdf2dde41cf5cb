"""PyTorch's side: the architectures as torchvision names their parameters.

Written from the papers and those names; `width` divides every number of channels.
"""

import torch
from torch import nn


class Features(nn.Module):
    """Torchvision's frame of most networks: features, a mean, a classifier."""

    def __init__(self, features, pool, classifier):
        super().__init__()
        self.features, self.avgpool, self.classifier = features, pool, classifier

    def forward(self, x):
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def alexnet(classes, width=1):
    a, b, c, d = (n // width for n in (64, 192, 384, 256))
    pool = lambda: nn.MaxPool2d(3, 2)  # noqa: E731
    return Features(
        nn.Sequential(
            nn.Conv2d(3, a, 11, 4, 2), nn.ReLU(), pool(),
            nn.Conv2d(a, b, 5, padding=2), nn.ReLU(), pool(),
            nn.Conv2d(b, c, 3, padding=1), nn.ReLU(),
            nn.Conv2d(c, d, 3, padding=1), nn.ReLU(),
            nn.Conv2d(d, d, 3, padding=1), nn.ReLU(), pool(),
        ),
        nn.AdaptiveAvgPool2d(6),
        nn.Sequential(
            nn.Dropout(), nn.Linear(36 * d, 4096 // width), nn.ReLU(),
            nn.Dropout(), nn.Linear(4096 // width, 4096 // width), nn.ReLU(),
            nn.Linear(4096 // width, classes),
        ),
    )  # fmt: skip


class SppNet(nn.Module):
    def __init__(self, classes, levels, width=1):
        super().__init__()
        a, b, c, hidden = (n // width for n in (96, 256, 384, 4096))
        norm = lambda: nn.LocalResponseNorm(5, 5e-4, k=2.0)  # noqa: E731
        self.features = nn.Sequential(
            nn.Conv2d(3, a, 7, 2, 1), nn.ReLU(), norm(), nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(a, b, 5, 2), nn.ReLU(), norm(), nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(b, c, 3, padding=1), nn.ReLU(),
            nn.Conv2d(c, c, 3, padding=1), nn.ReLU(),
            nn.Conv2d(c, b, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.levels, bins = levels, sum(level**2 for level in levels)
        self.classifier = nn.Sequential(
            nn.Linear(b * bins, hidden), nn.ReLU(), nn.Dropout(),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, classes),
        )  # fmt: skip

    def forward(self, x):
        x = self.features(x)
        pools = [nn.functional.adaptive_max_pool2d(x, level).flatten(1) for level in self.levels]
        return self.classifier(torch.cat(pools, 1))


def vgg(classes, depth, batch_norm, width=1):
    repeats = {11: (1, 1, 2, 2, 2), 13: (2,) * 5, 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}[depth]
    layers, channels = [], 3
    for count, features in zip(repeats, (64, 128, 256, 512, 512), strict=True):
        for _ in range(count):
            layers.append(nn.Conv2d(channels, features // width, 3, padding=1))
            channels = features // width
            layers += [nn.BatchNorm2d(channels)] if batch_norm else []
            layers.append(nn.ReLU())
        layers.append(nn.MaxPool2d(2))
    hidden = 4096 // width
    return Features(
        nn.Sequential(*layers),
        nn.AdaptiveAvgPool2d(7),
        nn.Sequential(
            nn.Linear(49 * channels, hidden), nn.ReLU(), nn.Dropout(),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, classes),
        ),
    )  # fmt: skip


class Block(nn.Module):
    """Basic, of two 3x3 convolutions, or a bottleneck: 1x1, 3x3, 1x1."""

    def __init__(self, before, features, stride, bottleneck):
        super().__init__()
        after = 4 * features if bottleneck else features
        windows = (1, 3, 1) if bottleneck else (3, 3)
        outs = (features, features, after) if bottleneck else (features, features)
        strided = 1 if bottleneck else 0
        self.count, channels = len(windows), before
        for i, (window, out) in enumerate(zip(windows, outs, strict=True)):
            step = stride if i == strided else 1
            conv = nn.Conv2d(channels, out, window, step, window // 2, bias=False)
            setattr(self, f"conv{i + 1}", conv)
            setattr(self, f"bn{i + 1}", nn.BatchNorm2d(out))
            channels = out
        self.downsample = None
        if stride > 1 or before != after:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = torch.relu(y) if i < self.count else y
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


RESNET = {18: (2,) * 4, 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}  # blocks


class ResNet(nn.Module):
    def __init__(self, classes, depth, width=1, repeats=None):
        super().__init__()
        repeats = repeats or RESNET[depth]
        channels, bottleneck = 64 // width, depth >= 50
        self.conv1 = nn.Conv2d(3, channels, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        for stage, count in enumerate(repeats):
            features, blocks = 64 // width * 2**stage, []
            for n in range(count):
                stride = 2 if stage and not n else 1
                blocks.append(Block(channels, features, stride, bottleneck))
                channels = 4 * features if bottleneck else features
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.fc(x.mean((2, 3)))


class WideBlock(nn.Module):
    """Norm and ReLU first; a shortcut with a kernel starts behind them."""

    def __init__(self, before, after, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.convShortcut = None
        if before != after:
            self.convShortcut = nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x):
        act = torch.relu(self.bn1(x))
        y = self.conv2(torch.relu(self.bn2(self.conv1(act))))
        return y + (x if self.convShortcut is None else self.convShortcut(act))


class WideStage(nn.Module):
    def __init__(self, before, after, count, stride):
        super().__init__()
        blocks = [WideBlock(before, after, stride)]
        self.layer = nn.Sequential(*blocks, *(WideBlock(after, after, 1) for _ in range(count - 1)))

    def forward(self, x):
        return self.layer(x)


class WideResNet(nn.Module):
    def __init__(self, classes, depth, widen):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        count, before = (depth - 4) // 6, 16
        for stage in (1, 2, 3):
            after = 8 * 2**stage * widen
            setattr(self, f"block{stage}", WideStage(before, after, count, min(stage, 2)))
            before = after
        self.bn1 = nn.BatchNorm2d(before)
        self.fc = nn.Linear(before, classes)

    def forward(self, x):
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(torch.relu(self.bn1(x)).mean((2, 3)))


class Separable(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.conv_dw = nn.Conv2d(before, before, 3, stride, 1, groups=before, bias=False)
        self.bn1 = nn.BatchNorm2d(before)
        self.conv_pw = nn.Conv2d(before, after, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv_dw(x)))
        return torch.relu(self.bn2(self.conv_pw(x)))


# Blocks, features and the stride of the first, of each stage.
MOBILENET_V1 = [(1, 64, 1), (2, 128, 2), (2, 256, 2), (6, 512, 2), (2, 1024, 2)]


class MobileNetV1(nn.Module):
    def __init__(self, classes, width=1.0, table=MOBILENET_V1):
        super().__init__()
        before = round(32 * width)
        self.conv_stem = nn.Conv2d(3, before, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(before)
        stages = []
        for count, features, stride in table:
            blocks = []
            for n in range(count):
                blocks.append(Separable(before, round(features * width), 1 if n else stride))
                before = round(features * width)
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.classifier = nn.Linear(before, classes)

    def forward(self, x):
        x = self.blocks(torch.relu(self.bn1(self.conv_stem(x))))
        return self.classifier(x.mean((2, 3)))


def conv_bn(before, after, window, stride=1, groups=1):
    kernel = nn.Conv2d(before, after, window, stride, window // 2, groups=groups, bias=False)
    return nn.Sequential(kernel, nn.BatchNorm2d(after), nn.ReLU6())


class Inverted(nn.Module):
    def __init__(self, before, expansion, after, stride):
        super().__init__()
        wide = before * expansion
        self.residual = stride == 1 and before == after
        self.conv = nn.Sequential(
            *([conv_bn(before, wide, 1)] if expansion > 1 else []),
            conv_bn(wide, wide, 3, stride, wide),
            nn.Conv2d(wide, after, 1, bias=False),
            nn.BatchNorm2d(after),
        )

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


MOBILENET_V2 = [
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
]  # fmt: skip


def mobilenet_v2(classes, width=1.0, drop=0.2, table=MOBILENET_V2):
    def rounded(features):
        near = max(8, int(features + 4) // 8 * 8)
        return near + 8 if near < 0.9 * features else near

    channels = rounded(32 * width)
    layers = [conv_bn(3, channels, 3, 2)]
    for expansion, features, count, stride in table:
        for n in range(count):
            out = rounded(features * width)
            layers.append(Inverted(channels, expansion, out, 1 if n else stride))
            channels = out
    last = rounded(1280 * max(1.0, width))
    layers.append(conv_bn(channels, last, 1))
    classifier = nn.Sequential(nn.Dropout(drop), nn.Linear(last, classes))
    return Features(nn.Sequential(*layers), nn.AdaptiveAvgPool2d(1), classifier)


class ChannelNorm(nn.LayerNorm):
    """Layer norm of the channels of NCHW."""

    def forward(self, input):
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Permute(nn.Module):
    def __init__(self, *axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        return x.permute(self.axes)


class ConvNeXtBlock(nn.Module):
    def __init__(self, C):
        super().__init__()
        self.layer_scale = nn.Parameter(torch.full((C, 1, 1), 1e-6))
        self.block = nn.Sequential(
            nn.Conv2d(C, C, 7, padding=3, groups=C), Permute(0, 2, 3, 1),
            nn.LayerNorm(C, eps=1e-6), nn.Linear(C, 4 * C), nn.GELU(), nn.Linear(4 * C, C),
            Permute(0, 3, 1, 2),
        )  # fmt: skip

    def forward(self, x):
        return x + self.layer_scale * self.block(x)


def convnext(classes, features, repeats):
    layers = [nn.Sequential(nn.Conv2d(3, features[0], 4, 4), ChannelNorm(features[0], eps=1e-6))]
    for stage, (C, count) in enumerate(zip(features, repeats, strict=True)):
        if stage:
            before = features[stage - 1]
            smaller = nn.Conv2d(before, C, 2, 2)
            layers.append(nn.Sequential(ChannelNorm(before, eps=1e-6), smaller))
        layers.append(nn.Sequential(*(ConvNeXtBlock(C) for _ in range(count))))
    head = nn.Linear(features[-1], classes)
    classifier = nn.Sequential(ChannelNorm(features[-1], eps=1e-6), nn.Flatten(), head)

    class ConvNeXt(Features):
        def forward(self, x):
            return self.classifier(self.avgpool(self.features(x)))

    return ConvNeXt(nn.Sequential(*layers), nn.AdaptiveAvgPool2d(1), classifier)


class DoubleConv(nn.Module):
    def __init__(self, before, after, norm):
        super().__init__()
        layers = []
        for channels in (before, after):
            layers.append(nn.Conv2d(channels, after, 3, padding=1, bias=not norm))
            layers += [nn.BatchNorm2d(after)] if norm else []
            layers.append(nn.ReLU())
        self.double_conv = nn.Sequential(*layers)

    def forward(self, x):
        return self.double_conv(x)


class Down(nn.Module):
    def __init__(self, before, after, norm):
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), DoubleConv(before, after, norm))

    def forward(self, x):
        return self.maxpool_conv(x)


class Up(nn.Module):
    def __init__(self, before, after, norm, bilinear):
        super().__init__()
        self.up = nn.ConvTranspose2d(before, after, 2, 2)
        if bilinear:
            self.up = nn.Sequential(
                nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(before, after, 1)
            )
        self.conv = DoubleConv(2 * after, after, norm)

    def forward(self, x, skip):
        return self.conv(torch.cat([skip, self.up(x)], 1))


class Out(nn.Module):
    def __init__(self, before, classes):
        super().__init__()
        self.conv = nn.Conv2d(before, classes, 1)

    def forward(self, x):
        return self.conv(x)


class UNet(nn.Module):
    def __init__(self, classes, features, norm, bilinear):
        super().__init__()
        self.inc, self.levels = DoubleConv(3, features[0], norm), len(features)
        for n in range(1, self.levels):
            setattr(self, f"down{n}", Down(features[n - 1], features[n], norm))
            setattr(self, f"up{n}", Up(features[-n], features[-n - 1], norm, bilinear))
        self.outc = Out(features[0], classes)

    def forward(self, x):
        seen = [self.inc(x)]
        for n in range(1, self.levels):
            seen.append(getattr(self, f"down{n}")(seen[-1]))
        x = seen.pop()
        for n in range(1, self.levels):
            x = getattr(self, f"up{n}")(x, seen.pop())
        return self.outc(x)


class FCN8s(nn.Module):
    """On any trunk that gives maps at an eighth, a sixteenth and a thirty-second of the size."""

    def __init__(self, classes, backbone, channels, hidden):
        super().__init__()
        self.backbone = backbone
        self.fc6 = nn.Conv2d(channels[2], hidden, 7, padding=3)
        self.fc7 = nn.Conv2d(hidden, hidden, 1)
        self.score_fr = nn.Conv2d(hidden, classes, 1)
        self.score_pool4 = nn.Conv2d(channels[1], classes, 1)
        self.score_pool3 = nn.Conv2d(channels[0], classes, 1)
        up = lambda n: nn.ConvTranspose2d(classes, classes, 2 * n, n, n // 2, bias=False)  # noqa: E731
        self.upscore2, self.upscore_pool4, self.upscore8 = up(2), up(2), up(8)

    def forward(self, x):
        pool3, pool4, pool5 = self.backbone(x)
        y = self.score_fr(torch.relu(self.fc7(torch.relu(self.fc6(pool5)))))
        y = self.upscore2(y) + self.score_pool4(pool4)
        return self.upscore8(self.upscore_pool4(y) + self.score_pool3(pool3))


class VggTrunk(nn.Module):
    """The last three stages, each behind its pool."""

    def __init__(self, depth, width=1):
        super().__init__()
        self.features = vgg(1, depth, False, width).features

    def forward(self, x):
        maps = []
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                maps.append(x)
        return maps[2:]
