"""Augmentation as a config asks for it: what moves, and that it is a function of seed and step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convax
from convax.training.config.augment import OPERATIONS, Augment
from convax.training.config.schema import ConfigError, load_config
from convax.training.data import IGNORED
from convax.training.data.augment import make_augmentation
from convax.training.data.augment.color import gray
from convax.training.data.preprocess import Preprocessing
from convax.training.experiment import prepare
from convax.training.loop.signals import InterruptedRun
from tests.training.loop.test_loop import Recorder, final_bytes

KEY = jax.random.key(0)
N = 64
ALL = {
    "flip": "alternating",
    "translate": 2,
    "padding_mode": "reflect",
    "crop": {"scale": [0.5, 1.0], "ratio": [0.75, 1.3333]},
    "affine": {
        **{"degrees": 15.0, "translate": [0.1, 0.1]},
        **{"scale": [0.9, 1.1], "shear": [5.0, 5.0]},
    },
    "policy": {"num_ops": 1, "magnitude": 9},
    "color": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
    "cutout": {"size": 3},
    "mixup": {"alpha": 0.2},
    "cutmix": {"alpha": 1.0, "probability": 0.5},
}


def made(asked, channels=1, classes=3):
    """The augmentation of a table, for images that are what they are, as of step 0."""
    spec = Preprocessing((5, 6), "pad", (0.4,) * channels, (0.25,) * channels)
    found = make_augmentation(Augment(**asked), spec, classes=classes, examples=N)
    assert found is not None
    return lambda key, x, targets, step=0: found(key, x, targets, images=x, step=jnp.int32(step))


@pytest.fixture
def batch():
    """Images that hold their pixels' numbers, from 1, and masks that go with them."""
    image = 1 + np.arange(5 * 6, dtype=np.float32).reshape(5, 6)
    x = np.repeat(image[None, :, :, None], N, axis=0)
    return jnp.asarray(x), jnp.asarray(x[..., 0].astype(np.uint8))


def test_a_flip_turns_half_of_the_images_and_their_masks_with_them(batch):
    x, masks = batch
    flipped, flipped_masks = made({"flip": True})(KEY, x, masks)
    np.testing.assert_array_equal(flipped[..., 0], flipped_masks)
    turned = [bool((f == o[:, ::-1]).all()) for f, o in zip(flipped, x, strict=True)]
    kept = [bool((f == o).all()) for f, o in zip(flipped, x, strict=True)]
    assert all(a != b for a, b in zip(turned, kept, strict=True))
    assert N / 4 < sum(turned) < 3 * N / 4


def test_translate_moves_every_way_and_masks_ignore_the_border(batch):
    x, masks = batch
    moved, moved_masks = (np.asarray(a) for a in made({"translate": 2})(KEY, x, masks))
    new = moved[..., 0] == 0
    np.testing.assert_array_equal(moved_masks == IGNORED, new)
    np.testing.assert_array_equal(moved_masks[~new], moved[..., 0][~new])
    padded = np.pad(np.asarray(x[0, :, :, 0]), 2)
    windows = {(i, j): padded[i : i + 5, j : j + 6].tobytes() for i in range(5) for j in range(5)}
    assert {m.tobytes() for m in moved[..., 0]} <= set(windows.values())
    assert len({m.tobytes() for m in moved[..., 0]}) > 15  # of the 25 places


def test_flip_and_translate_draw_fixed_values(batch):
    """The halves of the key, whatever else is asked for: old configs keep their results."""
    x, masks = batch
    for_flip, for_shift = jax.random.split(KEY)
    coin = np.asarray(jax.random.bernoulli(for_flip, shape=(N,)))
    offsets = np.asarray(jax.random.randint(for_shift, (N, 2), 0, 5))
    found, _ = made({"flip": True, "translate": 2})(KEY, x, masks)
    for n, (i, j) in enumerate(offsets):
        image = np.asarray(x[n])[:, :: -1 if coin[n] else 1]
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
        np.testing.assert_array_equal(found[n], padded[i : i + 5, j : j + 6])


def test_augmentation_keeps_labels_and_depends_on_the_key(batch):
    x, labels = batch[0], jnp.arange(N, dtype=jnp.int32)
    go = made({"flip": True, "translate": 2})
    first, same = go(KEY, x, labels)
    np.testing.assert_array_equal(same, labels)
    np.testing.assert_array_equal(first, jax.jit(go)(KEY, x, labels)[0])
    other = go(jax.random.key(1), x, labels)[0]
    assert (np.asarray(first) != np.asarray(other)).any()


def test_make_augmentation_without_a_table_is_none(batch):
    spec = Preprocessing((5, 6), "pad", (0.4,), (0.25,))
    assert make_augmentation(None, spec, classes=3, examples=N) is None
    np.testing.assert_array_equal(made({"flip": False, "translate": 0})(KEY, *batch)[0], batch[0])


def test_augmentation_with_every_operation_keeps_shape_and_dtype(rng):
    """Of labels become probabilities; the same under jit and vmap; another step, another flip."""
    x = jnp.asarray(rng.uniform(-1.5, 2.4, (8, 5, 6, 3)).astype(np.float32))
    labels = jnp.arange(8, dtype=jnp.int32) % 3
    go = jax.jit(made(ALL, channels=3))
    changed, targets = go(KEY, x, labels, 0)
    assert changed.shape == x.shape and changed.dtype == x.dtype and targets.shape == (8, 3)
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
    assert np.isfinite(np.asarray(changed)).all()
    later, _ = go(KEY, x, labels, N // 8)
    assert (np.asarray(later) != np.asarray(changed)).any()


@pytest.mark.slow
def test_augmentation_with_every_operation_works_under_vmap(rng):
    """Without what has a threshold, at which a last bit is a whole pixel."""
    x = jnp.asarray(rng.uniform(-1.5, 2.4, (8, 5, 6, 3)).astype(np.float32))
    labels = jnp.arange(8, dtype=jnp.int32) % 3
    smooth = {
        "policy": {"num_ops": 1, "magnitude": 9, "operations": ["rotate", "color", "contrast"]}
    }
    go = jax.jit(made(ALL | smooth, channels=3))
    keys = jnp.stack([jax.random.key(1), KEY])
    many, many_targets = jax.jit(jax.vmap(go, in_axes=(0, None, None, None)))(keys, x, labels, 0)
    one, targets = go(KEY, x, labels, 0)
    np.testing.assert_allclose(many[1], one, atol=1e-4)
    np.testing.assert_allclose(many_targets[1], targets, atol=1e-6)


def test_masks_go_with_their_images_through_everything():
    """Where no pixel was blended, an image that shows its own mask still does."""
    masks = np.zeros((N, 16, 16), np.uint8)
    masks[:, 4:12, 2:9] = 1
    masks[N // 2 :, 2:7, 8:14] = 1
    x = jnp.asarray(masks[..., None], jnp.float32)
    asked = {k: v for k, v in ALL.items() if k not in ("color", "mixup", "padding_mode")}
    moves = ["identity", "rotate", "shear_x", "shear_y", "translate_x", "translate_y"]
    asked["policy"] = {"num_ops": 2, "magnitude": 15, "operations": moves}
    spec = Preprocessing((16, 16), "pad", (0.0,), (1.0,))
    go = make_augmentation(Augment(**asked), spec, classes=2, examples=N)
    changed, moved = jax.jit(go)(KEY, x, jnp.asarray(masks), images=x, step=jnp.int32(0))
    values, classes = np.asarray(changed)[..., 0], np.asarray(moved)
    assert classes.dtype == np.uint8 and set(np.unique(classes)) == {0, 1, IGNORED}
    clear = (np.abs(values - 0.5) > 0.45) & (classes != IGNORED)
    assert clear.mean() > 0.4 and (classes[clear] == 1).mean() > 0.1
    assert (np.round(values[clear]) != classes[clear]).mean() < 0.02


def test_colors_are_changed_between_0_and_1(rng):
    """And what is normalized goes back to what it was, where the strengths are nothing."""
    x = jnp.asarray(rng.uniform(-1.6, 2.4, (N, 5, 6, 3)).astype(np.float32))  # 0 to 1 before
    none = dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0.0)
    same, _ = made({"color": none}, channels=3)(KEY, x, jnp.zeros(N, jnp.int32))
    np.testing.assert_allclose(same, x, atol=1e-5)
    bright, _ = made({"color": none | {"brightness": 0.9}}, channels=3)(KEY, x, jnp.zeros(N, int))
    unit, before = 0.25 * np.asarray(bright) + 0.4, 0.25 * np.asarray(x) + 0.4
    assert unit.min() > -1e-6 and unit.max() < 1 + 1e-6
    middle = (unit < 0.999).all(axis=-1) & (before > 0.01).all(axis=-1)
    ratios = (unit / before)[middle]
    assert 0.099 < ratios.min() < 0.3 and 1.5 < ratios.max() < 1.901


def test_augmentation_that_the_data_do_not_allow_is_rejected(tiny):
    strengths = {"brightness": 0.1, "contrast": 0.1, "saturation": 0.0, "hue": 0.1}
    with pytest.raises(ConfigError, match=r"^augment.color.hue: images of one channel have no hue"):
        prepare(load_config(tiny, [f"augment.color.{k}={v}" for k, v in strengths.items()]))
    for channels in (2, 4, 5):
        for name in ("saturation", "hue"):
            with pytest.raises(ConfigError, match=f"{name}: images of {channels} channels have no"):
                made({"color": {k: 0.1 * (k == name) for k in strengths}}, channels)
        with pytest.raises(
            ConfigError, match=r"policy.operations: .* no color; write a list of op"
        ):
            made({"policy": {"num_ops": 1, "magnitude": 9}}, channels)
    with pytest.raises(ConfigError, match="epochs of 2147483648 images cannot be counted"):
        make_augmentation(
            Augment(flip="alternating"),
            Preprocessing((5, 6), "pad", (0.4,), (0.25,)),
            classes=3,
            examples=2**31,
        )


def everything_in(tiny):
    """The tiny experiment with all that is possible on gray images."""
    with tiny.open("a") as file:
        file.write(
            """
[augment]
flip = "alternating"
translate = 1
padding_mode = "reflect"
crop = { scale = [0.6, 1.0], ratio = [0.75, 1.3333] }
affine = { degrees = 10.0, translate = [0.1, 0.1], scale = [0.9, 1.1], shear = [5.0, 0.0] }
policy = { num_ops = 1, magnitude = "random" }
color = { brightness = 0.2, contrast = 0.2, saturation = 0.0, hue = 0.0 }
cutout = { size = 2 }
mixup = { alpha = 0.2 }
cutmix = { alpha = 1.0, probability = 0.5 }
"""
        )
    return load_config(tiny, ["training.steps=30", "loss.label_smoothing=0.1"])


@pytest.mark.slow
def test_a_run_with_everything_resumes_to_the_same_bytes(tiny, tmp_path):
    config = everything_in(tiny)
    whole = convax.train(config, tmp_path / "whole")
    with pytest.raises(InterruptedRun):
        convax.train(config, tmp_path / "stopped", display=Recorder(interrupt_at=14))
    assert final_bytes(convax.resume(tmp_path / "stopped")) == final_bytes(whole)
    assert whole.config() == config.model_copy(update={"data": whole.config().data})
    records = [r for r in whole.metrics() if r["kind"] == "train"]
    assert all(np.isfinite(r["loss"]) and 0 <= r["accuracy"] <= 1 for r in records)


@pytest.mark.parametrize(
    "channels", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (4, 5))]
)
def test_images_of_other_channels_are_augmented(channels, rng):
    """Without red, green and blue, gray is the mean of the channels."""
    x = jnp.asarray(rng.uniform(-1, 1, (N, 5, 6, channels)), jnp.float32)
    operations = [name for name in OPERATIONS if name != "color"]
    asked = {
        "policy": {"num_ops": 1, "magnitude": 9, "operations": operations},
        "color": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.0, "hue": 0.0},
    }
    y, _ = made(asked, channels)(KEY, x, jnp.zeros(N, jnp.int32))
    assert y.shape == x.shape and np.isfinite(y).all() and not np.array_equal(y, x)
    np.testing.assert_allclose(gray(x)[..., 0], np.mean(x, axis=-1), atol=1e-6)
