"""The images in a request's body."""

import asyncio
from collections.abc import AsyncGenerator
from email.message import Message
from typing import TYPE_CHECKING, NamedTuple

from .admission import Limits, RequestRejected, Slot

if TYPE_CHECKING:
    from starlette.requests import Request


class Upload(NamedTuple):
    """A file as it came; its name is said again, and never used."""

    name: str
    content: bytes


async def read_uploads(request: "Request", limits: Limits, slot: Slot) -> list[Upload]:
    """Read the files of a multipart form; any other body is one image, whatever it calls itself.

    Raises:
        RequestRejected: too large, too slow, too many, or not a form.
    """
    body = await read_body(request, limits, slot)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        return [Upload("image", body)]
    uploads = await _files(request, body, limits)
    slot.add_images(len(uploads) - 1)
    return uploads


def _with_plain_filename(disposition: bytes | None) -> bytes | None:
    """Write the file's name of a part as `filename`, where it came as `filename*` of RFC 2231.

    The parser takes a part without `filename` for a field of the form; requests writes names
    beyond ASCII so.
    """
    if disposition is None or b"filename*" not in disposition.lower():
        return disposition
    said = Message()
    said["Content-Disposition"] = disposition.decode("latin-1")
    field, name = said.get_param("name", header="Content-Disposition"), said.get_filename("image")
    if not isinstance(field, str):
        return disposition
    plain = "".join(c if c.isprintable() and c not in '"\\' else "_" for c in name)
    return f'form-data; name="{field}"; filename="{plain}"'.encode()


async def read_body(request: "Request", limits: Limits, slot: Slot) -> bytes:
    """Read the body; stop where it is too long or takes too long."""
    too_long = RequestRejected(
        413,
        f"predict: body too large: need at most {limits.max_bytes:,} bytes; send a smaller "
        "image, or fewer at once",
        close=True,
    )
    said = request.headers.get("content-length", "0")
    if said.isdecimal() and (len(said) > 18 or int(said) > limits.max_bytes):
        raise too_long
    body = bytearray()
    try:
        async with asyncio.timeout(limits.upload_seconds):
            async for chunk in request.stream():
                if len(body) + len(chunk) > limits.max_bytes:
                    raise too_long
                slot.add_bytes(len(chunk))
                body += chunk
    except TimeoutError:
        raise RequestRejected(
            408,
            f"predict: upload too slow: need the whole body within {limits.upload_seconds:g} s; "
            "send a smaller image",
            close=True,
        ) from None
    if not body:
        raise RequestRejected(
            400,
            "predict: empty body: need an image; write curl --data-binary @image.png "
            "or curl -F file=@image.png",
        )
    return bytes(body)


async def _files(request: "Request", body: bytes, limits: Limits) -> list[Upload]:
    from starlette.datastructures import UploadFile
    from starlette.formparsers import MultiPartException, MultiPartParser

    async def stream() -> AsyncGenerator[bytes, None]:
        for start in range(0, len(body), 1 << 18):
            yield body[start : start + (1 << 18)]
            await asyncio.sleep(0)  # others' requests between two pieces

    class InMemory(MultiPartParser):
        spool_max_size = limits.max_bytes  # never a file

        def on_headers_finished(self) -> None:
            part = self._current_part
            part.content_disposition = _with_plain_filename(part.content_disposition)
            super().on_headers_finished()

    parser = InMemory(request.headers, stream(), max_files=limits.max_files, max_fields=16)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise RequestRejected(
            400, f"predict: not a form: {error.message}; write curl -F file=@image.png"
        ) from None
    except Exception as error:  # on damaged headers of parts it raises nearly anything
        raise RequestRejected(
            400,
            f"predict: not a form: damaged ({type(error).__name__}); write curl -F file=@image.png",
        ) from None
    try:
        files = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
        uploads = [Upload(file.filename or "image", await file.read()) for file in files]
    finally:
        await form.close()
    if not uploads:
        raise RequestRejected(
            400, "predict: no file in the form: need at least one; write curl -F file=@image.png"
        )
    return uploads
