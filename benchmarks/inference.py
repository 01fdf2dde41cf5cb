"""Inference, one image at a time and 64 at once: convax, Flax, Equinox and PyTorch, taking turns.

    python benchmarks/inference.py [--only lenet] [--torch PYTHON]

Each contestant is asked for the logits of float32 images that it holds already, and every answer is
waited for. PyTorch as in steps.py, in `inference_mode`.
"""

from contest import Page, better_of, chosen, contest, parse, table, without
from nets import NETS
from steps import CONTESTANTS, IN_EQUINOX

NAMES = ("lenet5", "resnet18", "mobilenet_v2")
BATCHES = (1, 64)


def main() -> None:
    options = parse(__doc__ or "", turn=0.3)
    if options.quick:
        options.without.append("torch.compile")
    page = Page("inference", options)
    options.without += ["in chunks", "native"]  # about training, and in latency.py
    contestants = without(CONTESTANTS, options)
    for name in chosen(NAMES, options):
        taking_part = {k: v for k, v in contestants.items() if k != "Equinox" or name in IN_EQUINOX}
        for batch in BATCHES:
            arguments = {"net": name, "batch": batch}
            results, versions = contest(taking_part, "inference", arguments, options)
            better_of(results, "PyTorch, channels last", "PyTorch, contiguous")
            H, W, C = NETS[name].image
            page.versions |= versions
            page.add("", f"## {NETS[name].title}, {batch} x {H}x{W}x{C}", "", *table(results))
    page.finish()


if __name__ == "__main__":
    main()
