"""The git revision of a folder, read from files: git itself runs what a repository's config says.

Even ``git describe`` does (core.fsmonitor, filters), and a folder of data may be a repository of
somebody else.
"""

import re
from pathlib import Path

_REVISION = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_MOST = 2**24  # bytes of a file that is read


def git_revision(folder: Path) -> str | None:
    """Return the revision that is checked out in a folder, whatever has changed there since.

    Args:
        folder: in the work tree of a repository, or below.

    Returns:
        40 or 64 hexadecimal digits; None where there is no repository, no commit in it yet, it may
        not be read, or its references are stored in another way than in files.
    """
    places = (above / ".git" for above in (folder, *folder.parents))
    try:
        place = next((place for place in places if place.exists()), None)
        if place is None:
            return None
        directory = _directory(place)
        return _resolved(directory, _text(directory / "HEAD").strip())
    except (OSError, ValueError):
        return None


def _directory(place: Path) -> Path:
    """Return the directory of a repository; a file, as of a further work tree, says where it is."""
    if place.is_dir():
        return place
    return place.parent / _text(place).strip().removeprefix("gitdir: ")


def _resolved(directory: Path, head: str) -> str | None:
    """Return the revision that HEAD is, or that the branch that it names is at."""
    if _REVISION.fullmatch(head):
        return head
    name = head.removeprefix("ref: ")
    if not re.fullmatch(r"refs/[\w./+@-]+", name) or ".." in name:
        return None
    shared = directory / "commondir"
    common = directory / _text(shared).strip() if shared.is_file() else directory
    for place in (directory, common):
        if (place / name).is_file():
            found = _text(place / name).strip()
            return found if _REVISION.fullmatch(found) else None
    packed = common / "packed-refs"
    lines = _text(packed).splitlines() if packed.is_file() else []
    found = next((line.split(" ")[0] for line in lines if line.endswith(f" {name}")), "")
    return found if _REVISION.fullmatch(found) else None


def _text(file: Path) -> str:
    if not file.is_file():  # a pipe would wait for ever
        raise ValueError(f"{file}: no file")
    with file.open(encoding="utf-8", errors="replace") as opened:
        return opened.read(_MOST)
