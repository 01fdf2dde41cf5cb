"""Images as the bytes of a file, and within a page or an answer."""

import base64
import io
from typing import Any


def encoded(image: Any, kind: str = "PNG") -> bytes:
    """Encode a Pillow image as the bytes of a PNG file, or of a JPEG file."""
    content = io.BytesIO()
    image.save(content, format=kind, quality=82)  # which PNG, without loss, has none of
    return content.getvalue()


def as_text(content: bytes) -> str:
    """Encode bytes as Base64."""
    return base64.b64encode(content).decode("ascii")


def data_uri(content: bytes, kind: str = "PNG") -> str:
    """Return the bytes of `encoded` as the address of an image within a page."""
    return f"data:image/{kind.lower()};base64,{as_text(content)}"
