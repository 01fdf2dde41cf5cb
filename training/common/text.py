"""What others wrote, as part of a message."""

import re
import unicodedata

# All control characters but tabs and line ends, what ends a line besides, what reverses the
# direction of text, and bytes that are no text.
_CONTROLLING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""Write out what would control a terminal, or make text look like other text, in it.

    Example:
        >>> print(printable("red: \x1b[31m"))
        red: \x1b[31m
    """
    return _CONTROLLING.sub(lambda found: repr(found[0])[1:-1], text)


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


def named_error(error: Exception) -> str:
    """Return an error of somebody's code in one line: its kind and its message."""
    return f"{type(error).__name__}: {plain_line(str(error), 300)}"


def first_line(error: Exception) -> str:
    """Return the beginning of an error's message, or its name where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
