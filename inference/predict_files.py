"""Pictures from the command line, and what is said of each, batch after batch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

from ..training.data import DataError
from ..training.gallery import gallery_images
from ..training.tasks.task import Question, Saying
from .image_inputs import files_of
from .predictor import Predictor

STDIN = "-"
ENDING = "_predicted.png"  # of the files that are written


class Picture(NamedTuple):
    """A picture that was asked for."""

    source: Path | bytes
    within: Path = Path()  # where it is in the folder that was named


class Told(NamedTuple):
    """A picture, and what is said of it."""

    source: Path | bytes
    saying: Saying


Failed: TypeAlias = Callable[[str], None]


def pictures_of(
    paths: Iterable[Path], standard_input: BinaryIO, failed: Failed, *, masks: bool = False
) -> list[Picture]:
    """The pictures that are named; of a folder all in it, those of its folders too, by name.

    Args:
        paths: files, folders, and ``-`` for one picture's bytes on standard input.
        standard_input: is read once.
        failed: is told of a folder that cannot be read; the others are found.
        masks: whether the answers are masks, and those written before are no pictures.
    """
    found, read = [], False
    for path in paths:
        if str(path) == STDIN:
            if not read:
                found.append(Picture(standard_input.read()))
            read = True
            continue
        try:
            for file in files_of([path]):
                within = file.parent.relative_to(path) if file != path else Path()
                if not (masks and file != path and file.name.endswith(ENDING)):
                    found.append(Picture(file, within))
        except OSError as error:
            failed(f"{error.filename}: {error.strerror}")
    return found


def tell(
    predictor: Predictor,
    run: Path,
    pictures: Sequence[Picture],
    failed: Failed,
    *,
    invert: bool = False,
    top: int = 3,
    out: Path | None = None,
    batch: int = 64,
) -> Iterator[Told]:
    """What the network of a run says of pictures, in their order.

    Args:
        predictor: the network.
        run: its directory, for what an embedding is compared with.
        pictures: of `pictures_of`.
        failed: is told of a picture that cannot be read, in place of an answer.
        invert: swap black and white.
        top: how many classes to name.
        out: the folder for files that are written, by default beside each picture; in it, what was
            found in a folder keeps its place there. Where two would have one name, the later is
            numbered.
        batch: how many pictures the network is given at once.
    """
    within = {picture.source: picture.within for picture in reversed(pictures)}  # the first named
    say = predictor.task.predict(predictor, partial(gallery_images, run))
    written: set[Path] = set()

    def fail(source: Any, error: DataError) -> None:
        said = str(error)
        failed(f"standard input{said.removeprefix('picture')}" if source_is_bytes(source) else said)

    sources = (picture.source for picture in pictures)
    for source, answer in predictor.stream(sources, batch=batch, invert=invert, failed=fail):
        beside, stem = (
            (Path(), "stdin") if source_is_bytes(source) else (source.parent, source.stem)
        )
        folder = beside if out is None else out / within[source]
        place = _free(folder, stem, written)
        name = STDIN if source_is_bytes(source) else str(source)
        try:
            yield Told(source, say(Question(source, name, answer, top, place)))
        except DataError as error:  # it was replaced meanwhile
            fail(source, error)


def source_is_bytes(source: Path | bytes) -> bool:
    """Whether it came on standard input."""
    return isinstance(source, bytes)


def _free(folder: Path, stem: str, written: set[Path]) -> Path:
    """A name that nothing else of this call has."""
    number, place = 1, folder / f"{stem}{ENDING}"
    while place in written:
        number += 1
        place = folder / f"{stem}-{number}{ENDING}"
    written.add(place)
    return place
