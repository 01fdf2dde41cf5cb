"""Whole training steps of nine networks: convax, Flax, Equinox and PyTorch, taking turns.

    make benchmark         or        python benchmarks/steps.py [--only lenet] [--torch PYTHON]

Every contestant trains the same network on the same float32 batch: momentum 0.9, for LeNet-5 Adam.
convax's step also computes what `metrics.jsonl` records: accuracy and the norms of gradients,
updates and parameters; in chunks, eight such steps are one call, as in `convax train`; native is
with the kernels that `make native` installs, the others are without. Equinox has five of the
networks (see nets_equinox.py). PyTorch runs eagerly in both memory formats, of which the faster is
shown, and through `torch.compile`, which is slow to begin: `--without torch.compile` spares it, and
so does `--quick`. In the end there are geometric means over the networks, with the least.
"""

from contest import OURS, Contestant, Page, better_of, chosen, contest, parse, table, without
from means import means, ratios_of
from nets import NETS

CPU, NATIVE, PLAIN = ({"CONVAX_LOWERING": name} for name in ("cpu", "native", "xla"))
CONTESTANTS = {
    OURS: Contestant("nets_convax", environment=CPU),
    "convax, in chunks": Contestant("nets_convax", "jax", {"chunked": True}, CPU),
    "convax, native": Contestant("nets_convax", environment=NATIVE),
    "convax, native, in chunks": Contestant("nets_convax", "jax", {"chunked": True}, NATIVE),
    "convax, plain lowering": Contestant("nets_convax", environment=PLAIN),
    "Flax": Contestant("nets_flax"),
    "Equinox": Contestant("nets_equinox"),
    "PyTorch, channels last": Contestant("nets_torch", "torch", {"memory": "channels last"}),
    "PyTorch, contiguous": Contestant("nets_torch", "torch", {"memory": "contiguous"}),
    "PyTorch, torch.compile": Contestant(
        "nets_torch",
        "torch",
        {"memory": "channels last", "compiled": True},
        {"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"},  # so that its first step is a first step
    ),
}
IN_EQUINOX = ("lenet5", "vgg_gn", "vgg_bn", "resnet20", "resnet18")


def main() -> None:
    options = parse(__doc__ or "", turn=0.4)
    if options.quick:
        options.without.append("torch.compile")  # which is slow to begin
    page = Page("steps", options)
    contestants = without(CONTESTANTS, options)
    ratios = {}
    for name in chosen(NETS, options):
        net = NETS[name]
        taking_part = {k: v for k, v in contestants.items() if k != "Equinox" or name in IN_EQUINOX}
        results, versions = contest(taking_part, "training", {"net": name}, options)
        better_of(results, "PyTorch, channels last", "PyTorch, contiguous")
        H, W, C = net.image
        page.versions |= versions
        title = f"{net.title}, {net.batch} images {H}x{W}x{C}"
        ratios[title] = ratios_of(results)
        page.add("", f"## {title}", "", *table(results))
    page.add("", "## Means", "", *means(ratios))
    page.finish()


if __name__ == "__main__":
    main()
