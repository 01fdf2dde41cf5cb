"""What an embedding shows on the page of a run."""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ...plots.page_parts import Example, Examples, Heatmap, PageParts, html_image
from ...plots.svg import Chart, chart_of
from ..task import Findings
from .figures import MOST_MISTAKES, draw_plane, draw_roc, plane_of, wrong_neighbors
from .metrics import Verification, verification

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def page(findings: Findings, heatmap: Heatmap | None) -> PageParts:
    """Return how pairs are told apart, the plane of most variance, and wrong neighbors."""
    del heatmap
    embeddings, labels = findings.collected, findings.examples.labels
    return PageParts(
        charts=[
            roc(verification(embeddings, labels)),
            projection(embeddings, labels, findings.classes),
        ],
        charts_title="Embeddings",
        examples=Examples("Wrong neighbors", *retrievals(findings)),
    )


def roc(found: Verification) -> Chart:
    """Chart how well pairs of one class are told from pairs of two, at every threshold."""

    alt = (
        f"Receiver operating characteristic: area under it {found.auc:.4f}; at the dot both errors "
        f"are equally common, {found.eer:.2%}."
    )
    return chart_of("pairs told apart", partial(draw_roc, found=found), alt)


def projection(embeddings: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> Chart:
    """The embeddings ``(N, D)`` in the plane in which they differ most."""
    plane = plane_of(embeddings)

    def draw(ax: "Axes") -> None:
        # Thousands of points would be as many elements.
        draw_plane(ax, plane.points, labels[plane.chosen], classes, rasterized=True)
        ax.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, 0),
            ncols=4,
            markerscale=2.5,
            fontsize=8.5,
            handletextpad=0.1,
            columnspacing=1,
        )

    alt = (
        f"{len(plane.chosen):,} embeddings in the plane of most variance ({plane.share:.0%} of "
        "it), a color for each class."
    )
    return chart_of("the plane in which they differ most", draw, alt, height=4.2)


def retrievals(findings: Findings) -> tuple[str, list[Example]]:
    """Images whose nearest other image is of another class."""
    images, labels, _ = findings.examples
    wrong = wrong_neighbors(findings.collected, labels)
    total, wrong = len(wrong), wrong[:MOST_MISTAKES]
    title = f"The first {len(wrong)} of {total:,} images whose nearest is of another class."
    if not total:
        return "The nearest other image of each is of its class.", []
    classes, examples = findings.classes, []
    for pair in wrong:
        pair_images, names = np.asarray(images[pair]), [classes[k] for k in labels[pair]]
        shown = [
            (word, html_image(image, f"An image of {name}"))
            for word, image, name in zip(("image", "nearest"), pair_images, names, strict=True)
        ]
        examples.append(Example(shown, f"{names[0]}; nearest: {names[1]}"))
    return title, examples
