"""The handwritten digits that ship inside scikit-learn: data that needs no download."""

import numpy as np

from .dataset import Dataset, unsplit


def load_digits() -> Dataset:
    """Load scikit-learn's 1,797 handwritten digits of 8x8 pixels.

    Returns:
        images ``(1797, 8, 8, 1)`` uint8; scikit-learn's gray values 0 .. 16 become 0 .. 255,
        rounded. Nothing is set aside for validation or testing.

    References:
        Alpaydin & Kaynak, Optical Recognition of Handwritten Digits, UCI (the test part).
    """
    from sklearn.datasets import load_digits as embedded  # takes a second to import

    pixels, labels = embedded(return_X_y=True)
    images = np.round(np.asarray(pixels) * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    return unsplit(images, np.asarray(labels), tuple("0123456789"))
