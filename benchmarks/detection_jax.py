"""Operations of object detection on JAX: as convax chooses on CPU, and in XLA's own form."""

from functools import partial

import jax
import jax.numpy as jnp
from detection_cases import BINS, REGIONS, SCALE, SUPPRESSIONS, map_and_boxes, scene
from ops_jax import timed
from programs import Program

from convax import ops


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


PROGRAMS = {"suppression": suppression, "region": region}
LIBRARIES = ("convax", "jax")
