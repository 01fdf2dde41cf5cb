"""What is trained: a config with its data, tiny."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
from PIL import Image

from tests.squares import RPN, SCENES, write_scenes
from tests.tiny import write_tiny

SHORT = [
    "training.steps=40",
    "training.evaluate_every=5 steps",
    "training.log_every=3",
    "checkpoints.keep_every=15 steps",
]
REST = """[optimizer]
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
"""
    + REST
)
FITTED = (
    """
seed = 1
task = "detection"
"""
    + SCENES
    + """[proposals]
method = "sliding"
sides = [8.0, 14.0]
ratios = [1.0]
[model]
name = "spp_detector"
backbone = "small"
norm = "group"
width = 8
stages = [1]
hidden = 16
levels = [2, 1]
svm = {{C = 0.1}}
[model.roi]
batch_size_per_image = 8
score_thresh = 0.0
detections_per_img = 6
[loss]
name = "rcnn"
"""
    + REST
)
SEGMENTER = (
    """
seed = 1
task = "segmentation"
[data]
source = "masks"
path = "{path}"
images = "images"
masks = "masks"
mask_kind = "classes"
classes = ["ground", "thing"]
size = [10, 12]
channels = 1
validation = 6
test = 6
[input]
size = [10, 12]
fit = "pad"
[augment]
flip = true
[precision]
compute = "float16"
loss_scale = 1e5
growth_interval = 5
[model]
name = "unet"
features = [4, 6]
batch_norm = true
upsampling = "transposed"
[loss]
name = "cross_entropy_dice"
label_smoothing = 0.0
dice_weight = 0.5
"""
    + REST
)
TINY = [  # the best is not the last all the time
    *SHORT,
    "seed=1",
    "early_stopping.metric=loss",
    "optimizer.learning_rate=0.3",
    'schedule={name="constant"}',
]


class Victim(NamedTuple):
    """What is trained.

    Attributes:
        about: a sentence on it.
        write: writes config and data into a folder, and returns the config's file.
        data: a file of the data there.
        change: changes what is in it, but not its form.
        options: overrides of the config.
        arguments: of the command line, besides.
        streams: whether worker processes read.
    """

    about: str
    write: Callable[[Path], Path]
    data: str
    change: Callable[[Path, Random], None]
    options: Sequence[str] = SHORT
    arguments: Sequence[str] = ()
    streams: bool = False


def write_squares(folder: Path, text: str) -> Path:
    """Scenes of bright and dim squares, for what finds them."""
    return write_scenes(folder / "detector.toml", text, 100)


def write_masks(folder: Path) -> Path:
    """Bright rectangles on noise, their masks, and what tells the two apart."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for i in range(30):
        mask = np.zeros((10, 12), np.uint8)
        top, left = rng.integers(0, 5, 2)
        mask[top : top + 5, left : left + 6] = 1
        image = rng.integers(0, 100, mask.shape) + 100 * mask
        _save(folder / "images" / f"{i:02}.png", image)
        _save(folder / "masks" / f"{i:02}.png", mask)
    config = folder / "segmenter.toml"
    config.write_text(SEGMENTER.format(path=folder))
    return config


def write_folders(folder: Path) -> Path:
    """The images of the classifier as files, to be streamed."""
    config = write_tiny(folder)
    arrays = np.load(folder / "tiny.npz")
    for split in ("train", "test"):
        images, labels = arrays[f"x_{split}"], arrays[f"y_{split}"]
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            file = folder / "images" / split / str(label) / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            _save(file, image)
    config.write_text(
        config.read_text()
        .replace('"npz"', '"folder"\nstream = true\nnum_workers = 1\nsize = [6, 6]\nchannels = 1')
        .replace("tiny.npz", "images")
    )
    return config


def change_tiny(file: Path, rng: Random) -> None:
    """Change a bit of one image of an .npz file."""
    arrays = dict(np.load(file))
    arrays["x_train"][rng.randrange(100), 0, 0] ^= 1
    np.savez(file, **arrays)


def change_squares(file: Path, rng: Random) -> None:
    """Change a bit of every image of an .npz file: not each of them is in a scene."""
    arrays = dict(np.load(file))
    arrays["images"][:, rng.randrange(1, 7), rng.randrange(1, 7)] ^= 1
    np.savez(file, **arrays)


def change_image(file: Path, rng: Random) -> None:
    """Change all pixels of an image file, and its length, which is all that is known of streamed ones."""
    with Image.open(file) as image:
        pixels = np.asarray(image) ^ rng.randrange(1, 256)
    _save(file, pixels)
    file.write_bytes(file.read_bytes() + b"\0")


def _save(file: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels.astype(np.uint8)).save(file, compress_level=0)  # all of one length


SMOOTHED = "loss.label_smoothing=0.1"
CLASSIFIED = ("tiny.npz", change_tiny)
DETECTED = ("squares.npz", change_squares)
VICTIMS = {
    "classifier": Victim("An MLP.", write_tiny, *CLASSIFIED, [*TINY, SMOOTHED]),
    "averaged": Victim(
        "An MLP whose parameters are averaged, in bfloat16, each batch in four parts.",
        write_tiny,
        *CLASSIFIED,
        [
            *(*TINY, SMOOTHED, "ema.decay=0.9", "precision.compute=bfloat16"),
            *("training.grad_accum_steps=4", "training.skip_nonfinite=3"),
        ],
    ),
    "triplets": Victim(
        "An embedding by triplets of each batch.",
        write_tiny,
        *CLASSIFIED,
        [*TINY, "task=embedding", 'loss={name="triplet_semi_hard", margin=0.3}', "ema.decay=0.9"],
    ),
    "pairs": Victim(
        "An embedding by pairs of each batch.",
        write_tiny,
        *CLASSIFIED,
        [*TINY, "task=embedding", 'loss={name="contrastive", margin=1.0}'],
    ),
    "arcface": Victim(
        "An embedding whose loss has parameters that are trained, too.",
        write_tiny,
        *CLASSIFIED,
        [*TINY, "task=embedding", 'loss={name="arcface", scale=16.0, margin=0.5}'],
    ),
    "study": Victim(
        "Two seeds of the classifier in one program.",
        write_tiny,
        *CLASSIFIED,
        [*TINY, SMOOTHED],
        arguments=["--seeds", "2"],
    ),
    "sweep": Victim(
        "The classifier with two sizes of batches, which are two programs, one after the other.",
        write_tiny,
        *CLASSIFIED,
        [*TINY, SMOOTHED, 'sweep={method="grid", keys={training={batch_size=[8, 16]}}}'],
    ),
    "streamed": Victim(
        "The classifier, its images left in files that a worker process reads ahead.",
        write_folders,
        "images/train/0/3.png",
        change_image,
        [*TINY, SMOOTHED],
        streams=True,
    ),
    "segmenter": Victim(
        "A U-Net with batch norm, in float16 with a loss scale, each batch in two parts.",
        write_masks,
        "images/03.png",
        change_image,
        [*SHORT, "training.grad_accum_steps=2"],
    ),
    "detector": Victim(
        "Faster R-CNN with mosaics and averaged parameters.",
        partial(write_squares, text=DETECTOR),
        *DETECTED,
    ),
    "fitted": Victim(
        "SPP-net, to whose best checkpoint SVMs and box regressors are fitted in the end.",
        partial(write_squares, text=FITTED),
        *DETECTED,
    ),
}
