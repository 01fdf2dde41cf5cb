"""The command for published weights: which there are, and how they come here."""

from typing import Annotated, Any

import typer

from .options import JsonOption, app, fail, show


@app.command()
def pretrained(
    name: Annotated[
        str | None, typer.Argument(help="Download these weights, and convert them.")
    ] = None,
    mirror: Annotated[
        list[str] | None, typer.Option(help="A URL to try before the known one; repeatable.")
    ] = None,
    time_limit: Annotated[
        float, typer.Option(min=1, help="Seconds that it may take; what came is kept.")
    ] = 3600,
    as_json: JsonOption = False,
) -> None:
    """List published weights, or download some.

    A config begins with them by pretrained = "NAME" in [init_from].
    """
    from convax.training.pretrained import fetch_pretrained, pretrained_path
    from convax.training.weights.published import PUBLISHED, ROOT

    if name is not None:
        path = fetch_pretrained(name, mirrors=mirror, time_limit=time_limit)
        return show(path, {"path": path}, as_json=as_json)
    if mirror:
        fail("--mirror: it is for a download; add the name of the weights")
    records = {
        known: {
            **{key: value for key, value in about._asdict().items() if key != "file"},
            "model": {key: value for key, value in about.model.items() if value is not None},
            "url": ROOT + about.file,
            "sha256": about.sha256,
            "path": str(path) if (path := pretrained_path(known)).is_file() else None,
        }
        for known, about in PUBLISHED.items()
    }
    show("\n".join(_table(records)), records, as_json=as_json)


def _table(records: dict[str, dict[str, Any]]) -> list[str]:
    """Return a line for each, and what they are."""
    rows = [("name", "top-1", "top-5", "license", "sha256", "here", "url")]
    for name, record in records.items():
        accuracies = f"{record['top1']:.2f} %", f"{record['top5']:.2f} %"
        here = "yes" if record["path"] else "no"
        rest = record["license"], f"{record['sha256']}...", here, record["url"]
        rows.append((name, *accuracies, *rest))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    return [
        *(line.rstrip() for line in lines),
        "accuracies as torchvision gives them, of ImageNet-1K's validation images; input.normalize "
        '= "imagenet"',
    ]
