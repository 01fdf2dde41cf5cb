"""Fine-tuning on a folder of one's own pictures, with what a network has learned elsewhere.

    python examples/own_pictures.py [FOLDER] [--out runs/own-pictures] [--epochs 20]

FOLDER has a folder of pictures for each class. Without one, a small one is made: 15 pictures of
each digit, in chalk on colored boards, aslant. The network is LeNet-5 as it learned scikit-learn's
digits; its first convolution is kept, the rest goes on learning. Beside it the same network learns
from the folder alone. As commands:

    convax train --set training.epochs=20
    convax train finetune-digits --set training.epochs=20 \\
        --set 'init_from={path="runs/lenet5-digits"}' \\
        --set 'data={source="folder", path="FOLDER", channels=1, validation=0.2, test=0.2}'
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import convax

LARGE = 56  # pixels


def make_folder(folder, each=15):
    """Digits in chalk on boards of different colors, each a little aslant, as PNG files."""
    rng, digits = np.random.default_rng(0), load_digits()
    for digit in range(10):
        (folder / str(digit)).mkdir(parents=True)
        for i, image in enumerate(digits.images[digits.target == digit][-each:]):
            small = Image.fromarray(np.uint8(image * 255 / 16))
            chalk = small.resize((LARGE, LARGE), Image.Resampling.BICUBIC)
            chalk = np.asarray(chalk.rotate(rng.uniform(-20, 20)), float)[..., None] / 255
            board = rng.uniform(0, 120, 3)
            picture = board + (235 - board) * chalk
            Image.fromarray(np.uint8(picture)).save(folder / str(digit) / f"{i}.png")
    return folder


def main():
    """Train three times, and print what came out."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("folder", nargs="?", type=Path)
    arguments.add_argument("--out", type=Path, default=Path("runs/own-pictures"))
    arguments.add_argument("--epochs", type=int, default=20)
    given = arguments.parse_args()
    folder = given.folder or make_folder(Path(tempfile.mkdtemp()) / "pictures")

    length = f"training.epochs={given.epochs}"
    path = json.dumps(str(folder))  # as TOML spells it, too
    own = f'data={{source="folder", path={path}, channels=1, validation=0.2, test=0.2}}'
    if given.out.exists():
        arguments.error(f"--out: {given.out} exists; name another folder, or remove it")
    source = convax.train(convax.load_config("lenet5-digits", [length]), given.out / "digits")
    recipes = {
        "fine-tuned": f"init_from={{path={json.dumps(str(source.path))}}}",
        "from scratch": "optimizer.groups=[]",
    }
    for name, override in recipes.items():
        config = convax.load_config("finetune-digits", [own, length, override])
        if name == "from scratch":
            config = config.model_copy(update={"init_from": None})
        run = convax.train(config, given.out / name.replace(" ", "-"))
        test = run.info()["result"]["test"]
        print(f"{name:>12}: {test['accuracy']:.1%} of {test['count']} pictures right; {run.path}")
    print(f"next: convax predict {given.out / 'fine-tuned'} PICTURE...")


if __name__ == "__main__":
    main()
