"""Operations of object detection on JAX: as convax chooses on CPU, and in XLA's own form."""

from functools import partial

import jax
from detection_cases import SUPPRESSIONS, scene
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


PROGRAMS = {"suppression": suppression}
LIBRARIES = ("convax", "jax")
