"""From bytes to probabilities: convax, PyTorch and ONNX Runtime, taking turns.

    python benchmarks/latency.py [--only lenet] [--torch PYTHON]

What a service waits for: uint8 images in NumPy's memory go in, probabilities come out there, and
the preprocessing is part of the network; each answer is waited for. convax's is the function that
`convax.load` makes. PyTorch runs eagerly in both memory formats, of which the faster is shown, and
through `torch.compile`, which `--quick` spares; ONNX Runtime runs the file that `torch.onnx` writes
of PyTorch's network. convax runs with the native kernels (`make native`) as well. In the end there
are geometric means over the cases, with the least. `inference.py` has the other JAX libraries, from
floats to logits.
"""

from contest import OURS, Contestant, Page, better_of, chosen, contest, parse, table, without
from means import means, ratios_of
from nets import NETS
from steps import CONTESTANTS

CASES = [  # network, height and width, images at once
    *(("lenet5", 32, 1), ("lenet5", 32, 64)),
    *(("resnet18", 32, 1), ("resnet18", 32, 64), ("resnet18", 224, 1), ("resnet18", 224, 64)),
    *(("mobilenet_v2", 64, 1), ("mobilenet_v2", 64, 64), ("mobilenet_v2", 224, 1)),
]
TAKING_PART = {
    **{
        name: of
        for name, of in CONTESTANTS.items()
        if name in (OURS, "convax, native") or "PyTorch" in name
    },
    "ONNX Runtime": Contestant("nets_onnx", "torch"),
}


def main() -> None:
    options = parse(__doc__ or "", turn=0.3)
    if options.quick:
        options.without.append("torch.compile")
    if options.device != "cpu":
        options.without.append("onnx")  # its CPU provider alone is timed
    page = Page("latency", options)
    ratios = {}
    wanted = chosen(dict.fromkeys(name for name, *_ in CASES), options)
    for name, side, batch in CASES:
        if name not in wanted:
            continue
        arguments = {"net": name, "side": side, "batch": batch}
        results, versions = contest(without(TAKING_PART, options), "latency", arguments, options)
        better_of(results, "PyTorch, channels last", "PyTorch, contiguous")
        page.versions |= versions
        channels = NETS[name].image[-1]
        title = f"{NETS[name].title}, {batch} x {side}x{side}x{channels}"
        ratios[title] = ratios_of(results)
        page.add("", f"## {title}", "", *table(results))
    page.add("", "## Means", "", *means(ratios))
    page.finish()


if __name__ == "__main__":
    main()
