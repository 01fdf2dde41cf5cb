"""The texts of a bundle: the loader, which needs JAX and NumPy alone, and the README."""

from typing import Any

LOADER = '''"""predict(images), see README.md: uint8 (N, H, W, C). Needs jax, numpy, flatbuffers."""
import json, pathlib
import jax, jax.export, numpy as np

HERE = pathlib.Path(__file__).parent
raw = (HERE / "weights.safetensors").read_bytes()
start = 8 + int.from_bytes(raw[:8], "little")
body, types = memoryview(raw)[start:], {"F32": "<f4", "I32": "<i4", "U32": "<u4"}
weights = {
    name: np.frombuffer(body[slice(*t["data_offsets"])], types[t["dtype"]]).reshape(t["shape"])
    for name, t in json.loads(raw[8:start]).items() if name != "__metadata__"
}
program = jax.export.deserialize(bytearray((HERE / "program.stablehlo").read_bytes()))
run = jax.jit(program.call)


def predict(images):
    return np.asarray(run(weights, images))
'''

_ANSWERS = {
    "classification": "probabilities `(N, K)`, one for each label",
    "segmentation": "probabilities `(N, H, W, K)`, one for each label at each pixel",
    "embedding": "vectors `(N, D)`: images that are alike lie close together",
}


def readme(about: dict[str, Any], made: dict[str, Any]) -> str:
    """How to run a bundle, by what stands in its about.json and its manifest."""
    shape = ", ".join(map(str, about["image_shape"]))
    return f"""# A trained network

    pip install jax numpy flatbuffers
    python -c "import load, numpy as np; print(load.predict(np.zeros((1, {shape}), np.uint8)))"

In: uint8 images `(N, {shape})`, any N from 1; other dtypes and shapes are refused.
Out: {_ANSWERS[about["task"]]}. Labels and preprocessing stand in about.json; the
preprocessing is part of the program.
It runs on {", ".join(made["platforms"])}. jax {made["jax"]} made it, and runs it for ever; newer
releases do until {made["expires"]}, then perhaps: `pip install jax=={made["jax"]}`.
`convax verify FOLDER` checks it.
"""
