"""Eight seeds of LeNet-5 in one program, against eight steps one after the other.

    python benchmarks/seeds.py [--torch PYTHON]

Each seed has parameters, an optimizer and a batch of its own; the time is that of a step of all.
"convax" is the program of `convax train --seeds 8` on CPU (`--batching map`): each seed has its
turn of eight steps. `many.py` has that of real data, and CPU time.
"""

from contest import OURS, Contestant, Page, better_of, contest, parse, table, without

COUNT = 8
PLAIN = {"CONVAX_LOWERING": "xla"}
CONTESTANTS = {
    OURS: Contestant("nets_convax", arguments={"form": "map"}),
    "convax, vmapped": Contestant("nets_convax", arguments={"form": "vmap"}),
    "convax, in sequence": Contestant("nets_convax", arguments={"form": "sequence"}),
    "convax, plain lowering": Contestant("nets_convax", "jax", {"form": "map"}, PLAIN),
    "Flax": Contestant("nets_flax"),
    "PyTorch, channels last, in sequence": Contestant(
        "nets_torch", "torch", {"memory": "channels last"}
    ),
    "PyTorch, contiguous, in sequence": Contestant("nets_torch", "torch", {"memory": "contiguous"}),
}


def main() -> None:
    options = parse(__doc__ or "", turn=0.6)
    page = Page("seeds", options)
    arguments = {"net": "lenet5", "count": COUNT}
    results, page.versions = contest(without(CONTESTANTS, options), "seeds", arguments, options)
    better_of(results, *(name for name in CONTESTANTS if name.startswith("PyTorch")))
    page.add("", f"## LeNet-5, {COUNT} seeds, 128 images each", "", *table(results))
    page.finish()


if __name__ == "__main__":
    main()
