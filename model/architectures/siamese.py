"""Siamese networks: one network applied to each of two images, whose outputs are compared.

Bromley et al., Signature Verification using a "Siamese" Time Delay Neural Network, 1993; Chopra et
al., Learning a Similarity Metric Discriminatively, CVPR 2005. The two branches share their
weights, so they are one `Layer`; a loss of pairs or triplets (`ops.contrastive_loss`,
`ops.batch_hard_triplet_loss`) applies it to a batch once.
"""

import jax.numpy as jnp
from jax import Array

from ..combinators import serial
from ..layer import POINTWISE, Layer, stateless
from ..layers.activation import relu
from ..layers.arguments import check_positive
from ..layers.conv import conv
from ..layers.dense import dense, flatten
from ..layers.pool import max_pool


def siamese(classes: int, *, features: int, normalize: bool) -> Layer:
    """Make the branch of a Siamese network: an image's embedding, after LeNet-5.

    Args:
        classes: not used: an embedding has as many elements whatever the classes are.
        features: D, the length of the embedding.
        normalize: whether embeddings have length 1, so that their distances are at most 2.
    """
    del classes
    check_positive("siamese", features=features)
    return serial(
        conv1=conv(20, 5),
        act1=relu(),
        pool1=max_pool(2),
        conv2=conv(50, 5),
        act2=relu(),
        pool2=max_pool(2),
        flatten=flatten(),
        dense1=dense(256),
        act3=relu(),
        embedding=dense(features),
        **({"normalize": l2_normalize()} if normalize else {}),
    )


def l2_normalize(*, eps: float = 1e-12) -> Layer:
    """Divide each vector along the last axis by its length, or by ``sqrt(eps)`` if that is more.

    Args:
        eps: the least squared length; below, the derivative is that of a division by a constant.
    """

    def normalize(x: Array) -> Array:
        squared = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
        return x / jnp.sqrt(jnp.maximum(squared, eps))

    return stateless("l2_normalize", normalize, POINTWISE)
