"""A contact sheet: images with the predictions for them, as one page of HTML."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..training import data
from ..training.common import atomic_io
from ..training.data import DataError
from ..training.plots.image_encoding import data_uri, encoded
from ..training.plots.pictures import pictures
from ..training.tasks.segmentation.figures import mask_image
from ..training.tasks.task import Line
from .html.template import template
from .predict_files import PredictionResult

LARGEST = 360  # pixels a side of an image on the page
SMALL = 64  # up to here it is kept as it is, and shown enlarged


class Card(NamedTuple):
    """An image on the page."""

    name: str
    image: str  # a data: address
    small: bool
    mask: str | None  # likewise
    lines: list[Line]


def write_contact_sheet(
    path: Path,
    title: str,
    results: Iterable[PredictionResult],
    failures: Sequence[str],
    *,
    invert: bool = False,
    channels: data.Channels = 3,
) -> None:
    """Write the page while the results come; it is there once it is whole.

    It loads nothing from elsewhere, and whatever stands in a file's name is text.

    Args:
        path: the file to make, or to replace.
        title: what stands above.
        results: of `predict_files`.
        failures: what went wrong with other images; looked at after the last result.
        invert: black and white were swapped for the network, and are on the page.
        channels: the format of what was read, if it is no photograph: the page has its pictures.

    Raises:
        OSError: it cannot be written; nothing of it is left.
    """
    counts: Counter[str] = Counter()

    def cards() -> Iterator[Card]:
        for result in results:
            if "class" in result.output.record:
                counts[result.output.record["class"]] += 1
            try:
                yield _card(result, invert, channels)
            except DataError:  # it was there for the network, and is gone
                continue

    parts = template("contact_sheet.html").generate(
        title=title, cards=cards(), failures=failures, counts=counts
    )
    atomic_io.atomic_write(path, (part.encode("utf-8", "backslashreplace") for part in parts))


def _card(result: PredictionResult, invert: bool, channels: data.Channels) -> Card:
    from PIL import Image

    record, mask = result.output.record, None
    drawn = Path(record["image"]) if "image" in record else None  # with what was found
    pixels = data.format_of(3 if drawn else channels)
    read = data.COLOR if pixels.is_photograph else pixels
    shown = pictures(data.read_image(drawn or result.source, size=None, channels=read))
    image = Image.fromarray(shown if shown.shape[-1] == 3 else shown[..., 0])
    small = max(image.size) <= SMALL
    image.thumbnail((LARGEST, LARGEST))
    if invert and drawn is None:
        from PIL import ImageOps

        image = ImageOps.invert(image)
    if "mask" in record:
        found = mask_image(data.decode_mask(record["mask"]).astype("uint8"))
        mask = data_uri(encoded(found.resize(image.size, Image.Resampling.NEAREST)))
    kind = "PNG" if small else "JPEG"
    return Card(
        record["file"], data_uri(encoded(image, kind), kind), small, mask, result.output.lines
    )
