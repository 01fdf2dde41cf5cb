"""What torchvision makes of some boxes: `python -m tests.golden.detection` writes the file.

torchvision's operators need a PyTorch of their version beside them; the file is compared with
everywhere. It was made with the versions that it names.
"""

from contextlib import contextmanager
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_suffix(".npz")
THRESHOLDS = tuple(round(0.1 * n, 1) for n in range(1, 10))


@contextmanager
def golden():
    """Open the file: a mapping of names to arrays."""
    with np.load(FILE) as arrays:
        yield arrays


def boxes(rng: np.random.Generator, n: int, places: np.ndarray) -> np.ndarray:
    """Return boxes about some places, (n, 4) of float32, two of them equal."""
    center = places[rng.integers(0, len(places), n)] + rng.normal(0, 5, (n, 2))
    sides = rng.uniform(10, 50, (n, 2))
    made = np.concatenate([center - sides / 2, center + sides / 2], axis=1)
    made[n // 2] = made[0]
    return made.astype(np.float32)


def make() -> dict[str, np.ndarray]:
    """Return the arrays of the file."""
    import torch
    import torchvision  # pyright: ignore
    from torchvision.models.detection._utils import BoxCoder, Matcher  # pyright: ignore
    from torchvision.models.detection.anchor_utils import AnchorGenerator  # pyright: ignore
    from torchvision.models.detection.image_list import ImageList  # pyright: ignore

    rng = np.random.default_rng(0)
    t = torch.tensor
    places = rng.uniform(0, 200, (3, 2))
    one, two, anchors = (boxes(rng, n, places) for n in (12, 9, 12))
    weights = (10.0, 10.0, 5.0, 5.0)
    coder = BoxCoder(weights)
    deltas = rng.normal(0, 2, (12, 4)).astype(np.float32)
    out = {
        "versions": np.array([torch.__version__, torchvision.__version__]),
        "boxes1": one,
        "boxes2": two,
        "anchors": anchors,
        "weights": np.array(weights),
        "deltas": deltas,
        "iou": torchvision.ops.box_iou(t(one), t(two)).numpy(),
        "giou": torchvision.ops.generalized_box_iou(t(one), t(two)).numpy(),
        "encoded": coder.encode_single(t(one), t(anchors)).numpy(),
        "decoded": coder.decode_single(t(deltas), t(anchors)).numpy().reshape(-1, 4),
    }
    for name in ("generalized_box_iou", "distance_box_iou", "complete_box_iou"):
        predicted = t(one, requires_grad=True)
        loss = getattr(torchvision.ops, f"{name}_loss")(predicted, t(anchors), reduction="none")
        gradient = torch.autograd.grad(loss.sum(), predicted)[0]
        out[name], out[f"{name}_grad"] = loss.detach().numpy(), gradient.numpy()

    generator = AnchorGenerator(sizes=((32, 64, 100),), aspect_ratios=((0.5, 1.0, 2.0),))
    images = ImageList(torch.zeros(1, 3, 48, 80), [(48, 80)])
    out["cells"] = generator.cell_anchors[0].numpy()
    out["grid"] = generator(images, [torch.zeros(1, 1, 3, 5)])[0].numpy()

    truth, candidates = boxes(rng, 5, places), boxes(rng, 60, places)
    iou = torchvision.ops.box_iou(t(truth), t(candidates))
    assert (iou.max(1).values > 0).all()  # else torchvision takes every box for positive
    out |= {"truth": truth, "candidates": candidates}
    for low_quality in (False, True):
        matched = Matcher(0.7, 0.3, allow_low_quality_matches=low_quality)(iou).numpy()
        out[f"matched_{low_quality}"] = matched.astype(np.int32)

    crowd, scores = boxes(rng, 80, places), np.round(rng.uniform(size=80), 2).astype(np.float32)
    classes = rng.integers(0, 3, 80)
    out |= {"crowd": crowd, "scores": scores, "classes": classes.astype(np.int32)}
    for threshold in THRESHOLDS:
        kept = torchvision.ops.nms(t(crowd), t(scores), threshold)
        by_class = torchvision.ops.batched_nms(t(crowd), t(scores), t(classes), threshold)
        out[f"nms_{threshold}"] = kept.numpy().astype(np.int32)
        out[f"batched_nms_{threshold}"] = by_class.numpy().astype(np.int32)
    return out


if __name__ == "__main__":
    np.savez_compressed(FILE, **make())
    print(f"wrote {FILE.name}, {FILE.stat().st_size / 1024:.0f} KiB")
