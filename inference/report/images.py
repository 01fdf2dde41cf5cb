"""The pictures of a run's page, each a PNG inside of it."""

from typing import Any, NamedTuple

import numpy as np

from ...training.data.preprocess import Preprocessing
from ...training.report.figures import Evaluated
from ...training.tasks.classification.figures import Answers, shown_mistakes
from ...training.tasks.embedding.figures import wrong_neighbours
from ...training.tasks.segmentation.figures import worst_images
from ..html.heatmap import Heatmap, overlay
from ..html.image_encoding import data_uri, encoded

MOST_MISTAKES = 12
LARGEST = 320  # pixels of a side; beyond, a picture is made smaller
SMALL = 96  # pixels of a side; below, they are shown as squares


class Picture(NamedTuple):
    """An <img>."""

    source: str  # a data: URI
    alt: str
    width: int
    height: int
    over: str | None = None  # a second one, laid over it

    @property
    def small(self) -> bool:
        """Whether its pixels are to be seen."""
        return max(self.width, self.height) < SMALL


class Example(NamedTuple):
    """Pictures that belong together, each under its name, and a line on them."""

    pictures: list[tuple[str, Picture]]
    caption: str


def picture(image: np.ndarray, alt: str, over: bytes | None = None) -> Picture:
    """An image ``(H, W)`` or ``(H, W, C)`` uint8; of other than 1 or 3 channels their mean."""
    from PIL import Image

    if image.ndim == 3 and image.shape[-1] != 3:
        image = np.round(image.mean(axis=-1)).astype(np.uint8)
    shown = Image.fromarray(image)
    shown.thumbnail((LARGEST, LARGEST))
    return Picture(data_uri(encoded(shown)), alt, *shown.size, data_uri(over) if over else None)


def mistakes(found: Evaluated, heatmap: Heatmap | None) -> tuple[str, list[Example]]:
    """The wrong answers that the network was surest of, and where it saw what it said.

    Returns:
        What they are, and at most `MOST_MISTAKES` of them; the right answers that it was least
        sure of, where there are no mistakes.
    """
    answers = Answers(found.evaluation.kept, found.examples.labels)
    chosen, total = shown_mistakes(answers, MOST_MISTAKES)
    title = f"The {len(chosen)} of its {total:,} mistakes that it was surest of."
    if len(chosen) == total:
        title = f"All its mistakes ({total}), the surest first."
    if not total:
        title = f"No mistakes: the {len(chosen)} right answers that it was least sure of."
    if heatmap is not None:
        title += (
            " Beside each, warm: where the network saw what it said (Grad-CAM; saliency, where it "
            "has no maps of features)."
        )
    classes = found.experiment.card.classes
    images = np.asarray(found.examples.images[chosen])
    guesses, sure = answers.predictions[chosen], answers.confidences[chosen]
    examples = []
    for image, label, guess, share in zip(
        images, answers.labels[chosen], guesses, sure, strict=True
    ):
        name, said = classes[int(label)], classes[int(guess)]
        shown = [("picture", picture(image, f"A picture of {name}"))]
        if heatmap is not None:
            warm = overlay(heatmap(image, int(guess)))
            shown.append(("heat map", picture(image, f"Warm: where it sees {said}", warm)))
        right = label == guess
        line = (
            f"{name}, {share:.0%} sure" if right else f"{name}, taken for {said}, {share:.0%} sure"
        )
        examples.append(Example(shown, line))
    return title, examples


def masks(found: Evaluated, spec: Preprocessing) -> tuple[str, list[Example]]:
    """Photograph, truth and prediction of the images that are segmented worst."""
    classes, evaluation = found.experiment.card.classes, found.evaluation
    worst = worst_images(found.examples, evaluation.kept, len(classes), spec)
    title = (
        f"The {len(worst.ious)} of {evaluation.count:,} images that it did worst on, by the mean "
        f"IoU of the classes in each; half of all images have {worst.median:.0%} or more."
    )
    examples = []
    for value, tiles in zip(worst.ious, worst.tiles, strict=True):
        named = zip(("photograph", "truth", "found"), tiles, strict=True)
        shown = [(name, picture(tile, f"{name}, tinted by class")) for name, tile in named]
        examples.append(Example(shown, f"mean IoU {value:.0%}"))
    return title, examples


def retrievals(found: Evaluated) -> tuple[str, list[Example]]:
    """Images whose nearest other image is of another class."""
    images, labels = found.examples
    wrong = wrong_neighbours(found.evaluation.kept, labels)
    total, wrong = len(wrong), wrong[:MOST_MISTAKES]
    title = f"The first {len(wrong)} of {total:,} images whose nearest is of another class."
    if not total:
        return "The nearest other image of each is of its class.", []
    classes, examples = found.experiment.card.classes, []
    for pair in wrong:
        pair_images, names = np.asarray(images[pair]), [classes[k] for k in labels[pair]]
        shown = [
            (word, picture(image, f"A picture of {name}"))
            for word, image, name in zip(("picture", "nearest"), pair_images, names, strict=True)
        ]
        examples.append(Example(shown, f"{names[0]}; nearest: {names[1]}"))
    return title, examples


def kernels(weights: np.ndarray) -> list[Picture]:
    """Kernels ``(N, KH, KW, C)`` on one common scale; mid-grey is zero.

    In colour where C is 3; of any other number of channels the mean: blue below zero, red above.
    """
    from matplotlib import colormaps

    tiles = weights if weights.shape[-1] == 3 else weights.mean(axis=-1)
    largest = float(np.abs(tiles).max()) or 1.0
    scaled = 0.5 + tiles / (2 * largest)
    colours: Any = scaled if weights.shape[-1] == 3 else colormaps["RdBu_r"](scaled)[..., :3]
    pixels = np.round(255 * colours).astype(np.uint8)
    return [picture(tile, f"kernel {i + 1}") for i, tile in enumerate(pixels)]
