"""How near predicted values are to the true ones."""

from typing import NamedTuple

import numpy as np

from ..per_class import mean_of


class Errors(NamedTuple):
    """Of each value, over all examples: ``(V,)`` each, in its unit."""

    mae: np.ndarray
    mse: np.ndarray
    r2: np.ndarray  # NaN where the true value is the same in all examples


def errors_of(predicted: np.ndarray, true: np.ndarray) -> Errors:
    r"""Return the errors of values ``(N, V)``.

    .. math:: \mathrm{MAE} = \frac1N \sum_i |\hat y_i - y_i|, \qquad
        \mathrm{MSE} = \frac1N \sum_i (\hat y_i - y_i)^2, \qquad
        R^2 = 1 - \frac{\sum_i (\hat y_i - y_i)^2}{\sum_i (y_i - \bar y)^2}

    Example:
        >>> found = errors_of(np.array([[1.0], [2.0], [6.0]]), np.array([[1.0], [3.0], [5.0]]))
        >>> found.r2.tolist(), found.mae.round(3).tolist()  # 1 - 2 / 8; 2 / 3
        ([0.75], [0.667])
    """
    from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

    true, predicted = true.astype(np.float64), predicted.astype(np.float64)
    mae, mse = (
        np.asarray(score(true, predicted, multioutput="raw_values"))
        for score in (mean_absolute_error, mean_squared_error)
    )
    varied = np.ptp(true, axis=0) > 0
    r2 = np.full(true.shape[1], np.nan)
    if varied.any():
        r2[varied] = r2_score(true[:, varied], predicted[:, varied], multioutput="raw_values")
    return Errors(mae, mse, r2)


def mean_r2(found: Errors) -> float:
    """Return the mean R² of the values that vary; 0 where none does."""
    return mean_of(found.r2)
