"""The figure of a search for a learning rate: the loss against it."""

from pathlib import Path

import numpy as np

from . import figures


def draw(
    rates: np.ndarray,
    losses: np.ndarray,
    smoothed: np.ndarray,
    suggestion: float | None,
    rule: str,
    folder: Path,
) -> Path:
    """Draw ``lr-find.png``: each batch's loss, the smoothed one, and the suggestion.

    Args:
        rates: learning rates, rising.
        losses, smoothed: at each of them; what is not finite is left out.
        suggestion: a learning rate, or None.
        rule: what it is.
        folder: where the figure goes.
    """
    with figures.style():
        title = "no learning rate suggested: the loss did not fall"
        if suggestion is not None:
            title = f"suggested learning rate: {suggestion:.2g} ({rule})"
        subtitle = f"loss of {len(rates)} batches, the learning rate higher at each"
        figure = figures.titled_figure(6.5, 3.6, title, subtitle)
        ax = figure.subplots()
        ax.plot(rates, losses, color=figures.LIGHT, linewidth=0.9, label="of the batch")
        ax.plot(rates, smoothed, color=figures.BLUE, linewidth=1.6, label="smoothed")
        if suggestion is not None:
            ax.axvline(suggestion, color=figures.ORANGE, linewidth=1, label="suggestion")
        figures.log_x(ax)
        finite = smoothed[np.isfinite(smoothed)]
        if finite.size:  # what has diverged would flatten all else
            low, start = float(finite.min()), float(finite[0])
            room = max(start - low, 1e-3)
            ax.set_ylim(low - 0.3 * room, start + 0.6 * room)
        ax.set_xlabel("learning rate")
        ax.set_ylabel("loss")
        ax.grid(axis="y")
        ax.legend()
        return figures.write(figure, folder / "lr-find.png")
