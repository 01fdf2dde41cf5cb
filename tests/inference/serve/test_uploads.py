"""The names of files in a form, however a client writes them."""

import asyncio
import types

import pytest

pytest.importorskip("python_multipart")
from starlette.requests import Request

from convax.inference.serve.admission import Limits
from convax.inference.serve.uploads import read_uploads


def uploaded(disposition):
    body = b"--x\r\nContent-Disposition: " + disposition.encode()
    body += b"\r\nContent-Type: image/png\r\n\r\nbytes\r\n--x--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=x", "content-length": str(len(body))}
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/predict",
        "query_string": b"",
        "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
    }

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    slot = types.SimpleNamespace(add_bytes=lambda n: None, add_images=lambda n: None)
    return asyncio.run(read_uploads(Request(scope, receive), Limits(), slot))


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ('filename="a.png"', "a.png"),
        ('filename="caf\u00e9.png"', "caf\u00e9.png"),
        ("filename*=utf-8''caf%C3%A9.png", "caf\u00e9.png"),
        ("filename*=UTF-8'en'a%22%5C%0Ab.png", "a___b.png"),
        ("filename*=iso-8859-1''caf%E9.png", "caf\u00e9.png"),
        ("filename=\"cafe.png\"; filename*=utf-8''caf%C3%A9.png", "cafe.png"),
        ("filename*0*=utf-8''caf; filename*1*=%C3%A9.png", "caf\u00e9.png"),
    ],
)
def test_a_file_has_its_name_however_it_is_written(said, name):
    (upload,) = uploaded(f'form-data; name="file"; {said}')
    assert (upload.name, upload.content) == (name, b"bytes")
