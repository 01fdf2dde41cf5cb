"""Geometric means over the networks of a table that steps.py wrote.

    python benchmarks/means.py benchmarks/results/steps-jax0.12.md

Against convax in single steps and in chunks, as `convax train` takes them; of PyTorch the faster of
eager and `torch.compile`, network by network. Ratios above 1 are slower than convax.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import geometric_mean

OTHERS = ("convax, plain lowering", "Flax", "Equinox", "PyTorch")
HEAD = (
    "| time / convax | geometric mean | least | in chunks: geometric mean | least |",
    "|---|---|---|---|---|",
)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    nets = read(Path(sys.argv[1]).read_text())
    print(*HEAD, sep="\n")
    for other in OTHERS:
        having = {net: rows for net, rows in nets.items() if best(rows, other)}
        single = of_each(having, lambda rows, other=other: best(rows, other))
        chunked = of_each(
            having, lambda rows, other=other: best(rows, other) / rows["convax, in chunks"]
        )
        some = "" if len(having) == len(nets) else f", {len(having)} networks"
        print(f"| {other}{some} | {single} | {chunked} |")


def read(page: str) -> dict[str, dict[str, float]]:
    """For each network the column "time / convax"."""
    nets = {}
    for section in page.split("\n## ")[1:]:
        title, *lines = section.splitlines()
        cells = [[cell.strip() for cell in line.split("|")] for line in lines if "|" in line]
        nets[title] = {c[1]: float(c[3]) for c in cells if c[3].replace(".", "", 1).isdecimal()}
    return nets


def best(rows: Mapping[str, float], name: str) -> float:
    """The least of the rows whose name begins so; 0 where there is none."""
    return min((ratio for row, ratio in rows.items() if row.startswith(name)), default=0.0)


def of_each(nets: Mapping[str, Mapping[str, float]], ratio: Callable) -> str:
    ratios = {net: ratio(rows) for net, rows in nets.items()}
    least = min(ratios, key=lambda net: ratios[net])
    return f"{geometric_mean(ratios.values()):.2f} | {ratios[least]:.2f} ({least.split(',')[0]})"


if __name__ == "__main__":
    main()
