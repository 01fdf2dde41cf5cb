"""Left to right: by chance, or every other epoch."""

import jax
import jax.numpy as jnp
from jax import Array, lax


def flip(x: Array, masks: Array | None, turned: Array) -> tuple[Array, Array | None]:
    """Flip some of the images, and their masks, left to right.

    Args:
        x: ``(N, H, W, C)``.
        masks: ``(N, H, W)``, or None.
        turned: ``(N,)``, truth values.
    """
    x = jnp.where(turned[:, None, None, None], x[:, :, ::-1], x)
    if masks is not None:
        masks = jnp.where(turned[:, None, None], masks[:, :, ::-1], masks)
    return x, masks


def fair_coin(key: Array, N: int) -> Array:
    """Draw N truth values, either of which is as likely."""
    return jax.random.bernoulli(key, jnp.float32(0.5), (N,))


def alternating(images: Array, step: Array, examples: int) -> Array:
    r"""Choose the images to flip such that each is flipped in every other epoch.

    .. math:: \text{turned}_{i,e} = \bigl(h_i + e\bigr) \bmod 2

    with h a hash of the image i itself: half of the images begin turned, and two epochs in a row
    show every image both ways. Of a random flip they show half of the images twice the same way.

    Args:
        images: ``(N, ...)``, as stored: the same in each epoch.
        step: (), how many batches of N came before; their stream of epochs, of `examples` images
            each, is that of `data.batch_indices`, where a batch may reach into the next epoch.
        examples: the number of images in an epoch.

    Returns:
        ``(N,)``, truth values.

    Note:
        Jordan hashes an image's index in the training set. Equal images are one image here.

    References:
        Jordan, arXiv:2404.00498, section 3.6.
    """
    N = len(images)
    # Two epochs are a period: of the steps, 2 * examples are. No product reaches 2**32.
    period = jnp.uint32(2 * examples)
    first = _times(step.astype(jnp.uint32) % period, N % (2 * examples), period)
    position = (first + jnp.arange(N, dtype=jnp.uint32) % period) % period
    epoch = position // jnp.uint32(examples)
    return ((hashed(images) + epoch) & 1).astype(bool)


def hashed(images: Array) -> Array:
    """Hash each image to a uint32, ``(N,)``, the same on every machine.

    The sum of its values, each times a number of its place, mixed (MurmurHash3's last step).
    """
    flat = images.reshape(len(images), -1)
    if jnp.issubdtype(flat.dtype, jnp.floating):
        flat = lax.bitcast_convert_type(flat.astype(jnp.float32), jnp.uint32)
    places = _mixed(jnp.arange(1, flat.shape[1] + 1, dtype=jnp.uint32)) | 1
    return _mixed(jnp.sum(flat.astype(jnp.uint32) * places[None], axis=1, dtype=jnp.uint32))


def _mixed(h: Array) -> Array:
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
    return h ^ (h >> 16)


def _times(a: Array, b: int, modulus: Array) -> Array:
    """Compute ``a * b mod modulus`` for factors below a modulus of 2**31: bit by bit of b."""
    total = jnp.zeros_like(a)
    for bit in range(b.bit_length()):
        if b >> bit & 1:
            total = (total + a) % modulus
        a = (a + a) % modulus
    return total
