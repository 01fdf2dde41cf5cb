"""A table of colors, one for each class: what is wrong with it."""

from collections.abc import Sequence

Color = Sequence[int]  # red, green and blue, 0 to 255


def problem_with_colors(
    colors: Sequence[Color], ignored: Sequence[Color], classes: int
) -> str | None:
    """Say what is wrong with the colors of masks, and what to write; None if nothing is.

    Args:
        colors: of classes.
        ignored: of pixels of no class.
        classes: how many there are.

    Example:
        >>> problem_with_colors([[0, 0, 0], [0, 0, 0]], [], 2)
        'has [0, 0, 0] twice; write another color, or one class'
    """
    if len(colors) != classes:
        return (
            f"has {len(colors)} and classes {classes}: write one color for each class, in their "
            "order"
        )
    every = [list(color) for color in (*colors, *ignored)]
    for color in every:
        if len(color) != 3 or not all(0 <= part <= 255 for part in color):
            return f"has {color}, need three numbers of 0 to 255 each"
        if every.count(color) > 1:
            return f"has {color} twice; write another color, or one class"
    return None
