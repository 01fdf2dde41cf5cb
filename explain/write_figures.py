"""The figures of `convax explain`: why an image has its answer, and more.

explanation.png    saliency, integrated gradients, Grad-CAM, occlusion, receptive field; of a
                   detector of some objects saliency, Grad-CAM, D-RISE
detections.png     of a detector: the objects, with their numbers
neighbors.png      of an embedding: the training images nearest to it
kernels.png        what the first layer looks for
feature_maps.png   what the channels of some layers answer
"""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..model import capture_intermediates, takes_proposals, with_proposals
from ..training.common.pytree_paths import named_leaves
from ..training.config.errors import did_you_mean
from ..training.data.preprocess import preprocess
from ..training.gallery import gallery_images
from ..training.plots import figures
from ..training.plots.figures import shortened
from ..training.report.figures import first_kernels, kernels_figure
from ..training.tasks.task import Explained, ExplainedObject, ExplainedObjects, TaskError
from .explanation import ExplainError, explain_image, make_target
from .layer_selection import select_layers
from .object_panels import numbered_figure, objects_figure
from .objects import explain_objects, proposals_of
from .panels import explanation_figure, feature_map_figure, neighbors_figure

MOST = 3  # objects of an image that are explained, unless one is asked for


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
    number: int | None = None,
    layer: str | None = None,
    invert: bool = False,
    data_path: Path | None = None,
) -> WrittenFigures:
    """Explain an image file, and write the figures into a folder.

    Args:
        predictor: what `convax.load` gives.
        run: its run, for an embedding's training images and for titles.
        file: the image.
        out: the folder; made if it is not there.
        wanted: the class to explain: by default the most probable; of a segmentation the largest
            but the first, of an embedding that of the nearest image, of a detection all.
        number: of a detection, counted from 1: this one alone is explained; the first `MOST` by
            default.
        layer: whose maps Grad-CAM weighs and `feature_maps.png` shows; chosen by default.
        invert: swap black and white, as for `predict`.
        data_path: where the run's data lie by now, if they were moved.

    Raises:
        ExplainError: no such class, detection or layer; several networks, or one that takes more
            than images and is no detector.
        DataError, OSError: the image cannot be read, or its proposals not be found, or the folder
            not be written.
    """
    if predictor.trained is None:
        raise ExplainError("explain: got an ensemble of several networks, need one run")
    if predictor.task.more_inputs is not None and not takes_proposals(predictor.trained.net):
        raise ExplainError(
            "explain: got a network that takes more than images, need one that takes them alone, "
            "or a detector that takes proposals"
        )
    if number is not None and not predictor.task.spec.has_threshold:
        raise ExplainError(
            f"explain: detection: got {number}, but {predictor.task.name} finds no objects; leave "
            "it out"
        )
    if data_path is not None and predictor.task.refer is None:
        raise ExplainError(
            f"explain: data: got {data_path}, but {predictor.task.name} compares with no training "
            "images; leave it out"
        )
    image = predictor.read(file, invert=invert)
    out.mkdir(parents=True, exist_ok=True)
    k = _class_number(predictor, wanted)
    try:
        gallery = partial(gallery_images, run, data_path)
        request = predictor.task.explain(predictor, gallery, image, k)
    except TaskError as error:
        raise ExplainError(f"explain: {error}") from None
    sheet = _Sheet(predictor, image, file, out, shortened(Path(run).resolve().name, 40), layer)
    with figures.style():
        if isinstance(request, ExplainedObjects):
            label, files, has_maps = _draw_objects(sheet, request, number)
        else:
            label, files, has_maps = _draw_score(sheet, request)
        of_network, missing = _draw_network(sheet, has_maps)
    text = f"{file}: {request.text}   explained: {label}"
    return WrittenFigures(text, files + of_network, missing)


class _Sheet(NamedTuple):
    """Hold what is drawn, and where to."""

    predictor: Any
    image: np.ndarray
    file: Path
    out: Path
    name: str  # of the run
    layer: str | None

    def title(self, text: str) -> str:
        return f"{shortened(self.file.name, 40)}: {text}"

    def write(self, figure: Any, name: str) -> Path:
        return figures.write(figure, self.out / name)


def _draw_score(sheet: _Sheet, request: Explained) -> tuple[str, list[Path], bool]:
    """Draw why a score is what it is; return what was explained, files, and whether maps are."""
    target = make_target(sheet.predictor, sheet.image, request.k, request.place)
    found = explain_image(sheet.predictor, sheet.image, target, layer=sheet.layer)
    answer = request.text.replace("   ", ", ")
    subtitle = f"{sheet.name}: {answer}; explained is {request.what}, here {found.score:.3g}"
    title = sheet.title(f"why {shortened(request.label, 30)}?")
    figure = explanation_figure(found, title=title, subtitle=subtitle)
    files = [sheet.write(figure, "explanation.png")]
    if request.near is not None:
        subtitle = f"{sheet.name}: the training images whose embeddings lie nearest, and how far"
        title = sheet.title("its neighbors")
        figure = neighbors_figure(sheet.image, *request.near, title=title, subtitle=subtitle)
        files.append(sheet.write(figure, "neighbors.png"))
    return request.label, files, found.heat is not None


def _draw_objects(
    sheet: _Sheet, request: ExplainedObjects, number: int | None
) -> tuple[str, list[Path], bool]:
    """Draw which objects are where, and why; return as `_draw_score`."""
    objects = _chosen(request.objects, number)
    boxes = np.stack([each.box for each in objects])
    classes, rows = ([getattr(each, name) for each in objects] for name in ("k", "row"))
    found = explain_objects(sheet.predictor, sheet.image, boxes, classes, layer=sheet.layer)
    shown = [each for each in request.objects if each.sure or each.row in rows]
    title, subtitle = sheet.title("what was found"), f"{sheet.name}: {request.text}"
    colors = len(sheet.predictor.classes)
    figure = numbered_figure(found.image, shown, colors, title=title, subtitle=subtitle)
    files = [sheet.write(figure, "detections.png")]
    label = ", ".join(f"{each.row + 1} ({each.text})" for each in objects)
    title = sheet.title(f"why {shortened(label, 60)}?")
    subtitle = (
        f"{sheet.name}: {request.text}; explained is the logit of each one's class, by D-RISE how "
        "much it is like itself where parts of the image are hidden"
    )
    figure = objects_figure(found, objects, title=title, subtitle=subtitle)
    files.append(sheet.write(figure, "explanation.png"))
    return label, files, found.layer is not None


def _chosen(objects: tuple[ExplainedObject, ...], number: int | None) -> list[ExplainedObject]:
    """Return the objects to explain."""
    if number is None:
        return [each for each in objects if each.sure][:MOST] or list(objects[:1])
    chosen = [each for each in objects if each.row + 1 == number]
    if not chosen:
        known = ", ".join(str(each.row + 1) for each in objects[:20])
        more = ", ..." if len(objects) > 20 else ""
        raise ExplainError(f"explain: detection: got {number}, need one of {known}{more}")
    return chosen


def _draw_network(sheet: _Sheet, has_maps: bool) -> tuple[list[Path], list[str]]:
    """Draw kernels and maps; return the files, and why there is none of the others."""
    predictor, files, missing = sheet.predictor, [], []
    if not has_maps:
        missing.append(
            "Grad-CAM, receptive field, feature_maps.png: the network has no maps of the image"
        )
    in_shape = (*predictor.preprocessing.size, predictor.image_shape[-1])
    kernels = first_kernels(predictor.trained.net, predictor.trained.params, in_shape)
    if kernels is None:
        missing.append("kernels.png: the first layer's kernels are no images")
    else:
        figure = kernels_figure(*kernels, f"{sheet.name}: what its first layer looks for")
        files.append(sheet.write(figure, "kernels.png"))
    if has_maps:
        files.append(sheet.write(_maps(sheet), "feature_maps.png"))
    return files, missing


def _class_number(predictor: Any, wanted: str | None) -> int | None:
    if wanted is None:
        return None
    if wanted not in predictor.classes:
        known = ", ".join(map(str, predictor.classes[:20]))
        more = ", ..." if len(predictor.classes) > 20 else ""
        meant = did_you_mean(wanted, predictor.classes)
        raise ExplainError(f"explain: class: got {wanted!r}, need one of {known}{more}{meant}")
    return predictor.classes.index(wanted)


def _maps(sheet: _Sheet) -> Any:
    predictor = sheet.predictor
    x = preprocess(jnp.asarray(sheet.image)[None], predictor.preprocessing)
    net, params, state = predictor.trained
    paths = select_layers(net, x.shape) if sheet.layer is None else [sheet.layer]
    proposals = proposals_of(predictor, sheet.image)
    seeing = net if proposals is None else with_proposals(net, proposals)
    outputs = jax.jit(capture_intermediates(seeing, paths).apply)(params, state, x)[0][1]
    named = (leaf for path in paths for leaf in named_leaves({path: outputs[path]}))
    maps = {path: np.asarray(each[0]) for path, each in named}
    title = sheet.title(f"what the layers of {sheet.name} make of it")
    subtitle = "the channels that answer most; each from its least value (dark) to its largest"
    return feature_map_figure(maps, title=title, subtitle=subtitle)
