"""The figures of `convax explain`: why an image has its answer, and more.

explanation.png    saliency, integrated gradients, Grad-CAM, occlusion, receptive field
kernels.png        what the first layer looks for
feature_maps.png   what the channels of some layers answer
neighbors.png     of an embedding: the training images nearest to it
"""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..model import capture_intermediates
from ..training.config.errors import did_you_mean
from ..training.data.preprocess import preprocess
from ..training.gallery import gallery_images
from ..training.plots import figures
from ..training.plots.figures import shortened
from ..training.report.figures import first_kernels, kernels_figure
from ..training.tasks.task import TaskError
from .explanation import ExplainError, explain_image, make_target
from .layer_selection import select_layers
from .panels import explanation_figure, feature_map_figure, neighbors_figure


class WrittenFigures(NamedTuple):
    """An explanation as it was drawn: its text and its files."""

    text: str  # the answer, and what of it is explained
    files: list[Path]
    missing: list[str]  # a line for each figure that there is none of: why


def write_figures(
    predictor: Any,
    run: Path,
    file: Path,
    out: Path,
    *,
    wanted: str | None = None,
    layer: str | None = None,
    invert: bool = False,
) -> WrittenFigures:
    """Explain an image file, and write the figures into a folder.

    Args:
        predictor: what `convax.load` gives.
        run: its run, for an embedding's training images and for titles.
        file: the image.
        out: the folder; made if it is not there.
        wanted: the class to explain: by default the most probable; of a segmentation the largest
            but the first, of an embedding that of the nearest image.
        layer: whose maps Grad-CAM weighs and `feature_maps.png` shows; chosen by default.
        invert: swap black and white, as for `predict`.

    Raises:
        ExplainError: no such class or layer, or several networks.
        DataError, OSError: the image cannot be read, or the folder not written.
    """
    if predictor.net is None:
        raise ExplainError("explain: got an ensemble of several networks, need one run")
    image = predictor.read(file, invert=invert)
    out.mkdir(parents=True, exist_ok=True)
    k = _class_number(predictor, wanted)
    try:
        request = predictor.task.explain(predictor, partial(gallery_images, run), image, k)
    except TaskError as error:
        raise ExplainError(f"explain: {error}") from None
    target = make_target(predictor, image, request.k, request.place)
    found = explain_image(predictor, image, target, layer=layer)
    title = f"{shortened(file.name, 40)}: why {shortened(request.label, 30)}?"
    name = shortened(Path(run).resolve().name, 40)
    files, missing = [], []
    if found.heat is None:
        missing.append("Grad-CAM, receptive field, feature_maps.png: the network has no maps")
    with figures.style():
        answer = request.text.replace("   ", ", ")
        subtitle = f"{name}: {answer}; explained is {request.what}, here {found.score:.3g}"
        figure = explanation_figure(found, title=title, subtitle=subtitle)
        files.append(figures.write(figure, out / "explanation.png"))
        if request.near is not None:
            subtitle = f"{name}: the training images whose embeddings lie nearest, and how far"
            title = f"{shortened(file.name, 40)}: its neighbors"
            figure = neighbors_figure(image, *request.near, title=title, subtitle=subtitle)
            files.append(figures.write(figure, out / "neighbors.png"))
        in_shape = (*predictor.preprocessing.size, predictor.image_shape[-1])
        kernels = first_kernels(predictor.net, predictor.params, in_shape)
        if kernels is None:
            missing.append("kernels.png: the first layer's kernels are no images")
        else:
            figure = kernels_figure(*kernels, f"{name}: what its first layer looks for")
            files.append(figures.write(figure, out / "kernels.png"))
        if found.heat is not None:
            figure = _maps(predictor, image, layer, file, name)
            files.append(figures.write(figure, out / "feature_maps.png"))
    return WrittenFigures(f"{file}: {request.text}   explained: {request.label}", files, missing)


def _class_number(predictor: Any, wanted: str | None) -> int | None:
    if wanted is None:
        return None
    if wanted not in predictor.classes:
        known = ", ".join(map(str, predictor.classes[:20]))
        more = ", ..." if len(predictor.classes) > 20 else ""
        meant = did_you_mean(wanted, predictor.classes)
        raise ExplainError(f"explain: class: got {wanted!r}, need one of {known}{more}{meant}")
    return predictor.classes.index(wanted)


def _maps(predictor: Any, image: np.ndarray, layer: str | None, file: Path, name: str) -> Any:
    net, x = predictor.net, preprocess(jnp.asarray(image)[None], predictor.preprocessing)
    paths = select_layers(net, x.shape) if layer is None else [layer]
    outputs = jax.jit(capture_intermediates(net, paths).apply)(
        predictor.params, predictor.state, x
    )[0][1]
    maps = {path: np.asarray(outputs[path][0]) for path in paths}
    title = f"{shortened(file.name, 40)}: what the layers of {name} make of it"
    subtitle = "the channels that answer most; each from its least value (dark) to its largest"
    return feature_map_figure(maps, title=title, subtitle=subtitle)
