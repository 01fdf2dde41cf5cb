"""MNIST with LeNet-5, from typing the command: convax against PyTorch, one process after the other.

    python benchmarks/time_to_accuracy.py [--seeds 3] [--convax PYTHON] [--torch PYTHON]

convax runs ``convax train lenet5-mnist``: it looks at the test images once, at its end, so its
time is from the start of the process to the test figure. PyTorch trains the same network (61,706
parameters, ReLU, max pooling) for six epochs at batch 128 with Adam under a one-cycle schedule
peaking at 4e-3, and looks at the test images after every epoch: its time is from the start of the
process to the first figure of at least 99.0 %. Both read the four IDX files in $CONVAX_DATA/mnist.
The two take turns, seed by seed. Either may run under another interpreter.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TARGET = 99.0


def pytorch(seed: int) -> None:
    """The PyTorch contestant: prints the test accuracy after each epoch."""
    import torch
    from torch import nn

    from convax.training.data import load_idx, locate  # NumPy alone; no JAX is imported

    dataset = load_idx(locate("mnist", config_dir=None))
    torch.manual_seed(seed)
    net = nn.Sequential(
        *(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(400, 120), nn.ReLU()),
        *(nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )

    def tensors(split):
        images = torch.from_numpy(split.images.transpose(0, 3, 1, 2).copy()).float() / 255
        padded = nn.functional.pad(images, (2, 2, 2, 2))
        return (padded - 0.1307) / 0.3081, torch.from_numpy(split.labels).long()

    (x, y), (x_test, y_test) = tensors(dataset.train), tensors(dataset.test)
    epochs, batch = 6, 128
    steps = -(-len(x) // batch)
    optimizer = torch.optim.Adam(net.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=epochs * steps)
    for _ in range(epochs):
        for chosen in torch.randperm(len(x)).split(batch):
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(net(x[chosen]), y[chosen]).backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            hits = sum(
                int((net(a).argmax(1) == b).sum())
                for a, b in zip(x_test.split(500), y_test.split(500), strict=True)
            )
        print(f"test: accuracy {100 * hits / len(x_test):.2f}%", flush=True)


def watch(command: list[str]) -> list[tuple[float, float]]:
    """Run a command; the seconds since its start and the accuracy of each test figure it prints."""
    began, seen = time.perf_counter(), []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if found := re.match(r"test:.* accuracy ([\d.]+)%", line):
                seen.append((time.perf_counter() - began, float(found[1])))
    if process.returncode:
        sys.exit(f"failed: {' '.join(command)}")
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--convax", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--torch", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--as-pytorch", type=int, metavar="SEED", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_pytorch is not None:
        return pytorch(options.as_pytorch)

    ours, theirs = [], []
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            train = [options.convax, "-m", "convax", "train", "lenet5-mnist"]
            ends = watch([*train, "--set", f"seed={seed}", "--out", str(Path(folder) / "run")])
        ours.append(ends[-1])
        print(f"seed {seed}: convax   {ours[-1][1]:.2f} % tested after {ours[-1][0]:.1f} s")
        seen = watch([options.torch, __file__, "--as-pytorch", str(seed)])
        passed = next((s for s, accuracy in seen if accuracy >= TARGET), float("inf"))
        theirs.append((passed, seen[-1][1]))
        print(
            f"seed {seed}: PyTorch  {TARGET} % passed after {passed:.1f} s; "
            f"{seen[-1][1]:.2f} % after {seen[-1][0]:.1f} s",
            flush=True,
        )
    ratio = statistics.median(t / o for (o, _), (t, _) in zip(ours, theirs, strict=True))
    print(f"\nconvax:   mean {statistics.mean(a for _, a in ours):.2f} % at the end")
    print(f"PyTorch:  mean {statistics.mean(a for _, a in theirs):.2f} % at the end")
    print(f"PyTorch's time to {TARGET} % / convax's time to its end: {ratio:.2f} (median)")


if __name__ == "__main__":
    main()
