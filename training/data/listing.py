"""Which files of a folder are images, and what is passed over on the way: counted, with reasons.

Every reader of folders and archives lists them here, so that each recurses, leaves aside and
reports alike.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from .archive import Place
from .image import EXTENSIONS
from .notes import Notes

# What systems put beside one's files; and whatever begins with a dot.
SYSTEM = (
    "__MACOSX",
    "@eaDir",
    "#recycle",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
    "__pycache__",
)
OTHER_IMAGES = (
    *(".avif", ".dcm", ".dib", ".heic", ".heif", ".ico", ".j2k", ".jp2", ".jxl", ".pbm", ".pcx"),
    *(".pgm", ".pnm", ".ppm", ".psd", ".svg", ".tga"),
)


class Listing(NamedTuple):
    """List the images and folders in a folder, each sorted by name."""

    images: list[Place]
    folders: list[Place]


def listed(folder: Place, notes: Notes, *, links: bool = True) -> Listing:
    """Return the images and the folders in a folder; the notes count all else.

    Args:
        folder: a folder, or one in an archive.
        notes: where what is passed over is counted.
        links: whether links to folders count as folders.
    """
    found = Listing([], [])
    for place in sorted(folder.iterdir(), key=lambda place: place.name):
        if place.name.startswith(".") or place.name in SYSTEM:
            notes.pass_over("hidden, or a system's")
        elif is_image_file(place):
            found.images.append(place)
        elif place.is_dir():
            if not links and place.is_symlink():
                notes.pass_over("link(s) to a folder")
            else:
                found.folders.append(place)
        else:
            notes.pass_over(_reason(place))
    return found


def images_below(
    folder: Place, notes: Notes, *, without: Sequence[Place] = ()
) -> Iterator[tuple[str, Place]]:
    """Yield the images in a folder and in all folders below, those before these.

    Links to folders are not followed.

    Args:
        folder: a folder, or one in an archive.
        notes: where what is passed over is counted.
        without: folders below that are left aside.

    Yields:
        where the image is below the folder, "" or ``sub/folder``; and the image.
    """
    waiting = [("", folder)]
    while waiting:
        where, place = waiting.pop()
        found = listed(place, notes, links=False)
        yield from ((where, image) for image in found.images)
        below = [f for f in found.folders if f not in without]
        waiting += [(str(PurePosixPath(where, f.name)), f) for f in reversed(below)]


def files_below(folder: Place, endings: tuple[str, ...]) -> Iterator[tuple[str, Place]]:
    """Yield the files with one of these endings, as `images_below` yields images."""
    waiting = [("", folder)]
    while waiting:
        where, place = waiting.pop()
        inside = sorted(place.iterdir(), key=lambda file: file.name)
        seen = [f for f in inside if not f.name.startswith(".") and f.name not in SYSTEM]
        yield from ((where, f) for f in seen if f.suffix.lower() in endings and f.is_file())
        below = [f for f in seen if f.is_dir() and not f.is_symlink()]
        waiting += [(str(PurePosixPath(where, f.name)), f) for f in reversed(below)]


def is_image_file(file: Place) -> bool:
    """Return whether it is an image file, by its ending."""
    return file.suffix.lower() in EXTENSIONS and file.is_file()


def _reason(place: Place) -> str:
    """Say what is wrong with a file that is no image."""
    if not place.is_file():
        if not place.is_symlink():
            return "special file(s)"
        return "link(s) to nothing" if isinstance(place, Path) else "link(s) in the archive"
    ending = place.suffix.lower()
    if ending in OTHER_IMAGES:
        return f"{ending} (a format that is not read; save as PNG or JPEG)"
    return ending or "without an ending"
