"""Object detection on JAX: as convax chooses on CPU, and with operations in XLA's own form."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from detection_cases import (
    BINS,
    DIGITS,
    REGIONS,
    SCALE,
    SUPPRESSIONS,
    TRAINING,
    batch,
    map_and_boxes,
    scene,
)
from ops_jax import timed
from programs import Program, jax_training

from convax import ops
from convax.model import GroundTruth
from convax.training.config.schema import load_config
from convax.training.data.dataset import Dataset, Split
from convax.training.experiment import make_step_spec, prepare
from convax.training.step.train_step import make_train_step


def suppression(case: str) -> Program:
    of = SUPPRESSIONS[case]
    *arrays, classes = map(jax.device_put, scene(of))
    groups = classes if of.classes > 1 else None
    forms = {}
    for name, implementation in (("convax", "cpu"), ("plain", "xla")):
        with ops.implementation(implementation):
            program = jax.jit(partial(ops.nms, iou_threshold=of.threshold, groups=groups))
            forms[name] = timed(program.lower(*arrays).compile(), arrays)
    return Program(forms, {"kept": int(program(*arrays).valid.sum())})


def region(case: str) -> Program:
    of = REGIONS[case]
    arrays = [jax.device_put(a) for a in map_and_boxes(of)]
    forms = {}
    for name, implementation in (("convax", "cpu"), ("plain", "xla")):

        def align(x, boxes):
            return ops.roi_align(x, boxes, BINS, spatial_scale=SCALE)

        def both_ways(x, boxes, g):
            y, vjp = jax.vjp(lambda x: align(x, boxes), x)
            return y, *vjp(g)

        with ops.implementation(implementation):
            if of.backward:
                program, operands = jax.jit(both_ways), arrays
            else:
                program, operands = jax.jit(align), arrays[:2]
            forms[name] = timed(program.lower(*operands).compile(), operands)
    value = jax.tree.leaves(program(*operands))[-1]
    return Program(forms, {"value": float(jnp.sum(jnp.abs(value)))})


def training(case: str) -> Program:
    images, boxes, classes = batch()
    truth = GroundTruth(boxes, classes, classes < 0, np.zeros((len(images), 0, 0), np.uint8))
    split = Split(images, truth)
    dataset = Dataset(split, split, split, tuple(map(str, range(DIGITS))))
    experiment = prepare(load_config(TRAINING[case]), dataset)
    arrays = jax.device_put((images, truth))
    programs = {}
    for name, implementation in (("convax", "cpu"), ("plain", "xla")):
        with ops.implementation(implementation):
            start = experiment.init()
            step = make_train_step(make_step_spec(experiment)).lower(start, *arrays).compile()

        def run(train_state, step=step):
            train_state, metrics = step(train_state, *arrays)
            return train_state, metrics["loss"]

        programs[name] = jax_training(run, start, start.params)
    forms = {name: program.forms[""] for name, program in programs.items()}
    return Program(forms, programs["convax"].about)


PROGRAMS = {"suppression": suppression, "region": region, "training": training}
LIBRARIES = ("convax", "jax")
