"""What torchvision makes of some regions of a map: `python -m tests.golden.roi` writes the file.

torchvision's operators need a PyTorch of their version beside them; the file is compared with
everywhere. It was made with the versions that it names.
"""

from contextlib import contextmanager
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_suffix(".npz")
SCALE, OUTPUT_SIZE = 0.25, (2, 3)
# Names of arrays, and the options of ours; torchvision's adaptive sampling is -1.
ALIGNED = {
    f"align_{'' if aligned else 'not_'}aligned_{S}": dict(sampling_ratio=S, aligned=aligned)
    for aligned in (True, False)
    for S in (0, 1, 2, 3)
}
STRIDES = (4, 8)


@contextmanager
def golden():
    """Open the file: a mapping of names to arrays."""
    with np.load(FILE) as arrays:
        yield arrays


def make() -> dict[str, np.ndarray]:
    """Return the arrays of the file; maps are channels last."""
    import torch
    import torchvision  # pyright: ignore[reportMissingImports]
    from torchvision.models.detection import roi_heads  # pyright: ignore[reportMissingImports]
    from torchvision.ops import poolers  # pyright: ignore[reportMissingImports]

    rng = np.random.default_rng(0)
    t = torch.tensor
    x = rng.normal(size=(6, 7, 2)).astype(np.float32)
    boxes = np.sort(rng.uniform(-6, 34, (8, 2, 2)), axis=1).reshape(8, 4).astype(np.float32)
    boxes[0] = 0  # padding
    boxes[1] = (8, 4, 16, 16)  # samples at whole numbers
    boxes[2] = (5, 6, 5, 9)  # without width
    boxes[3] = (-90, -80, 150, 160)  # larger than the map
    g = rng.normal(size=(8, *OUTPUT_SIZE, 2)).astype(np.float32)
    coarse = rng.normal(size=(3, 4, 2)).astype(np.float32)
    ids = rng.integers(0, 4, (9, 10)).astype(np.uint8)
    which = np.array([0, 1, 2, 2, 1, 0, 2, 0])
    out = {
        "versions": np.array([torch.__version__, torchvision.__version__]),
        **{"x": x, "boxes": boxes, "g": g, "coarse": coarse, "ids": ids, "which": which},
    }

    def first(a):
        return torch.movedim(t(a), -1, 0)[None]

    def with_grad(name, function, *arguments):
        image = first(x).requires_grad_()
        y = function(image, [t(boxes)], OUTPUT_SIZE, SCALE, *arguments)
        y.backward(torch.movedim(t(g), -1, 1))
        out[name] = torch.movedim(y.detach(), 1, -1).numpy()
        out[f"{name}_grad"] = torch.movedim(image.grad[0], 0, -1).numpy()

    for name, how in ALIGNED.items():
        sampling = how["sampling_ratio"] or -1
        with_grad(name, torchvision.ops.roi_align, sampling, how["aligned"])
    with_grad("pool", torchvision.ops.roi_pool)

    pooler = poolers.MultiScaleRoIAlign(["0", "1"], list(OUTPUT_SIZE), 2, canonical_scale=20)
    maps = {"0": first(x), "1": first(coarse)}
    pooled = pooler(maps, [t(boxes)], [(24, 32)])  # an image whose maps have strides of 4 and 8
    out["multilevel"] = torch.movedim(pooled, 1, -1).numpy()

    sides = np.array([0.5, 27, 28, 55.99, 56, 111.9, 112, 224, 448, 447, 900, 1e4], np.float32)
    out["sizes"] = np.stack([0 * sides, 0 * sides, sides, sides], axis=1)
    out["levels"] = poolers.LevelMapper(2, 5)([t(out["sizes"])]).numpy()

    masks = t(np.stack([ids == n + 1 for n in range(3)]).astype(np.float32))
    out["small_boxes"] = boxes * np.float32(0.3)
    out["cropped"] = roi_heads.project_masks_on_boxes(
        masks, t(out["small_boxes"]), t(which), 3
    ).numpy()
    return out


if __name__ == "__main__":
    np.savez_compressed(FILE, **make())
    print(f"wrote {FILE}, {FILE.stat().st_size} bytes")
