"""The service as a process: its socket, its signals, its end."""

import ipaddress
import os
import signal
import socket
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...training.common.errors import ConvaxError
from ...training.data import DataError
from ..ensemble import list_runs
from ..predictor import Predictor, load
from .admission import Limits
from .app import Service, make_app
from .protocol import http_protocol

NEEDED = {
    "starlette": "starlette",
    "uvicorn": "uvicorn",
    "h11": "h11",
    "python_multipart": "python-multipart",
    "prometheus_client": "prometheus_client",
}


class ServeError(ConvaxError):
    """The service cannot begin; the message says what to do."""


def serve(
    run: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    allow_hosts: Sequence[str] = (),
    limits: Limits | None = None,
    **loading: Any,
) -> None:
    """Answer requests until SIGTERM or SIGINT; then finish those that were accepted.

    Args:
        run: the run directory, or a study of several seeds.
        host, port: where to listen; port 0 takes a free one.
        allow_hosts: names by which it may be called beside its own. On an address that others can
            reach, any name will do unless some are given.
        limits: see `Limits`.
        loading: keywords of `predictor.load`.

    Raises:
        ServeError: a package is missing, the address cannot be had, or images cannot be given what
            the network needs beside them.
        RunError, CheckpointError, EnsembleError, CalibrationError: as `predictor.load`.
    """
    check_installed()
    with listen(host, port) as listener:
        predictor = load(run, **loading)
        check_inputs(run, predictor)
        service = Service(predictor, limits or Limits(), list_runs(run)[0])
        bound = listener.getsockname()[1]
        address = f"http://{url_host(host)}:{bound}"
        print(f"serving {run} at {address}/   (Ctrl-C stops it)")
        print(f"  curl --data-binary @image.png '{address}/predict?top=3'", flush=True)
        _run_server(service, listener, allowed_hosts(host, allow_hosts))
    inside = service.in_flight
    print(f"stopped: {inside.answered} of {inside.accepted} accepted requests answered", flush=True)


def check_installed() -> None:
    """Raise `ServeError` where an optional package is missing."""
    missing = [name for module, name in NEEDED.items() if find_spec(module) is None]
    if missing:
        raise ServeError(f"serve: not installed: {', '.join(missing)}; pip install 'convax[serve]'")


def check_inputs(run: Path, predictor: Predictor) -> None:
    """Raise `ServeError` where what the network needs beside an image cannot be found here."""
    more = predictor.task.more_inputs
    if more is None:
        return
    try:
        more(predictor.blank(1))
    except DataError as error:
        raise ServeError(f"serve: {run}: {error}") from None


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket, before anything slow is done."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=2048)
        # Connections inherit it. asyncio sets it on sockets of its own alone, and without it a
        # client that keeps its connection waits 40 ms for the second packet of each answer.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ServeError(
            f"serve: {host}:{port}: {reason.lower()}; choose another --port or --host"
        ) from None


def allowed_hosts(host: str, more: Sequence[str]) -> list[str]:
    """Return the names of the service in the Host header of requests."""
    if not (more or is_loopback(host)):
        return ["*"]
    return [*dict.fromkeys(["localhost", "127.0.0.1", "[::1]", url_host(host), *more])]


def url_host(host: str) -> str:
    """Return a host as it stands in an address."""
    return f"[{host}]" if ":" in host else host


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a host.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
        (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _run_server(service: Service, listener: socket.socket, hosts: Sequence[str]) -> None:
    import uvicorn

    limits = service.limits
    config = uvicorn.Config(
        make_app(service, hosts),
        http=http_protocol(limits.upload_seconds),
        ws="none",
        lifespan="on",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=4 * limits.max_in_flight + 256,
    )
    server, stopped = ending_server(config), False

    def end(signum: int, frame: Any) -> None:
        del frame
        if stopped:  # but for images that are still being decoded
            os._exit(128 + signum)

    # uvicorn raises the signal once more when it has stopped; then nothing is left to be done.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    server.run(sockets=[listener])
    stopped = True


def ending_server(config: Any) -> Any:
    """Return uvicorn's server, which a second signal ends at once, whatever is being decoded.

    Args:
        config: uvicorn's.
    """
    import uvicorn

    class EndingServer(uvicorn.Server):
        def handle_exit(self, sig: int, frame: Any) -> None:
            if self.should_exit:
                os._exit(128 + sig)
            super().handle_exit(sig, frame)

    return EndingServer(config)
