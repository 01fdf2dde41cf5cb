"""What others wrote, as part of a message."""

import unicodedata


def plain_line(text: str, most: int = 600) -> str:
    r"""Put text into one line without control characters, its middle left out if long.

    Example:
        >>> print(plain_line("a\0b" + 600 * "x", most=40))
        a\x00bxxxxxxxxxxxxxxxxxxx ... xxxxxxxxxx
    """
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    if len(shown) <= most:
        return shown
    tail = most // 4
    return f"{shown[: most - tail - 5]} ... {shown[-tail:]}"


def text_of_name(name: str) -> str:
    r"""Return the name of a file as text that can be written, compared and shown.

    Accents are composed, whichever way the system that packed or copied the file has them; bytes
    that are no UTF-8 are written out.

    Example:
        >>> text_of_name("cafe\u0301") == "caf\u00e9", text_of_name("caf\udce9")
        (True, 'caf\\xe9')
    """
    content = name.encode("utf-8", "surrogateescape")
    return unicodedata.normalize("NFC", content.decode("utf-8", "backslashreplace"))


def is_utf8(name: str) -> bool:
    """Return whether a name can be written to a text file: names of files may be any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def encodings_of_name(name: str) -> tuple[str, ...]:
    """Return a name as it is, and with its accents composed and decomposed: one is on the disk."""
    return tuple(dict.fromkeys((name, *(unicodedata.normalize(f, name) for f in ("NFC", "NFD")))))


def first_line(error: Exception) -> str:
    """Return the beginning of an error's message, or its name where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
