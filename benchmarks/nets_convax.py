"""The networks in convax, from its own collection where that has them, and its steps;
`CONVAX_LOWERING=xla` in the environment chooses XLA's own operations in place of its
implementations for CPU, and `CONVAX_LOWERING=native` the native kernels, without which nothing is
timed then.
"""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import nets
import numpy as np
from programs import Program, jax_inference, jax_training, size

from convax import model, ops
from convax.model import (
    batch_norm,
    conv,
    dense,
    depthwise_conv,
    dropout,
    flatten,
    gelu,
    global_avg_pool,
    group_norm,
    layer_norm,
    local_response_norm,
    max_pool,
    relu,
    residual,
    serial,
)
from convax.ops.common.implementation import current_implementation
from convax.ops.conv.native.library import PACKAGE, load_kernels, resolve_implementation
from convax.training.data.preprocess import Preprocessing, preprocess
from convax.training.optim.optimizer import adam, sgd
from convax.training.step.train_step import (
    StepSpec,
    init_train_state,
    make_train_step,
    make_train_steps,
)
from convax.training.tasks.classification.task import accuracy

# ------------------------------------------------------------------------------- the networks


def vgg(classes, norm):
    parts = []
    for features in nets.VGG:
        if features == "pool":
            parts.append(max_pool(2))
        else:
            parts += [conv(features, 3, padding=1, bias=False), norm(), relu()]
    return serial(*parts, global_avg_pool(), dense(classes))


def alexnet(classes):
    pool = partial(max_pool, 3, stride=2)
    return serial(
        *(conv(96, 11, stride=4, padding=2), relu(), local_response_norm(), pool()),
        *(conv(256, 5, padding=2, groups=2), relu(), local_response_norm(), pool()),
        *(conv(384, 3, padding=1), relu()),
        *(conv(384, 3, padding=1, groups=2), relu()),
        *(conv(256, 3, padding=1, groups=2), relu(), pool()),
        *(flatten(), dropout(0.5), dense(4096), relu()),
        *(dropout(0.5), dense(4096), relu(), dense(classes)),
    )


def convnext(classes):
    parts = []
    for stage, (features, count) in enumerate(nets.CONVNEXT):
        smaller = [layer_norm(), conv(features, 2, stride=2)]
        parts += smaller if stage else [conv(features, 4, stride=4), layer_norm()]
        block = serial(
            *(depthwise_conv(7, padding=3), layer_norm()),
            *(dense(4 * features), gelu(), dense(features)),
        )
        parts += [residual(block)] * count
    return serial(*parts, global_avg_pool(), layer_norm(), dense(classes))


NETWORKS = {
    "lenet5": partial(model.lenet5, activation="relu", pool="max"),
    "vgg_gn": partial(vgg, norm=partial(group_norm, nets.NORM_GROUPS)),
    "vgg_bn": partial(vgg, norm=batch_norm),
    "resnet20": partial(model.resnet_cifar, depth=20, shortcut="B"),
    "resnet18": partial(model.resnet, depth=18),
    "mobilenet_v2": model.mobilenet_v2,
    "alexnet": alexnet,
    "unet": partial(model.unet, features=nets.UNET, batch_norm=True, upsampling="transposed"),
    "convnext": convnext,
}

# ---------------------------------------------------------------------------------- the steps

CHUNK = 8  # steps in one call, where they are chunked


def training(net: str, chunked: bool = False) -> Program:
    """Step by step, or as `convax train` does it, many steps in one call."""
    recipe, fresh = start(nets.NETS[net], NETWORKS[net])
    images, labels = map(jax.device_put, nets.arrays(nets.NETS[net]))
    train_state = jax.jit(fresh)(jax.random.key(0))
    params = train_state.params
    if not chunked:
        step = make_train_step(recipe)

        def run(train_state):
            train_state, metrics = step(train_state, images, labels)
            return train_state, metrics["loss"]

        return jax_training(run, train_state, params)

    steps, about = make_train_steps(recipe), {"parameters": size(params)}
    images, labels = (jnp.stack([array] * CHUNK) for array in (images, labels))

    def run_chunks(count):
        nonlocal train_state
        for begun in range(0, count, CHUNK):
            few = min(CHUNK, count - begun)
            train_state, metrics = steps(train_state, images, labels, few)
        return float(metrics["loss"][few - 1])

    return Program({"": run_chunks}, about)


def seeds(net: str, count: int, form: Literal["map", "vmap", "sequence"]) -> Program:
    """A step of each of so many seeds: as `convax train --seeds` takes it on CPU, where each seed
    has its turn of several steps; as one vmapped step; or one after the other.
    """
    recipe, fresh = start(nets.NETS[net], NETWORKS[net])
    images, labels = map(jax.device_put, nets.arrays(nets.NETS[net], count, nets.NETS[net].batch))
    keys = jax.random.split(jax.random.key(0), count)
    if form == "map":
        return seeds_in_turn(
            make_train_steps(recipe), jax.jit(jax.vmap(fresh))(keys), images, labels
        )
    step = make_train_step(recipe)
    if form == "vmap":
        train_states = jax.jit(jax.vmap(fresh))(keys)
        every_step = jax.jit(jax.vmap(step), donate_argnums=0)
    else:
        train_states = [jax.jit(fresh)(key) for key in keys]
        images, labels = list(images), list(labels)

        def every_step(train_states, images, labels):
            stepped = [step(*each) for each in zip(train_states, images, labels, strict=True)]
            return [train_state for train_state, _ in stepped], stepped[-1][1]

    def run(train_states):
        train_states, metrics = every_step(train_states, images, labels)
        return train_states, metrics["loss"]

    params = train_states.params if form == "vmap" else [s.params for s in train_states]
    return jax_training(run, train_states, params)


def seeds_in_turn(steps, train_states, images, labels) -> Program:
    """`training.experiments.batched_program` of networks that differ in their seeds."""
    images, labels = (jnp.stack([array] * CHUNK, axis=1) for array in (images, labels))
    about = {"parameters": size(train_states.params)}

    @partial(jax.jit, donate_argnums=0)
    def turns(train_states, images, labels, few):
        return jax.lax.map(lambda own: steps(*own, few), (train_states, images, labels))

    def run_chunks(count):
        nonlocal train_states
        few = 0
        for begun in range(0, count, CHUNK):
            few = min(CHUNK, count - begun)
            train_states, metrics = turns(train_states, images, labels, few)
        return float(metrics["loss"][:, few - 1].mean())

    return Program({"": run_chunks}, about)


def start(spec: nets.Net, network):
    """The recipe of a step, and ``fresh(key)``, the state before the first step."""
    net = network(spec.classes)
    optimizers = {"momentum": partial(sgd, momentum=0.9), "adam": adam}
    optimizer = optimizers[spec.optimizer](nets.LEARNING_RATE[spec.optimizer])
    loss = partial(ops.softmax_cross_entropy, label_smoothing=0.0, reduction="none")

    def fresh(key):
        _, params, state = net.init(key, (spec.batch, *spec.image))
        return init_train_state(params, state, optimizer, key)

    return StepSpec(net, loss, optimizer, lambda x: x, accuracy), fresh


def inference(net: str, batch: int) -> Program:
    spec = nets.NETS[net]._replace(batch=batch)
    network = NETWORKS[net](spec.classes)
    images, _ = nets.arrays(spec)
    _, params, state = network.init(jax.random.key(0), images.shape)

    @jax.jit
    def predict(params, state, images):
        return network.apply(params, state, images)[0]

    return jax_inference(partial(predict, params, state), jax.device_put(images), params)


def latency(net: str, side: int, batch: int) -> Program:
    """As the function of `convax.load`: bytes in, probabilities out, the preprocessing inside,
    batch norms folded.
    """
    spec = nets.sized(net, side, batch)
    network = NETWORKS[net](spec.classes)
    _, params, state = network.init(jax.random.key(0), (batch, *spec.image))
    about = {"parameters": size(params)}
    network, fold, _ = model.fold_batch_norm(network)
    params, state = jax.jit(fold)(params, state)
    channels = spec.image[-1]
    how = Preprocessing((side, side), "pad", nets.MEAN[:channels], nets.STD[:channels])

    @jax.jit
    def function(params, state, images):
        outputs, _ = network.apply(params, state, preprocess(images, how))
        return ops.softmax(outputs)

    images = nets.pictures(spec)

    def run(count):
        for _ in range(count):
            answers = np.asarray(function(params, state, images))
        return float(answers.sum())

    return Program({"": run}, about)


PROGRAMS = {"training": training, "seeds": seeds, "inference": inference, "latency": latency}
LIBRARIES = ("convax", "jax")
if current_implementation() == "native":
    load_kernels()  # or an error, where convax itself would warn and go on without
if resolve_implementation(current_implementation()) == "native":
    LIBRARIES = (*LIBRARIES, PACKAGE)
