"""The networks in Flax (linen), stepped with optax."""

from functools import partial

import jax
import jax.numpy as jnp
import nets
import optax
from flax import linen as nn
from jax import lax
from programs import Program, jax_inference, jax_training

# ------------------------------------------------------------------------------- the networks


class LeNet5(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x, train):
        for features in (6, 16):
            x = nn.relu(nn.Conv(features, (5, 5), padding="VALID")(x))
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = x.reshape(x.shape[0], -1)
        for features in (120, 84):
            x = nn.relu(nn.Dense(features)(x))
        return nn.Dense(self.classes)(x)


class VGG(nn.Module):
    classes: int
    batch_norm: bool

    @nn.compact
    def __call__(self, x, train):
        for features in nets.VGG:
            if features == "pool":
                x = nn.max_pool(x, (2, 2), strides=(2, 2))
                continue
            x = nn.Conv(features, (3, 3), padding=1, use_bias=False)(x)
            if self.batch_norm:
                x = nn.BatchNorm(use_running_average=not train)(x)
            else:
                x = nn.GroupNorm(nets.NORM_GROUPS)(x)
            x = nn.relu(x)
        return nn.Dense(self.classes)(x.mean(axis=(1, 2)))


class ConvBN(nn.Module):
    features: int
    window: int
    stride: int = 1
    padding: int = 0
    groups: int = 1

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(
            self.features,
            (self.window, self.window),
            strides=self.stride,
            padding=self.padding,
            feature_group_count=self.groups,
            use_bias=False,
        )(x)
        return nn.BatchNorm(use_running_average=not train)(x)


class BasicBlock(nn.Module):
    features: int
    stride: int

    @nn.compact
    def __call__(self, x, train):
        y = nn.relu(ConvBN(self.features, 3, self.stride, padding=1)(x, train))
        y = ConvBN(self.features, 3, padding=1)(y, train)
        if y.shape != x.shape:
            x = ConvBN(self.features, 1, self.stride)(x, train)
        return nn.relu(x + y)


class ResNet(nn.Module):
    classes: int
    stages: list
    large: bool  # ImageNet's stem, not CIFAR's

    @nn.compact
    def __call__(self, x, train):
        if self.large:
            x = nn.relu(ConvBN(64, 7, 2, padding=3)(x, train))
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        else:
            x = nn.relu(ConvBN(16, 3, padding=1)(x, train))
        for features, count, stride in self.stages:
            for n in range(count):
                x = BasicBlock(features, 1 if n else stride)(x, train)
        return nn.Dense(self.classes)(x.mean(axis=(1, 2)))


class InvertedResidual(nn.Module):
    expand: int
    features: int
    stride: int

    @nn.compact
    def __call__(self, x, train):
        y, width = x, self.expand * x.shape[-1]
        if self.expand > 1:
            y = nn.relu6(ConvBN(width, 1)(y, train))
        y = nn.relu6(ConvBN(width, 3, self.stride, padding=1, groups=width)(y, train))
        y = ConvBN(self.features, 1)(y, train)
        return x + y if y.shape == x.shape else y


class MobileNetV2(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x, train):
        x = nn.relu6(ConvBN(32, 3, 2, padding=1)(x, train))
        for expand, features, count, stride in nets.MOBILENET_V2:
            for n in range(count):
                x = InvertedResidual(expand, features, 1 if n else stride)(x, train)
        x = nn.relu6(ConvBN(1280, 1)(x, train)).mean(axis=(1, 2))
        x = nn.Dropout(0.2, deterministic=not train)(x)
        return nn.Dense(self.classes)(x)


def local_response_norm(x, size=5, alpha=1e-4, beta=0.75, k=2.0):
    """Flax has none: its formula."""
    around = lax.reduce_window(x * x, 0.0, lax.add, (1, 1, 1, size), (1, 1, 1, 1), "SAME")
    return x / (k + alpha * around) ** beta


class AlexNet(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x, train):
        def pool(x):
            return nn.max_pool(x, (3, 3), strides=(2, 2))

        x = nn.relu(nn.Conv(96, (11, 11), strides=4, padding=2)(x))
        x = pool(local_response_norm(x))
        x = nn.relu(nn.Conv(256, (5, 5), padding=2, feature_group_count=2)(x))
        x = pool(local_response_norm(x))
        x = nn.relu(nn.Conv(384, (3, 3), padding=1)(x))
        x = nn.relu(nn.Conv(384, (3, 3), padding=1, feature_group_count=2)(x))
        x = pool(nn.relu(nn.Conv(256, (3, 3), padding=1, feature_group_count=2)(x)))
        x = x.reshape(x.shape[0], -1)
        for _ in range(2):
            x = nn.Dropout(0.5, deterministic=not train)(x)
            x = nn.relu(nn.Dense(4096)(x))
        return nn.Dense(self.classes)(x)


class DoubleConv(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x, train):
        for _ in range(2):
            x = nn.relu(ConvBN(self.features, 3, padding=1)(x, train))
        return x


class UNet(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x, train):
        *levels, deepest = nets.UNET
        kept = []
        for features in levels:
            x = DoubleConv(features)(x, train)
            kept.append(x)
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = DoubleConv(deepest)(x, train)
        for features, same in zip(reversed(levels), reversed(kept), strict=True):
            x = nn.ConvTranspose(features, (2, 2), strides=(2, 2), padding="VALID")(x)
            x = DoubleConv(features)(jnp.concatenate([same, x], axis=-1), train)
        return nn.Conv(self.classes, (1, 1))(x)


class ConvNeXt(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x, train):
        for stage, (features, count) in enumerate(nets.CONVNEXT):
            if stage:
                x = nn.Conv(features, (2, 2), strides=2, padding="VALID")(nn.LayerNorm()(x))
            else:
                x = nn.LayerNorm()(nn.Conv(features, (4, 4), strides=4, padding="VALID")(x))
            for _ in range(count):
                y = nn.Conv(features, (7, 7), padding=3, feature_group_count=features)(x)
                y = nn.Dense(4 * features)(nn.LayerNorm()(y))
                x = x + nn.Dense(features)(nn.gelu(y, approximate=False))
        return nn.Dense(self.classes)(nn.LayerNorm()(x.mean(axis=(1, 2))))


NETWORKS = {
    "lenet5": LeNet5,
    "vgg_gn": partial(VGG, batch_norm=False),
    "vgg_bn": partial(VGG, batch_norm=True),
    "resnet20": partial(ResNet, stages=nets.RESNET20, large=False),
    "resnet18": partial(ResNet, stages=nets.RESNET18, large=True),
    "mobilenet_v2": MobileNetV2,
    "alexnet": AlexNet,
    "unet": UNet,
    "convnext": ConvNeXt,
}

# ---------------------------------------------------------------------------------- the steps


def training(net: str) -> Program:
    spec = nets.NETS[net]
    images, labels = map(jax.device_put, nets.arrays(spec))
    update, fresh = start(spec, NETWORKS[net])
    carry = jax.jit(fresh)(jax.random.key(0))
    step = jax.jit(update, donate_argnums=0)
    return jax_training(lambda carry: step(carry, images, labels), carry, carry[0])


def seeds(net: str, count: int) -> Program:
    """A step of each of so many seeds, as one vmapped step."""
    spec = nets.NETS[net]
    images, labels = map(jax.device_put, nets.arrays(spec, count, spec.batch))
    update, fresh = start(spec, NETWORKS[net])
    carry = jax.jit(jax.vmap(fresh))(jax.random.split(jax.random.key(0), count))
    step = jax.jit(jax.vmap(update), donate_argnums=0)
    return jax_training(lambda carry: step(carry, images, labels), carry, carry[0])


def start(spec: nets.Net, network):
    """``update(carry, images, labels) -> (carry, loss)``, and ``fresh(key)``, the first carry."""
    net = network(spec.classes)
    rate = nets.LEARNING_RATE[spec.optimizer]
    optimizer = optax.adam(rate) if spec.optimizer == "adam" else optax.sgd(rate, momentum=0.9)

    def fresh(key):
        variables = net.init(key, jnp.zeros((1, *spec.image)), train=False)
        params, stats = variables["params"], variables.get("batch_stats", {})
        return params, stats, optimizer.init(params), key

    def update(carry, images, labels):
        params, stats, opt_state, key = carry
        key, draw = jax.random.split(key)

        def objective(params):
            logits, changed = net.apply(
                {"params": params, "batch_stats": stats},
                images,
                train=True,
                rngs={"dropout": draw},
                mutable=["batch_stats"],
            )
            loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
            return loss, changed.get("batch_stats", {})

        (loss, stats), grads = jax.value_and_grad(objective, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), stats, opt_state, key), loss

    return update, fresh


def inference(net: str, batch: int) -> Program:
    spec = nets.NETS[net]._replace(batch=batch)
    network = NETWORKS[net](spec.classes)
    images, _ = nets.arrays(spec)
    variables = jax.jit(partial(network.init, train=False))(jax.random.key(0), images)
    predict = jax.jit(partial(network.apply, train=False))
    return jax_inference(partial(predict, variables), jax.device_put(images), variables["params"])


PROGRAMS = {"training": training, "seeds": seeds, "inference": inference}
LIBRARIES = ("flax", "optax", "jax")
