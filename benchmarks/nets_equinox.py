"""The networks in Equinox, stepped with optax: a module sees one image, and `vmap` makes the batch.

Left out are MobileNetV2, AlexNet, U-Net and ConvNeXt: their convolutions meet XLA as Flax's do.
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import nets
import optax
from equinox import nn
from programs import Program, jax_inference, jax_training

# ------------------------------------------------------------------------------- the networks


def relu():
    return nn.Lambda(jax.nn.relu)


def lenet5(classes, key):
    keys = jax.random.split(key, 5)
    return nn.Sequential(
        [
            *(nn.Conv2d(1, 6, 5, key=keys[0]), relu(), nn.MaxPool2d(2, 2)),
            *(nn.Conv2d(6, 16, 5, key=keys[1]), relu(), nn.MaxPool2d(2, 2)),
            *(nn.Lambda(jnp.ravel), nn.Linear(400, 120, key=keys[2]), relu()),
            *(nn.Linear(120, 84, key=keys[3]), relu(), nn.Linear(84, classes, key=keys[4])),
        ]
    )


def batch_norm(features):
    return nn.BatchNorm(features, axis_name="batch", mode="batch")


def vgg(classes, key, norm):
    parts, Ci = [], 3
    for n, features in enumerate(nets.VGG):
        if features == "pool":
            parts.append(nn.MaxPool2d(2, 2))
            continue
        own = jax.random.fold_in(key, n)
        parts.append(nn.Conv2d(Ci, features, 3, padding=1, use_bias=False, key=own))
        parts += [norm(features), relu()]
        Ci = features
    return nn.Sequential([*parts, global_mean(), nn.Linear(Ci, classes, key=key)])


def global_mean():
    return nn.Lambda(lambda x: x.mean(axis=(1, 2)))


def conv_bn(Ci, Co, window, key, **options):
    return nn.Conv2d(Ci, Co, window, use_bias=False, key=key, **options), batch_norm(Co)


class BasicBlock(nn.StatefulLayer):
    branch: nn.Sequential
    shortcut: nn.Sequential | None

    def __init__(self, Ci, features, stride, key):
        keys = jax.random.split(key, 3)
        self.branch = nn.Sequential(
            [
                *conv_bn(Ci, features, 3, keys[0], stride=stride, padding=1),
                relu(),
                *conv_bn(features, features, 3, keys[1], padding=1),
            ]
        )
        self.shortcut = None
        if Ci != features:
            self.shortcut = nn.Sequential(conv_bn(Ci, features, 1, keys[2], stride=stride))

    def __call__(self, x, state, *, key=None):
        y, state = self.branch(x, state)
        if self.shortcut is not None:
            x, state = self.shortcut(x, state)
        return jax.nn.relu(x + y), state


def resnet(classes, key, stem, stages):
    parts, Ci = [*stem], stages[0][0]
    for features, count, stride in stages:
        for n in range(count):
            own = jax.random.fold_in(key, len(parts))
            parts.append(BasicBlock(Ci, features, 1 if n else stride, own))
            Ci = features
    return nn.Sequential([*parts, global_mean(), nn.Linear(Ci, classes, key=key)])


def resnet20(classes, key):
    return resnet(classes, key, [*conv_bn(3, 16, 3, key, padding=1), relu()], nets.RESNET20)


def resnet18(classes, key):
    stem = [*conv_bn(3, 64, 7, key, stride=2, padding=3), relu()]
    stem.append(nn.MaxPool2d(3, 2, padding=1))
    return resnet(classes, key, stem, nets.RESNET18)


NETWORKS = {
    "lenet5": lenet5,
    "vgg_gn": partial(vgg, norm=partial(nn.GroupNorm, nets.NORM_GROUPS)),
    "vgg_bn": partial(vgg, norm=batch_norm),
    "resnet20": resnet20,
    "resnet18": resnet18,
}

# ---------------------------------------------------------------------------------- the steps


def training(net: str) -> Program:
    spec = nets.NETS[net]
    batch = channels_first(*nets.arrays(spec))
    update, fresh = start(spec, NETWORKS[net])
    step = eqx.filter_jit(update, donate="all-except-first")
    carry = fresh(jax.random.key(0))
    return jax_training(lambda carry: step(batch, carry), carry, trained(carry[0]))


def start(spec: nets.Net, network):
    """``update(batch, carry) -> (carry, loss)``, and ``fresh(key)``, the first carry."""
    rate = nets.LEARNING_RATE[spec.optimizer]
    optimizer = optax.adam(rate) if spec.optimizer == "adam" else optax.sgd(rate, momentum=0.9)

    def fresh(key):
        model, state = nn.make_with_state(network)(spec.classes, key=key)
        return model, state, optimizer.init(trained(model))

    def objective(model, state, images, labels):
        logits, state = jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(
            images, state
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), state

    def update(batch, carry):
        model, state, opt_state = carry
        both = eqx.filter_value_and_grad(objective, has_aux=True)(model, state, *batch)
        (loss, state), grads = both
        updates, opt_state = optimizer.update(grads, opt_state, trained(model))
        return (eqx.apply_updates(model, updates), state, opt_state), loss

    return update, fresh


def inference(net: str, batch: int) -> Program:
    spec = nets.NETS[net]._replace(batch=batch)
    model, state = nn.make_with_state(NETWORKS[net])(spec.classes, key=jax.random.key(0))
    model = nn.inference_mode(model)

    @eqx.filter_jit
    def predict(model, state, images):
        return jax.vmap(lambda image: model(image, state)[0])(images)

    images, _ = channels_first(*nets.arrays(spec))
    return jax_inference(partial(predict, model, state), images, trained(model))


def trained(model):
    """The arrays of a module that are its parameters."""
    return eqx.filter(model, eqx.is_inexact_array)


def channels_first(images, labels):
    return jax.device_put(images.transpose(0, 3, 1, 2).copy()), jax.device_put(labels)


PROGRAMS = {"training": training, "inference": inference}
LIBRARIES = ("equinox", "optax", "jax")
