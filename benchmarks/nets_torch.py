"""The networks in PyTorch: eager, in either memory format, or through `torch.compile`."""

import os
from functools import partial

import nets
import torch
from programs import Program
from torch import nn
from torch.nn import functional

DEVICE = torch.device(os.environ.get("TORCH_DEVICE", "cpu"))
if DEVICE.type == "cuda":
    torch.set_float32_matmul_precision("high")  # TF32, as JAX takes on GPU

# ------------------------------------------------------------------------------- the networks


def lenet5(classes):
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(400, 120), nn.ReLU()),
        *(nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, classes)),
    )


def vgg(classes, norm):
    parts, Ci = [], 3
    for features in nets.VGG:
        if features == "pool":
            parts.append(nn.MaxPool2d(2))
            continue
        parts += [nn.Conv2d(Ci, features, 3, padding=1, bias=False), norm(features)]
        parts.append(nn.ReLU(inplace=True))
        Ci = features
    return nn.Sequential(*parts, *global_mean(), nn.Linear(Ci, classes))


def global_mean():
    return nn.AdaptiveAvgPool2d(1), nn.Flatten()


def conv_bn(Ci, Co, window, **options):
    return nn.Conv2d(Ci, Co, window, bias=False, **options), nn.BatchNorm2d(Co)


class BasicBlock(nn.Module):
    def __init__(self, Ci, features, stride):
        super().__init__()
        self.branch = nn.Sequential(
            *conv_bn(Ci, features, 3, stride=stride, padding=1),
            nn.ReLU(inplace=True),
            *conv_bn(features, features, 3, padding=1),
        )
        self.shortcut = nn.Identity()
        if Ci != features:
            self.shortcut = nn.Sequential(*conv_bn(Ci, features, 1, stride=stride))

    def forward(self, x):
        return functional.relu(self.branch(x) + self.shortcut(x), inplace=True)


def resnet(classes, stem, stages):
    parts, Ci = [*stem], stages[0][0]
    for features, count, stride in stages:
        for n in range(count):
            parts.append(BasicBlock(Ci, features, 1 if n else stride))
            Ci = features
    return nn.Sequential(*parts, *global_mean(), nn.Linear(Ci, classes))


def resnet20(classes):
    stem = [*conv_bn(3, 16, 3, padding=1), nn.ReLU(inplace=True)]
    return resnet(classes, stem, nets.RESNET20)


def resnet18(classes):
    stem = [*conv_bn(3, 64, 7, stride=2, padding=3), nn.ReLU(inplace=True)]
    stem.append(nn.MaxPool2d(3, stride=2, padding=1))
    return resnet(classes, stem, nets.RESNET18)


class InvertedResidual(nn.Module):
    def __init__(self, Ci, expand, features, stride):
        super().__init__()
        width, parts = expand * Ci, []
        if expand > 1:
            parts += [*conv_bn(Ci, width, 1), nn.ReLU6(inplace=True)]
        parts += conv_bn(width, width, 3, stride=stride, padding=1, groups=width)
        parts.append(nn.ReLU6(inplace=True))
        self.branch = nn.Sequential(*parts, *conv_bn(width, features, 1))
        self.shortcut = stride == 1 and Ci == features

    def forward(self, x):
        return x + self.branch(x) if self.shortcut else self.branch(x)


def mobilenet_v2(classes):
    parts, Ci = [*conv_bn(3, 32, 3, stride=2, padding=1), nn.ReLU6(inplace=True)], 32
    for expand, features, count, stride in nets.MOBILENET_V2:
        for n in range(count):
            parts.append(InvertedResidual(Ci, expand, features, 1 if n else stride))
            Ci = features
    parts += [*conv_bn(Ci, 1280, 1), nn.ReLU6(inplace=True), *global_mean()]
    return nn.Sequential(*parts, nn.Dropout(0.2), nn.Linear(1280, classes))


def alexnet(classes):
    norm = partial(nn.LocalResponseNorm, 5, k=2.0)
    return nn.Sequential(
        *(nn.Conv2d(3, 96, 11, stride=4, padding=2), nn.ReLU(inplace=True), norm()),
        nn.MaxPool2d(3, 2),
        *(nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(inplace=True), norm()),
        nn.MaxPool2d(3, 2),
        *(nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(inplace=True)),
        *(nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(inplace=True)),
        *(nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(inplace=True)),
        *(nn.MaxPool2d(3, 2), nn.Flatten()),
        *(nn.Dropout(0.5), nn.Linear(256 * 3 * 3, 4096), nn.ReLU(inplace=True)),
        *(nn.Dropout(0.5), nn.Linear(4096, 4096), nn.ReLU(inplace=True)),
        nn.Linear(4096, classes),
    )


def double_conv(Ci, features):
    return nn.Sequential(
        *(*conv_bn(Ci, features, 3, padding=1), nn.ReLU(inplace=True)),
        *(*conv_bn(features, features, 3, padding=1), nn.ReLU(inplace=True)),
    )


class UNetFrom(nn.Module):
    """All of the network from this resolution down and up to it again."""

    def __init__(self, Ci, features, *deeper):
        super().__init__()
        self.down, self.below = double_conv(Ci, features), None
        if deeper:
            self.below = nn.Sequential(
                nn.MaxPool2d(2),
                UNetFrom(features, *deeper),
                nn.ConvTranspose2d(deeper[0], features, 2, stride=2),
            )
            self.up = double_conv(2 * features, features)

    def forward(self, x):
        x = self.down(x)
        return self.up(torch.cat([x, self.below(x)], dim=1)) if self.below else x


def unet(classes):
    return nn.Sequential(UNetFrom(3, *nets.UNET), nn.Conv2d(nets.UNET[0], classes, 1))


class LayerNorm2d(nn.LayerNorm):
    """Over the channels at each place."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    def __init__(self, C):
        super().__init__()
        self.depthwise = nn.Conv2d(C, C, 7, padding=3, groups=C)
        self.pointwise = nn.Sequential(
            nn.LayerNorm(C), nn.Linear(C, 4 * C), nn.GELU(), nn.Linear(4 * C, C)
        )

    def forward(self, x):
        y = self.pointwise(self.depthwise(x).permute(0, 2, 3, 1))
        return x + y.permute(0, 3, 1, 2)


def convnext(classes):
    parts, Ci = [], 3
    for stage, (features, count) in enumerate(nets.CONVNEXT):
        if stage:
            parts += [LayerNorm2d(Ci), nn.Conv2d(Ci, features, 2, stride=2)]
        else:
            parts += [nn.Conv2d(Ci, features, 4, stride=4), LayerNorm2d(features)]
        parts += [ConvNeXtBlock(features) for _ in range(count)]
        Ci = features
    return nn.Sequential(*parts, *global_mean(), nn.LayerNorm(Ci), nn.Linear(Ci, classes))


NETWORKS = {
    "lenet5": lenet5,
    "vgg_gn": partial(vgg, norm=partial(nn.GroupNorm, nets.NORM_GROUPS)),
    "vgg_bn": partial(vgg, norm=nn.BatchNorm2d),
    "resnet20": resnet20,
    "resnet18": resnet18,
    "mobilenet_v2": mobilenet_v2,
    "alexnet": alexnet,
    "unet": unet,
    "convnext": convnext,
}

# ---------------------------------------------------------------------------------- the steps


def training(net: str, memory: str, compiled: bool = False) -> Program:
    network, step = start(nets.NETS[net], NETWORKS[net], memory, compiled)
    batch = tensors(*nets.arrays(nets.NETS[net]), memory)

    def run(count):
        for _ in range(count):
            loss = step(*batch)
        return loss.item()

    return Program({"": run}, {"parameters": size(network)})


def seeds(net: str, count: int, memory: str) -> Program:
    """A step of each of so many seeds, one after the other."""
    spec = nets.NETS[net]
    started = [start(spec, NETWORKS[net], memory) for _ in range(count)]
    images, labels = nets.arrays(spec, count, spec.batch)
    batches = [tensors(*batch, memory) for batch in zip(images, labels, strict=True)]

    def run(count):
        for _ in range(count):
            for (_, step), batch in zip(started, batches, strict=True):
                loss = step(*batch)
        return loss.item()

    return Program({"": run}, {"parameters": sum(size(network) for network, _ in started)})


def start(spec: nets.Net, network, memory: str, compiled: bool = False):
    """The network, and ``step(images, labels) -> loss``, which trains it."""
    network = network(spec.classes).to(DEVICE, memory_format=FORMATS[memory])
    rate = nets.LEARNING_RATE[spec.optimizer]
    if spec.optimizer == "adam":
        optimizer = torch.optim.Adam(network.parameters(), lr=rate, fused=True)
    else:
        optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9, fused=True)
    forward = torch.compile(network) if compiled else network

    def step(images, labels):
        optimizer.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return network, step


def inference(net: str, batch: int, memory: str, compiled: bool = False) -> Program:
    spec = nets.NETS[net]._replace(batch=batch)
    network = NETWORKS[net](spec.classes).eval().to(DEVICE, memory_format=FORMATS[memory])
    forward = torch.compile(network) if compiled else network
    images, _ = tensors(*nets.arrays(spec), memory)

    @torch.inference_mode()
    def run(count):
        for _ in range(count):
            logits = forward(images)
        return logits.sum().item()

    return Program({"": run}, {"parameters": size(network)})


class FromBytes(nn.Module):
    """Bytes, channels last, to probabilities: a network with its preprocessing."""

    def __init__(self, network, channels: int, memory: str):
        super().__init__()
        self.network, self.memory = network, FORMATS[memory]
        for name, values in (("mean", nets.MEAN), ("std", nets.STD)):
            self.register_buffer(name, torch.tensor(values[:channels]).reshape(1, -1, 1, 1))

    def forward(self, images):
        x = images.permute(0, 3, 1, 2).to(torch.float32).contiguous(memory_format=self.memory)
        return self.network((x / 255 - self.mean) / self.std).softmax(-1)


def from_bytes(net: str, side: int, batch: int, memory: str):
    """The network, ready for inference, and a batch of images."""
    spec = nets.sized(net, side, batch)
    network = NETWORKS[net](spec.classes)
    whole = FromBytes(network, spec.image[-1], memory).eval()
    return whole.to(DEVICE, memory_format=FORMATS[memory]), nets.pictures(spec)


def latency(net: str, side: int, batch: int, memory: str, compiled: bool = False) -> Program:
    network, images = from_bytes(net, side, batch, memory)
    forward = torch.compile(network) if compiled else network

    @torch.inference_mode()
    def run(count):
        for _ in range(count):
            answers = forward(torch.from_numpy(images).to(DEVICE)).cpu().numpy()
        return float(answers.sum())

    return Program({"": run}, {"parameters": size(network)})


FORMATS = {"channels last": torch.channels_last, "contiguous": torch.contiguous_format}


def tensors(images, labels, memory: str):
    """NumPy's channels-last arrays as tensors."""
    images = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=FORMATS[memory])
    return images.to(DEVICE), torch.from_numpy(labels).long().to(DEVICE)


def size(network) -> int:
    return sum(p.numel() for p in network.parameters())


PROGRAMS = {"training": training, "seeds": seeds, "inference": inference, "latency": latency}
LIBRARIES = ("torch",)
