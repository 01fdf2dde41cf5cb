"""What kernels do to a photograph: those that people wrote down before networks learned theirs.

    python examples/classic_kernels.py [PICTURE] [--out FILE.png]

Each is one call of `ops.conv`, the operation that networks are made of. Blurs average, so their
weights add up to 1; derivatives find edges, so theirs add up to 0: where nothing changes, nothing
is left. The photograph is one that comes with scikit-learn, unless another is given.
"""

import argparse
from pathlib import Path

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

from convax import explain

WIDEST = 480


def main():
    """Apply them all, print what they do, and draw the results."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("picture", type=Path, nargs="?", help="any photograph")
    arguments.add_argument("--out", type=Path, default=Path("classic_kernels.png"))
    given = arguments.parse_args()

    if given.picture:
        picture = Image.open(given.picture).convert("RGB")
    else:
        picture = Image.fromarray(load_sample_image("china.jpg"))
    picture.thumbnail((WIDEST, WIDEST))
    photograph = jnp.asarray(picture, jnp.float32)[None] / 255
    gray = photograph.mean(axis=-1, keepdims=True)

    figure, panels = plt.subplots(2, 4, figsize=(11, 4.7), layout="constrained")
    for ax, (name, kernel) in zip(panels.flat, explain.CLASSIC.items(), strict=True):
        total = float(kernel.sum())
        edges = abs(total) < 1e-6
        result = explain.apply_kernel(gray if edges else photograph, kernel)
        print(f"{name}: {kernel.shape[0]}x{kernel.shape[1]}, its weights add up to {total:.3g}")
        if edges:
            top = float(jnp.quantile(jnp.abs(result), 0.99))
            ax.imshow(result[0, ..., 0], cmap="RdBu_r", vmin=-top, vmax=top)
        else:
            ax.imshow(np.clip(result[0], 0, 1))
        ax.set_title(name, loc="left", fontsize=10)
        ax.axis("off")
    figure.savefig(given.out, dpi=110)
    print(given.out)


if __name__ == "__main__":
    main()
