"""The figures of a segmentation.

masks.png   photograph, truth and prediction of the images it did worst on, and best
iou.png     how well each class is found
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ...data import IGNORED, Split
from ...data.preprocess import Preprocessing, preprocess, preprocess_masks
from ...plots import figures
from ...plots.attempt import draw_each
from ...plots.figures import BLUE, GRAY, shortened
from ...plots.pictures import drawn
from ..task import Findings
from .metrics import image_ious, ious
from .overlay import HATCH, overlay, palette

if TYPE_CHECKING:
    from matplotlib.patches import Patch
    from PIL.Image import Image

MOST_SHOWN = 8
MOST_NAMED = 17  # classes in the legend
NO_CLASS = "no class"


def draw(findings: Findings) -> list[Path]:
    """Overlays, worst first, and the IoU of each class."""
    return draw_each(
        {"masks.png": lambda: _draw_masks(findings), "iou.png": lambda: _draw_ious(findings)}
    )


def write_mask(mask: np.ndarray, path: Path) -> None:
    """`mask_image` as a PNG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask_image(mask).save(path, format="PNG")


def mask_image(mask: np.ndarray) -> "Image":
    """A mask ``(H, W)`` uint8 as Pillow's image: its pixels are the classes, shown in colors."""
    from PIL.Image import fromarray

    image = fromarray(mask).convert("P")  # keeps the numbers
    image.putpalette(palette(256).tobytes())
    return image


class Worst(NamedTuple):
    """The images that a network segments worst, worst first."""

    ious: np.ndarray  # (n,), the mean IoU of each
    tiles: np.ndarray  # (n, 3, H, W, 3) uint8: photograph, truth and what was found
    median: float  # of the mean IoUs of all images
    values: tuple[int, ...]  # the classes over these photographs, and `IGNORED`


def worst_images(
    examples: Split, kept: np.ndarray, classes: int, spec: Preprocessing, most: int = MOST_SHOWN
) -> Worst:
    """Photograph, truth and prediction of the images with the least mean IoU.

    Args:
        examples: images, and masks as stored.
        kept: ``(N, H, W)``, what the network found, at the size of its input.
        classes: K.
        spec: how images become the network's input.
        most: how many.
    """
    truth = np.asarray(preprocess_masks(jnp.asarray(examples.labels), spec))
    each = image_ious(truth, kept, classes)
    order = np.argsort(each, kind="stable")[:most]
    images = _as_seen(examples.images[order], spec)
    masks = (np.zeros_like(truth[order]), truth[order], kept[order])
    tiles = np.stack([overlay(images, mask, classes) for mask in masks], axis=1)
    values = tuple(np.union1d(truth[order], kept[order]).tolist())
    tiles = np.round(255 * tiles).astype(np.uint8)
    return Worst(each[order], tiles, float(np.median(each)), values)


def _legend(values: Iterable[int], classes: Sequence[str]) -> "list[Patch]":
    """Return what tells which class a color stands for; the first has none."""
    from matplotlib.patches import Patch

    there = [k for k in values if 0 < k < len(classes)]
    patches = [
        Patch(facecolor=palette(256)[k] / 255, edgecolor="black", label=shortened(classes[k], 24))
        for k in there[:MOST_NAMED]
    ]
    if len(there) > MOST_NAMED:
        patches.append(Patch(facecolor="none", label=f"and {len(there) - MOST_NAMED} more"))
    if IGNORED in values:
        dark, light = (str(gray) for gray in HATCH)
        patches.append(Patch(facecolor=dark, edgecolor=light, hatch="////", label=NO_CLASS))
    return patches


def _draw_masks(findings: Findings) -> Path:
    classes, spec = len(findings.classes), findings.preprocessing
    worst = worst_images(findings.examples, findings.collected, classes, spec)
    captions = [
        text for value in worst.ious for text in ("photograph", "truth", f"found  {value:.0%}")
    ]
    subtitle = (
        f"the {len(worst.ious)} of {len(findings.collected):,} images it did worst on, each with "
        f"the mean IoU of its classes; half of all images have {worst.median:.0%} or more"
    )
    if said := drawn(spec.pixel_format.channels, spec.pixel_format.dtype):
        subtitle += f"; {said}"
    with figures.style():
        figure = figures.mistakes(
            worst.tiles.reshape(-1, *worst.tiles.shape[2:]),
            captions,
            title=findings.title,
            subtitle=subtitle,
            columns=6,
        )
        if legend := _legend(worst.values, findings.classes):
            figure.legend(handles=legend, loc="outside lower left", ncols=6, fontsize=8)
        return figures.write(figure, findings.folder / "masks.png")


def _as_seen(images: np.ndarray, spec: Preprocessing) -> np.ndarray:
    """Images at the size of the network's input, as they are before normalization.

    Photographs are bytes, others in [0, 1].
    """
    channels = images.shape[-1]
    plain = spec._replace(mean=(0.0,) * channels, std=(1.0,) * channels)
    seen = np.asarray(preprocess(jnp.asarray(images), plain))
    return seen if spec.pixels else np.round(255 * seen).astype(np.uint8)


def _draw_ious(findings: Findings) -> Path:
    counts: Any = findings.sums["confusion"]
    values, pixels = ious(counts), counts.sum(axis=1)
    names = [shortened(name, 24) for name in findings.classes]
    subtitle = (
        f"intersection over union; of {int(pixels.sum()):,} pixels "
        f"{findings.figures['pixel_accuracy']:.2%} are right"
    )
    with figures.style():
        figure = figures.titled_figure(7, 0.7 + 0.32 * len(names), findings.title, subtitle)
        ax = figure.subplots()
        rows = np.arange(len(names))
        ax.barh(rows, 100 * np.nan_to_num(values), color=BLUE, height=0.6)
        for row, (value, count) in enumerate(zip(values, pixels, strict=True)):
            text = "none" if np.isnan(value) else f"{value:.1%}"
            share = count / max(int(pixels.sum()), 1)
            ax.text(101, row, f"{text}   ({share:.1%} of pixels)", va="center", color=GRAY)
        ax.set_yticks(rows, names)
        ax.set_xlim(0, 100)
        ax.invert_yaxis()
        ax.xaxis.set_major_formatter("{x:.0f}%")
        ax.tick_params(axis="y", length=0)
        return figures.write(figure, findings.folder / "iou.png")
