"""What a regression shows on the page of a run."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from ...plots.page_parts import NOTHING, Example, Examples, Heatmap, PageParts, Table, html_image
from ...plots.svg import chart_of
from ..task import Findings
from .figures import MOST_VALUES, draw_scatter, worst_images
from .metrics import Errors, errors_of

MOST_EXAMPLES = 12


def page(findings: Findings, heatmap: Heatmap | None) -> PageParts:
    """Return each value's errors, its scatter, and the images with the largest errors."""
    del heatmap
    predicted, true, names = findings.collected, findings.examples.labels, findings.classes
    found = errors_of(predicted, true)
    charts = []
    for k, name in enumerate(names[:MOST_VALUES]):
        draw = partial(draw_scatter, predicted=predicted[:, k], true=true[:, k], name="")
        alt = (
            f"{name}: predicted against true values of {len(true):,} images; mean absolute error "
            f"{found.mae[k]:.4g}."
        )
        charts.append(chart_of(f"{name}: predicted and true", draw, alt, height=4.0))
    return PageParts(
        per_class=per_value(found, names),
        per_class_title="Values",
        charts=charts,
        charts_title="Predicted and true",
        examples=Examples("Largest errors", *largest_errors(findings)),
    )


def per_value(found: Errors, names: Sequence[str]) -> Table:
    """Return the mean absolute error, the root of the mean squared one and R² of each value."""
    rows = [
        (name, f"{mae:.4g}", f"{mse**0.5:.4g}", f"{r2:.4f}" if np.isfinite(r2) else NOTHING)
        for name, mae, mse, r2 in zip(names, *found, strict=True)
    ]
    return Table("The errors of each value, in its unit", ("value", "MAE", "RMSE", "R²"), rows)


def largest_errors(findings: Findings) -> tuple[str, list[Example]]:
    """Return a sentence, and the images with the largest errors."""
    predicted, true = findings.collected, findings.examples.labels
    chosen = worst_images(predicted, true, MOST_EXAMPLES)
    sentence = f"The {len(chosen)} of {len(true):,} images with the largest errors."
    examples = []
    for i, image in zip(chosen, np.asarray(findings.examples.images[chosen]), strict=True):
        each = zip(findings.classes, true[i], predicted[i], strict=True)
        said = "; ".join(f"{name} {is_:.4g}, predicted {was:.4g}" for name, is_, was in each)
        examples.append(Example([("image", html_image(image, f"An image of {said}"))], said))
    return sentence, examples
