"""How many scans a JPEG has: each is decoded over the whole image, and may be 42 bytes."""

import re
from collections.abc import Iterator

MOST_SCANS = 100  # as libtiff has it; progressive files of all programs have 20 at most
# A marker: not a zero, which is a byte of the data, nor a restart or a filling byte.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_END, _SCAN, _ALONE = 0xD9, 0xDA, (0x01, 0xD8)


def check_scans(content: bytes) -> None:
    """Raise where a JPEG has so many scans that decoding it takes minutes.

    Args:
        content: of an image file; one of another format passes.

    Raises:
        ValueError: it has more than `MOST_SCANS`.
    """
    if not content.startswith(b"\xff\xd8\xff"):
        return
    for count, _ in enumerate(_scans(content), 1):
        if count > MOST_SCANS:
            raise ValueError(f"more than {MOST_SCANS} scans in a JPEG; save it again")


def _scans(content: bytes) -> Iterator[int]:
    """Yield the place of each scan, up to the end of the image."""
    found = _MARKER.search(content, 2)
    while found is not None and (marker := content[found.start() + 1]) != _END:
        at = found.end()
        if marker == _SCAN:
            yield found.start()
        if marker not in _ALONE:
            at += max(2, int.from_bytes(content[at : at + 2], "big"))
        found = _MARKER.search(content, at)
