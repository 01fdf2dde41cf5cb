"""Geometric means over the networks of a table that steps.py or latency.py wrote.

    python benchmarks/means.py benchmarks/results/steps-jax0.12.md

Each column compares with one way to run convax: in single steps or in chunks, as `convax train`
takes them, and with the native kernels, where these took part. Of PyTorch it is the faster of
eager and `torch.compile`, network by network. Ratios above 1 are slower than convax.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import geometric_mean
from typing import Any

BASES = ("convax", "convax, in chunks", "convax, native", "convax, native, in chunks")
OTHERS = ("convax, plain lowering", "Flax", "Equinox", "PyTorch", "ONNX Runtime")
Ratios = Mapping[str, Mapping[str, float]]  # for each network: "time / convax" of each contestant


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(*means(read(Path(sys.argv[1]).read_text())), sep="\n")


def ratios_of(results: Mapping[str, Any]) -> dict[str, float]:
    """The column "time / convax" of what `contest` found, without those who fell out."""
    return {name: of.ratio for name, of in results.items() if hasattr(of, "ratio")}


def means(nets: Ratios) -> list[str]:
    """The lines of a table: every contestant against every way to run convax."""
    bases = [base for base in BASES if any(base in rows for rows in nets.values())]
    heads = [f"| {base}: geometric mean | least " for base in bases]
    lines = [f"| time / that of {''.join(heads)}|", "|---" * (1 + 2 * len(bases)) + "|"]
    for other in (*OTHERS, *bases):
        exact = other in bases
        found = {
            net: rows.get(other, 0.0) if exact else best(rows, other) for net, rows in nets.items()
        }
        if any(found.values()) and (not exact or len(bases) > 1):
            cells = [of_each(nets, found, base) if base != other else "| " for base in bases]
            having = sum(map(bool, found.values()))
            some = "" if having == len(nets) else f", {having} networks"
            lines.append(f"| {other}{some} | {' | '.join(cells)} |")
    return lines


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


def of_each(nets: Ratios, found: Mapping[str, float], base: str) -> str:
    """The mean and the least of what was found over what the same networks take with `base`."""
    pairs = {net: (ratio, nets[net].get(base, 0.0)) for net, ratio in found.items()}
    ratios = {net: ratio / own for net, (ratio, own) in pairs.items() if ratio and own}
    if not ratios:
        return "| "
    least = min(ratios, key=lambda net: ratios[net])
    return f"{geometric_mean(ratios.values()):.2f} | {ratios[least]:.2f} ({least})"


if __name__ == "__main__":
    main()
