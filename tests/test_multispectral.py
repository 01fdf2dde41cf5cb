"""Five channels of 16 bits through all of it: trained, evaluated, reported, exported, served."""

import asyncio
import json

import numpy as np
import pytest

import convax
from convax.inference.export.bundle import export
from convax.inference.export.verify import verify
from convax.inference.predictor import load
from convax.inference.serve.admission import Limits
from convax.inference.serve.app import Service, make_app
from convax.training.config.schema import ConfigError, load_config
from convax.training.data import load_folder, pixel_format
from convax.training.experiment import prepare
from convax.training.run.directory import Run
from tests.tiny import TINY, drawing, untrained

tifffile = pytest.importorskip("tifffile")

DATA = """[data]
source = "folder"
path = "{path}"
channels = 5
dtype = "uint16"
value_range = [0, 4095]
validation = 0.2
test = 0.2
size = [8, 8]
"""


def write_bands(folder):
    """Two classes of 8x8 images of 12 bits that differ in one of five bands; and the config."""
    rng = np.random.default_rng(0)
    for k, name in enumerate(("dry", "wet")):
        (folder / "bands" / name).mkdir(parents=True)
        for i in range(30):
            image = rng.integers(0, 2000, (8, 8, 5), dtype=np.uint16)
            image[..., 3] += 2000 * k
            file = folder / "bands" / name / f"{i}"
            if i % 2:
                np.save(f"{file}.npy", image)
            else:  # a page for each band
                pages = np.moveaxis(image, -1, 0)
                tifffile.imwrite(f"{file}.tif", pages, photometric="minisblack")
    config = folder / "bands.toml"
    _, head, tail = TINY.partition("[input]")
    text = "seed = 3\n" + DATA.format(path=folder / "bands") + head + tail
    config.write_text(text.replace("steps = 60", "steps = 40"))
    return config


@pytest.fixture(scope="module")
def bands(tmp_path_factory):
    """The config of the bands, and a run of it with its first parameters."""
    folder = tmp_path_factory.mktemp("bands")
    config = write_bands(folder)
    run, _ = untrained(config, folder / "first")
    return config, run


def test_the_card_of_a_run_has_the_format(bands):
    _, run = bands
    spec = run.dataset().preprocessing
    assert spec.pixels == (5, "uint16", 0.0, 4095.0)
    image = np.random.default_rng(1).integers(0, 4096, (1, 8, 8, 5), dtype=np.uint16)
    predictor = load(run.path)
    np.testing.assert_array_equal(predictor(image), predictor([image[0]]))
    # floating point in [0, 1] is the same image, to rounding
    np.testing.assert_allclose(predictor(image), predictor(image / 4095), rtol=1e-5)
    large = image.repeat(2, axis=1).repeat(2, axis=2)  # each pixel as a square
    assert predictor([large[0], (large / 4095)[0]]).shape == (2, 2)
    with pytest.raises(ValueError, match=r"need \(h, w, 5\)"):
        predictor([image[0, ..., :3]])
    with pytest.raises(TypeError, match="got uint8, need uint16"):
        predictor(np.zeros((1, 8, 8, 5), np.uint8))


def test_files_are_streamed_and_kept_at_their_depth(bands, tmp_path, monkeypatch):
    config, _ = bands
    monkeypatch.setenv("CONVAX_DATA_CACHE", "off")
    root = config.parent / "bands"
    how = {"size": (8, 8), "channels": pixel_format(5, "uint16")}
    here = load_folder(root, **how).train
    streamed = load_folder(root, **how, stream=True).train
    assert streamed.images.dtype == here.images.dtype == np.uint16
    np.testing.assert_array_equal(np.asarray(streamed.images), here.images)


def test_augmentation_refuses_by_name_what_these_images_have_not(bands):
    config, _ = bands
    text = config.read_text()

    def refused(table):
        other = config.with_name("augmented.toml")
        other.write_text(f"{text}\n[augment]\n{table}\n")
        prepare(load_config(other))

    refused(
        "flip = true\naffine = {degrees = 9.0, translate = [0.1, 0.1], scale = [1.0, 1.0], shear = [0.0, 0.0]}"
    )
    color = "color = {brightness = 0.1, contrast = 0.1, saturation = 0.0, hue = 0.1}"
    with pytest.raises(ConfigError, match=r"augment.color.hue: images of 5 channels have no hue"):
        refused(color)
    policy = "policy = {{num_ops = 1, magnitude = 9, operations = {}}}"
    with pytest.raises(ConfigError, match="images of 5 channels have no color"):
        refused(policy.format('["rotate", "color"]'))
    with pytest.raises(ConfigError, match="posterize would cut images of uint16 to 8 bits"):
        refused(policy.format('["rotate", "posterize"]'))


@pytest.mark.slow
def test_five_channels_of_16_bits_go_through_all_of_it(tmp_path, command):
    config, run = write_bands(tmp_path), tmp_path / "run"
    with drawing():
        convax.train(load_config(config), run)
    found = Run(run).info()["result"]["test"]
    assert found["accuracy"] > 0.9
    image = tmp_path / "bands" / "wet" / "2.tif"
    code, out, _ = command("predict", run, image, "--json")
    assert code == 0 and json.loads(out.splitlines()[0])["class"] == "wet"
    code, *_ = command("predict", run, __file__.replace(".py", ".none"))
    assert code
    sheet = tmp_path / "sheet.html"
    assert command("predict", run, image, "--html", sheet)[0] == 0 and sheet.is_file()
    assert command("evaluate", run)[0] == 0
    assert command("data", config, "--sheet", tmp_path / "sheet.png")[0] == 0
    code, out, error = command("new", tmp_path / "bands", "--out", tmp_path / "new.toml")
    written = load_config(tmp_path / "new.toml").data
    assert (code, written.channels, written.dtype) == (0, 5, "uint16"), out + error
    assert command("explain", run, image, "--out", tmp_path / "explained")[0] == 0
    assert command("report", run)[0] == 0
    page = (run / "report.html").read_text()
    assert "channels 1 to 3 of 5 as red, green and blue, stretched" in page
    bundle = tmp_path / "bundle"
    export(run, bundle)
    assert "In: uint16 (0 to 4095) images `(N, 8, 8, 5)`" in (bundle / "README.md").read_text()
    assert verify(bundle).images
    serve(run, image)


def serve(run, image):
    """Ask a service of a run about an image, and about one of another format."""
    httpx = pytest.importorskip("httpx")
    service = Service(load(run), Limits(), run)
    np.save(image.with_name("gray"), tifffile.imread(image)[0])
    gray = image.with_name("gray.npy").read_bytes()

    async def ask():
        transport = httpx.ASGITransport(make_app(service, ["*"]))
        async with (
            service.running(),
            httpx.AsyncClient(transport=transport, base_url="http://testserver") as client,
        ):
            while (health := await client.get("/health")).status_code != 200:
                await asyncio.sleep(0.05)
            answers = [await client.post("/predict", content=c) for c in (image.read_bytes(), gray)]
            return health.json(), answers

    health, (answer, refused) = asyncio.run(ask())
    assert health["pixels"] == {"channels": 5, "dtype": "uint16", "low": 0.0, "high": 4095.0}
    assert answer.status_code == 200 and answer.json()["answers"][0]["class"] == "wet", answer.text
    assert refused.status_code == 422 and "has 1 channel(s) of uint16" in refused.text
