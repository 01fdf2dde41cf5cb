"""The command that explains an answer in pictures."""

from pathlib import Path
from typing import Annotated

import typer

from .options import CheckpointOption, NoEmaOption, RunArgument, app, validate_choice


@app.command()
def explain(
    run: RunArgument,
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE", help="A picture file, any size or color.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder for the pictures, where they replace those of an earlier call; "
            "RUN/explain/NAME OF THE IMAGE by default."
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--class", metavar="NAME", help="The class to explain; the answer's by default."
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Whose maps to look at: a path that `summary` shows."),
    ] = None,
    invert: Annotated[
        bool, typer.Option(help="Swap black and white, e.g. for ink on paper given to MNIST.")
    ] = False,
    checkpoint: CheckpointOption = "best",
    no_ema: NoEmaOption = False,
) -> None:
    """Pictures of why a network answers as it does, for one image."""
    from convax.explain.write_figures import draw
    from convax.inference.compile_cache import keep_compiled
    from convax.inference.predictor import load
    from convax.training.run.directory import open_run

    validate_choice("--checkpoint", checkpoint, ("best", "last"))
    open_run(run)  # a study is none, and says so
    keep_compiled()
    predictor = load(run, checkpoint=checkpoint, use_ema=not no_ema)
    folder = run / "explain" / image.stem if out is None else out
    drawn = draw(predictor, run, image, folder, wanted=name, layer=layer, invert=invert)
    print(drawn.text)
    for file in drawn.files:
        print(file)
    for line in drawn.missing:
        print(f"left out: {line}")
