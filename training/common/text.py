"""What others wrote, as part of a message."""


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


def first_line(error: Exception) -> str:
    """Return the beginning of an error's message, or its name where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
