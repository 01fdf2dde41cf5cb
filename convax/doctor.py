"""What ``convax doctor`` looks at."""

import os
import platform
import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import NamedTuple


class Finding(NamedTuple):
    """One thing that was checked."""

    fine: bool
    subject: str
    text: str


def examine() -> Iterator[Finding]:
    """Every check in turn."""
    yield _python()
    yield _packages()
    yield _devices()
    yield _gradient()
    yield _data()


def _python() -> Finding:
    return Finding(True, "python", f"{platform.python_version()} on {platform.platform()}")


def _packages() -> Finding:
    names = ("convax", "jax", "jaxlib", "numpy", "optax", "pydantic", "safetensors")
    return Finding(True, "packages", ", ".join(f"{n} {version(n)}" for n in names))


def _devices() -> Finding:
    import jax

    found = ", ".join(f"{d.platform}:{d.id} ({d.device_kind})" for d in jax.devices())
    return Finding(True, "devices", f"{found}; {os.cpu_count()} CPU cores")


def _gradient() -> Finding:
    """The hand-derived gradient of a convolution, on this machine, against autodiff of lax."""
    import jax
    import jax.numpy as jnp

    from convax import ops

    key_x, key_k = jax.random.split(jax.random.key(0))
    x, k = jax.random.normal(key_x, (2, 9, 9, 3)), jax.random.normal(key_k, (3, 3, 3, 4))

    def ours(k):
        return (ops.conv(x, k, stride=2, padding="SAME") ** 2).sum()

    def plain(k):
        dimensions = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(x, k, (2, 2), "SAME", dimension_numbers=dimensions)
        return (y**2).sum()

    began = time.perf_counter()
    got = jax.jit(jax.grad(ours))(k).block_until_ready()
    seconds = time.perf_counter() - began
    want = jax.grad(plain)(k)
    error = float(jnp.abs(got - want).max() / jnp.abs(want).max())
    return Finding(
        error < 1e-2,  # TF32 convolutions, the default on recent GPUs, keep 10 bits
        "gradient",
        f"convolution: relative error {error:.1e} against autodiff, compiled in {seconds:.2f} s",
    )


def _data() -> Finding:
    from convax.training.data import default_directory

    directory = default_directory()
    mnist = "mnist is there" if (directory / "mnist").is_dir() else "get MNIST: convax fetch mnist"
    return Finding(True, "data", f"{directory}: {mnist}")
