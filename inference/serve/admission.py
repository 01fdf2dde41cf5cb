"""What the service takes and what it refuses."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Limits(NamedTuple):
    """The bounds of the service; together they bound its memory and its time.

    Attributes:
        max_in_flight: images inside at once; one more is refused with 429.
        batch: images in one call of the network.
        wait_ms: how long the first image of a batch waits for others, in milliseconds.
        max_bytes: of a request's body. Of all bodies together eight times as much.
        max_pixels: of a picture, by its header.
        max_files: of one request.
        upload_seconds: for a request's headers, for its body, and for its answer to be taken.
    """

    max_in_flight: int = 256
    batch: int = 64
    wait_ms: float = 2.0
    max_bytes: int = 10_000_000
    max_pixels: int = 25_000_000
    max_files: int = 64
    upload_seconds: float = 30.0


class Refused(Exception):  # noqa: N818 -- an answer, more than an error
    """A request that is not answered, with its HTTP status and headers."""

    def __init__(self, status: int, message: str, *, close: bool = False):
        super().__init__(message)
        self.status = status
        self.headers = {"Retry-After": "1"} if status in (429, 503) else {}
        if close:  # the body has not been read, so no other request can follow on this connection
            self.headers["Connection"] = "close"


class Admission:
    """Who is inside: images, those of them that are not yet decoded, and bytes of bodies."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.images = self.coming = self.bytes = 0
        self.accepted = self.answered = 0

    @contextmanager
    def visit(self) -> Iterator["Visit"]:
        """A request from its admission, as one image, until its answer is taken.

        Raises:
            Refused: the service is full.
        """
        visit = Visit(self)
        visit.add_images(1)
        self.accepted += 1
        try:
            yield visit
            self.answered += 1
        except Exception:  # gets an answer too; what is cancelled does not
            self.answered += 1
            raise
        finally:
            self.images -= visit.images
            self.coming -= visit.coming
            self.bytes -= visit.bytes


class Visit:
    """What one request has inside."""

    def __init__(self, admission: Admission):
        self.admission = admission
        self.images = self.coming = self.bytes = 0

    def add_images(self, count: int) -> None:
        """Take more images in."""
        inside, limit = self.admission.images, self.admission.limits.max_in_flight
        if inside + count > limit:
            raise Refused(
                429,
                f"predict: too many images at once: got {count} more than the {inside} inside, "
                f"need at most {limit}; try again in a second",
                close=self.images == 0,
            )
        self.images += count
        self.coming += count
        self.admission.images += count
        self.admission.coming += count

    def add_bytes(self, count: int) -> None:
        """Take more of a body in."""
        limit = 8 * self.admission.limits.max_bytes
        if self.admission.bytes + count > limit:
            raise Refused(
                429,
                f"predict: too many uploads at once: need at most {limit:,} bytes; "
                "try again in a second",
                close=True,
            )
        self.bytes += count
        self.admission.bytes += count

    def image_came(self) -> None:
        """An image was decoded, or could not be."""
        self.coming -= 1
        self.admission.coming -= 1
