"""The command that explains a prediction in figures."""

from pathlib import Path
from typing import Annotated

import typer

from .options import (
    CheckpointOption,
    JsonOption,
    MovedOption,
    NoEmaOption,
    RunArgument,
    app,
    fail,
    show,
    validate_choice,
)


@app.command()
def explain(
    run: RunArgument,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Image files of any size and color.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder for the figures; replaces those of an earlier call. Of several images "
            "each has a folder in it. By default RUN/explain/NAME, with the name of the image."
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
    data: MovedOption = None,
    checkpoint: CheckpointOption = "best",
    no_ema: NoEmaOption = False,
    as_json: JsonOption = False,
) -> None:
    """Explain the predictions for images.

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
    names = [image.stem for image in images]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        fail(
            f"IMAGE: two are called {twice}, and each has a folder of that name; explain one by one"
        )
    for image in images:
        if out is None:
            folder = run / "explain" / image.stem
        else:
            folder = out if len(images) == 1 else out / image.stem
        written = write_figures(
            predictor,
            run,
            image,
            folder,
            wanted=name,
            number=detection,
            layer=layer,
            invert=invert,
            data_path=data,
        )
        missing = [f"left out: {line}" for line in written.missing]
        lines = [written.text, *map(str, written.files), *missing]
        show("\n".join(lines), {"image": image, **written._asdict()}, as_json=as_json)
