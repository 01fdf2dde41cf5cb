"""What others wrote, as part of a message."""


def plain_line(text: str, most: int = 600) -> str:
    r"""One line without control characters, its middle left out where it is long.

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
    """The beginning of what an error says, or its name where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
