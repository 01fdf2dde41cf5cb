"""Images of any format as pictures to look at: bytes, gray or in color."""

import numpy as np


def pictures(images: np.ndarray) -> np.ndarray:
    """Return images of any number of channels and any dtype as bytes, gray or in color.

    Of three channels and more the first three are drawn as red, green and blue, and of two the
    first, as gray. What is not bytes is stretched from the least to the largest value of each
    channel of each image: 16 bits seldom use all of their range. `drawn` says so in words.

    Args:
        images: ``(..., H, W, C)``.

    Returns:
        ``(..., H, W, 1 or 3)`` uint8; bytes of one channel or three as they are.

    Example:
        >>> pictures(np.array([0, 500, 1000], np.uint16).reshape(1, 3, 1)).ravel().tolist()
        [0, 128, 255]
    """
    chosen = images[..., :3] if images.shape[-1] >= 3 else images[..., :1]
    if images.dtype == np.uint8:
        return chosen
    values = chosen.astype(np.float32)
    low, high = (f(values, axis=(-3, -2), keepdims=True) for f in (np.min, np.max))
    stretched = (values - low) / np.where(high > low, high - low, 1)
    return np.round(255 * stretched).astype(np.uint8)


def drawn(channels: int, dtype: str) -> str:
    """Say what `pictures` draws of images; nothing of photographs, which are as they are.

    Example:
        >>> drawn(5, "uint16"), drawn(3, "uint8")
        ('drawn: channels 1 to 3 of 5 as red, green and blue, stretched', '')
    """
    parts = []
    if channels not in (1, 3):
        first = "1" if channels == 2 else "1 to 3"
        parts.append(
            f"channel{'s' * (channels > 2)} {first} of {channels} as "
            f"{'gray' if channels == 2 else 'red, green and blue'}"
        )
    parts += [] if dtype == "uint8" else ["stretched"]
    return f"drawn: {', '.join(parts)}" if parts else ""
