"""Networks for masks: the class of each pixel."""

from .layouts import Layout
from .recipe import (
    Because,
    Recipe,
    count_to_train_on,
    data_table,
    multiple,
    optimizer_table,
    schedule_table,
    training_table,
)
from .survey import Survey

LONGEST = 128  # pixels of the longer side


def class_of_pixels(layout: Layout, survey: Survey) -> Recipe:
    """Choose for images with a mask each."""
    h, w = survey.size
    scale = min(1.0, LONGEST / max(h, w))
    H, W = (multiple(scale * side, 16, least=32, most=LONGEST) for side in (h, w))
    count = count_to_train_on(survey)
    features = [16, 32, 64, 128, 128] if count < 1_000 else [32, 64, 128, 256, 256]
    return {
        "data": data_table(layout, survey, (H, W)),
        "input": {
            "size": [H, W],
            "fit": Because("resize", "its aspect is that of most images; larger sees more"),
        },
        "augment": {
            "flip": Because(
                True, "left to right; write false if what is to be found has a left and a right"
            ),
            "translate": Because(max(min(H, W) // 10, 1), "moved by up to a tenth of the size"),
        },
        "model": {
            "name": "unet",
            "features": Because(features, f"for {count:,} images; the paper's begin with 64"),
            "batch_norm": True,
            "upsampling": "transposed",
        },
        "loss": {
            "name": Because(
                "cross_entropy_dice", "Dice counts a small class as much as a large one"
            ),
            "label_smoothing": 0.0,
        },
        "optimizer": optimizer_table(3e-3, weight_decay=0.01),
        "schedule": schedule_table(),
        "training": training_table(survey, seen=4_000, least=10, most=60, batch=16),
    }
