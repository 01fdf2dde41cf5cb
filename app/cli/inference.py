"""Commands for a trained network."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from .options import (
    CalibratedOption,
    CheckpointOption,
    JsonOption,
    MovedOption,
    NoEmaOption,
    NoFoldOption,
    RunArgument,
    TtaOption,
    app,
    fail,
    say,
    say_moved,
    show,
    validate_choice,
    warn,
)

RunOrStudy = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run directory, or a study of several seeds.")
]


@app.command()
def evaluate(
    run: RunArgument,
    split: Annotated[
        str | None,
        typer.Option(help="The split: train, validation or test.", show_default="test"),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Other data with the run's classes; or where the run's own lie by now, which is "
            "told by their fingerprint.",
        ),
    ] = None,
    checkpoint: CheckpointOption = "best",
    no_ema: NoEmaOption = False,
    per_class: Annotated[
        bool, typer.Option("--per-class", help="Add recall and other metrics of each class.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure loss, metrics and speed on a split, or on other data.

    Prints the loss, the metrics of the task, the number of examples and the time of an image.
    """
    from convax.inference import speed
    from convax.inference.compile_cache import enable_compile_cache
    from convax.inference.predictor import make_predictor
    from convax.training.other_data import evaluate_on
    from convax.training.tasks.metric_names import format_metrics

    if split is not None:
        validate_choice("--split", split, ("train", "validation", "test"))
    validate_choice("--checkpoint", checkpoint, ("best", "last"))
    enable_compile_cache()
    result, model, examples, own = evaluate_on(
        run, data, split, checkpoint=checkpoint, use_ema=not no_ema
    )
    if own:
        say_moved(data)
    else:
        part = f"its {result.split} part"
        if split is None and result.split == "train":  # of data without parts
            part = f"all of its {result.count:,} images; training images may be among them"
        say(f"note: {data}: not the data of the run; evaluated is {part}", file=sys.stderr)
    of_classes = result.per_class if per_class else None
    if per_class and of_classes is None:
        fail("--per-class: this task has no metrics of single classes; leave it out")
    classes, record = model.card.classes, result.as_record()
    record |= {} if data is None else {"data": str(data)}
    if not as_json:
        say(f"{result.split if own else data}: {format_metrics(result.as_record())}")
    taken = speed.measure_speed(make_predictor([model]), examples.images)
    if as_json:
        more = {"per_class": of_classes.as_record(classes)} if of_classes else {}
        print(json.dumps(record | {"speed": taken.as_record()} | more))
        return
    say(f"speed: {taken.text}")
    if of_classes:
        say("\n".join([*of_classes.lines(classes), *of_classes.remarks(classes)]))


@app.command()
def predict(
    run: RunOrStudy,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...",
            help="Images of any size and color, folders of images, or - for standard input.",
        ),
    ],
    invert: Annotated[
        bool,
        typer.Option(
            help="Swap black and white, e.g. for ink on paper and a network trained on MNIST."
        ),
    ] = False,
    top: Annotated[int, typer.Option(min=1, help="The number of classes to print.")] = 3,
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="The least score of an object that is shown: 0.5."),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format", help="table (a line for each image), json (an object a line) or csv."
        ),
    ] = "table",
    html: Annotated[
        Path | None,
        typer.Option(help="An HTML page to write, with the images and their predictions."),
    ] = None,
    coco: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A JSON file to write, with all objects in COCO's results format.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The folder for masks and drawings; beside each image by default."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="The number of images in a batch.")] = 64,
    ensemble: Annotated[
        list[Path] | None,
        typer.Option(
            "--ensemble", metavar="RUN", help="Another run for an ensemble with RUN; repeatable."
        ),
    ] = None,
    calibrated: CalibratedOption = False,
    tta: TtaOption = False,
    checkpoint: CheckpointOption = "best",
    no_ema: NoEmaOption = False,
    no_fold: NoFoldOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Predict images: classes, masks, objects or neighbors.

    Prints the class of each image with its probability; writes its mask; prints its objects and
    draws them on it; or prints the classes and images that lie nearest to it.
    """
    from collections import deque

    from convax.inference.compile_cache import enable_compile_cache
    from convax.inference.contact_sheet import write_contact_sheet
    from convax.inference.ensemble import list_runs
    from convax.inference.predict_files import list_images, predict_files
    from convax.inference.predictor import load
    from convax.training.data import Notes

    from .predict_output import FORMATS, with_coco, with_progress, write_results

    validate_choice("--checkpoint", checkpoint, ("best", "last"))
    validate_choice("--format", form, FORMATS)
    if as_json and form not in ("json", "table"):
        fail(f"--json: got --format {form} too; leave out one of them")
    failures: list[str] = []

    def on_error(problem: str) -> None:
        failures.append(problem)
        warn(problem)

    enable_compile_cache()
    predictor = load(
        [run, *(ensemble or ())],
        checkpoint=checkpoint,
        use_ema=not no_ema,
        calibrated=calibrated,
        tta=tta,
        fold=not no_fold,
    )
    masks = predictor.task.spec.writes_images
    if out is not None and not masks:
        fail(
            f"--out: got {out}, but {predictor.task.name} writes no masks; leave it out: "
            "predictions go to standard output (--format csv > predictions.csv), and to a page "
            "with --html PAGE"
        )
    if threshold is not None and not predictor.task.spec.has_threshold:
        fail(
            f"--threshold: got {threshold}, but {predictor.task.name} finds no objects that have a "
            "score; leave it out"
        )
    if coco is not None and not predictor.task.spec.has_threshold:
        fail(
            f"--coco: got {coco}, but {predictor.task.name} finds no objects, whose format it is; "
            "leave it out"
        )
    if coco is not None and not coco.absolute().parent.is_dir():
        fail(f"--coco: got {coco}, but there is no folder {coco.parent}; make it first")
    notes = Notes()
    sources = list_images(images, sys.stdin.buffer, on_error, masks=masks, notes=notes)
    for line in notes.lines():
        say(f"note: {line}", file=sys.stderr)
    results = predict_files(
        predictor,
        list_runs(run)[0],
        sources,
        on_error,
        invert=invert,
        top=top,
        threshold=threshold,
        out=out,
        batch=batch,
    )
    results = write_results(with_progress(results, len(sources)), "json" if as_json else form)
    if coco is not None:
        results = with_coco(results, coco, on_error)
    if html is None:
        deque(results, maxlen=0)
    else:
        title = f"{run.resolve().name}: {predictor.task.name}"
        write_contact_sheet(
            html, title, results, failures, invert=invert, channels=predictor.pixels
        )
    if failures:
        raise typer.Exit(2)


@app.command()
def calibrate(
    run: RunOrStudy,
    data: MovedOption = None,
    tta: TtaOption = False,
    checkpoint: CheckpointOption = "best",
    no_ema: NoEmaOption = False,
    conformal: Annotated[
        float | None,
        typer.Option(
            metavar="COVERAGE",
            help="Fit sets of classes, too, which hold the true one with this probability: 0.9.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Calibrate the probabilities of a run.

    Fits a temperature on the validation split and stores it in the run.
    """
    from convax.inference.calibrate import calibrate as calibrate_run
    from convax.inference.compile_cache import enable_compile_cache
    from convax.inference.ensemble import list_runs

    validate_choice("--checkpoint", checkpoint, ("best", "last"))
    enable_compile_cache()
    for path in list_runs(run):
        fitted = calibrate_run(
            path,
            checkpoint=checkpoint,
            use_ema=not no_ema,
            tta=tta,
            coverage=conformal,
            data_path=data,
        )
        if as_json:
            print(json.dumps({"run": str(path), **fitted.as_record()}))
            continue
        say("\n".join([f"{path}: temperature {fitted.temperature:.4g}", *fitted.lines()]))
    say_moved(data)


@app.command()
def report(
    run: RunArgument,
    data: MovedOption = None,
    checkpoint: CheckpointOption = "best",
    as_json: JsonOption = False,
) -> None:
    """Write a report of a run: report.html.

    Prints the metrics and redraws the plots, too.
    """
    from convax.inference.compile_cache import enable_compile_cache
    from convax.inference.report.page import write_report
    from convax.training.report.figures import results_table
    from convax.training.run.checkpoint import named
    from convax.training.run.directory import open_run

    validate_choice("--checkpoint", checkpoint, ("best", "last"))
    enable_compile_cache()
    rows = results_table(open_run(run))
    width = max(len(label) for label, _ in rows)
    lines = [f"{label:{width}}  {value}" for label, value in rows]
    if not as_json:
        say("\n".join(lines))
    files = [str(path) for path in write_report(run, checkpoint, data)]
    if named(open_run(run).checkpoints, "last") is not None:  # or data were not looked at
        say_moved(data)
    show("\n".join(files), {"results": dict(rows), "files": files}, as_json=as_json)


@app.command()
def serve(
    run: RunOrStudy,
    host: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 to accept other machines.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")
    ] = 8000,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A host name to accept in addition to --host; repeatable."
        ),
    ] = None,
    max_in_flight: Annotated[
        int, typer.Option(min=1, help="Images in flight; beyond that the status is 429.")
    ] = 256,
    batch: Annotated[
        int, typer.Option(min=1, help="The largest number of images in a batch.")
    ] = 64,
    wait_ms: Annotated[
        float,
        typer.Option(min=0, max=1000, help="How long the first image of a batch waits for others."),
    ] = 2.0,
    max_bytes: Annotated[
        int,
        typer.Option(
            min=1, help="Bytes in a request body; all bodies together may have eight times as many."
        ),
    ] = 10_000_000,
    max_pixels: Annotated[int, typer.Option(min=1, help="Pixels in an image.")] = 25_000_000,
    max_files: Annotated[int, typer.Option(min=1, help="Images in a request.")] = 64,
    upload_seconds: Annotated[
        float,
        typer.Option(min=0.1, help="The time limit for the headers and the body of a request."),
    ] = 30.0,
    decode_seconds: Annotated[
        float, typer.Option(min=0.1, help="The limit of CPU time for decoding an image.")
    ] = 10.0,
    calibrated: CalibratedOption = False,
    tta: TtaOption = False,
    checkpoint: CheckpointOption = "best",
    no_ema: NoEmaOption = False,
    no_fold: NoFoldOption = False,
) -> None:
    """Serve the network over HTTP.

    Has a page on which to try the network (pip install 'convax[serve]').
    """
    from convax.inference.compile_cache import enable_compile_cache
    from convax.inference.serve.admission import Limits
    from convax.inference.serve.server import serve as serve_run

    validate_choice("--checkpoint", checkpoint, ("best", "last"))
    enable_compile_cache()
    serve_run(
        run,
        host=host,
        port=port,
        allow_hosts=allow_host or (),
        limits=Limits(
            max_in_flight,
            batch,
            wait_ms,
            max_bytes,
            max_pixels,
            max_files,
            upload_seconds=upload_seconds,
            decode_seconds=decode_seconds,
        ),
        checkpoint=checkpoint,
        use_ema=not no_ema,
        calibrated=calibrated,
        tta=tta,
        fold=not no_fold,
    )
