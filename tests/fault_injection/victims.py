"""What is trained: a config with its data, tiny."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.squares import RPN, SCENES, write_scenes
from tests.tiny import write_tiny

SHORT = [
    "training.steps=40",
    "training.evaluate_every=5 steps",
    "training.log_every=3",
    "checkpoints.keep_every=15 steps",
]
DETECTOR = (
    """
seed = 1
task = "detection"
"""
    + SCENES
    + """[augment]
flip = true
mosaic = {{probability = 0.5}}
[model]
name = "faster_rcnn"
backbone = "small"
norm = "batch"
width = 8
stages = [2]
fpn = 0
hidden = 8
"""
    + RPN
    + """[model.roi]
output_size = 3
batch_size_per_image = 8
detections_per_img = 6
[loss]
name = "rcnn"
[optimizer]
name = "adam"
learning_rate = 0.01
b1 = 0.9
b2 = 0.999
eps = 1e-8
weight_decay = 0.0
[schedule]
name = "constant"
[early_stopping]
metric = "loss"
[ema]
decay = 0.9
[training]
batch_size = 4
steps = 40
"""
)


class Victim(NamedTuple):
    """What is trained.

    Attributes:
        write: writes config and data into a folder, and returns the config's file.
        data: the name of the data's file there.
        images: that of an array in it.
        options: overrides of the config.
    """

    write: Callable[[Path], Path]
    data: str
    images: str
    options: list[str]


def write_detector(folder: Path) -> Path:
    """Scenes of bright and dim squares, and a detector that finds them."""
    return write_scenes(folder / "detector.toml", DETECTOR, 100)


VICTIMS = {
    "classifier": Victim(
        write_tiny,
        "tiny.npz",
        "x_train",
        [
            *SHORT,
            "seed=1",  # with the following, the best is not the last all the time
            "early_stopping.metric=loss",
            "loss.label_smoothing=0.1",
            "optimizer.learning_rate=0.3",
            'schedule={name="constant"}',
        ],
    ),
    "detector": Victim(write_detector, "squares.npz", "images", SHORT),
}
