"""What changes colors: against the standard library, Pillow and formulas."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from convax.training.config.augment import OPERATIONS
from convax.training.data import IGNORED
from convax.training.data.augment import pixelwise
from convax.training.data.augment.color import (
    brightened,
    color,
    contrasted,
    gray,
    hue_turned,
    saturated,
)
from convax.training.data.augment.randaugment import one_each, randaugment

KEY = jax.random.key(0)
N = 6
STRENGTHS = dict(brightness=0.4, contrast=0.5, saturation=0.6, hue=0.2)
MEAN = jnp.array([0.3, 0.4, 0.5]).reshape(1, 1, 1, 3)


@pytest.fixture
def x(rng):
    """Bytes, as images in [0, 1]."""
    return jnp.asarray(rng.integers(0, 256, (N, 16, 18, 3)).astype(np.float32)) / 255


def as_pil(x):
    return [Image.fromarray(image) for image in np.asarray(jnp.round(255 * x), np.uint8)]


def column(*numbers):
    return jnp.array(numbers, jnp.float32).reshape(-1, 1, 1, 1)


FACTORS = (0.0, 0.4, 0.9, 1.0, 1.3, 2.0)


@pytest.mark.parametrize(
    ("ours", "pillows"),
    [
        (brightened, ImageEnhance.Brightness),
        (contrasted, ImageEnhance.Contrast),
        (saturated, ImageEnhance.Color),
        (pixelwise.sharpened, ImageEnhance.Sharpness),
    ],
    ids=["brightness", "contrast", "color", "sharpness"],
)
def test_enhancements_equal_pillows_but_for_rounding(x, ours, pillows):
    enhanced = np.asarray(ours(x, column(*FACTORS)))
    for image, pil, factor in zip(enhanced, as_pil(x), FACTORS, strict=True):
        expected = np.asarray(pillows(pil).enhance(factor), np.float32) / 255
        np.testing.assert_allclose(image, expected, atol=2.1 / 255)
    np.testing.assert_allclose(enhanced[3], x[3], atol=1e-6)  # a factor of 1


@pytest.mark.parametrize(
    ("ours", "pillows"),
    [
        (lambda x: pixelwise.posterized(x, column(*[3] * N)), lambda p: ImageOps.posterize(p, 3)),
        (lambda x: pixelwise.posterized(x, column(*[8] * N)), lambda p: p),
        (
            lambda x: pixelwise.solarized(x, column(*[100 / 255] * N)),
            lambda p: ImageOps.solarize(p, 100),
        ),
        (pixelwise.stretched, ImageOps.autocontrast),
        (pixelwise.equalized, ImageOps.equalize),
    ],
    ids=["posterize", "all bits", "solarize", "auto contrast", "equalize"],
)
def test_pixelwise_operations_equal_pillows(x, ours, pillows):
    x = (x.at[1].multiply(0.4) * 255).round() / 255  # dark
    x = x.at[2].set(0.2).at[3, :, :, 1].set(0.6)  # of one color; one channel of one value
    x = x.at[4, :9].set(1.0)  # more than half white
    for image, pil in zip(np.asarray(ours(x)), as_pil(x), strict=True):
        expected = np.asarray(pillows(pil), np.float32) / 255
        np.testing.assert_allclose(image, expected, atol=1.01 / 255)


def test_hue_turns_as_in_colorsys(x):
    shares = np.linspace(-0.5, 0.5, N).astype(np.float32)
    turned = np.asarray(hue_turned(x, column(*shares)))
    for n, i, j in np.ndindex(N, 4, 5):
        h, s, v = colorsys.rgb_to_hsv(*map(float, x[n, i, j]))
        expected = colorsys.hsv_to_rgb((h + float(shares[n])) % 1, s, v)
        np.testing.assert_allclose(turned[n, i, j], expected, atol=2e-5)
    plain = jnp.full((1, 2, 2, 3), 0.25)
    np.testing.assert_array_equal(hue_turned(plain, column(0.3)), plain)


def test_color_applies_four_changes_in_order_with_factors_in_range(x):
    factors = []
    for name in ("brightness", "contrast", "saturation", "hue"):
        only = dict.fromkeys(STRENGTHS, 0.0) | {name: STRENGTHS[name]}
        factors.append(color(KEY, x, **only))
    draws = jax.random.uniform(KEY, (4, N, 1, 1, 1))
    by_hand = x
    for change, strength, draw in zip(
        (brightened, contrasted, saturated), (0.4, 0.5, 0.6), draws[:3], strict=True
    ):
        by_hand = change(by_hand, 1 - strength + 2 * strength * draw)
    by_hand = hue_turned(by_hand, 0.2 * (2 * draws[3] - 1))
    np.testing.assert_allclose(color(KEY, x, **STRENGTHS), by_hand, atol=1e-5)
    np.testing.assert_array_equal(color(KEY, x, **dict.fromkeys(STRENGTHS, 0.0)), x)
    assert all((np.asarray(f) != np.asarray(x)).any() for f in factors)
    bright = color(KEY, jnp.full((3000, 1, 1, 1), 0.25), **(STRENGTHS | dict(saturation=0, hue=0)))
    ratio = np.asarray(bright).ravel() / 0.25  # contrast leaves one pixel as it is
    assert 0.599 < ratio.min() < 0.61 and 1.39 < ratio.max() < 1.401
    assert abs(ratio.mean() - 1) < 0.02
    assert gray(bright) is bright


@pytest.mark.slow
def test_randaugment_operations_one_by_one(x):
    """Its own at full magnitude, either sign; others keep their pixels, to the bit."""
    m = jnp.array([1.0, -1.0] * 3)
    chosen = jnp.array([0, 0, 1, 1, 0, 1])
    by_hand = {
        "brightness": brightened(x, 1 + 0.9 * column(*m)),
        "color": saturated(x, 1 + 0.9 * column(*m)),
        "contrast": contrasted(x, 1 + 0.9 * column(*m)),
        "sharpness": pixelwise.sharpened(x, 1 + 0.9 * column(*m)),
        "posterize": pixelwise.posterized(x, column(*[4] * N)),
        "solarize": 1 - x,
        "auto_contrast": pixelwise.stretched(x),
        "equalize": pixelwise.equalized(x),
    }
    for name in OPERATIONS:
        changed, _ = one_each(x, None, MEAN, chosen, m, [name, "identity"])
        for n in range(N):
            if chosen[n] or name == "identity":
                np.testing.assert_array_equal(changed[n], x[n])
            elif name in by_hand:
                np.testing.assert_allclose(changed[n], by_hand[name][n], atol=1e-6)
            else:
                assert (np.asarray(changed[n]) != np.asarray(x[n])).mean() > 0.5, name
    steps = round(150 / 331 * 18)
    right, _ = one_each(x, None, MEAN, chosen, m, ["translate_x", "identity"])
    np.testing.assert_allclose(
        right[0, :, : steps - 1], MEAN.repeat(16, 1).repeat(7, 2)[0], atol=1e-6
    )
    assert (np.asarray(right[1, :, :10]) != np.asarray(MEAN[0])).any()


@pytest.mark.slow
def test_randaugment_is_a_function_of_its_key(x):
    masks = jnp.zeros(x.shape[:3], jnp.uint8)
    go = lambda key: randaugment(  # noqa: E731
        key, x, masks, MEAN, num_ops=2, magnitude="random", operations=OPERATIONS
    )
    changed, moved = jax.jit(go)(KEY)
    assert changed.shape == x.shape and moved.dtype == jnp.uint8
    assert float(changed.min()) >= 0 and float(changed.max()) <= 1
    np.testing.assert_allclose(changed, go(KEY)[0], atol=1.01 / 255)  # a byte may round otherwise
    keys = jnp.stack([KEY, jax.random.key(1)])
    both, _ = jax.jit(jax.vmap(go))(keys)
    np.testing.assert_allclose(both[0], changed, atol=1.01 / 255)
    assert (np.asarray(both[1]) != np.asarray(changed)).any()


def test_randaugment_draws_every_operation_and_magnitude_alike():
    """Told apart by what a dot becomes: brighter, darker, or as it was."""
    x = jnp.full((3000, 3, 3, 1), 0.5)
    fill = jnp.full((1, 1, 1, 1), 0.5)
    changed, _ = randaugment(
        KEY,
        x,
        None,
        fill,
        num_ops=1,
        magnitude=10,
        operations=["identity", "brightness", "solarize"],
    )
    values = np.round(np.asarray(changed)[:, 0, 0, 0], 4)
    seen = {value: (values == value).mean() for value in np.unique(values)}
    assert seen.keys() == {np.float32(0.35), np.float32(0.5), np.float32(0.65)}
    assert abs(seen[np.float32(0.35)] - 1 / 6) < 0.03 and abs(seen[np.float32(0.65)] - 1 / 6) < 0.03
    random, _ = randaugment(
        KEY, x, None, fill, num_ops=1, magnitude="random", operations=["brightness"]
    )
    strength = np.round(np.abs(np.asarray(random)[:, 0, 0, 0] - 0.5) / 0.45 * 30).astype(int)
    counts = np.bincount(strength, minlength=31)
    assert len(counts) == 31 and counts.min() > 50 and counts.max() < 160


@pytest.mark.slow
def test_masks_go_with_what_moves_in_randaugment():
    masks = np.zeros((64, 12, 12), np.uint8)
    masks[:, 3:9, 2:8] = 1
    x = jnp.asarray(masks[..., None], jnp.float32)
    moved, moved_masks = randaugment(
        KEY,
        x,
        jnp.asarray(masks),
        jnp.zeros((1, 1, 1, 1)),
        num_ops=2,
        magnitude=20,
        operations=["rotate", "shear_x", "shear_y", "translate_x", "translate_y", "identity"],
    )
    values, classes = np.asarray(moved)[..., 0], np.asarray(moved_masks)
    clear = (np.abs(values - 0.5) > 0.45) & (classes != IGNORED)
    assert clear.mean() > 0.5
    assert (np.round(values[clear]) != classes[clear]).mean() < 0.02
    assert (classes == IGNORED).any() and (classes == 1).any()


def test_an_operation_that_is_named_twice_is_drawn_twice_as_often(rng):
    x = jnp.asarray(rng.random((3, 6, 6, 3)), jnp.float32)
    names, m = ["translate_x", "identity", "translate_x"], jnp.full(3, 0.5, jnp.float32)
    moved, _ = one_each(x, None, MEAN, jnp.array([0, 1, 2]), m, names)
    alone, _ = one_each(x, None, MEAN, jnp.array([0, 1, 0]), m, names[:2])
    np.testing.assert_array_equal(moved, alone)
    assert (moved[2] != x[2]).any()
