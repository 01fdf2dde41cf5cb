"""Commands that hand a trained network on: its weights, a bundle, an ONNX file."""

from pathlib import Path
from typing import Annotated, Any

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
    show,
    validate_choice,
)


@app.command("export-weights")
def export_weights(
    run: RunArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The .safetensors file to write.")],
    torch: Annotated[
        bool,
        typer.Option(
            "--torch", help="Write a PyTorch state dict, with PyTorch's names and layouts."
        ),
    ] = False,
    checkpoint: CheckpointOption = "best",
    no_ema: NoEmaOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write the weights of a run to one file.

    The file is in safetensors format.
    """
    from convax.training.run.load_model import save_run_weights

    validate_choice("--checkpoint", checkpoint, ("best", "last"))
    save_run_weights(run, out, checkpoint=checkpoint, torch=torch, use_ema=not no_ema)
    show(out, {"path": out}, as_json=as_json)


@app.command()
def export(
    run: RunArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder, or ONNX file, to write.")],
    platforms: Annotated[
        str | None,
        typer.Option(help="The target platforms, separated by commas; cpu,cuda,tpu by default."),
    ] = None,
    onnx: Annotated[
        bool,
        typer.Option(
            "--onnx", help="Write one ONNX file, for any platform (pip install 'convax[onnx]')."
        ),
    ] = False,
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Write an ONNX file that computes in int8, quantized here."),
    ] = False,
    int8_method: Annotated[
        str | None,
        typer.Option(
            help="How ranges follow from validation images: minmax, entropy or percentile.",
            show_default="minmax",
        ),
    ] = None,
    int8_images: Annotated[
        int | None,
        typer.Option(min=1, help="The most validation images to measure.", show_default="200"),
    ] = None,
    max_loss: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="How far int8 may lower the task's metric, in parts of 1.",
            show_default="0.01",
        ),
    ] = None,
    sign: Annotated[
        Path | None,
        typer.Option(
            metavar="KEY",
            help="A private key in PEM to sign the bundle with (pip install 'convax[sign]').",
        ),
    ] = None,
    data: MovedOption = None,
    calibrated: CalibratedOption = False,
    tta: TtaOption = False,
    checkpoint: CheckpointOption = "best",
    no_ema: NoEmaOption = False,
    no_fold: NoFoldOption = False,
    as_json: JsonOption = False,
) -> None:
    """Export the network to run without convax.

    The bundle is a folder that needs jax, numpy and flatbuffers only.
    """
    from convax.inference.export.bundle import export as export_run
    from convax.inference.export.int8 import METHODS, Quantization, export_int8
    from convax.inference.export.manifest import PLATFORMS, runs_here
    from convax.inference.export.onnx import export_onnx

    validate_choice("--checkpoint", checkpoint, ("best", "last"))
    loading: dict[str, Any] = {
        "checkpoint": checkpoint,
        "use_ema": not no_ema,
        "calibrated": calibrated,
        "tta": tta,
        "fold": not no_fold,
        "data_path": data,
    }
    chosen = {"method": int8_method, "images": int8_images, "max_loss": max_loss}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    if chosen and not int8:
        fail("--int8-method, --int8-images, --max-loss: they are about --int8; add it")
    if onnx or int8:
        if platforms is not None:
            fail("--platforms: an ONNX file is for any platform; leave out --platforms with --onnx")
        if sign is not None:
            fail("--sign: an ONNX file has no signature; leave out --sign with --onnx")
        if int8:
            if calibrated or tta or no_fold:
                fail(
                    "--calibrated, --tta, --no-fold: int8 is measured without temperature and "
                    "mirror images, and with batch norms folded; leave them out with --int8"
                )
            if int8_method is not None:
                validate_choice("--int8-method", int8_method, METHODS)
            quantized = export_int8(run, out, Quantization(**chosen), **loading)
            record = {"path": str(out), **quantized._asdict()}
            show(f"{out}\n{quantized.text}", record, as_json=as_json)
            return
        results = export_onnx(run, out, **loading)
        said = (
            f"{out}\nONNX Runtime: {results.images} images ({results.origin}) answered within "
            f"{results.difference:.2g} of the live network, {results.tolerance:.2g} allowed"
        )
        show(said, {"path": str(out), **results._asdict()}, as_json=as_json)
        return
    names = PLATFORMS if platforms is None else platforms.split(",")
    wanted = tuple(name.strip() for name in names)
    digest = export_run(run, out, platforms=wanted, sign=sign, **loading)
    verified, signed = runs_here(wanted), sign is not None
    said = "verified" if verified else f"not run here, made for {', '.join(wanted)}"
    said += ", signed" if signed else ""
    record = {"path": str(out), "manifest": digest, "verified": verified, "signed": signed}
    said = f"{out}: {said}\nSHA-256 of its manifest.json: {digest}"
    show(said, record | {"platforms": wanted}, as_json=as_json)


@app.command("verify-bundle")
def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A folder that `export` wrote.")],
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="KEY", help="The public key in PEM that the bundle has to be signed with."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check the files of a bundle; run its self-test.

    Without a key it finds damage, not people: whoever can write the files can write their
    checksums.
    """
    from convax.inference.export.verify import verify as verify_bundle

    said = verify_bundle(bundle, key=key)
    text = (
        f"{bundle}: {said.files} files as written; {said.images} images ({said.origin}) answered "
        f"within {said.difference:.2g} of what was expected, {said.tolerance:.2g} allowed\n"
        + ("signed with this key\n" if said.signed else "")
        + f"SHA-256 of its manifest.json: {said.manifest}"
    )
    show(text, {"path": str(bundle), **said._asdict()}, as_json=as_json)
