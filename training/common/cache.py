"""Where things are kept that can be made again."""

import os
from pathlib import Path


def cache_directory() -> Path:
    """Return ``$XDG_CACHE_HOME/convax``, or else the folder of this system's for caches.

    Raises:
        RuntimeError: there is no home.
    """
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    if Path(chosen).is_absolute():  # others are to be ignored, says the specification
        return Path(chosen) / "convax"
    from platformdirs import user_cache_path

    return user_cache_path("convax")
