"""Ways in which a file is damaged: each a function of its content and a source of random numbers."""

import os
import random
from collections.abc import Callable
from pathlib import Path


def flip(content: bytes, rng: random.Random, low: int = 0, high: int | None = None) -> bytes:
    """One bit, between two places."""
    high = len(content) if high is None else min(high, len(content))
    if low >= high:
        return content + b"\0"
    place = rng.randrange(low, high)
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]


def several(content: bytes, rng: random.Random) -> bytes:
    """A few bits."""
    for _ in range(8):
        content = flip(content, rng)
    return content


def block(content: bytes, rng: random.Random) -> bytes:
    """A piece that was never written: zeros, as after a power cut."""
    place, length = rng.randrange(len(content)), rng.choice([1, 4, 64, 512])
    piece = content[place : place + length]
    return content[:place] + bytes(len(piece)) + content[place + length :]


def insert(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + rng.randbytes(rng.choice([1, 4, 100])) + content[place:]


def lose(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + content[place + rng.choice([1, 4, 100]) :]


CONTENT: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "cut short": lambda content, rng: content[: rng.randrange(len(content))],
    "one bit": flip,
    "one bit near the beginning": lambda content, rng: flip(content, rng, 0, 64),
    "one bit near the end": lambda content, rng: flip(content, rng, max(0, len(content) - 64)),
    "several bits": several,
    "zeros": block,
    "bytes more": insert,
    "bytes less": lose,
    "longer": lambda content, rng: content + rng.randbytes(rng.choice([1, 600])),
    "empty": lambda content, rng: b"",
    "noise": lambda content, rng: rng.randbytes(len(content)),
}


def _denied(file: Path) -> None:
    file.chmod(0)


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _dangling(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere")


PLACE: dict[str, Callable[[Path], None]] = {
    "gone": Path.unlink,
    "a folder": _folder,
    "a link to nowhere": _dangling,
}
if os.geteuid():  # root may read everything
    PLACE["denied"] = _denied


def damage(file: Path, rng: random.Random) -> str:
    """Damage a file, and say how."""
    how = rng.choice([*CONTENT, *CONTENT, *PLACE])
    if how in PLACE:
        PLACE[how](file)
    else:
        file.write_bytes(CONTENT[how](file.read_bytes(), rng))
    return how
