"""Whole networks: the gradient of a batch, on either lowering, against float64."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from convax import model, ops
from convax.model import (
    Layer,
    batch_norm,
    conv,
    conv_transpose,
    dense,
    depthwise_conv,
    flatten,
    global_avg_pool,
    identity,
    local_response_norm,
    max_pool,
    parallel,
    relu,
    residual,
    serial,
)

CLASSES = 10


class Network(NamedTuple):
    """A network and the size of its images, H W C."""

    layer: Layer
    image: tuple[int, int, int]
    per_pixel: bool = False


def conv_bn(features: int, window: int, stride: int = 1, *, act: bool = True) -> Layer:
    """Convolution of the same size, batch norm, ReLU."""
    how = dict(stride=stride, padding=window // 2, bias=False)
    return serial(conv(features, window, **how), batch_norm(), *([relu()] if act else []))


def head() -> Layer:
    return serial(global_avg_pool(), dense(CLASSES))


def vgg() -> Layer:
    two = lambda features: serial(conv_bn(features, 3), conv_bn(features, 3), max_pool(2))  # noqa: E731
    return serial(two(32), two(64), two(64), conv_bn(64, 3), head())  # at last windows on 2x2


def block(features: int, stride: int) -> Layer:
    branch = serial(conv_bn(features, 3, stride), conv_bn(features, 3, act=False))
    shortcut = conv_bn(features, 1, stride, act=False) if stride > 1 else identity()
    return serial(residual(branch, shortcut), relu())


def resnet() -> Layer:
    return serial(conv_bn(16, 3), block(16, 1), block(32, 2), block(64, 2), head())


def separable(features: int, stride: int) -> Layer:
    depthwise = depthwise_conv(3, stride=stride, padding=1, bias=False)
    return serial(depthwise, batch_norm(), relu(), conv_bn(features, 1))


def mobilenet() -> Layer:
    return serial(conv_bn(32, 3, 2), separable(64, 1), separable(128, 2), separable(128, 1), head())


def alexnet() -> Layer:
    return serial(
        *(conv(32, 5, padding=2), relu(), local_response_norm(), max_pool(3, stride=2)),
        *(conv(64, 5, padding=2, groups=2), relu(), local_response_norm(), max_pool(3, stride=2)),
        *(conv(64, 3, padding=1, groups=2), relu(), flatten(), dense(128), relu(), dense(CLASSES)),
    )


def unet() -> Layer:
    two = lambda features: serial(conv_bn(features, 3), conv_bn(features, 3))  # noqa: E731
    below = serial(max_pool(2), two(32), conv_transpose(16, 2, stride=2, bias=False))
    return serial(two(16), parallel(identity(), below), two(16), conv(CLASSES, 1))


NETWORKS: dict[str, Network] = {
    "LeNet-5": Network(model.lenet5(CLASSES, activation="relu", pool="max"), (32, 32, 1)),
    "VGG-like, batch norm": Network(vgg(), (16, 16, 3)),
    "ResNet-like": Network(resnet(), (16, 16, 3)),
    "MobileNet-like, depthwise": Network(mobilenet(), (16, 16, 3)),
    "AlexNet-like, two groups": Network(alexnet(), (16, 16, 3)),
    "U-Net-like, transposed": Network(unet(), (16, 16, 3), per_pixel=True),
}


class Problem(NamedTuple):
    """A network's arrays and a batch, in float32."""

    params: Any
    state: Any
    images: np.ndarray
    labels: np.ndarray


class Gradient(NamedTuple):
    """Of the loss of a batch in every parameter array, by its path, and in the images."""

    loss: float
    by: dict[str, np.ndarray]


class Error(NamedTuple):
    """Of a gradient: relative errors by the l2 norm, of all of it and of the worst array."""

    loss: float
    whole: float
    worst: float
    path: str


def draw(network: Network, seed: int, batch: int) -> Problem:
    """Kernels by He's rule, scales about 1 and biases about 0, but not there.

    With biases of 0, batch norm makes the gradient of each scale before it vanish, and of zero there
    is no relative error. Drawn by NumPy, as JAX compiles each of its draws.
    """
    rng = np.random.default_rng(seed)
    shape = (batch, *network.image)
    _, params, state = model.init_shapes(network.layer, shape)

    def drawn(path, a):
        name = path[-1].key
        size = np.sqrt(2 / np.prod(a.shape[:-1])) if name == "kernel" else 0.1
        return np.float32(name == "scale") + np.float32(size) * normal(a.shape)

    normal = lambda shape: rng.standard_normal(shape, dtype=np.float32)  # noqa: E731
    labels = rng.integers(0, CLASSES, shape[: 3 if network.per_pixel else 1], dtype=np.int32)
    return Problem(
        jax.tree.map_with_path(drawn, params),
        jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), state),  # without effect in training
        normal(shape),
        labels,
    )


def gradients(
    network: Network, problems: list[Problem], dtype: str, jit: Callable = jax.jit
) -> list[Gradient]:
    """Of each problem, all of it computed in `dtype`, on the lowering of the moment."""

    def loss(leaves, state, labels):
        logits, _ = network.layer.apply(leaves["params"], state, leaves["images"], train=True)
        return ops.softmax_cross_entropy(logits, labels)

    with jax.enable_x64(dtype == "float64"):
        compiled = jit(jax.value_and_grad(loss))
        return [_gradient(compiled, problem, dtype) for problem in problems]


def _gradient(compiled: Callable, problem: Problem, dtype: str) -> Gradient:
    params, state, images = jax.tree.map(lambda a: jnp.asarray(a, dtype), tuple(problem[:3]))
    value, grads = compiled({"params": params, "images": images}, state, problem.labels)
    leaves = jax.tree.leaves_with_path(grads)
    assert {leaf.dtype for _, leaf in leaves} == {np.dtype(dtype)}
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): g for path, g in leaves}
    return Gradient(float(value), {path: np.asarray(g) for path, g in named.items()})


def gradient_error(actual: Gradient, expected: Gradient) -> Error:
    """Both of the same problem."""
    size = {path: norm(g) for path, g in expected.by.items()}
    off = {path: norm(actual.by[path] - g) for path, g in expected.by.items()}
    relative = {path: off[path] / size[path] for path in size}
    path = max(relative, key=relative.__getitem__)
    whole = norm(list(off.values())) / norm(list(size.values()))
    loss = abs(actual.loss - expected.loss) / abs(expected.loss)
    return Error(loss, whole, relative[path], path.removeprefix("params/"))


def norm(a) -> float:
    return float(np.sqrt(np.sum(np.square(a, dtype=np.float64))))
