"""What drawing problems at random needs, whatever the family."""

import numpy as np
from hypothesis import strategies as st

DTYPES = ["float32", "float32", "float64", "bfloat16", "float16"]


def rng_of(draw) -> np.random.Generator:
    """The generator of a problem's numbers: of a seed, which shrinks and prints better than they."""
    return np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
