"""Two images in one: weighted means (mixup), or a box of the one in the other (cutmix).

Each image is mixed with the one before it in the batch, which is in random order as it is; the
first with the last.
"""

import jax
import jax.numpy as jnp
from jax import Array

from ...config.augment import Cutmix, Mixup
from .cutout import boxes
from .flip import fair_coin


def mix(
    key: Array, x: Array, masks: Array | None, *, mixup: Mixup | None, cutmix: Cutmix | None
) -> tuple[Array, Array | None, Array]:
    r"""Mix images in pairs, and return how much each is still itself.

    .. math:: x' = \lambda x + (1 - \lambda) \tilde x, \qquad
        x' = M \odot x + (1 - M) \odot \tilde x

    with lambda, of each image its own, from Beta(alpha, alpha); M is 0 in a box of
    :math:`\sqrt{1 - \lambda}` of each side, its middle anywhere on the image, and lambda then is
    the share of pixels that are left outside of it.

    Args:
        key: a PRNG key.
        x: ``(N, H, W, C)``.
        masks: ``(N, H, W)``, or None; where there are some, there is no mixup.
        mixup: what the config says of it.
        cutmix: likewise, and of how probable it is; images that it passes over are mixed up, if
            that is asked for, too.

    Returns:
        x; the masks; and lambda, ``(N,)`` float32, 1 where nothing was mixed.

    References:
        Zhang et al., arXiv:1710.09412; Yun et al., arXiv:1905.04899. Theirs draw one lambda for a
        batch.
    """
    for_coin, for_mixup, for_cutmix = jax.random.split(key, 3)
    N = len(x)
    cut = jax.random.bernoulli(for_coin, jnp.float32(cutmix.probability if cutmix else 0), (N,))
    share = jnp.ones(N, jnp.float32)
    whole, other = x, _before(x)
    if mixup:
        share = jnp.where(cut, 1, symmetric_beta(for_mixup, mixup.alpha, N))
        weight = share.astype(x.dtype)[:, None, None, None]
        whole = weight * x + (1 - weight) * other
    if cutmix:
        box = _boxes(for_cutmix, x, cutmix.alpha) & cut[:, None, None]
        share = jnp.where(cut, 1 - box.mean(axis=(1, 2), dtype=jnp.float32), share)
        whole = jnp.where(box[..., None], other, whole)
        if masks is not None:
            masks = jnp.where(box, _before(masks), masks)
    return whole, masks, share


def mixed_targets(labels: Array, share: Array, classes: int) -> Array:
    """Compute the class probabilities of mixed images, ``(N, K)``.

    Args:
        labels: ``(N,)``, of the images as they were.
        share: ``(N,)``, how much each is still itself.
        classes: K.
    """
    own = jax.nn.one_hot(labels, classes, dtype=jnp.float32)
    return share[:, None] * own + (1 - share[:, None]) * _before(own)


def _before(batch: Array) -> Array:
    """Return for each example the one before it."""
    return jnp.roll(batch, 1, axis=0)


def symmetric_beta(key: Array, alpha: float, N: int) -> Array:
    r"""Draw N numbers from Beta(alpha, alpha), float32, from three uniform ones each, unrejected:

    .. math:: \tfrac12 \pm \tfrac12 \Bigl(1 + \frac{1}{(U^{-1/\alpha} - 1) \cos^2(2 \pi V)}
        \Bigr)^{-1/2}

    (`jax.random.beta` draws two gamma variates by rejection: three times as long to compile.)

    References:
        Bailey, Polar generation of random variates with the t-distribution, Math. Comp. 62 (1994);
        Devroye, Random variate generation in one line of code, WSC 1996, section 4.
    """
    for_uniforms, for_sign = jax.random.split(key)
    u, v = jax.random.uniform(for_uniforms, (2, N), jnp.float32)
    sign = jnp.where(fair_coin(for_sign, N), jnp.float32(0.5), jnp.float32(-0.5))
    tail = jnp.expm1(-jnp.log(u) / alpha) * jnp.square(jnp.cos(2 * jnp.pi * v))
    return 0.5 + sign * jax.lax.rsqrt(1 + 1 / tail)


def _boxes(key: Array, x: Array, alpha: float) -> Array:
    """Draw the pixels that another image gives, ``(N, H, W)`` truth values."""
    for_share, for_middle = jax.random.split(key)
    N, H, W, _ = x.shape
    side = jnp.sqrt(1 - symmetric_beta(for_share, alpha, N))
    height, width = (jnp.floor(n * side).astype(jnp.int32) for n in (H, W))
    middles = jax.random.randint(for_middle, (2, N), 0, jnp.array([[H], [W]], jnp.int32), jnp.int32)
    return boxes((H, W), middles[0] - height // 2, middles[1] - width // 2, height, width)
