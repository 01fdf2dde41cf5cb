"""The checks of ``convax doctor``."""

import os
import platform
import re
import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import NamedTuple

from .options import missing_device


class Finding(NamedTuple):
    """One thing that was checked."""

    subject: str
    fine: bool
    text: str


def examine() -> Iterator[Finding]:
    """Run every check in turn; one that fails in an unforeseen way is a finding too."""
    checks = {
        "python": _python,
        "packages": _packages,
        "devices": _devices,
        "gradients": _gradients,
        "kernels": _kernels,
        "memory": _memory,
        "data": _data,
    }
    for subject, check in checks.items():
        try:
            fine, text = check()
            yield Finding(subject, fine, text)
        except Exception as error:
            problem = "needs a device" if missing_device() else f"{type(error).__name__}: {error}"
            yield Finding(subject, False, problem)


def _python() -> tuple[bool, str]:
    return True, f"{platform.python_version()} on {platform.platform()}"


def _packages() -> tuple[bool, str]:
    names = ("convax", "jax", "jaxlib", "numpy", "optax", "pydantic", "safetensors")
    found = ", ".join(f"{n} {version(n)}" for n in names)
    wrong = _wrong_jax(version("jaxlib"))
    return wrong is None, found if wrong is None else f"{found}; {wrong}"


def _wrong_jax(jaxlib: str) -> str | None:
    """Return what is known to be wrong with this version of the compiler, and what to do."""
    release = tuple(int(part) for part in re.findall(r"\d+", jaxlib)[:3])
    if release <= (0, 10, 2):
        wrong = "silently computes wrong vmapped matrix-vector products on CPU (jax#39103)"
    elif release == (0, 11, 0):
        wrong = "crashes in fusions on CPU (jax#39257)"
    else:
        return None
    return f"jaxlib {jaxlib} {wrong}: pip install --upgrade 'jax>=0.11.2'"


def _devices() -> tuple[bool, str]:
    import jax

    if problem := missing_device():
        return False, problem
    found = ", ".join(f"{d.platform}:{d.id} ({d.device_kind})" for d in jax.devices())
    return True, f"{found}; {os.cpu_count()} CPU cores"


def _gradients() -> tuple[bool, str]:
    """Compare LeNet-5's convolutions and their hand-derived gradients with lax, on this machine."""
    import jax
    import jax.numpy as jnp

    from convax import ops

    def plain(x, k):
        dimensions = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, k, (1, 1), "VALID", dimension_numbers=dimensions)

    def ours(x, k):
        return ops.conv(x, k, padding="VALID")

    def all_three(conv):
        def value_and_gradients(x, k):
            y, pull_back = jax.vjp(conv, x, k)
            return y, *pull_back(jnp.sin(y))

        return jax.jit(value_and_gradients)

    worst, began = 0.0, time.perf_counter()
    for x_shape, k_shape in (((2, 32, 32, 1), (5, 5, 1, 6)), ((2, 14, 14, 6), (5, 5, 6, 16))):
        keys = jax.random.split(jax.random.key(0))
        x, k = (
            jax.random.normal(*of, jnp.float32) for of in zip(keys, (x_shape, k_shape), strict=True)
        )
        for got, want in zip(all_three(ours)(x, k), all_three(plain)(x, k), strict=True):
            worst = max(worst, float(jnp.abs(got - want).max() / jnp.abs(want).max()))
    seconds = time.perf_counter() - began
    fine = worst < 1e-2  # TF32 convolutions, the default on recent GPUs, keep 10 bits
    return fine, f"convolution: relative error {worst:.1e} against autodiff, in {seconds:.1f} s"


def _kernels() -> tuple[bool, str]:
    """Load the native kernels, whether or not they are in use."""
    from convax.ops.common.implementation import current_implementation
    from convax.ops.conv.native.library import (
        PACKAGE,
        KernelsError,
        KernelsMissingError,
        load_kernels,
        resolve_implementation,
    )

    chosen = current_implementation()
    try:
        kernels = load_kernels()
    except KernelsMissingError as error:
        return not chosen.startswith("native"), f"{error}, and makes convolutions on CPU faster"
    except KernelsError as error:
        return False, str(error)
    used = resolve_implementation(chosen).startswith("native")
    use = f"{'in use' if used else 'not in use'} (CONVAX_LOWERING={chosen})"
    return True, f"{PACKAGE} {kernels}, checked in {1e3 * kernels.seconds:.0f} ms; {use}"


# See docs/training.md for what it saves, and benchmarks/allocator.py for what else was tried.
HUGE_PAGES = "GLIBC_TUNABLES=glibc.malloc.hugetlb=1"


def _memory() -> tuple[bool, str]:
    """Count, on CPU, how often a call faults for the 64 MiB and more that it allocates."""
    import jax
    import jax.numpy as jnp

    device = jax.devices()[0]
    if device.platform != "cpu":
        limit = (device.memory_stats() or {}).get("bytes_limit")
        return True, "device memory" + (f", {limit / 2**30:.1f} GiB" if limit else "")
    if platform.libc_ver()[0] != "glibc":
        return True, "managed by the C library; convax has no setting to recommend"
    import resource

    @jax.jit
    def large(x):
        square = jnp.sin(jnp.outer(x, x))
        return square @ square[:, :8]

    x, counts = jnp.ones(4096), []
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        large(x).block_until_ready()
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    if min(counts) < 4 * x.size**2 // resource.getpagesize() // 4:
        return True, f"{min(counts):,} page faults for 64 MiB"
    return True, (
        f"{min(counts):,} page faults for 64 MiB; large networks train faster when convax is "
        f"started with {HUGE_PAGES}"
    )


def _data() -> tuple[bool, str]:
    from convax.training.data import DataError, default_directory, load_idx

    directory = default_directory()
    try:
        count = len(load_idx(directory / "mnist").train.labels)
    except DataError:
        return True, f"{directory}: MNIST is not there; `convax fetch mnist` downloads it"
    return True, f"{directory}: MNIST is there, {count:,} training images"
