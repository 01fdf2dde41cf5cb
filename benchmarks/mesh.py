"""What a mesh changes and costs: parameters after some steps, and the time of a step.

    python benchmarks/mesh.py [--steps 20] [--rounds 5]

Trains small networks on 1, 2, 4 and 8 devices of the host, each layout in a process of its own, on
the same batches, and prints a table: the largest difference of any parameter from the run without
a mesh, relative to the largest element of its array, behind the first step and behind the last, and
the processor's time for a step, all cores together, over that without a mesh (medians). The devices
share the cores, so no gain is to be expected here; what the ratio shows is the work that a mesh
adds. For comparison: one device whose convolutions take their plain forms, which round otherwise.
"""

import argparse
import json
import os
import subprocess
import sys
import time

import numpy as np

PLAIN = "plain forms"
LAYOUTS = [
    {},
    {PLAIN: 1},
    {"data": 1},
    {"data": 2},
    {"data": 4},
    {"data": 8},
    {"fsdp": 2},
    {"fsdp": 4},
    {"fsdp": 8},
    {"spatial": 2},
    {"spatial": 4},
    {"spatial": 8},
    {"data": 2, "fsdp": 2, "spatial": 2},
    {"model": 2},
    {"data": 4, "model": 2},
]
NETWORKS = {
    "LeNet-5": 'model={name="lenet5",activation="relu",pool="max"}',
    "ResNet-20": 'model={name="resnet_cifar",depth=20}',
    "two towers": (
        'model={layers=[{type="conv",features=32,window=5,padding="SAME"},{type="relu"},'
        '{type="max_pool",window=3,stride=2,padding="SAME"},'
        '{type="conv",features=64,window=3,padding="SAME",groups=2},{type="relu"},'
        '{type="flatten"},{type="dense",features=128},{type="relu"},'
        '{type="dense",features=10}]}'
    ),
}


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--steps", type=int, default=20)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--layout", help=argparse.SUPPRESS)
    arguments.add_argument("--network", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.layout is not None:
        print(json.dumps(measured(given.network, json.loads(given.layout), given)))
        return
    print(
        "| network | mesh | difference, 1 step | all steps | processor's time | bytes of a step |\n"
        "|---|---|---|---|---|---|"
    )
    for network in NETWORKS:
        alone = None
        for layout in LAYOUTS:
            if "model" in layout and network != "two towers":
                continue
            found = in_a_process(network, layout, given)
            alone = alone or found
            first, last = (
                max(difference(a, b) for a, b in zip(found[when], alone[when], strict=True))
                for when in ("first", "last")
            )
            ratio = found["seconds"] / alone["seconds"]
            axes = " x ".join(f"{axis} {size}" for axis, size in layout.items()) or "none"
            axes = "none, plain forms" if PLAIN in layout else axes
            text = f"{1e3 * found['seconds']:.1f} ms" if found is alone else f"{ratio:.2f}"
            size = f"{found['bytes'] / 2**20:.1f} MiB"
            print(
                f"| {network} | {axes} | {first:.1e} | {last:.1e} | {text} | {size} |", flush=True
            )


def difference(array, other):
    array, other = np.asarray(array), np.asarray(other)
    return float(np.abs(array - other).max() / max(np.abs(other).max(), 1e-30))


def in_a_process(network, layout, given):
    devices = max(1, int(np.prod(list(layout.values()))))
    command = [sys.executable, __file__, "--network", network, "--layout", json.dumps(layout)]
    command += ["--steps", str(given.steps), "--rounds", str(given.rounds)]
    flags = f"--xla_force_host_platform_device_count={devices}"
    env = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "NPROC": "64"}
    env |= {"CONVAX_LOWERING": "xla"} if PLAIN in layout else {}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def measured(network, layout, given):
    """The parameters behind `steps` steps, and the median time of a step, over `rounds`."""

    import jax

    from convax.training.common.memory import memory_usage
    from convax.training.config.schema import load_config
    from convax.training.distributed.sharding import sharding_plan
    from convax.training.experiment import make_step_spec, prepare
    from convax.training.loop.chunks import ChunkSizer, chunks, most_steps
    from convax.training.step.train_step import make_train_steps

    axes = {axis: size for axis, size in layout.items() if axis != PLAIN}
    steps, written = given.steps, ",".join(f"{k}={v}" for k, v in axes.items())
    sets = [NETWORKS[network], "input.size=[32,32]", f"training.log_every={steps}"]
    sets += [f"training.steps={steps}", *([f"mesh={{{written}}}"] if axes else [])]
    sets += [
        'optimizer={name="sgd",learning_rate=0.01,momentum=0.9,nesterov=false,weight_decay=0.0}'
    ]
    config = load_config("lenet5-digits", sets)
    experiment = prepare(config)
    place, split = sharding_plan(experiment), experiment.dataset.train
    recipe = make_step_spec(place.constrain(experiment))
    train_steps = make_train_steps(recipe, out_shardings=place.outputs)
    size, sizer = config.training.batch_size, ChunkSizer()
    sizer.steps = steps
    assert most_steps(split, config) == steps
    rows = place.local_rows(size)
    (chunk,) = chunks(split, config, sizer, start=0, total=steps, every=steps, rows=rows)
    batches = place.feed_batches(chunk.images, chunk.labels, size, rows)
    with place.scope():
        program = train_steps.lower(
            place.device_put(experiment.init()), *batches, chunk.steps
        ).compile()
    seconds, ends = [], []
    for count in (1, *[steps] * given.rounds):  # the first is for warming up
        state = jax.block_until_ready(place.device_put(experiment.init()))
        began = time.process_time()
        end, _ = jax.block_until_ready(program(state, *batches, np.int32(count)))
        seconds.append((time.process_time() - began) / count)
        ends.append([np.asarray(leaf).tolist() for leaf in jax.tree.leaves(end.params)])
    return {
        "first": ends[0],
        "last": ends[-1],
        "seconds": float(np.median(seconds[1:])),
        "bytes": memory_usage(program),
    }


if __name__ == "__main__":
    main()
