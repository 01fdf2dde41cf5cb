"""Whole networks have the gradient that float64 says, in every form that a convolution may take."""

import pytest

from convax import model, ops
from convax.ops.common.implementation import uses_xla
from convax.ops.conv.cpu.dispatch import _RULES

from .networks import NETWORKS, draw, gradient_error, gradients
from .rules import KINDS, LAYERS

pytestmark = pytest.mark.skipif(uses_xla(), reason="these choose the implementation themselves")

WHOLE, WORST = 1e-5, 1e-4  # of float32, relative, by the l2 norm: what is measured is a tenth of it
EXACT = 1e-10  # of float64, likewise

# All but what stands below the rules, of which there may be nothing left to take.
FORMS = {(kind, rule.name) for kind, rules in _RULES.items() for rule in rules[:-1]}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_gradient(name):
    network = NETWORKS[name]
    problems = [draw(network, 0, 4)]
    with ops.implementation("xla"):
        (expected,) = gradients(network, problems, "float64")
        (xla,) = gradients(network, problems, "float32")
    with ops.implementation("auto"):  # of float32 the native kernels, of float64 what "cpu" takes
        (ours,) = gradients(network, problems, "float32")
        (exact,) = gradients(network, problems, "float64")
    for name, actual in {"auto": ours, "xla": xla}.items():
        error = gradient_error(actual, expected)
        assert max(error.loss, error.whole) < WHOLE, f"{name}: {error}"
        assert error.worst < WORST, f"{name}: {error}"
    error = gradient_error(exact, expected)
    assert max(error.loss, error.whole, error.worst) < EXACT, f"auto in float64: {error}"


def test_the_networks_take_every_form():
    with ops.implementation("cpu"):
        rows = [
            row
            for network in NETWORKS.values()
            for row in model.summarize(network.layer, network.image).rows
        ]
    taken = set()
    for row in rows:
        order = ("conv", "input_grad", "kernel_grad")
        if row.kind == "conv_transpose":
            order = ("input_grad", "conv", "kernel_grad")
        taken |= {pair for names in row.lowerings for pair in zip(order, names, strict=True)}
    assert taken >= FORMS


def test_every_rule_has_a_layer():
    assert {(kind, layer.rule(kind)) for kind in KINDS for layer in LAYERS} >= FORMS
