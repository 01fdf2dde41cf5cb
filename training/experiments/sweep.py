"""``[sweep]``: the points of a grid, or points drawn at random, over keys of the config.

The keys are written as they stand in the config, with what they may be:

    [sweep]
    method = "grid"
    [sweep.keys]
    optimizer.learning_rate = [1e-3, 3e-3, 1e-2]
    training.batch_size = [32, 64]

    [sweep]
    method = "random"
    count = 20
    seed = 0
    [sweep.keys]
    optimizer.learning_rate = { log_uniform = [1e-4, 1e-1] }
    optimizer.weight_decay = { uniform = [0.0, 0.1] }
    model.activation = { choice = ["relu", "tanh"] }
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..config.errors import ConfigError
from ..config.limits import check_points
from ..config.schema import Config, GridSweep, RandomSweep, put, validate

DRAWS = ("uniform", "log_uniform", "choice")


def points(config: Config) -> dict[str, dict[str, Any]]:
    """Return the points of a config's sweep by name: the value of each key.

    Raises:
        ConfigError: more points than `config.limits` allows; a key that does not exist, a value
            that it cannot have, all at once.
    """
    sweep = config.sweep
    assert sweep is not None
    found = list(_grid(sweep) if isinstance(sweep, GridSweep) else _random(sweep))
    lines: dict[str, None] = {}
    for point in found:
        try:
            member_config(config, point)
        except ConfigError as error:
            lines |= dict.fromkeys(str(error).splitlines())
    if lines:
        raise ConfigError("\n".join(lines))
    return {f"point-{i}": point for i, point in enumerate(found)}


def keys_of(sweep: GridSweep | RandomSweep) -> dict[str, Any]:
    """Return what each swept key may be, by the whole name of the key."""
    return dict(_flattened(sweep.keys, ""))


def member_config(config: Config, keys: Mapping[str, Any]) -> Config:
    """Return the config with other values under these keys, and without a sweep."""
    raw = config.model_dump(exclude={"sweep"}, exclude_none=True)
    for key, value in keys.items():
        put(raw, key.split("."), value, f"sweep.keys.{key}")
    return validate(raw, "sweep.keys" if config.sweep else "config")


def _grid(sweep: GridSweep) -> Iterator[dict[str, Any]]:
    """Every combination; the last key varies fastest."""
    keys = keys_of(sweep)
    for key, values in keys.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(
                f"sweep.keys.{key}: should be a list of values such as [1, 2]; got {values!r}"
            )
    check_points(math.prod(map(len, keys.values())))
    for values in itertools.product(*keys.values()):
        yield dict(zip(keys, values, strict=True))


def _random(sweep: RandomSweep) -> Iterator[dict[str, Any]]:
    """`count` points; the i-th is a function of the sweep's seed and i, whatever the count."""
    keys = keys_of(sweep)
    check_points(sweep.count)
    for key, how in keys.items():
        _check_draw(key, how)
    for i in range(sweep.count):
        # One number for each key, raw: NumPy promises never to change these.
        bits = np.random.Philox(key=np.array([sweep.seed, i], np.uint64)).random_raw(len(keys))
        shares = (np.asarray(bits) >> np.uint64(11)).astype(np.float64) / 2**53
        yield {k: _drawn(how, float(u)) for (k, how), u in zip(keys.items(), shares, strict=True)}


def _drawn(how: Mapping[str, Any], u: float) -> Any:
    """The value at the share `u` of a distribution, in [0, 1)."""
    ((name, values),) = how.items()
    if name == "choice":
        return values[int(u * len(values))]
    low, high = values
    if name == "uniform":
        return low + u * (high - low)
    return math.exp(math.log(low) + u * (math.log(high) - math.log(low)))


def _check_draw(key: str, how: Any) -> None:
    """It is one of `DRAWS`, with values that fit."""
    problem = None
    if not isinstance(how, dict) or len(how) != 1 or next(iter(how)) not in DRAWS:
        problem = "should be one of { uniform = [0.0, 0.1] }, { log_uniform = [1e-4, 1e-1] }, "
        problem += '{ choice = ["a", "b"] }'
    else:
        ((name, values),) = how.items()
        if not isinstance(values, list) or not values:
            problem = f"{name} should be a list"
        elif name != "choice" and not _is_range(values, above=0 if name != "uniform" else None):
            least = "0 < low < high" if name == "log_uniform" else "low < high"
            problem = f"{name} should be [low, high] with {least}"
    if problem:
        raise ConfigError(f"sweep.keys.{key}: {problem}; got {how!r}")


def _is_range(values: list[Any], above: float | None) -> bool:
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if not numbers or len(values) != 2:
        return False
    return values[0] < values[1] and (above is None or values[0] > above)


def _flattened(table: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    """Tables within tables as keys with dots, down to lists and to the names of `DRAWS`."""
    for key, value in table.items():
        if isinstance(value, dict) and not value.keys() & set(DRAWS):
            yield from _flattened(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
