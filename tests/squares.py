"""Scenes of bright and dim squares, and what tiny detectors on them share of a config."""

from pathlib import Path

import numpy as np

SCENES = """[data]
source = "scenes"
path = "{path}"
size = [32, 32]
objects = 3
train = 12
validation = 3
test = 5
[input]
size = [32, 32]
fit = "letterbox"
"""
RPN = """[model.rpn]
anchor_sizes = [[8.0, 12.0]]
aspect_ratios = [1.0]
pre_nms_top_n_train = 20
pre_nms_top_n_test = 20
post_nms_top_n_train = 8
post_nms_top_n_test = 8
batch_size_per_image = 16
"""


def write_scenes(config: Path, text: str, count: int) -> Path:
    """Write so many squares beside a config, whose text has their path as ``{path}``."""
    data = config.with_name("squares.npz")
    images, labels = np.zeros((count, 8, 8), np.uint8), np.arange(count) % 2
    images[:, 1:7, 1:7] = np.where(labels, 250, 120)[:, None, None]
    np.savez(data, images=images, labels=labels, classes=["dim", "bright"])
    config.write_text(text.format(path=data))
    return config
