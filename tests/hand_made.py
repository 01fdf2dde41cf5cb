"""A detector whose weights are set by hand: it finds bright squares, and everything fits on paper.

The canvas is 32x32 with one channel. A map is the mean brightness of cells of 4x4 pixels; with two
levels there is one more, of cells of 8x8. An anchor covers 2x2 cells, m is the mean of their
brightness, which is both the logit of a proposal and what the head makes of a region. The logits of
a region are (0, 16 m - 12, -9): nothing, "square", "never". Boxes are the anchors.
"""

from typing import Any

import jax.numpy as jnp

from convax import model, ops
from convax.model.detection.detector import DetectorConfig, detector
from convax.model.detection.heads import box_head, box_predictor, rpn_head
from convax.model.detection.options import RoIOptions, RPNOptions

SIDE, CELL = 32, 4
DETECTIONS = 12


def hand_made(levels=1, *, proposes=True):
    """Return the network and its parameters; one that proposes nothing is given proposals."""
    convs = {
        f"level{i}": model.conv(1, 4 if i == 1 else 2, stride=4 if i == 1 else 2, bias=False)
        for i in range(1, levels + 1)
    }
    rpn = RPNOptions(
        anchor_sizes=[[8.0], [16.0]][:levels],
        aspect_ratios=[1.0],
        pre_nms_top_n_test=40,
        post_nms_top_n_test=20,
    )
    roi = RoIOptions(output_size=2, sampling_ratio=1, detections_per_img=DETECTIONS)

    def pool(maps, boxes, size):
        level = (boxes[..., 2] - boxes[..., 0] > 12).astype(jnp.int32)
        scales = [map.shape[1] / size[0] for map in maps.values()]
        return ops.multilevel_roi_align(
            list(maps.values()), boxes, level, 2, spatial_scales=scales, sampling_ratio=1
        )

    parts = {
        "backbone": model.backbone(model.serial(**convs), list(convs)),
        "rpn": rpn_head(1),
        "head": box_head(1),
        "predictor": box_predictor(2),
    }
    corner = jnp.zeros((3, 3, 1, 1)).at[:2, :2].set(1 / 4)  # the cells that an anchor covers
    params: dict[str, Any] = {
        "backbone": {
            name: {"kernel": jnp.full((n, n, 1, 1), 1 / n**2)}
            for name, n in zip(convs, (4, 2), strict=False)
        },
        "rpn": {
            "conv1": {"kernel": corner, "bias": jnp.zeros(1)},
            "logits": {"kernel": jnp.ones((1, 1, 1, 1)), "bias": jnp.zeros(1)},
            "deltas": {"kernel": jnp.zeros((1, 1, 1, 4)), "bias": jnp.zeros(4)},
        },
        "head": {
            "fc6": {"kernel": jnp.full((4, 1), 1 / 4), "bias": jnp.zeros(1)},
            "fc7": {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)},
        },
        "predictor": {
            "logits": {
                "kernel": jnp.array([[0.0, 16.0, 0.0]]),
                "bias": jnp.array([0.0, -12.0, -9.0]),
            },
            "deltas": {"kernel": jnp.zeros((1, 12)), "bias": jnp.zeros(12)},
        },
    }
    if not proposes:
        del parts["rpn"], params["rpn"]
    return detector(DetectorConfig(roi, pool, rpn if proposes else None), parts), params


def squares(*boxes):
    """Return an image ``(1, 32, 32, 1)`` with squares (x1, y1, x2, y2, brightness)."""
    image = jnp.zeros((1, SIDE, SIDE, 1))
    for x1, y1, x2, y2, brightness in boxes:
        image = image.at[:, y1:y2, x1:x2].set(brightness)
    return image
