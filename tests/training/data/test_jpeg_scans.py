"""JPEGs whose scans are many: refused before any of them is decoded."""

import io
import time

import numpy as np
import pytest
from PIL import Image

from convax.training.data import DataError, read_image
from convax.training.data.jpeg_scans import MOST_SCANS, _scans, check_scans
from convax.training.data.mask_file import decode_mask

END = b"\xff\xd9"


def progressive(size=16, more=0):
    """A progressive JPEG of gray, with its last scan repeated `more` times."""
    file = io.BytesIO()
    Image.new("L", (size, size)).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    last = content[content.rindex(b"\xff\xda") : -len(END)]
    return content[: -len(END)] + more * last + END


def test_the_scans_of_a_jpeg_are_counted():
    plain = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(
        plain, "JPEG", restart_marker_blocks=2
    )
    assert len(list(_scans(plain.getvalue()))) == 1
    few = len(list(_scans(progressive())))
    assert few == progressive().count(b"\xff\xda") > 3
    assert len(list(_scans(progressive(more=7)))) == few + 7
    for cut in range(len(progressive())):
        assert len(list(_scans(progressive()[:cut]))) <= few


def test_more_scans_than_any_program_writes_are_refused_at_once():
    """Of 50 kB that would take seconds to decode."""
    content = progressive(3000, more=1000)
    assert len(content) < 60_000
    began = time.process_time()
    for read in (
        lambda: read_image(content, size=(8, 8), channels=1),
        lambda: decode_mask(content),
    ):
        with pytest.raises(DataError, match=f"more than {MOST_SCANS} scans in a JPEG; save it ag"):
            read()
    assert time.process_time() - began < 0.5


def test_what_follows_the_end_of_a_jpeg_does_not_count():
    """Such as the film behind the image that some telephones write."""
    content = progressive() + b"\xff\xda\0\2" * 1000
    check_scans(content)
    assert read_image(content, size=None, channels=1).shape == (16, 16, 1)
    check_scans(b"\x89PNG\r\n" + b"\xff\xda\0\2" * 1000)
