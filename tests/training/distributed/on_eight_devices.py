"""Trains a small network on meshes of eight devices of the host; prints what came out, as JSON.

Run by `test_mesh` in a process of its own: the number of devices is fixed when JAX starts. With
"recipes" as its last argument it trains with what else the step can do, on one device and on eight.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import jax
import numpy as np
import safetensors.numpy

import convax
from convax.training.config.errors import ConfigError
from convax.training.config.schema import Mesh, load_config
from convax.training.distributed.sharding import sharding_plan
from convax.training.experiment import prepare
from convax.training.loop import loop
from convax.training.loop.signals import InterruptedRun
from convax.training.run import checkpoint

CONFIG, FOLDER = sys.argv[1], Path(sys.argv[2])
RECIPES = {
    "accumulate": ["training.grad_accum_steps=2", "training.batch_size=16"],
    "ema": ["ema={decay=0.9}"],
    "skip_nonfinite": ["training.skip_nonfinite=2"],
    "clip": ["optimizer.clip_norm=0.5"],
    "bfloat16": ['precision={compute="bfloat16"}'],
    "float16": ['precision={compute="float16",loss_scale=1024.0,growth_interval=0}'],
}
MESHES = {
    "one": {},
    "data": {"data": "all"},
    "fsdp": {"data": 2, "fsdp": 4},
    "all three": {"data": -1, "model": 2, "spatial": 2},
}


class Interrupt:
    """A display that sends SIGTERM behind a step."""

    def __init__(self, at):
        self.at = at

    def note(self, text):
        pass

    def step(self, step, total, record):
        if step >= self.at:
            os.kill(os.getpid(), signal.SIGTERM)

    def close(self):
        pass


def config_of(mesh, *more):
    written = ", ".join(f"{axis} = {json.dumps(size)}" for axis, size in mesh.items())
    return load_config(CONFIG, [*([f"mesh={{{written}}}"] if mesh else []), *more])


def result(run):
    folder = run.checkpoints / checkpoint.named(run.checkpoints, "last")
    files = [folder / f"{part}.safetensors" for part in ("params", "state", "training")]
    content = [file.read_bytes() for file in files]
    arrays = {}
    for file, each in zip(files, content, strict=True):
        arrays |= {f"{file.stem}/{k}": v for k, v in safetensors.numpy.load(each).items()}
    return arrays, hashlib.sha256(b"".join(content)).hexdigest()


def difference(arrays, others):
    """The largest difference of an array, relative to its largest element."""
    return max(
        float(np.abs(arrays[k] - others[k]).max() / max(np.abs(others[k]).max(), 1e-30))
        for k in others
        if others[k].dtype == np.float32
    )


def stopped(name, mesh, at):
    try:
        convax.train(config_of(mesh), FOLDER / name, display=Interrupt(at))
    except InterruptedRun:
        return FOLDER / name
    raise AssertionError(f"{name} was not stopped")


def refusal(mesh, *more):
    try:
        sharding_plan(prepare(config_of(mesh, *more)))
    except ConfigError as error:
        return str(error)
    return None


def recipes():
    """By name, how far eight devices come from one with each of `RECIPES`; and that one from none."""
    plain, found = result(convax.train(config_of({}), FOLDER / "plain"))[0], {}
    for name, more in RECIPES.items():
        one, eight = (
            result(convax.train(config_of(mesh, *more), FOLDER / f"{name}-{len(mesh)}"))[0]
            for mesh in ({}, MESHES["fsdp"])
        )
        kept = {k: array for k, array in plain.items() if k in one}
        found[name] = [difference(eight, one), difference(one, kept)]
    return found


def main():
    loop.draw_experiment = lambda *_: None
    if sys.argv[3:] == ["recipes"]:
        print(json.dumps(recipes()))
        return
    found = {"devices": jax.device_count(), "differences": {}, "hashes": {}, "tests": {}}
    runs = {name: convax.train(config_of(mesh), FOLDER / name) for name, mesh in MESHES.items()}
    results = {name: result(run) for name, run in runs.items()}
    for name, (arrays, digest) in results.items():
        found["differences"][name] = difference(arrays, results["one"][0])
        found["hashes"][name] = digest
        found["tests"][name] = runs[name].info()["result"]["test"]

    killed = stopped("killed", MESHES["data"], 8)
    shutil.copytree(killed, FOLDER / "to-one")
    found["hashes"]["resumed"] = result(loop.resume(killed))[1]
    moved = {"8 to 1": loop.resume(FOLDER / "to-one", mesh=Mesh())}
    moved["1 to 8"] = loop.resume(stopped("to-eight", {}, 8), mesh=Mesh(data=8))
    for name, run in moved.items():
        found["differences"][name] = difference(result(run)[0], results["one"][0])

    experiment = prepare(config_of(MESHES["fsdp"]))
    placed = sharding_plan(experiment).device_put(experiment.init())
    kernel = placed.params["conv2"]["kernel"]
    found["kernel"] = [list(kernel.shape), list(kernel.addressable_shards[0].data.shape)]
    moments = jax.tree.leaves(placed.opt_state)
    found["moments"] = [list(leaf.addressable_shards[0].data.shape) for leaf in moments]

    found["refusals"] = {
        "devices": refusal({"data": 4, "spatial": 4}),
        "rest": refusal({"data": "all", "spatial": 3}),
        "batch": refusal({"data": 8}, "training.batch_size=20"),
        "height": refusal({"spatial": 8}, "input.size=[12, 12]"),
        "model": refusal({"model": 8}),
        "no groups": refusal({"model": 2}, 'model={name="mlp",hidden=[8],activation="relu"}'),
        "fits": refusal({"data": 4}),
    }
    print(json.dumps(found))


main()
