"""The combinator of detectors with regions: maps, proposals, and what is at each of them."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array, lax

from ... import ops
from ...ops.common.dtypes import accum_dtype
from ..combinators import apply_part, init_part
from ..layer import Layer, LayerInfo, Params, Shape, State, as_arrays
from .options import RegionOptions, RoIOptions, RPNOptions
from .proposals import anchors_on, by_anchor, label_anchors, propose
from .regions import BOX_WEIGHTS, detect, sample_regions
from .structures import (
    Detections,
    DetectorInput,
    DetectorOutput,
    GroundTruth,
    RoIOutput,
    RPNOutput,
)

# Maps by name and boxes (N, R, 4) in pixels of images of a size: to (N, R, ...).
Pool: TypeAlias = Callable[[Mapping[str, Array], Array, tuple[int, int]], Array]


_ON_MAPS, _ON_CROPS = "detector", "crop_detector"  # kinds of layers


class DetectorConfig(NamedTuple):
    """The settings of a detector, beside its layers.

    Attributes:
        roi: of the second stage.
        pool: what is given to the box head.
        rpn: of the first; None where proposals are given.
        mask_pool: what is given to the mask head; None without one.
        crops: whether regions are read of the image, the one map there is, and the backbone sees
            each by itself, as in R-CNN; else the backbone sees the image, and regions are read of
            its maps.
    """

    roi: RegionOptions
    pool: Pool
    rpn: RPNOptions | None = None
    mask_pool: Pool | None = None
    crops: bool = False


def detector(config: DetectorConfig, parts: Mapping[str, Layer]) -> Layer:
    """Make a detector of two stages: Ren et al., arXiv:1506.01497; He et al., arXiv:1703.06870.

    Without a proposal network it is of one stage, and takes proposals beside the images.

    Args:
        config: thresholds, sizes and how regions are read.
        parts: ``backbone``, whose output is maps by name, a single one of crops; ``fpn``, if
            wanted; ``rpn`` (`heads.rpn_head`), if there is `DetectorConfig.rpn`; ``head`` on
            regions and ``predictor`` (`heads.box_predictor`); ``mask_head`` and ``mask_predictor``
            where there are masks; ``svm`` and ``bbox_reg`` (`linear.fitted_linear`) if these are to
            take the place of the predictor once they are fitted.

    Returns:
        A layer from images ``(N, H, W, C)`` or a `DetectorInput` to a `DetectorOutput`. With truth
        and ``train=True``, which needs a key for the samples, it gives what the loss compares;
        without, detections; with truth and ``train=False`` both, the samples then drawn with
        ``jax.random.key(0)``, so that a validation loss is the same each time. Coordinates,
        proposals, samples and targets are constants for the gradient.

        Its ``init`` gives the shapes of a `DetectorOutput` without truth.
    """
    return _detector(parts, config=config)


def takes_proposals(net: Layer) -> bool:
    """Return whether a network is a detector without a proposal network."""
    return net.info.kind in (_ON_MAPS, _ON_CROPS) and "rpn" not in net.info.parts


def sees_crops(net: Layer) -> bool:
    """Return whether a network is a detector whose backbone sees regions, not the image."""
    return net.info.kind == _ON_CROPS


def with_proposals(net: Layer, proposals: Array) -> Layer:
    """Return a detector that takes images alone, and looks at the same proposals in each.

    Args:
        net: a detector without a proposal network.
        proposals: ``(R, 4)`` in pixels of the images.
    """

    def apply(params, state, x, *, train=False, key=None):
        boxes = jnp.broadcast_to(proposals, (len(x), *proposals.shape))
        given = DetectorInput(x, proposals=boxes)
        return net.apply(params, state, given, train=train, key=key)

    def rebuild(parts: Mapping[str, Layer]) -> Layer:
        assert net.info.rebuild is not None
        return with_proposals(net.info.rebuild(parts), proposals)

    return net._replace(apply=apply, info=net.info._replace(rebuild=rebuild))


def _detector(parts: Mapping[str, Layer], config: DetectorConfig) -> Layer:
    def init(key: Array, in_shape: Shape) -> tuple[Any, Params, State]:
        params, state = {}, {}

        def shape_of(name: str, shape: Any) -> Any:
            return init_part(name, parts[name], key, shape, params, state)

        def pooled(pool: Pool, maps: Any, regions: int) -> Shape:
            boxes = jax.ShapeDtypeStruct((N, regions, 4), jnp.float32)
            read = lambda maps, boxes: pool(maps, boxes, (H, W))  # noqa: E731
            out = jax.eval_shape(read, as_arrays(maps), boxes)
            return (N * regions, *out.shape[2:])

        N, H, W, _ = in_shape
        maps = {"image": in_shape} if config.crops else shape_of("backbone", in_shape)
        if "fpn" in parts:
            maps = shape_of("fpn", maps)
        if config.rpn:
            shape_of("rpn", maps)
        R = config.rpn.post_nms_top_n_test if config.rpn else 1
        shape = pooled(config.pool, maps, R)
        if config.crops:
            (shape,) = shape_of("backbone", shape).values()
        features = shape_of("head", shape)
        of_regions = shape_of("predictor", features)
        if "svm" in parts:
            shape_of("svm", features)
            shape_of("bbox_reg", shape)
        D, masks = config.roi.detections_per_img, None
        shapes: Any = Detections  # of shapes in place of arrays
        if config.mask_pool:
            shape = shape_of("mask_head", pooled(config.mask_pool, maps, D))
            masks = (N, D, *shape_of("mask_predictor", shape)[1:3])
        found = shapes((N, D, 4), (N, D), (N, D), masks)
        logits: Any = (N, D, of_regions["logits"][-1])
        return DetectorOutput(found, logits=logits, proposals=found.boxes), params, state

    def apply(params, state, x, *, train=False, key=None):
        given = x if isinstance(x, DetectorInput) else DetectorInput(x)
        new_state: State = {}

        def value(name: str, x: Any, into: State) -> Any:
            return apply_part(name, parts[name], params, state, into, x, train, key)

        images = given.images
        maps = {"image": images} if config.crops else value("backbone", images, new_state)
        maps = value("fpn", maps, new_state) if "fpn" in parts else maps
        fitted = params["svm"]["scale"] > 0 if "svm" in parts else None
        run = _Run(given, maps, config, value, train, key, fitted)
        rpn, proposals, proposed = run.first_stage(new_state)
        if given.truth is None:
            return run.detections(proposals, proposed, new_state), new_state
        regions = run.regions(given.truth, proposals, proposed, new_state)
        if train:
            return DetectorOutput(None, rpn, regions), new_state
        # The heads run once more, and change no state: none changes in evaluation.
        found = run.detections(proposals, proposed, {})
        return found._replace(rpn=rpn, regions=regions), new_state

    kind = _ON_CROPS if config.crops else _ON_MAPS
    info = LayerInfo(kind, None, parts, "custom", partial(_detector, config=config))
    return Layer(init, apply, info)  # type: ignore[arg-type] -- gives several arrays


class _Run(NamedTuple):
    """One application of a detector to a batch."""

    given: DetectorInput
    maps: Mapping[str, Array]
    config: DetectorConfig
    value: Callable[..., Any]
    train: Any
    key: Array | None
    fitted: Array | None  # (), bool: whether the predictor is replaced; None where it never is

    @property
    def image_size(self) -> tuple[int, int]:
        H, W = self.given.images.shape[1:3]
        return H, W

    def keys(self, stage: int) -> Array:
        """Return a key for each image's sample."""
        key = self.key if self.train else jax.random.key(0)
        if key is None:
            raise ValueError("detector: no key: need one in training, for the samples; pass key=")
        return jax.random.split(jax.random.fold_in(key, stage), len(self.given.images))

    def first_stage(self, into: State) -> tuple[RPNOutput | None, Array, Array]:
        """Return what the proposal network gave, proposals, and which of them are no padding."""
        rpn, truth = self.config.rpn, self.given.truth
        if rpn is None:
            return None, *self.given_proposals()
        head = self.value("rpn", self.maps, into)
        logits = _wide(by_anchor(head["logits"], 1)[..., 0])
        deltas = _wide(by_anchor(head["deltas"], 4))
        sizes = [(level.shape[1], level.shape[2]) for level in self.maps.values()]
        anchors = anchors_on(sizes, self.image_size, rpn)
        best = partial(
            propose, anchors=anchors, image_size=self.image_size, rpn=rpn, train=bool(self.train)
        )
        boxes, proposed = jax.vmap(best)(lax.stop_gradient(logits), lax.stop_gradient(deltas))
        if truth is None:
            return None, boxes, proposed
        label = partial(label_anchors, anchors=jnp.concatenate(anchors), rpn=rpn)
        labels, targets = jax.vmap(lambda key, truth: label(key, truth=truth))(self.keys(1), truth)
        return RPNOutput(logits, deltas, labels, lax.stop_gradient(targets)), boxes, proposed

    def given_proposals(self) -> tuple[Array, Array]:
        boxes = self.given.proposals
        if boxes is None:
            raise ValueError(
                "no proposals: this detector proposes none itself; pass a DetectorInput with "
                "proposals (N, R, 4)"
            )
        return boxes, (boxes[..., 2:] > boxes[..., :2]).all(-1)

    def regions(
        self, truth: GroundTruth, proposals: Array, proposed: Array, into: State
    ) -> RoIOutput:
        """Return what the loss of the second stage compares, for a sample of regions."""
        roi = self.config.roi
        sample = jax.vmap(partial(sample_regions, roi=roi))
        sampled = lax.stop_gradient(sample(self.keys(2), proposals, proposed, truth))
        _, features = self.read(sampled.boxes, into)
        logits, deltas = self.predict(features, sampled.boxes, into)
        found = RoIOutput(sampled.boxes, logits, deltas, sampled.labels, sampled.targets)
        if self.config.mask_pool is None:
            return found
        assert isinstance(roi, RoIOptions)
        boxes, objects = sampled.boxes[:, : roi.positives], sampled.objects[:, : roi.positives]
        masks = self.mask_head(boxes, into)
        crop = partial(ops.crop_masks, output_size=masks.shape[2:4], aligned=roi.aligned)
        return found._replace(masks=masks, mask_targets=jax.vmap(crop)(truth.masks, objects, boxes))

    def detections(self, proposals: Array, proposed: Array, into: State) -> DetectorOutput:
        """Return what is found, with masks where there is a mask head."""
        best = partial(detect, image_size=self.image_size, roi=self.config.roi)
        if self.fitted is not None:
            best = partial(best, fitted=self.fitted)
        found, *own = jax.vmap(best)(*self.score(proposals, into), proposals, proposed)
        of_regions = dict(zip(("logits", "proposals"), own, strict=True))
        if self.config.mask_pool is None:
            return DetectorOutput(found, **of_regions)
        masks = self.mask_head(found.boxes, into)
        own = (found.classes + 1)[..., None, None, None]
        masks = jax.nn.sigmoid(jnp.take_along_axis(masks, own, axis=-1)[..., 0])
        return DetectorOutput(found._replace(masks=masks), **of_regions)

    def read(self, boxes: Array, into: State) -> tuple[Array, Array]:
        """Return what the box head is given of regions, ``(N R, ...)``, and what it gives."""
        pooled = self.config.pool(self.maps, boxes, self.image_size)
        regions = pooled.reshape(-1, *pooled.shape[2:])
        if self.config.crops:
            (regions,) = self.value("backbone", regions, into).values()
        return regions, self.value("head", regions, into)

    def predict(self, features: Array, boxes: Array, into: State) -> tuple[Array, Array]:
        """Return logits ``(N, R, K + 1)`` and deltas ``(N, R, K + 1, 4)`` of regions."""
        given = self.value("predictor", features, into)
        logits = _wide(given["logits"]).reshape(*boxes.shape[:2], -1)
        return logits, _wide(given["deltas"]).reshape(*logits.shape, 4)

    def score(self, boxes: Array, into: State) -> tuple[Array, Array]:
        """Return what `predict` does, or once they are fitted the margins and offsets of SVMs."""
        regions, features = self.read(boxes, into)
        logits, deltas = self.predict(features, boxes, into)
        if self.fitted is None:
            return logits, deltas
        own = (slice(None), slice(None), slice(1, None))  # of the classes; the background's are 0
        margins = _wide(self.value("svm", features, into)).reshape(logits[own].shape)
        offsets = _wide(self.value("bbox_reg", regions, into)).reshape(deltas[own].shape)
        offsets = offsets * jnp.array(BOX_WEIGHTS).reshape(1, 1, 1, 4)
        first = ((0, 0), (0, 0), (1, 0))
        margins, offsets = jnp.pad(margins, first), jnp.pad(offsets, (*first, (0, 0)))
        return jnp.where(self.fitted, margins, logits), jnp.where(self.fitted, offsets, deltas)

    def mask_head(self, boxes: Array, into: State) -> Array:
        """Return mask logits ``(N, R, m, m, K + 1)`` of regions."""
        assert self.config.mask_pool is not None
        pooled = self.config.mask_pool(self.maps, boxes, self.image_size)
        features = self.value("mask_head", pooled.reshape(-1, *pooled.shape[2:]), into)
        logits = _wide(self.value("mask_predictor", features, into))
        return logits.reshape(*boxes.shape[:2], *logits.shape[1:])


def _wide(x: Array) -> Array:
    """Return `x` in float32 at least: coordinates and probabilities need it."""
    return x.astype(accum_dtype(x.dtype))
