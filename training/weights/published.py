"""Weights that others have published for architectures of `model`, and what is known of them.

The files are torchvision's, whose names end with the first eight digits of their SHA-256; more of
it is not published. The accuracies are those that torchvision gives with them, of one crop of
224x224 of each of the 50,000 validation images of ImageNet-1K; all were trained on images
normalized by ImageNet's mean and deviation.
"""

from typing import Any, NamedTuple

ROOT = "https://download.pytorch.org/models/"
CLASSES = 1000
IN_SHAPE = (1, 224, 224, 3)
NORMALIZE = "imagenet"  # as in ``[input]``


class Published(NamedTuple):
    """One file of weights.

    Attributes:
        model: the keys of ``[model]`` that the weights depend on.
        file: its name under `ROOT`.
        size: bytes that it has at most.
        top1, top5: accuracies in percent.
        source: where the accuracies are given.
        license: of the library that publishes the file; torchvision states none for the weights,
            and the terms of ImageNet are those of its images.
    """

    model: dict[str, Any]
    file: str
    size: int
    top1: float
    top5: float
    source: str
    license: str = "BSD-3-Clause"

    @property
    def sha256(self) -> str:
        """Return the first digits of the file's SHA-256: what is known of it.

        Example:
            >>> PUBLISHED["resnet18"].sha256
            'f37072fd'
        """
        return self.file.removesuffix(".pth").rpartition("-")[2]


def _resnet(depth: int) -> dict[str, Any]:
    keys = {"norm": "batch", "norm_eps": 1e-5, "width": 64, "groups": 1, "width_per_group": 64}
    return {"name": "resnet", "depth": depth} | keys


def _page(network: str) -> str:
    return (
        f"https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.{network}.html"
    )


PUBLISHED: dict[str, Published] = {
    "alexnet": Published(
        {"name": "alexnet"},
        "alexnet-owt-7be5be79.pth",
        245_000_000,
        *(56.522, 79.066),
        _page("alexnet"),
    ),
    "vgg16": Published(
        {"name": "vgg", "depth": 16, "batch_norm": False},
        "vgg16-397923af.pth",
        554_000_000,
        *(71.592, 90.382),
        _page("vgg16"),
    ),
    "resnet18": Published(
        _resnet(18), "resnet18-f37072fd.pth", 47_000_000, 69.758, 89.078, _page("resnet18")
    ),
    "resnet34": Published(
        _resnet(34), "resnet34-b627a593.pth", 88_000_000, 73.314, 91.42, _page("resnet34")
    ),
    "resnet50": Published(
        _resnet(50), "resnet50-0676ba61.pth", 103_000_000, 76.13, 92.862, _page("resnet50")
    ),
    "mobilenet_v2": Published(
        {"name": "mobilenet_v2", "width": 1.0},
        "mobilenet_v2-b0353104.pth",
        15_000_000,
        *(71.878, 90.286),
        _page("mobilenet_v2"),
    ),
    "convnext_tiny": Published(
        {"name": "convnext", "size": "tiny"},
        "convnext_tiny-983f1562.pth",
        115_000_000,
        *(82.52, 96.146),
        _page("convnext_tiny"),
    ),
    "efficientnet_b0": Published(
        {"name": "efficientnet", "size": "b0", "padding": None, "norm_eps": None},
        "efficientnet_b0_rwightman-7f5810bc.pth",
        22_000_000,
        *(77.692, 93.532),
        _page("efficientnet_b0"),
        "Apache-2.0",
    ),
}
