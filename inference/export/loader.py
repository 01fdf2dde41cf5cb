"""The texts of a bundle: the loader, which needs jax, numpy and flatbuffers, and the README."""

from typing import Any

from ...training.tasks.registry import spec_of

LOADER = '''"""predict(*INPUTS), see README.md, about.json. Needs jax, numpy, flatbuffers."""
import hashlib, json, pathlib
import jax, jax.export, numpy as np

HERE, files = pathlib.Path(__file__).parent, {}
made = json.loads((HERE / "manifest.json").read_bytes())
for name, digest in made["sha256"].items():
    files[name] = (HERE / name).read_bytes()
    if hashlib.sha256(files[name]).hexdigest() != digest:
        raise ValueError(f"{HERE / name}: altered: its checksum differs")
about = json.loads(files["about.json"])
INPUTS, names = ([each["name"] for each in about[key]] for key in ("inputs", "outputs"))
raw, weights = memoryview(files["weights.safetensors"]), {}
start = 8 + int.from_bytes(raw[:8], "little")
for name, t in json.loads(bytes(raw[8:start])).items():
    data = np.frombuffer(raw[start:][slice(*t["data_offsets"])], f"<{t['dtype'][0].lower()}4")
    weights[name] = data.reshape(t["shape"])
try:
    run = jax.jit(jax.export.deserialize(bytearray(files["program.stablehlo"])).call)
except Exception as error:
    versions = f"jax {made['jax']} made it, this is {jax.__version__}"
    raise ValueError(f"{HERE}: {versions}: pip install jax=={made['jax']}") from error


def predict(images, *more):
    if 1 + len(more) != len(INPUTS):
        raise TypeError(f"predict: got {1 + len(more)} arrays, need {len(INPUTS)}: {INPUTS}")
    outputs = run(weights, images, *more)
    if len(names) == 1:
        return np.asarray(outputs)
    return {name: np.asarray(output) for name, output in zip(names, outputs, strict=True)}
'''


def readme(about: dict[str, Any], made: dict[str, Any]) -> str:
    """Return how to run a bundle, by what stands in its about.json and its manifest."""
    shape = ", ".join(map(str, about["image_shape"]))
    names = ", ".join(f"`{output['name']}`" for output in about["outputs"])
    outputs = spec_of(about["task"]).outputs_text
    if len(about["outputs"]) > 1:
        outputs = f"a dict of {names}: {outputs}"
    more = about["inputs"][1:]
    arrays = ", ".join(f"np.zeros((1, {_sizes(i)}), np.{i['dtype']})" for i in about["inputs"])
    return f"""# A trained network

    pip install jax numpy flatbuffers
    python -c "import load, numpy as np; print(load.predict({arrays}))"

In: {_pixels(about)} images `(N, {shape})`, any N from 1; other dtypes and shapes are refused.
{"".join(map(_beside, more))}Out: {outputs}. Labels and preprocessing stand in about.json; the
preprocessing is part of the program.
It runs on {", ".join(made["platforms"])}. jax {made["jax"]} made it, and runs it for ever; newer
releases do until {made["expires"]}, then perhaps: `pip install jax=={made["jax"]}`.
`convax verify-bundle FOLDER` checks it.
"""


def _pixels(about: dict[str, Any]) -> str:
    """Return the dtype of images, and what range they have where that is not all of it."""
    dtype = about["inputs"][0]["dtype"]
    pixels = about["preprocessing"].get("pixels")
    if pixels is None or dtype == "uint8":
        return dtype
    return f"{dtype} ({pixels['low']:.10g} to {pixels['high']:.10g})"


def _beside(each: dict[str, Any]) -> str:
    """Return a line about an input beside the images."""
    about = each.get("description", "see about.json")
    return f"And {each['dtype']} {each['name']} `(N, {_sizes(each)})`: {about}.\n"


def _sizes(each: dict[str, Any]) -> str:
    return ", ".join(map(str, each["shape"][1:]))
