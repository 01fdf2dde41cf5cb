"""What moves images: each against plain loops or PyTorch, and masks that go along."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax.training.data import IGNORED, batch_indices
from convax.training.data.augment.affine import affine, matrices, warp
from convax.training.data.augment.crop import _boxes, _places, crop
from convax.training.data.augment.flip import alternating, flip, hashed
from convax.training.data.augment.interpolate import sample, sample_masks
from convax.training.data.augment.translate import translate

KEY = jax.random.key(0)
N, H, W = 12, 9, 11


@pytest.fixture
def x(rng):
    return rng.normal(size=(N, H, W, 2)).astype(np.float32)


@pytest.fixture
def labeled():
    """Masks of large patches, and images that hold the same numbers."""
    masks = np.zeros((N, H, W), np.uint8)
    masks[:, 2:7, 3:8] = 1
    masks[:, :3, 7:] = 2
    return jnp.asarray(masks[..., None], jnp.float32), jnp.asarray(masks)


def bilinear(image, row, column, fill):
    """By the definition: every pixel of the plane, the image's or `fill`, by its weight."""
    H, W, C = image.shape
    value = np.zeros(C)
    top, left = int(np.floor(row)), int(np.floor(column))
    for i in (top, top + 1):
        for j in (left, left + 1):
            weight = max(0, 1 - abs(row - i)) * max(0, 1 - abs(column - j))
            value += weight * (image[i, j] if 0 <= i < H and 0 <= j < W else fill)
    return value


def test_sampling_is_bilinear_and_masks_take_the_nearest(x, rng):
    rows = rng.uniform(-4, H + 3, (N, 5, 6)).astype(np.float32)
    columns = rng.uniform(-4, W + 3, (N, 5, 6)).astype(np.float32)
    fill = np.array([0.5, -2.0], np.float32)
    masks = rng.integers(0, 9, (N, H, W)).astype(np.uint8)
    found = sample(jnp.asarray(x), rows, columns, fill.reshape(1, 1, 1, 2))
    classes = np.asarray(sample_masks(jnp.asarray(masks), rows, columns))
    assert classes.dtype == np.uint8
    for n, i, j in np.ndindex(rows.shape):
        place = rows[n, i, j], columns[n, i, j]
        expected = bilinear(x[n], *place, fill)
        np.testing.assert_allclose(found[n, i, j], expected, rtol=1e-4, atol=1e-5)
        a, b = (int(np.floor(p + 0.5)) for p in place)
        inside = 0 <= a < H and 0 <= b < W
        assert classes[n, i, j] == (masks[n, a, b] if inside else IGNORED)


def test_sampling_is_exact_at_whole_pixels_and_far_outside(x):
    rows, columns = np.mgrid[:H, :W].astype(np.float32)[:, None].repeat(N, axis=1)
    np.testing.assert_array_equal(sample(jnp.asarray(x), rows, columns), x)
    far = sample(jnp.asarray(x), rows + 1e9, columns - 1e9, 3.0)
    np.testing.assert_array_equal(far, np.full_like(x, 3))
    half = sample(jnp.asarray(x, jnp.bfloat16), rows, columns)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_array_equal(half, jnp.asarray(x, jnp.bfloat16))


def test_warp_equals_pytorch_grid_sample(x, rng, torch):
    angle, u, v = rng.uniform(-0.6, 0.6, (3, N)).astype(np.float32)
    scale = rng.uniform(0.6, 1.5, N).astype(np.float32)
    move = rng.uniform(-3, 3, (N, 2)).astype(np.float32)
    forward = matrices(*map(jnp.asarray, (angle, scale, u, v)))
    moved, _ = warp(jnp.asarray(x), None, forward, jnp.asarray(move))
    # torchvision.transforms.functional._get_inverse_affine_matrix, image by image.
    theta = np.zeros((N, 2, 3), np.float32)
    for n in range(N):
        a = np.cos(angle[n] - v[n]) / np.cos(v[n])
        b = -a * np.tan(u[n]) - np.sin(angle[n])
        c = np.sin(angle[n] - v[n]) / np.cos(v[n])
        d = -c * np.tan(u[n]) + np.cos(angle[n])
        back = np.linalg.inv(scale[n] * np.array([[a, b], [c, d]]))
        pixels = np.column_stack([back, -back @ move[n]])  # of places seen from the middle
        size = np.array([W, H]) / 2  # grid_sample has them in [-1, 1]
        theta[n] = pixels * np.array([*size, 1]) / size[:, None]
    images = torch.tensor(x).permute(0, 3, 1, 2)
    grid = torch.nn.functional.affine_grid(torch.tensor(theta), images.shape, align_corners=False)
    expected = torch.nn.functional.grid_sample(images, grid, align_corners=False)
    np.testing.assert_allclose(moved, expected.permute(0, 2, 3, 1), rtol=1e-3, atol=1e-4)


def test_warp_of_a_quarter_turn_and_a_move_is_exact():
    image = jnp.arange(9.0).reshape(1, 3, 3, 1)
    one, none = jnp.ones(1), jnp.zeros(1)
    quarter = matrices(jnp.full(1, jnp.pi / 2), one, none, none)
    turned, masks = warp(image, image[..., 0].astype(jnp.uint8), quarter, jnp.zeros((1, 2)))
    clockwise = [[6, 3, 0], [7, 4, 1], [8, 5, 2]]
    np.testing.assert_allclose(turned[0, :, :, 0], clockwise, atol=1e-5)
    np.testing.assert_array_equal(masks[0], clockwise)
    still = matrices(none, one, none, none)
    right, masks = warp(image, image[..., 0].astype(jnp.uint8), still, jnp.array([[1.0, 0.0]]))
    np.testing.assert_array_equal(right[0, :, :, 0], [[0, 0, 1], [0, 3, 4], [0, 6, 7]])
    np.testing.assert_array_equal(masks[0], [[255, 0, 1], [255, 3, 4], [255, 6, 7]])


STRONG = dict(degrees=40.0, translate=[0.2, 0.2], scale=[0.7, 1.3], shear=[10.0, 10.0])
MOVES = {
    "translate": lambda key, x, masks: translate(key, x, masks, furthest=3),
    "reflect": lambda key, x, masks: translate(key, x, masks, furthest=3, padding_mode="reflect"),
    "crop": lambda key, x, masks: crop(key, x, masks, scale=[0.3, 0.8], ratio=[0.75, 1.33]),
    "affine": lambda key, x, masks: affine(key, x, masks, **STRONG),
}


@pytest.mark.parametrize("name", MOVES)
def test_masks_move_with_their_images(name, labeled):
    """Where a pixel is not blended of several, it still is its own class, or comes from outside."""
    x, masks = labeled
    moved, moved_masks = MOVES[name](KEY, x, masks)
    values, classes = np.asarray(moved)[..., 0], np.asarray(moved_masks)
    assert moved_masks is not None and moved_masks.dtype == np.uint8 and moved.dtype == np.float32
    pure = np.isclose(values, np.round(values), atol=1e-4)
    outside = classes == IGNORED
    assert outside.any() == (name in ("translate", "affine"))
    counted = pure & ~outside
    assert counted.mean() > 0.5 and (values[counted] > 0.5).mean() > 0.1
    wrong = (np.round(values) != classes)[counted]
    # A blend of classes 0 and 2 may come out as 1, and background as dark as the outside.
    assert wrong.mean() < 0.02
    assert (np.asarray(moved) != np.asarray(x)).any()


@pytest.mark.slow
@pytest.mark.parametrize("name", MOVES)
def test_translate_is_a_function_of_its_key(name, labeled):
    x, masks = labeled
    move = MOVES[name]
    first = move(KEY, x, masks)
    for one, other in zip(first, jax.jit(move)(KEY, x, masks), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    keys = jax.random.split(KEY, 3)
    together, _ = jax.vmap(lambda key: move(key, x, masks))(keys)
    for key, one in zip(keys, together, strict=True):
        np.testing.assert_allclose(one, move(key, x, masks)[0], atol=1e-5)
    assert len({np.asarray(image).tobytes() for image in together}) == 3
    assert move(KEY, x, None)[1] is None


def test_translate_with_reflection_lets_in_mirrored_pixels():
    image = jnp.arange(5.0).reshape(1, 1, 5, 1).repeat(5, axis=1).repeat(64, axis=0)
    moved, masks = translate(
        KEY, image, image[..., 0].astype(jnp.uint8), furthest=2, padding_mode="reflect"
    )
    rows = {tuple(row) for row in np.asarray(moved)[:, 0, :, 0].astype(int).tolist()}
    whole = [2, 1, 0, 1, 2, 3, 4, 3, 2]
    assert rows == {tuple(whole[i : i + 5]) for i in range(5)}
    np.testing.assert_array_equal(masks, moved[..., 0])


def test_crops_have_the_areas_and_shapes_that_are_asked_for():
    images = jnp.zeros((4000, 40, 40, 1))
    boxes = _boxes(KEY, images.shape[:3], [0.1, 0.5], [0.5, 2.0])
    top, left, height, width = (np.asarray(b) for b in boxes)
    area, ratio = height * width / 1600, width / height
    assert 0.0999 < area.min() < 0.11 and 0.49 < area.max() < 0.5001
    assert abs(area.mean() - 0.3) < 0.01 and abs(np.median(ratio) - 1) < 0.05
    assert 0.499 < ratio.min() < 0.55 and 1.9 < ratio.max() < 2.001
    assert (top >= 0).all() and (top + height < 40.001).all()
    assert (left >= 0).all() and (left + width < 40.001).all()


def test_crop_equals_slice_and_resize(rng, torch):
    """Boxes at whole pixels: PyTorch's interpolation of that part alone."""
    x = rng.normal(size=(1, 8, 8, 3)).astype(np.float32)
    rows = _places(jnp.array([2.0]), jnp.array([4.0]), 8)[:, :, None]
    columns = _places(jnp.array([1.0]), jnp.array([6.0]), 8)[:, None, :]
    part = torch.tensor(x[:, 2:6, 1:7]).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(part, (8, 8), mode="bilinear").permute(0, 2, 3, 1)
    np.testing.assert_allclose(sample(jnp.asarray(x), rows, columns), expected, atol=1e-5)


def test_affine_stays_within_its_ranges(x):
    """Of nothing, nothing changes; of moves alone, no image moves further."""
    still = dict(degrees=0.0, translate=[0.0, 0.0], scale=[1.0, 1.0], shear=[0.0, 0.0])
    np.testing.assert_array_equal(affine(KEY, jnp.asarray(x), None, **still)[0], x)
    dot = np.zeros((500, 21, 21, 1), np.float32)
    dot[:, 10, 10] = 1
    moved, _ = affine(KEY, jnp.asarray(dot), None, **(still | dict(translate=[0.2, 0.1])))
    weights = np.asarray(moved)[..., 0]
    down = (weights.sum(axis=2) * (np.arange(21) - 10)).sum(axis=1)
    right = (weights.sum(axis=1) * (np.arange(21) - 10)).sum(axis=1)
    assert 1.9 < down.max() < 2.101 and -2.101 < down.min() < -1.9
    assert 3.9 < right.max() < 4.201 and -4.201 < right.min() < -3.9
    larger, _ = affine(KEY, jnp.asarray(dot), None, **(still | dict(scale=[2.0, 2.0])))
    np.testing.assert_allclose(np.asarray(larger).sum(axis=(1, 2, 3)), 4, rtol=1e-5)


def test_an_alternating_flip_shows_every_image_both_ways(rng):
    """Batches of the very stream that training reads, which reach into the next epoch."""
    images = rng.integers(0, 256, (101, 4, 4, 1)).astype(np.uint8)
    batch = 16
    ways = np.full((4, 101), -1)
    turns = jax.jit(lambda images, step: alternating(images, step, 101))
    for step in range(4 * 101 // batch):
        chosen = batch_indices(step, size=101, batch_size=batch, seed=5)
        turned = np.asarray(turns(images[chosen], jnp.int32(step)))
        for i, (image, way) in enumerate(zip(chosen, turned, strict=True)):
            ways[(step * batch + i) // 101, image] = way
    assert 30 < ways[0].sum() < 71
    for before, after in pairwise(ways):
        known = (before >= 0) & (after >= 0)
        assert known.sum() > 80
        np.testing.assert_array_equal(before[known] + after[known], 1)


@pytest.mark.parametrize("step", [0, 7, 2**31 - 1, 123_456_789])
@pytest.mark.parametrize(("batch", "size"), [(3, 7), (300, 7), (4096, 2**29 + 1)])
def test_alternating_flip_counts_epochs_without_overflow(step, batch, size):
    images = np.zeros((batch, 1), np.uint8)
    parity = int(hashed(images)[0]) & 1
    expected = [((step * batch + i) // size + parity) % 2 for i in range(batch)]
    np.testing.assert_array_equal(alternating(images, jnp.int32(step), size), expected)


def test_image_hashes_are_evenly_distributed(rng):
    images = rng.integers(0, 256, (2000, 5, 5, 1)).astype(np.uint8)
    images[1000:] = images[:1000]
    images[1000:, 0, 0] ^= 1  # the least change of one pixel
    h = np.asarray(hashed(images))
    assert len(set(h.tolist())) == 2000
    bits = (h[:, None] >> np.arange(32, dtype=np.uint32)) & 1
    assert (abs(bits.mean(axis=0) - 0.5) < 0.06).all()
    assert abs((bits[:1000] ^ bits[1000:]).mean() - 0.5) < 0.02
    np.testing.assert_array_equal(h, jax.jit(hashed)(images))
    assert len(set(np.asarray(hashed(images / np.float32(255))).tolist())) == 2000


def test_flip_turns_the_chosen_images(x):
    turned = np.arange(N) % 3 == 0
    masks = (100 * x[..., 0]).astype(np.uint8)
    flipped, flipped_masks = flip(jnp.asarray(x), jnp.asarray(masks), turned)
    for n in range(N):
        way = -1 if turned[n] else 1
        np.testing.assert_array_equal(flipped[n], x[n, :, ::way])
        np.testing.assert_array_equal(flipped_masks[n], masks[n, :, ::way])
