"""Convolutions and pools cut up among the devices of a mesh: the values and gradients of one."""

import pytest

from convax.ops.conv.geometry import resolve_conv
from convax.ops.conv.spmd import _partition_rows

CUT_UP = """
import jax, numpy as np, jax.numpy as jnp
from functools import partial
from jax.sharding import AxisType, NamedSharding
from convax import ops

assert jax.device_count() == 4
draw = lambda seed, *shape: jax.random.normal(jax.random.key(seed), shape)
SAME = dict(padding="SAME")
cases = {
    "3x3": ((8, 12, 6, 4), (3, 3, 4, 8), SAME),
    "5x5, dilated": ((8, 16, 6, 4), (5, 5, 4, 8), SAME | dict(dilation=2)),
    "1x1, stride 2": ((8, 16, 8, 8), (1, 1, 8, 16), dict(stride=2)),
    "4x4, stride 2": ((8, 16, 8, 8), (4, 4, 8, 16), dict(stride=2, padding=1)),
    "two groups": ((8, 12, 6, 8), (3, 3, 4, 64), SAME | dict(groups=2)),
    "depthwise": ((8, 12, 6, 8), (3, 3, 1, 8), SAME | dict(groups=8)),
    "three groups": ((8, 12, 6, 6), (3, 3, 2, 9), SAME | dict(groups=3)),
    "nothing divides": ((7, 11, 5, 3), (3, 3, 3, 5), {}),
    "reaches too far": ((8, 4, 6, 4), (7, 7, 4, 8), SAME),
    "1-D": ((8, 12, 4), (3, 4, 8), SAME),
    "3-D": ((4, 8, 4, 4, 2), (3, 3, 3, 2, 4), SAME | dict(stride=2)),
}
meshes = {
    (2, 2): (("data", "spatial"), ("model", "spatial"), ("fsdp", "model"), ("other", "spatial")),
    (4,): (("spatial",), ("data",)),
}
meshes = [jax.make_mesh(s, n, (AxisType.Auto,) * len(n)) for s, all in meshes.items() for n in all]
P = jax.P


def cut(mesh, x):
    '''Let the rows and the batch really lie apart.'''
    names = mesh.axis_names
    batch = next((n for n in ("data", "fsdp") if n in names and len(x) % mesh.shape[n] == 0), None)
    rows = "spatial" in names and x.shape[1] % mesh.shape["spatial"] == 0
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, P(batch, "spatial" if rows else None)))


def close(actual, expected, what):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * float(jnp.abs(b).max()), err_msg=what)


def results(conv, x, k, cut=lambda x: x):
    '''y, and a gradient through all three primitives.'''
    def loss(x, k):
        y = conv(cut(x), k)
        return jnp.sum(jnp.sin(y) * (2 + jnp.cos(y))), y
    (_, y), grads = jax.value_and_grad(loss, (0, 1), has_aux=True)(x, k)
    return y, grads


for name, (x, k, how) in cases.items():
    x, k, conv = draw(0, *x), draw(1, *k), partial(ops.conv, **how)
    expected = jax.jit(partial(results, conv))(x, k)
    for mesh in meshes:
        with jax.set_mesh(mesh):
            program = jax.jit(partial(results, conv, cut=partial(cut, mesh))).lower(x, k).compile()
            close(program(x, k), expected, f"{name} on {dict(mesh.shape)}")
        if name == "3x3" and "spatial" in mesh.axis_names:
            assert "collective-permute" in program.as_text()  # rows were fetched

# Without padding the rows do not divide behind the first: every device computes them all.
def chain(x, k):
    y = ops.max_pool(ops.relu(ops.conv(x, k)), 2)
    return ops.max_pool(ops.relu(ops.conv(y, k)), 2)
x, k = draw(0, 8, 32, 32, 4), draw(1, 5, 5, 4, 4) / 10
expected = jax.jit(partial(results, chain))(x, k)
for mesh in meshes:
    with jax.set_mesh(mesh):
        close(jax.jit(partial(results, chain, cut=partial(cut, mesh)))(x, k), expected, f"chain on {dict(mesh.shape)}")

xs, ks = draw(0, 3, 8, 12, 6, 4), draw(1, 3, 3, 3, 4, 8)
stacked = jax.vmap(partial(results, partial(ops.conv, padding="SAME")))
expected = jax.jit(stacked)(xs, ks)
for mesh in meshes:
    with jax.set_mesh(mesh):
        close(jax.jit(stacked)(xs, ks), expected, f"stacked on {dict(mesh.shape)}")

x = draw(0, 8, 16, 6, 4)
for name in "cpu", "xla":
    with ops.implementation(name):
        for window, stride in (2, 2), (3, 2), (3, 1):
            loss = lambda x: jnp.sum(jnp.sin(ops.max_pool(x, window, stride=stride, padding="SAME")))
            expected = jax.jit(jax.grad(loss))(x)
            for mesh in meshes[:1]:
                with jax.set_mesh(mesh):
                    actual = jax.jit(jax.grad(lambda x: loss(cut(mesh, x))))(x)
                close(actual, expected, f"max_pool {window} {stride} {name}")
"""


@pytest.mark.slow
def test_values_and_gradients_are_those_of_one_device(run_on_four_devices):
    run_on_four_devices(CUT_UP, CONVAX_LOWERING="cpu")  # native kernels: native/test_call.py


def test_halo_rows_by_hand():
    """16 rows on 4 devices, 3 taps: one from above and one from below, by hand."""
    same = resolve_conv("conv", (1, 16, 8, 2), (3, 3, 2, 4), 1, "SAME", 1, 1)
    above, below, part = _partition_rows(same, 4)
    assert (above, below) == (1, 1)
    assert (part.size, part.output, part.padding) == ((6, 8), (4, 8), ((0, 0), (1, 1)))


def test_rows_stay_whole_where_windows_lie_elsewhere_on_each_device():
    valid = resolve_conv("conv", (1, 16, 8, 2), (3, 3, 2, 4), 1, "VALID", 1, 1)
    assert _partition_rows(valid, 4) == (0, 0, valid)
