"""Commands for a trained network."""

import json
from pathlib import Path
from typing import Annotated

import typer

from .app import CheckpointOption, JsonOption, RawOption, RunArgument, app, complain, one_of


@app.command()
def evaluate(
    run: RunArgument,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    checkpoint: CheckpointOption = "best",
    raw: RawOption = False,
    as_json: JsonOption = False,
) -> None:
    """Loss, accuracy (or what else the task measures) and the count of examples on a split."""
    from convax.training.evaluation import evaluate as evaluate_run
    from convax.training.progress import describe

    one_of("--split", split, ("train", "validation", "test"))
    one_of("--checkpoint", checkpoint, ("best", "last"))
    record = evaluate_run(run, split, checkpoint=checkpoint, raw=raw).as_record()
    if as_json:
        print(json.dumps(record))
    else:
        print(f"{split}: {describe(record)}")


@app.command()
def predict(
    run: RunArgument,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Picture files, any size or colour.")
    ],
    invert: Annotated[
        bool, typer.Option(help="Swap black and white, e.g. for ink on paper given to MNIST.")
    ] = False,
    top: Annotated[int, typer.Option(min=1, help="How many classes to name.")] = 3,
    out: Annotated[
        Path | None, typer.Option(help="The folder for masks; beside each picture by default.")
    ] = None,
    checkpoint: CheckpointOption = "best",
    raw: RawOption = False,
    as_json: JsonOption = False,
) -> None:
    """The class of each picture, with its probability; its mask; or what lies nearest to it."""
    from convax.inference.predictor import load
    from convax.training.data import DataError
    from convax.training.task import Question

    one_of("--checkpoint", checkpoint, ("best", "last"))
    predictor = load(run, checkpoint=checkpoint, raw=raw)
    say = predictor.task.predict(predictor, run)
    failed = False
    for file in images:
        try:
            said = say(Question(file, invert, top, out))
        except DataError as error:
            complain(str(error))
            failed = True
            continue
        print(json.dumps(said.record) if as_json else said.text)
    if failed:
        raise typer.Exit(2)


@app.command()
def report(run: RunArgument, checkpoint: CheckpointOption = "best") -> None:
    """Print the figures of a run; draw its pictures anew, and its page, report.html."""
    from convax.inference.report_page import report as draw
    from convax.training.report import results_table
    from convax.training.run import open_run

    one_of("--checkpoint", checkpoint, ("best", "last"))
    rows = results_table(open_run(run))
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        print(f"{label:{width}}  {value}")
    for path in draw(run, checkpoint):
        print(path)


@app.command()
def weights(
    run: RunArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The .safetensors file to make.")],
    torch: Annotated[
        bool,
        typer.Option("--torch", help="As a state dict of PyTorch's, in its names and layouts."),
    ] = False,
    checkpoint: CheckpointOption = "best",
    raw: RawOption = False,
) -> None:
    """Write the weights of a run to one safetensors file."""
    from convax.training.trained import save_run_weights

    one_of("--checkpoint", checkpoint, ("best", "last"))
    save_run_weights(run, out, checkpoint=checkpoint, torch=torch, raw=raw)
    print(out)


@app.command()
def export(
    run: RunArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.")],
    platforms: Annotated[
        str, typer.Option(help="What it is to run on, with commas between.")
    ] = "cpu,cuda,tpu",
    checkpoint: CheckpointOption = "best",
    raw: RawOption = False,
) -> None:
    """Write the network as a folder that runs where only JAX is installed."""
    from convax.inference.bundle import export as export_run

    one_of("--checkpoint", checkpoint, ("best", "last"))
    wanted = tuple(name.strip() for name in platforms.split(","))
    digest = export_run(run, out, checkpoint=checkpoint, raw=raw, platforms=wanted)
    print(f"{out}\nSHA-256 of its manifest.json: {digest}")


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="What `export` made.")],
) -> None:
    """Check the files of an exported network, and run its self-test."""
    from convax.inference.bundle_check import verify as verify_bundle

    said = verify_bundle(bundle)
    print(
        f"{bundle}: {said.files} files as written; {said.images} images ({said.origin}) answered "
        f"within {said.difference:.2g} of what was expected, {said.tolerance:.2g} allowed\n"
        f"SHA-256 of its manifest.json: {said.manifest}"
    )


@app.command()
def serve(
    run: RunArgument,
    host: Annotated[
        str, typer.Option(help="The address to listen at; 0.0.0.0 for other machines too.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name by which it may be called, beside its own."),
    ] = None,
    queue: Annotated[
        int, typer.Option(min=1, help="Images inside at once; for one more it answers 429.")
    ] = 256,
    batch: Annotated[int, typer.Option(min=1, help="Images in one call of the network.")] = 64,
    wait_ms: Annotated[
        float, typer.Option(min=0, max=1000, help="How long the first of a batch waits for others.")
    ] = 2.0,
    max_bytes: Annotated[
        int, typer.Option(min=1, help="Of a request's body; eight times that of all together.")
    ] = 10_000_000,
    max_pixels: Annotated[int, typer.Option(min=1, help="Of a picture.")] = 25_000_000,
    max_files: Annotated[int, typer.Option(min=1, help="Pictures in one request.")] = 64,
    upload_seconds: Annotated[
        float, typer.Option(min=0.1, help="How long a request's headers and its body may take.")
    ] = 30.0,
    checkpoint: CheckpointOption = "best",
    raw: RawOption = False,
) -> None:
    """The network as an HTTP service, with a page to try it (pip install 'convax[serve]')."""
    from convax.inference.serve.limits import Limits
    from convax.inference.serve.server import serve as serve_run

    one_of("--checkpoint", checkpoint, ("best", "last"))
    serve_run(
        run,
        host=host,
        port=port,
        allow_hosts=allow_host or (),
        limits=Limits(
            queue, batch, wait_ms, max_bytes, max_pixels, max_files, upload_seconds=upload_seconds
        ),
        checkpoint=checkpoint,
        raw=raw,
    )
