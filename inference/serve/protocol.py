"""HTTP over a connection: what is ambiguous is refused, and who is too slow is left.

Two programs that read one request in different ways can be made to see two in it, or to see none
(request smuggling). h11 is lenient where its standard allows it; a service behind a proxy must not
be, so that here a request has one reading or is answered 400 and its connection closed.

References:
    RFC 9112, sections 2.2 (line endings), 5.2 (folding), 6.3 (length of a body), 7.1.2 (trailers)
"""

import asyncio
import ipaddress
import re
from collections import Counter
from typing import Any

HALF_OPEN = 128  # connections of one address whose headers are awaited with patience
HASTE = 1.0  # seconds that any more of them are given
_AMBIGUOUS = re.compile(rb"(?<!\r)\n|\n[ \t]")  # a bare LF; a line that goes on in the next


def http_protocol(seconds: float, *, half_open: int = HALF_OPEN, haste: float = HASTE) -> Any:
    """Return uvicorn's HTTP protocol, stricter, and with an end to its patience.

    Args:
        seconds: in which the headers of a request have to be there, and in which its answer has to
            be taken.
        half_open: how many connections of one address may await headers for so long.
        haste: the seconds that further ones of the address have.
    """
    from uvicorn.protocols.http.h11_impl import H11Protocol

    waiting: Counter[str] = Counter()  # half-open connections by address

    class StrictProtocol(H11Protocol):
        late: asyncio.TimerHandle | None = None
        stuck: asyncio.TimerHandle | None = None

        def __init__(self, *arguments: Any, **keywords: Any):
            super().__init__(*arguments, **keywords)
            self.conn = strict_connection()

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.address = network_of(self.client[0] if self.client else "")
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def pause_writing(self) -> None:  # what was sent fills the buffer
            super().pause_writing()
            self.stuck = self.loop.call_later(seconds, self.transport.abort)

        def resume_writing(self) -> None:
            self._unstick()
            super().resume_writing()

        def connection_lost(self, exc: Exception | None) -> None:
            self._watch(over=True)
            self._unstick()
            super().connection_lost(exc)

        def _unstick(self) -> None:
            if self.stuck is not None:
                self.stuck.cancel()
                self.stuck = None

        def _watch(self, over: bool = False) -> None:
            in_headers = self.cycle is None or self.cycle.response_complete
            if in_headers and not over:
                if self.late is None:
                    calm = waiting[self.address] < half_open
                    patience = seconds if calm else min(seconds, haste)
                    self.late = self.loop.call_later(patience, self.transport.close)
                    waiting[self.address] += 1
            elif self.late is not None:
                self.late.cancel()
                self.late = None
                waiting[self.address] -= 1
                if not waiting[self.address]:
                    del waiting[self.address]

    return StrictProtocol


def strict_connection() -> Any:
    """Return a server's `h11.Connection` that refuses what others may read in another way.

    That is a request with Content-Length and Transfer-Encoding, the latter in HTTP/1.0, a line
    that ends in LF alone, and a header folded over several lines, in trailers too.
    """
    import h11
    from h11._receivebuffer import ReceiveBuffer

    class StrictBuffer(ReceiveBuffer):
        def maybe_extract_lines(self) -> list[bytearray] | None:
            """Return the lines of headers, or of trailers, as far as they are there."""
            end = self._data.find(b"\r\n\r\n")
            head = self._data if end < 0 else self._data[: end + 4]
            if self._data[:2] != b"\r\n" and _AMBIGUOUS.search(head):
                raise h11.LocalProtocolError("a line that ends in LF alone, or is folded")
            return super().maybe_extract_lines()

    class StrictConnection(h11.Connection):
        def next_event(self) -> Any:
            event = super().next_event()
            if isinstance(event, h11.Request):
                names = {name for name, _ in event.headers}
                if b"transfer-encoding" in names and (
                    b"content-length" in names or event.http_version < b"1.1"
                ):
                    raise h11.RemoteProtocolError("Transfer-Encoding beside another length")
            return event

    connection = StrictConnection(h11.SERVER)
    connection._receive_buffer = StrictBuffer()
    return connection


def network_of(address: str) -> str:
    """Return what stands for one client: an address, of IPv6 the 64 bits that a network has.

    Example:
        >>> network_of("192.0.2.7"), network_of("2001:db8::7"), network_of("::ffff:192.0.2.7")
        ('192.0.2.7', '2001:db8::', '192.0.2.7')
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:  # of a Unix socket
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(parsed) >> 64 << 64))
