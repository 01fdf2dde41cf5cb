"""The routes of the service, as an ASGI application."""

import asyncio
import base64
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from ...training.common.text import printable
from ...training.gallery import gallery_images
from ...training.plots.image_encoding import as_text
from ...training.plots.page_parts import overlay
from ..html.heatmap import make_heatmap
from .admission import InFlight, Limits, RequestRejected, Slot
from .batcher import Batcher, sizes_to_compile
from .decoder import Decoders
from .image_decoding import DecodedImage
from .metrics import Metrics
from .page import PAGE, POLICY
from .uploads import Upload, read_uploads

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

SAFE = {  # on every answer
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
UNTIL_SENT = "convax.until_sent"  # in a request's scope: left when its answer is taken
WORDS = {"": True, "1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


class PredictOptions(NamedTuple):
    """How a client wants to know."""

    top: int = 3
    invert: bool = False


class Service:
    """A predictor behind HTTP.

    Args:
        predictor: `inference.predictor.Predictor`, of which `task`, `classes`, `image_shape`,
            `pixels`, `blank`, `sizes` and the call are used.
        limits: see `Limits`.
        run: the run directory, of which an embedding's nearest training images are taken.
        decoders: those of several services, which outlive them; by default it has its own.
    """

    def __init__(
        self,
        predictor: Any,
        limits: Limits,
        run: Path | None = None,
        decoders: Decoders | None = None,
    ):
        largest = predictor.sizes[-1]
        limits = limits._replace(
            batch=min(limits.batch, largest), max_files=min(limits.max_files, limits.max_in_flight)
        )
        self.predictor, self.limits, self.run = predictor, limits, run
        self.decoders, self.shared = decoders or Decoders(), decoders is not None
        self.ready, self.broken = False, ""
        self.in_flight, self.metrics = InFlight(limits), Metrics()
        self.heatmap = make_heatmap(predictor)
        self.answer = predictor.task.respond(predictor.classes, None)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start decoders, threads and the warm-up, and end them."""
        self.batcher = Batcher(
            self.predictor, self.limits, lambda: self.in_flight.decoding, self.metrics.observe_batch
        )
        self.metrics.queue.set_function(lambda: len(self.batcher.waiting))
        self.metrics.inside.set_function(lambda: self.in_flight.images)
        self.decoders.start()
        self.threads = ThreadPoolExecutor(self.decoders.count, "decoder")
        self.stopping = False
        worker = asyncio.create_task(self._run_batches())
        try:
            yield
        finally:
            self.stopping = True
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
            for pool in (self.batcher.thread, self.threads):
                pool.shutdown(cancel_futures=True)
            if not self.shared:
                self.decoders.close()

    async def _run_batches(self) -> None:
        try:
            references = await self.batcher.call(self._warm_up)
        except Exception as error:
            self.broken = f"{type(error).__name__}: {error}"
            print(
                f"error: serve: warm-up failed: {printable(self.broken)}",
                file=sys.stderr,
                flush=True,
            )
            return
        if references is not None:
            self.answer = self.predictor.task.respond(self.predictor.classes, references)
        self.ready = True
        print("ready", flush=True)
        await self.batcher.work()

    def _warm_up(self) -> Any:
        """Compile everything that requests will need; give what `Task.refer` makes."""
        for size in sizes_to_compile(self.predictor.sizes, self.limits.batch):
            if self.stopping:
                return None
            self.predictor(self.predictor.blank(size))
        if self.heatmap is not None:
            overlay(self.heatmap(self.predictor.blank(1)[0], 0))
        refer = self.predictor.task.refer
        if refer is None or self.run is None:
            return None
        try:
            return refer(self.predictor, partial(gallery_images, self.run))
        except Exception as error:
            outputs = self.predictor.task.spec.outputs
            reason = printable(str(error))
            print(f"serve: {outputs} alone, no nearest classes: {reason}", file=sys.stderr)
            return None

    async def predict(self, request: "Request") -> "Response":
        """Handle POST /predict: images in, predictions out, in the same order."""
        from starlette.responses import Response

        options = parse_query(request.query_params.multi_items())
        self._check_ready()
        slot = self._acquire_slot(request)
        uploads = await read_uploads(request, self.limits, slot)
        results = await _gather_all(self._predict_one(u, options, slot) for u in uploads)
        statuses, records = [s for s, _ in results], [r for _, r in results]
        status = 200 if 200 in statuses else statuses[0]
        wanted = request.headers.get("accept", "").partition(",")[0].partition(";")[0].strip()
        if wanted == "image/png" and status == 200:
            if len(records) == 1 and "mask" in records[0]:
                return Response(base64.b64decode(records[0]["mask"]), media_type="image/png")
            raise RequestRejected(
                406, "predict: Accept: image/png: only of one image, and of a mask"
            )
        return _json(status, {"answers": records})

    async def _predict_one(
        self, upload: Upload, options: PredictOptions, slot: Slot
    ) -> tuple[int, dict[str, Any]]:
        """Return the status and the record of one image."""
        loop = asyncio.get_running_loop()
        try:
            decoded = await self._decoded(upload, options.invert, slot)
        except RequestRejected as error:
            return error.status, {"file": upload.name, "error": str(error)}
        output = await self.batcher.ask(decoded.image)
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(output)):
            return 500, {"file": upload.name, "error": "predict: the network's answer is NaN"}
        record = await loop.run_in_executor(
            self.threads, self.answer, output, decoded.size, options.top
        )
        return 200, {"file": upload.name, **record}

    async def _decoded(self, upload: Upload, invert: bool, slot: Slot) -> DecodedImage:
        def read() -> DecodedImage:
            return self.decoders.decode(
                upload.name,
                upload.content,
                seconds=self.limits.decode_seconds,
                image_shape=self.predictor.image_shape,
                max_pixels=self.limits.max_pixels,
                invert=invert,
                letterbox=self.predictor.letterbox,
                pixels=list(self.predictor.pixels),
            )

        try:
            return await asyncio.get_running_loop().run_in_executor(self.threads, read)
        finally:
            slot.image_decoded()

    async def heat(self, request: "Request") -> "Response":
        """Handle POST /heatmap?class=NAME: where one image looks like the class."""
        pairs = request.query_params.multi_items()
        names = [value for key, value in pairs if key == "class"]
        if self.heatmap is None:
            raise RequestRejected(404, "heatmap: this network has none; use /predict")
        if len(names) != 1 or names[0] not in self.predictor.classes:
            raise RequestRejected(
                400, f"heatmap: class: got {names}, need one class of the network"
            )
        options = parse_query([pair for pair in pairs if pair[0] != "class"])
        self._check_ready()
        slot = self._acquire_slot(request)
        upload, *others = await read_uploads(request, self.limits, slot)
        if others:
            raise RequestRejected(400, f"heatmap: got {1 + len(others)} images, need one")
        decoded = await self._decoded(upload, options.invert, slot)
        k = self.predictor.classes.index(names[0])
        heat = await self.batcher.call(self.heatmap, decoded.image, k)
        return _json(200, {"class": names[0], "heatmap": as_text(overlay(heat))})

    def _acquire_slot(self, request: "Request") -> Slot:
        """Admit a request until the client has taken its response: see `Guard`."""
        # Browsers say it of themselves, and no page can change what they say.
        if (site := request.headers.get("sec-fetch-site", "none")) not in ("none", "same-origin"):
            raise RequestRejected(
                403,
                f"predict: sent by a page from elsewhere ({site}); use its own page",
                close=True,
            )
        return request.scope[UNTIL_SENT].enter_context(self.in_flight.acquire())

    def _check_ready(self) -> None:
        if not self.ready:
            what = f"broken: {self.broken}" if self.broken else "still warming up"
            raise RequestRejected(503, f"predict: not ready: {what}; see /health", close=True)

    async def health(self, request: "Request") -> "Response":
        """Handle GET /health: 200 once every program is compiled."""
        record = {
            "status": "ready" if self.ready else "broken" if self.broken else "warming up",
            "task": self.predictor.task.name,
            "classes": list(self.predictor.classes),
            "image_shape": list(self.predictor.image_shape),
            "pixels": self.predictor.pixels._asdict(),
            "heatmap": self.heatmap is not None,
        }
        return _json(200 if self.ready else 503, record)

    async def show_metrics(self, request: "Request") -> "Response":
        """Handle GET /metrics, for Prometheus."""
        from starlette.responses import Response

        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def show_page(self, request: "Request") -> "Response":
        """Handle GET /: a page to try it."""
        from starlette.responses import HTMLResponse

        return HTMLResponse(PAGE, headers={"Content-Security-Policy": POLICY})


async def _gather_all(tasks: Iterable[Awaitable[Any]]) -> list[Any]:
    """Their results; an error is raised when all have ended, as they are counted until then."""
    found = await asyncio.gather(*tasks, return_exceptions=True)
    for result in found:
        if isinstance(result, BaseException):
            raise result
    return found


def parse_query(pairs: Sequence[tuple[str, str]]) -> PredictOptions:
    """Read the options in a query string.

    Raises:
        RequestRejected: an unknown key, one twice, or a value that is none.

    Example:
        >>> parse_query([("top", "5"), ("invert", "")])
        PredictOptions(top=5, invert=True)
    """
    given = dict(pairs)
    if len(given) < len(pairs) or given.keys() - {"top", "invert"}:
        keys = ", ".join(key for key, _ in pairs)
        raise RequestRejected(
            400, f"predict: query: got {keys}, need top and invert at most, each once"
        )
    top, invert = given.get("top", "3"), given.get("invert", "false").lower()
    if not (top.isascii() and top.isdigit() and len(top) < 6 and int(top) > 0):
        raise RequestRejected(
            400, f"predict: top: got {top!r}, need a whole number from 1; write ?top=3"
        )
    if invert not in WORDS:
        raise RequestRejected(400, f"predict: invert: got {invert!r}, need true or false")
    return PredictOptions(int(top), WORDS[invert])


def make_app(service: Service, hosts: Sequence[str]) -> "Starlette":
    """Make the ASGI application.

    Args:
        service: what answers.
        hosts: the names by which it may be called, ``["*"]`` for any: a page elsewhere whose name
            was made to point here (DNS rebinding) is none of them.
    """
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.routing import Route

    async def http_error(request: "Request", error: Exception) -> "Response":
        assert isinstance(error, HTTPException)
        headers = error.headers
        return _json(error.status_code, {"error": f"{request.url.path}: {error.detail}"}, headers)

    async def refused(request: "Request", error: Exception) -> "Response":
        assert isinstance(error, RequestRejected)
        return _json(error.status, {"error": str(error)}, error.headers)

    @contextlib.asynccontextmanager
    async def lifespan(app: "Starlette") -> AsyncIterator[None]:
        async with service.running():
            yield

    return Starlette(
        routes=[
            Route("/", service.show_page),
            Route("/predict", service.predict, methods=["POST"]),
            Route("/heatmap", service.heat, methods=["POST"]),
            Route("/health", service.health),
            Route("/metrics", service.show_metrics),
        ],
        middleware=[
            Middleware(Guard, service=service),  # pyright: ignore[reportArgumentType]
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
        ],
        exception_handlers={HTTPException: http_error, RequestRejected: refused},
        lifespan=lifespan,
    )


class Guard:
    """Around everything: safe headers, what is measured, and no error without an answer."""

    def __init__(self, app: Any, service: Service):
        self.app, self.service = app, service

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle an ASGI call."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        from starlette.datastructures import MutableHeaders
        from starlette.requests import ClientDisconnect

        began, status = time.perf_counter(), 0

        async def guarded(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for key, value in SAFE.items():
                    headers.setdefault(key, value)
            elif not message.get("more_body"):
                # `send` waits for a client only before it writes: one more, empty message, and the
                # request is over when all but the last 64 KiB of its answer are taken.
                await send({**message, "more_body": True})
                message = {"type": message["type"], "body": b"", "more_body": False}
            await send(message)

        try:
            with contextlib.ExitStack() as scope[UNTIL_SENT]:
                await self.app(scope, receive, guarded)
        except ClientDisconnect:
            status = 499  # nobody is there to hear it
        except Exception as error:
            print(
                f"error: {scope['path']!r}: {type(error).__name__}: {printable(str(error))}",
                file=sys.stderr,
                flush=True,
            )
            if status == 0:
                answer = _json(500, {"error": "the service failed; its log says why"})
                await answer(scope, receive, guarded)
        finally:
            seconds = time.perf_counter() - began
            self.service.metrics.observe_request(scope["path"], status, seconds)


def _json(status: int, record: Any, headers: Mapping[str, str] | None = None) -> "Response":
    from starlette.responses import JSONResponse

    return JSONResponse(record, status_code=status, headers=headers)
