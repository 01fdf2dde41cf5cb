"""Images from the command line, and the prediction of each, batch after batch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

from ..training.data import DataError, Notes
from ..training.gallery import gallery_images
from ..training.tasks.task import Question, Saying
from .image_inputs import iter_files
from .predictor import Predictor

STDIN = "-"
SUFFIX = "_predicted.png"  # of the files that are written


class ImageSource(NamedTuple):
    """An image that is to be predicted."""

    source: Path | bytes
    subfolder: Path = Path()  # where it is in the folder that was named


class PredictionResult(NamedTuple):
    """An image, and what is printed of its prediction."""

    source: Path | bytes
    output: Saying


OnError: TypeAlias = Callable[[str], None]


def list_images(
    paths: Iterable[Path],
    standard_input: BinaryIO,
    on_error: OnError,
    *,
    masks: bool = False,
    notes: Notes | None = None,
) -> list[ImageSource]:
    """Return the images that are named; of a folder all in it, those of its folders too, by name.

    Args:
        paths: files, folders, and ``-`` for one image's bytes on standard input.
        standard_input: is read once.
        on_error: is called with a line about a folder that cannot be read; the others are found.
        masks: whether predictions are masks; those written before are left out.
        notes: where the files in folders that are passed over are counted.
    """
    found, read = [], False
    notes = Notes() if notes is None else notes
    for path in paths:
        if str(path) == STDIN:
            if not read:
                found.append(ImageSource(standard_input.read()))
            read = True
            continue
        try:
            for file in iter_files([path], notes):
                subfolder = file.parent.relative_to(path) if file != path else Path()
                if masks and file != path and file.name.endswith(SUFFIX):
                    notes.pass_over("mask(s) written before")
                else:
                    found.append(ImageSource(file, subfolder))
        except OSError as error:
            on_error(f"{error.filename}: {error.strerror}")
    return found


def predict_files(
    predictor: Predictor,
    run: Path,
    images: Sequence[ImageSource],
    on_error: OnError,
    *,
    invert: bool = False,
    top: int = 3,
    threshold: float | None = None,
    out: Path | None = None,
    batch: int = 64,
) -> Iterator[PredictionResult]:
    """Yield the predictions of the network of a run for images, in their order.

    Args:
        predictor: the network.
        run: its directory, for what an embedding is compared with.
        images: of `list_images`.
        on_error: is called with a line about an image that cannot be read; it has no result.
        invert: swap black and white.
        top: how many classes to name.
        threshold: the least score of an object that is shown; by default that of the task.
        out: the folder for files that are written, by default beside each image; in it, what was
            found in a folder keeps its place there. Where two would have one name, the later is
            numbered.
        batch: how many images the network is given at once.
    """
    subfolders = {image.source: image.subfolder for image in reversed(images)}  # the first named
    say = predictor.task.predict(predictor, partial(gallery_images, run))
    written: set[Path] = set()

    def fail(source: Any, error: DataError) -> None:
        said = str(error)
        on_error(f"standard input{said.removeprefix('image')}" if is_stdin(source) else said)

    sources = (image.source for image in images)
    for source, prediction in predictor.stream_as_seen(
        sources, batch=batch, invert=invert, on_error=fail
    ):
        beside, stem = (Path(), "stdin") if is_stdin(source) else (source.parent, source.stem)
        folder = beside if out is None else out / subfolders[source]
        place = _unique_path(folder, stem, written)
        name = STDIN if is_stdin(source) else str(source)
        try:
            question = Question(source, name, prediction, top, place, threshold)
            yield PredictionResult(source, say(question))
        except DataError as error:  # it was replaced meanwhile
            fail(source, error)


def is_stdin(source: Path | bytes) -> bool:
    """Return whether a source came on standard input."""
    return isinstance(source, bytes)


def _unique_path(folder: Path, stem: str, written: set[Path]) -> Path:
    """Return a path that nothing else of this call has."""
    number, place = 1, folder / f"{stem}{SUFFIX}"
    while place in written:
        number += 1
        place = folder / f"{stem}-{number}{SUFFIX}"
    written.add(place)
    return place
