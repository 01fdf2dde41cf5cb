"""``--seeds`` of the command line: so many seeds, or a list of them."""

from ..common.text import plain_line
from ..config.errors import ConfigError

HIGHEST = 2**32
MOST = 1000  # networks; each has a run directory and a place in the program


def parse_seeds(text: str, first: int) -> list[int]:
    """Return the seeds that a text names.

    Args:
        text: a count K, for the config's own seed and the K - 1 after it; or a list, "0,1,5".
        first: the seed of the config.

    Raises:
        ConfigError: it is neither; a seed comes twice or is out of range.

    Example:
        >>> parse_seeds("3", first=7), parse_seeds("0,1,5", first=7), parse_seeds("4,", first=7)
        ([7, 8, 9], [0, 1, 5], [4])
    """
    words = [word.strip() for word in text.removesuffix(",").split(",")]
    if not all(word.isdecimal() and word.isascii() for word in words):
        raise ConfigError(f"--seeds {text}: write how many, --seeds 8, or which, --seeds 0,1,5")
    numbers = [int(word) for word in words]
    if not 1 <= (len(numbers) if "," in text else numbers[0]) <= MOST:
        shown = plain_line(text, 80)
        raise ConfigError(f"--seeds {shown}: should be from 1 to {MOST}; write --seeds 8, say")
    seeds = numbers if "," in text else list(range(first, first + numbers[0]))
    if max(seeds) >= HIGHEST:
        raise ConfigError(f"--seeds {text}: seeds should be below 2**32; got {max(seeds)}")
    twice = next((seed for seed in seeds if seeds.count(seed) > 1), None) if "," in text else None
    if twice is not None:
        raise ConfigError(f"--seeds {text}: {twice} is there twice; each seed makes one run")
    return seeds
