"""A network as a folder: what it says, where it runs, and what is refused."""

import datetime
import hashlib
import json
import shutil
import subprocess
import sys
import venv
from functools import partial
from pathlib import Path

import jax
import jax.export
import numpy as np
import pytest
import safetensors.numpy

import convax
from convax import model, ops
from convax.inference.export import bundle
from convax.inference.export import verify as bundle_check
from convax.inference.export.bundle import export
from convax.inference.export.manifest import BundleError
from convax.inference.export.verify import FILES, verify
from convax.inference.predictor import Predictor
from convax.training.config.schema import load_config
from tests.tiny import untrained, write_tiny
from tests.training.tasks.test_detection import write_squares
from tests.training.tasks.test_embedding import write_embedding
from tests.training.tasks.test_multilabel import write_bars
from tests.training.tasks.test_regression import write_dots
from tests.training.tasks.test_segmentation import write_scenes


@pytest.fixture(scope="module")
def made(whole, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "made"
    return folder, export(whole.path, folder)


@pytest.fixture
def folder(made, tmp_path):
    """A bundle to be damaged."""
    return shutil.copytree(made[0], tmp_path / "bundle")


def rewrite(folder, **changes):
    """What an attacker does: new checksums for what is there now."""
    manifest = json.loads((folder / "manifest.json").read_text()) | changes
    for name in manifest["sha256"]:
        manifest["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    manifest["checksum"] = bundle.checksum(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


def load_py(folder, *inputs, python=sys.executable):
    """What a bundle's own loader says, in a process of its own."""
    np.savez(folder.parent / "in.npz", *inputs)
    code = """
import numpy as np, load
said = load.predict(*np.load("../in.npz").values())
np.savez("../out.npz", **(said if isinstance(said, dict) else {"": said}))
"""
    subprocess.run(
        [python, "-c", code], cwd=folder, check=True, timeout=300, stderr=subprocess.PIPE, text=True
    )
    said = dict(np.load(folder.parent / "out.npz"))
    return said.get("", said)


def assert_close(said, expected):
    """Compare arrays, or several by name with the fields of a prediction."""
    if isinstance(said, dict):
        assert list(said) == [k for k, v in expected._asdict().items() if v is not None]
        said = list(said.values())
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-4),
        jax.tree.leaves(said),
        jax.tree.leaves(expected),
    )


WRITERS = {
    "classification": write_tiny,
    "segmentation": write_scenes,
    "embedding": write_embedding,
    "regression": write_dots,
    "multilabel": write_bars,
    "instance_segmentation": write_squares,
}


def write_task(task, folder):
    return WRITERS[task](folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "fit"),
    [
        ("classification", "pad"),
        pytest.param("segmentation", "pad", marks=pytest.mark.slow),
        pytest.param("segmentation", "resize", marks=pytest.mark.slow),
        ("embedding", "resize"),
        ("regression", "pad"),
        ("multilabel", "pad"),
        ("instance_segmentation", "letterbox"),
    ],
)
def test_every_task_says_what_the_live_network_says(task, fit, tmp_path, rng):
    config = write_task(task, tmp_path)
    config.write_text(config.read_text().replace('fit = "pad"', f'fit = "{fit}"'))
    run = convax.train(load_config(config, overrides=["training.steps=2"]), tmp_path / "run")
    export(run.path, tmp_path / "bundle")
    assert verify(tmp_path / "bundle").origin == "the first of the test split"
    live = convax.load(run.path)
    program = jax.export.deserialize(
        bytearray((tmp_path / "bundle" / "program.stablehlo").read_bytes())
    )
    assert program.platforms == ("cpu", "cuda", "tpu")
    weights = safetensors.numpy.load_file(tmp_path / "bundle" / "weights.safetensors")
    for count in (1, 3, 70):  # any number of images, one program
        images = rng.integers(0, 256, (count, *live.image_shape), np.uint8)
        assert_close(program.call(weights, images), live(images))


def test_its_loader_needs_nothing_of_ours(made, whole, tmp_path, rng):
    folder = shutil.copytree(made[0], tmp_path / "bundle")
    live = convax.load(whole.path)
    images = rng.integers(0, 256, (5, *live.image_shape), np.uint8)
    assert_close(load_py(folder, images), live(images))
    assert "convax" not in (folder / "load.py").read_text()
    (folder / "__pycache__").mkdir(exist_ok=True)  # of which Python would run what is in it
    with pytest.raises(BundleError, match=r"__pycache__: where load\.py was imported; remove"):
        verify(folder)
    shutil.rmtree(folder / "__pycache__")
    verify(folder)
    weights = folder / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(subprocess.CalledProcessError):
        load_py(folder, images)


@pytest.mark.slow
def test_a_detector_gives_several_arrays_by_name(tmp_path, rng):
    run, _ = untrained(write_squares(tmp_path), tmp_path / "run")
    folder = tmp_path / "bundle"
    export(run.path, folder, platforms=("cpu",))
    about, manifest = (
        json.loads((folder / f"{n}.json").read_text()) for n in ("about", "manifest")
    )
    assert [(o["name"], o["shape"], o["dtype"]) for o in about["outputs"]] == [
        ("boxes", ["batch", 6, 4], "float32"),
        ("scores", ["batch", 6], "float32"),
        ("classes", ["batch", 6], "int32"),
        ("masks", ["batch", 6, 8, 8], "float32"),
    ]
    assert about["inputs"] == [{"name": "images", "shape": ["batch", 32, 32, 1], "dtype": "uint8"}]
    assert (
        manifest["format"] == 2 and "a dict of `boxes`, `sc" in (folder / "README.md").read_text()
    )
    images, live = rng.integers(0, 256, (3, 32, 32, 1), np.uint8), convax.load(run.path)
    assert_close(load_py(folder, images), live(images))
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    path = folder / "self_test.safetensors"
    test = safetensors.numpy.load_file(path)
    path.write_bytes(safetensors.numpy.save(test | {"expected.boxes": test["expected.boxes"] + 9}))
    rewrite(folder)
    with pytest.raises(BundleError, match=r"wrong predictions: 5 images of the self-test differ"):
        verify(folder)


def test_a_bundle_of_before_outputs_were_listed_is_verified(folder):
    about = json.loads((folder / "about.json").read_text())
    assert about.pop("outputs")[0]["name"] == "probabilities" and about.pop("inputs")
    (folder / "about.json").write_text(json.dumps(about))
    rewrite(folder)
    assert verify(folder).images == 8


@pytest.mark.slow
def test_it_runs_where_only_jax_is(tmp_path, rng):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", f"jax=={jax.__version__}", "flatbuffers"]
    if subprocess.run(install, capture_output=True, check=False).returncode:
        pytest.skip("pip cannot reach its index")
    absent = [python, "-c", "import safetensors"]
    assert subprocess.run(absent, capture_output=True, check=False).returncode
    for task in WRITERS:
        folder = tmp_path / task
        folder.mkdir()
        config = load_config(write_task(task, folder), overrides=["training.steps=2"])
        run = convax.train(config, folder / "run")
        export(run.path, folder / "bundle")
        live = convax.load(run.path)
        images = rng.integers(0, 256, (5, *live.image_shape), np.uint8)
        assert_close(load_py(folder / "bundle", images, python=python), live(images))


@pytest.mark.parametrize("platforms", [("cpu",), ("cuda",)])
def test_the_program_for_cpu_has_its_fast_forms(platforms):
    """A depthwise convolution is a sum of taps there, for any batch, and XLA's own elsewhere."""
    net = model.serial(model.depthwise_conv(3), model.flatten())
    _, params, state = net.init(jax.random.key(0), (1, 5, 5, 4))
    function = jax.jit(lambda p, s, x: net.apply(p, s, x.astype(np.float32))[0])
    made = Predictor(function, params, state, (), (5, 5, 4), None)
    inputs = {"images": np.zeros((1, 5, 5, 4), np.uint8)}
    forms = lambda: jax.export.deserialize(  # noqa: E731
        bytearray(bundle._program(made, platforms, inputs)[0])
    ).mlir_module()
    assert ("stablehlo.convolution" in forms()) == (platforms == ("cuda",))
    with ops.implementation("xla"):
        assert "stablehlo.convolution" in forms()


def test_made_up_images_where_the_data_are_gone(copied, tmp_path):
    config = copied.config()
    gone = config.model_copy(
        update={"data": config.data.model_copy(update={"path": str(tmp_path / "gone.npz")})}
    )
    copied.write_config(gone)
    export(copied.path, tmp_path / "bundle", platforms=("cpu",))
    assert verify(tmp_path / "bundle").origin.startswith("made up")


@pytest.mark.parametrize("name", sorted([*FILES, "manifest.json"]))
def test_every_damaged_file_is_named(name, folder, rng):
    path = folder / name
    content = path.read_bytes()
    other = next(f for f in sorted(FILES) if f != name)
    for place in rng.integers(0, len(content), 20):
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        with pytest.raises(BundleError, match=name):
            verify(folder)
    for spoiled in (b"", content[:-1], content[: len(content) // 2], content + b"\n"):
        path.write_bytes(spoiled)
        with pytest.raises(BundleError, match=name):
            verify(folder)
    path.write_bytes((folder / other).read_bytes())
    with pytest.raises(BundleError, match=name):
        verify(folder)
    path.unlink()
    with pytest.raises(BundleError, match=f"{name}.*cannot be read"):
        verify(folder)


def test_what_is_checked_is_what_is_run(folder, monkeypatch):
    """Although every file is replaced once it was read."""
    read = Path.read_bytes

    def read_once(path):
        content = read(path)
        path.write_bytes(b"replaced")
        return content

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", read_once)
        assert verify(folder).images == 8
    assert {read(folder / name) for name in FILES} == {b"replaced"}


def test_an_unlisted_file(folder):
    (folder / "jax.py").write_text("")  # load.py would import it
    with pytest.raises(BundleError, match=r"jax\.py: not of the bundle"):
        verify(folder)


def test_other_weights_with_their_checksums(folder):
    path = folder / "weights.safetensors"
    weights = safetensors.numpy.load_file(path)
    path.write_bytes(safetensors.numpy.save({k: v * 1.5 for k, v in weights.items()}))
    rewrite(folder)
    with pytest.raises(BundleError, match=r"wrong predictions: 8 images .* differ"):
        verify(folder)
    path.write_bytes(safetensors.numpy.save({k: v * np.nan for k, v in weights.items()}))
    rewrite(folder)
    with pytest.raises(BundleError, match="wrong predictions"):
        verify(folder)


@pytest.mark.parametrize("tolerance", ["0.5", "1e400", "1e300"])
def test_a_tolerance_that_allows_anything(folder, tolerance):
    """With other weights, and what is expected of them without an end."""
    about = (folder / "about.json").read_text()
    said = json.loads(about)["self_test"]["tolerance"]
    (folder / "about.json").write_text(about.replace(str(said), tolerance))
    path = folder / "weights.safetensors"
    weights = safetensors.numpy.load_file(path)
    path.write_bytes(safetensors.numpy.save({k: v * 1.5 for k, v in weights.items()}))
    if tolerance != "0.5":
        path = folder / "self_test.safetensors"
        test = safetensors.numpy.load_file(path)
        path.write_bytes(safetensors.numpy.save(test | {"expected": test["expected"] + np.inf}))
    rewrite(folder)
    with pytest.raises(BundleError, match=r"self_test\.tolerance: got .*, need|is no number"):
        verify(folder)


def pem(folder, name, key):
    """The files of a private key and of its public half."""
    from cryptography.hazmat.primitives import serialization as written

    plain = (written.PrivateFormat.PKCS8, written.NoEncryption())
    public = (written.Encoding.PEM, written.PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pem").write_bytes(key.private_bytes(written.Encoding.PEM, *plain))
    (folder / f"{name}.pub").write_bytes(key.public_key().public_bytes(*public))
    return folder / f"{name}.pem", folder / f"{name}.pub"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """``(private, public)`` of two people."""
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    folder = tmp_path_factory.mktemp("keys")
    return [pem(folder, name, ed25519.Ed25519PrivateKey.generate()) for name in ("one", "other")]


@pytest.fixture(scope="module")
def signed(whole, keys, tmp_path_factory):
    folder = tmp_path_factory.mktemp("signed") / "bundle"
    export(whole.path, folder, platforms=("cpu",), sign=keys[0][0])
    return folder


def test_a_signed_bundle(signed, keys, made, command):
    (_, mine), (_, another) = keys
    assert verify(signed, key=mine).signed and not verify(signed).signed
    with pytest.raises(BundleError, match=r"not signed with this key, or changed since; nothing"):
        verify(signed, key=another)
    with pytest.raises(BundleError, match=r"not signed: it has no manifest\.sig"):
        verify(made[0], key=mine)
    code, said, _ = command("verify-bundle", signed, "--key", mine)
    assert (code, "signed with this key\nSHA-256" in said) == (0, True)
    code, _, error = command("verify-bundle", signed, "--key", another)
    assert (code, error.count("\n"), "not signed with this key" in error) == (2, 1, True)


@pytest.mark.parametrize("name", sorted([*FILES, "manifest.json", "manifest.sig"]))
def test_what_checksums_alone_let_pass_is_found_by_a_key(name, signed, keys, tmp_path):
    """Labels swapped, another loader, another program: with new checksums."""
    folder = shutil.copytree(signed, tmp_path / "bundle")
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-2] + b" " + content[-2:])
    if name == "about.json":
        about = json.loads(content)
        (folder / name).write_text(json.dumps(about | {"labels": about["labels"][::-1]}))
    if name != "manifest.json":
        rewrite(folder)
    if name in ("about.json", "load.py", "README.md"):
        verify(folder)  # finds no people
    with pytest.raises(BundleError, match=r"not signed with this key|altered|damaged"):
        verify(folder, key=keys[0][1])


def test_what_is_no_key(keys, tmp_path, whole, monkeypatch, command):
    from cryptography.hazmat.primitives import serialization as written
    from cryptography.hazmat.primitives.asymmetric import ed448

    (private, public), _ = keys
    out, locked = tmp_path / "out", tmp_path / "locked.pem"
    key = written.load_pem_private_key(private.read_bytes(), None)
    secret = (written.PrivateFormat.PKCS8, written.BestAvailableEncryption(b"word"))
    locked.write_bytes(key.private_bytes(written.Encoding.PEM, *secret))
    other, other_public = pem(tmp_path, "448", ed448.Ed448PrivateKey.generate())
    for file, problem in (
        (tmp_path / "gone", "gone: cannot be read: No such file"),
        (public, "no private key of Ed25519 in PEM; write one: openssl genpkey -algorithm ed25519"),
        (other, "no private key of Ed25519"),
        (locked, "needs a password; write a copy without one"),
    ):
        with pytest.raises(BundleError, match=problem):
            export(whole.path, out, sign=file)
    for file in (private, other_public, whole.path / "run.json"):
        with pytest.raises(
            BundleError, match=r"no public key .*: openssl pkey -pubout -in KEY\.pem"
        ):
            verify(tmp_path, key=file)
    code, _, error = command("export", whole.path, out, "--onnx", "--sign", private)
    assert (code, "an ONNX file has no signature" in error) == (2, True)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(BundleError, match=r"not installed: pip install 'convax\[sign\]'"):
        export(whole.path, out, sign=private)
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("program.stablehlo", "does not run|cannot be run"),
        ("weights.safetensors", "cannot be run"),
        ("self_test.safetensors", "cannot be run"),
        ("about.json", "cannot be run"),
    ],
)
def test_nonsense_with_its_checksums(name, problem, folder):
    (folder / name).write_bytes(b"[]" * 40)
    rewrite(folder)
    with pytest.raises(BundleError, match=problem):
        verify(folder)


def test_answers_of_another_shape(folder):
    path = folder / "self_test.safetensors"
    test = safetensors.numpy.load_file(path)
    path.write_bytes(safetensors.numpy.save(test | {"expected": test["expected"][:1]}))
    rewrite(folder)
    with pytest.raises(BundleError, match=r"probabilities: got \(8, 3\), need \(1, 3\)"):
        verify(folder)


def test_format_expiry_and_platform(folder):
    rewrite(folder, format=4)
    with pytest.raises(BundleError, match="unknown format: got 4, need one of 1, 2, 3"):
        verify(folder)
    rewrite(folder, format=1)
    late = datetime.date.today() + datetime.timedelta(days=200)
    verify(folder, today=late)  # by the very JAX that wrote it
    rewrite(folder, jax="0.9.0")
    verify(folder)
    with pytest.raises(BundleError, match=r"expired on .* made by jax 0\.9\.0"):
        verify(folder, today=late)
    rewrite(folder, platforms=["tpu"])
    with pytest.raises(
        BundleError, match=r"files as written, but not tested: made for tpu, and this .* has cpu"
    ):
        verify(folder)
    rewrite(folder, expires="soon")
    with pytest.raises(BundleError, match="not of a bundle"):
        verify(folder)


def test_a_program_of_another_jax_that_does_not_run_here(folder):
    """Older releases read newer programs or not: the manifest knows who made it."""
    (folder / "program.stablehlo").write_bytes(b"newer")
    rewrite(folder, jax="99.0.0")
    with pytest.raises(BundleError, match=r"; jax 99\.0\.0 made it, this is .*: install jax==99"):
        verify(folder)
    with pytest.raises(subprocess.CalledProcessError) as caught:
        load_py(folder, np.zeros((1, 6, 6, 1), np.uint8))
    assert "jax 99.0.0 made it, this is" in caught.value.stderr
    assert "pip install jax==99.0.0" in caught.value.stderr


def test_what_cannot_be_exported(whole, tmp_path, monkeypatch):
    with pytest.raises(BundleError, match="exists; choose another"):
        export(whole.path, tmp_path)
    with pytest.raises(BundleError, match="got 'cpu,abacus', need some of cpu,cuda,tpu"):
        export(whole.path, tmp_path / "b", platforms=("cpu", "abacus"))

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle.atomic_io, "write_fsync", full)
    with pytest.raises(BundleError, match="cannot be written: No space left"):
        export(whole.path, tmp_path / "b")
    assert not list(tmp_path.iterdir())


def test_what_is_wrong_from_the_start_is_not_left_behind(whole, tmp_path, monkeypatch):
    real = bundle._program

    def altered(*arguments):
        program, weights = real(*arguments)
        return program, {name: 1.5 * array for name, array in weights.items()}

    monkeypatch.setattr(bundle, "_program", altered)
    with pytest.raises(BundleError, match="wrong predictions"):
        export(whole.path, tmp_path / "b")
    assert not list(tmp_path.iterdir())


def test_the_command_line(command, whole, tmp_path):
    code, out, _ = command("export", whole.path, tmp_path / "elsewhere", "--platforms", "tpu")
    assert code == 0 and "not run here, made for tpu" in out
    code, out, _ = command("export", whole.path, tmp_path / "b", "--platforms", "cpu")
    assert code == 0 and "b: verified\nSHA-256" in out
    code, said, _ = command("verify-bundle", tmp_path / "b")
    assert code == 0 and "7 files as written; 8 images (the first of the test split)" in said
    assert out.split()[-1] == said.split()[-1]
    found = json.loads(command("verify-bundle", tmp_path / "b", "--json")[1])
    assert (found["files"], found["manifest"], found["signed"]) == (7, said.split()[-1], False)
    code, _, error = command("verify-bundle", tmp_path)
    assert code == 2 and "is it a bundle?" in error
    assert bundle_check.FILES | {"manifest.json"} == {p.name for p in (tmp_path / "b").iterdir()}
