"""One number for what a JSON file holds."""

import hashlib
import json
from typing import Any


def json_digest(values: Any) -> str:
    """Compute the SHA-256 of JSON values, whatever the order and layout of their keys.

    Example:
        >>> json_digest({"b": 1, "a": [2]}) == json_digest({"a": [2], "b": 1})
        True
    """
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
