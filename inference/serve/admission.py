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
        max_pixels: of an image, by its header.
        max_files: of one request.
        upload_seconds: for a request's headers, for its body, and for its answer to be taken.
        decode_seconds: of CPU time for an image to be decoded.
    """

    max_in_flight: int = 256
    batch: int = 64
    wait_ms: float = 2.0
    max_bytes: int = 10_000_000
    max_pixels: int = 25_000_000
    max_files: int = 64
    upload_seconds: float = 30.0
    decode_seconds: float = 10.0


class RequestRejected(Exception):  # noqa: N818 -- an answer, more than an error
    """A request that is not answered, with its HTTP status and headers."""

    def __init__(self, status: int, message: str, *, close: bool = False):
        super().__init__(message)
        self.status = status
        self.headers = {"Retry-After": "1"} if status in (429, 503) else {}
        if close:  # the body has not been read, so no other request can follow on this connection
            self.headers["Connection"] = "close"


class InFlight:
    """Count what is in flight: images, those not yet decoded, and bytes of bodies."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.images = self.decoding = self.bytes = 0
        self.accepted = self.answered = 0

    @contextmanager
    def acquire(self) -> Iterator["Slot"]:
        """Admit a request, as one image, until its response is taken.

        Raises:
            RequestRejected: the service is full.
        """
        slot = Slot(self)
        slot.add_images(1)
        self.accepted += 1
        try:
            yield slot
            self.answered += 1
        except Exception:  # gets an answer too; what is cancelled does not
            self.answered += 1
            raise
        finally:
            self.images -= slot.images
            self.decoding -= slot.decoding
            self.bytes -= slot.bytes


class Slot:
    """Count what one request has in flight."""

    def __init__(self, in_flight: InFlight):
        self.in_flight = in_flight
        self.images = self.decoding = self.bytes = 0

    def add_images(self, count: int) -> None:
        """Admit more images."""
        inside, limit = self.in_flight.images, self.in_flight.limits.max_in_flight
        if inside + count > limit:
            raise RequestRejected(
                429,
                f"predict: too many images at once: got {count} beside the {inside} in flight, "
                f"need at most {limit}; try again in a second",
                close=self.images == 0,
            )
        self.images += count
        self.decoding += count
        self.in_flight.images += count
        self.in_flight.decoding += count

    def add_bytes(self, count: int) -> None:
        """Admit more bytes of a body."""
        limit = 8 * self.in_flight.limits.max_bytes
        if self.in_flight.bytes + count > limit:
            raise RequestRejected(
                429,
                f"predict: too many uploads at once: need at most {limit:,} bytes; "
                "try again in a second",
                close=True,
            )
        self.bytes += count
        self.in_flight.bytes += count

    def image_decoded(self) -> None:
        """Note that an image was decoded, or could not be."""
        self.decoding -= 1
        self.in_flight.decoding -= 1
