"""The command that explains a prediction in figures."""

from pathlib import Path
from typing import Annotated

import typer

from .options import CheckpointOption, NoEmaOption, RunArgument, app, say, validate_choice


@app.command()
def explain(
    run: RunArgument,
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE", help="An image file of any size and color.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder for the figures; replaces those of an earlier call. By default "
            "RUN/explain/NAME, with the name of the image."
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--class", metavar="NAME", help="The class to explain; by default the predicted class."
        ),
    ] = None,
    detection: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="NUMBER",
            help="The object to explain, by its number in detections.png; by default the first 3.",
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="The layer for Grad-CAM and feature maps: a path that `summary` shows.",
        ),
    ] = None,
    invert: Annotated[
        bool,
        typer.Option(
            help="Swap black and white, e.g. for ink on paper and a network trained on MNIST."
        ),
    ] = False,
    checkpoint: CheckpointOption = "best",
    no_ema: NoEmaOption = False,
) -> None:
    """Explain the prediction for one image.

    Draws Grad-CAM, saliency and others, kernels and feature maps.
    """
    from convax.explain.write_figures import write_figures
    from convax.inference.compile_cache import enable_compile_cache
    from convax.inference.predictor import load
    from convax.training.run.directory import open_run

    validate_choice("--checkpoint", checkpoint, ("best", "last"))
    open_run(run)  # a study is none, and says so
    enable_compile_cache()
    predictor = load(run, checkpoint=checkpoint, use_ema=not no_ema)
    folder = run / "explain" / image.stem if out is None else out
    written = write_figures(
        predictor,
        run,
        image,
        folder,
        wanted=name,
        number=detection,
        layer=layer,
        invert=invert,
    )
    say(written.text)
    for file in written.files:
        say(file)
    for line in written.missing:
        say(f"left out: {line}")
