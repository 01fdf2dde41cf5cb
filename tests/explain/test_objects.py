"""Why a detector found what it found: by hand, of a detector whose weights are set by hand."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import explain, model
from convax.training.data.preprocess import Preprocessing
from tests.hand_made import DETECTIONS, hand_made, squares

BEST, OTHER = (12, 16, 20, 24, 1.0), (4, 4, 12, 12, 0.95)


class Made:
    """A network of one level, an image of two squares, and what is found in it."""

    def __init__(self):
        self.net, self.params = hand_made()
        self.x = squares(BEST, OTHER)
        self.of = (self.net, self.params, {}, self.x)
        self.outputs = jax.jit(self.net.apply)(self.params, {}, self.x)[0]
        self.found = self.outputs.detections


@pytest.fixture(scope="module")
def made():
    return Made()


def inside(square):
    x1, y1, x2, y2, _ = square
    mask = np.zeros((32, 32), bool)
    mask[y1:y2, x1:x2] = True
    return mask


def test_a_detector_that_was_set_by_hand_finds_squares(made):
    found = made.found
    np.testing.assert_allclose(found.boxes[0, :2], [BEST[:4], OTHER[:4]], atol=1e-4)
    assert found.classes[0].tolist() == [0, 0] + [-1] * (DETECTIONS - 2)
    # 16 m - 12, of m = 1 and m = 0.95.
    np.testing.assert_allclose(made.outputs.logits[0, :2], [[0, 4, -9], [0, 3.2, -9]], rtol=1e-5)
    assert not made.outputs.logits[0, 2:].any()


def test_the_target_of_a_detection_is_the_logit_of_its_class(made):
    for row, expected in [(0, 4.0), (1, 3.2), (11, 0.0), (jnp.array([1]), 3.2)]:
        said = explain.scores(made.outputs, explain.detection(row))
        np.testing.assert_allclose(said, [expected], rtol=1e-5)


def test_similarity_is_one_to_itself_and_that_of_its_place_to_others(made):
    logits = made.outputs.logits[0]
    for row in (0, 1):
        itself = explain.similarity(made.found.boxes[0, row], logits[row])
        np.testing.assert_allclose(itself(made.outputs), [1.0], rtol=1e-6)
    # Half of it within 4 x 8: 32 of 64 + 64 - 32, and the probabilities of another class.
    half = explain.similarity(np.float32([16, 16, 24, 24]), logits[0])
    np.testing.assert_allclose(half(made.outputs), [1 / 3], rtol=1e-5)
    never = explain.similarity(made.found.boxes[0, 0], np.float32([-50, -50, 0]))
    assert float(never(made.outputs)[0]) < 1e-5
    nowhere = explain.similarity(np.float32([24, 0, 32, 8]), logits[0])
    assert float(nowhere(made.outputs)[0]) == 0


@pytest.mark.parametrize(("row", "square"), [(0, BEST), (1, OTHER)])
def test_saliency_of_a_detection_is_in_its_box_alone(made, row, square):
    """S = 16 m - 12, and m is a mean over 64 pixels."""
    found = jax.jit(partial(explain.saliency, made.net, target=explain.detection(row)))(
        *made.of[1:]
    )
    np.testing.assert_allclose(found[0], np.where(inside(square), 16 / 64, 0), rtol=1e-5, atol=1e-7)


def test_grad_cam_of_a_detection_by_hand(made):
    """Each of four cells has gradient 4, of 8x8: alpha = 16 / 64, by the brightness of the cell."""
    assert explain.last_map_layer(made.net, made.x.shape) == "backbone"
    target = explain.detection(0)

    def cams(params, state, x):
        cam = partial(explain.grad_cam, made.net, params, state, x, target)
        return cam(resize=False), cam(layer="backbone/level1", resize=False), cam()

    coarse, named, fine = jax.jit(cams)(*made.of[1:])
    cells = made.x[0, ::4, ::4, 0]
    np.testing.assert_allclose(coarse["level1"][0], 16 / 64 * cells, rtol=1e-5)
    np.testing.assert_allclose(named, coarse["level1"], rtol=1e-5)
    expected = jax.image.resize(coarse["level1"], made.x.shape[:3], "linear")
    np.testing.assert_allclose(fine, expected, rtol=1e-5)


@pytest.mark.slow
def test_given_proposals_are_explained_as_if_the_network_had_made_them(made, monkeypatch):
    """Each detection by its own: the third, which is dark, and the others have no part in it."""
    monkeypatch.setattr("convax.explain.objects.MASKS", 8)
    net, params = hand_made(proposes=False)
    boxes = np.float32([OTHER[:4], [20, 0, 28, 8], BEST[:4]])
    task = SimpleNamespace(more_inputs=lambda images: {"proposals": boxes[None]})
    spec = Preprocessing((32, 32), "letterbox", (0.0,), (1.0,))
    given = SimpleNamespace(trained=(net, params, {}), task=task, preprocessing=spec, sizes=(1, 8))
    image = np.asarray(255 * made.x[0]).astype(np.uint8)
    found = explain.explain_objects(given, image, made.found.boxes[0, :2], [0, 0])
    assert found.layer == "backbone"
    for row, each in enumerate(found.objects):
        target = explain.detection(row)
        np.testing.assert_allclose(each.score, (4.0, 3.2)[row], atol=0.1)  # 0.95 is 242 of 255
        square = inside((BEST, OTHER)[row])
        np.testing.assert_allclose(each.saliency, np.where(square, 16 / 64, 0), rtol=1e-5)
        cam = jax.jit(partial(explain.grad_cam, made.net, target=target))(*made.of[1:])
        np.testing.assert_allclose(each.heat, cam[0], rtol=0.01, atol=1e-6)


def test_regions_that_are_seen_by_themselves_have_no_maps_of_the_image():
    net = model.rcnn(2, backbone="small", norm="group", width=8, stages=[1], size=16, context=2)
    with pytest.raises(ValueError, match="no layer of this network has a map"):
        explain.last_map_layer(net, (1, 32, 32, 3))
    with pytest.raises(ValueError, match=r"layer 'backbone' has no map of the image: got a net"):
        explain.grad_cam(net, {}, {}, jnp.zeros((1, 32, 32, 3)), 0, layer="backbone")


def test_grad_cam_is_at_the_map_that_the_region_was_read_from():
    """A large square: the box of 16 pixels is of the coarse map, those of 8 are of the fine one."""
    net, params = hand_made(levels=2)
    x = squares((8, 8, 24, 24, 1.0))

    @jax.jit
    def look(row):
        target = explain.detection(row)
        heat = explain.grad_cam(net, params, {}, x, target, resize=False)
        return net.apply(params, {}, x)[0].detections.boxes[0], heat

    widths = np.ptp(look(0)[0][:, ::2], axis=1).round()
    for width, own, other in [(16, "level2", "level1"), (8, "level1", "level2")]:
        _, heat = look(int(np.flatnonzero(widths == width)[0]))
        assert heat[own].any() and not heat[other].any()


def test_d_rise_and_occlusion_of_a_detection(made):
    """Both know the outputs alone, and do not follow a row to another object."""
    target = explain.similarity(made.found.boxes[0, 1], made.outputs.logits[0, 1])
    cover = jax.jit(partial(explain.occlusion, made.net, target=target, window=4, stride=4))
    covered = cover(*made.of[1:])[0]
    assert covered[~inside(OTHER)].max() < 1e-3 and covered[inside(OTHER)].min() > 0.05

    def masked(box, logits):
        like = explain.similarity(box, logits)
        return explain.rise(*made.of, like, masks=320, grid=8, at_once=32, key=jax.random.key(0))

    heats = jax.jit(jax.vmap(masked))(made.found.boxes[0, :2], made.outputs.logits[0, :2])
    for heat, square in zip(np.maximum(heats[:, 0], 0), (BEST, OTHER), strict=True):
        assert inside(square).flat[heat.argmax()]
        assert heat[inside(square)].mean() > 5 * heat[~inside(square)].mean()


def test_rise_of_a_linear_network_is_its_weights():
    """Of one cell a pixel, E[S | it is kept] - E[S] = (1 - keep) w x: the others are as they are."""
    net = model.serial(flat=model.flatten(), fc=model.dense(1, bias=False))
    params = {"fc": {"kernel": jnp.array([[1.0], [-5.0], [2.0]])}}
    x = jnp.array([1.0, 2.0, 3.0]).reshape(1, 1, 3, 1)
    how = dict(masks=20_000, grid=3, keep=0.25, at_once=1000)
    rise = jax.jit(partial(explain.rise, net, target=0, **how))
    found = rise(params, {}, x, key=jax.random.key(0))
    np.testing.assert_allclose(found.ravel(), 0.75 * np.array([1, -10, 6]), atol=0.25)
    # What is not kept is filled: by what is there, nothing changes.
    same = jax.jit(partial(explain.rise, net, target=0, masks=5, grid=2, fill=x))
    same = same(params, {}, x, key=jax.random.key(1))
    np.testing.assert_allclose(same, 0, atol=1e-5)


def test_masks_are_smooth_and_shifted():
    from convax.explain.rise import _mask

    draw = jax.jit(jax.vmap(lambda key: _mask(key, (24, 16), 4, 0.5)))
    masks = draw(jax.random.split(jax.random.key(2), 200))
    assert masks.shape == (200, 24, 16) and masks.min() >= 0 and masks.max() <= 1
    # Cells of 6 and 4 pixels: from one pixel to the next no more than that part of the way.
    assert np.abs(np.diff(masks, axis=1)).max() <= 1 / 6 + 1e-6
    assert np.abs(np.diff(masks, axis=2)).max() <= 1 / 4 + 1e-6
    np.testing.assert_allclose(masks.mean(0), 0.5, atol=0.12)


def test_what_does_not_fit_is_said(made):
    rise = partial(explain.rise, *made.of, explain.detection(0), key=jax.random.key(0))
    with pytest.raises(ValueError, match="rise: got masks 0, grid 16, at_once 16, need 1 or more"):
        rise(masks=0)
    with pytest.raises(
        ValueError, match=r"rise: keep: got 1\.0, need a probability between 0 and 1"
    ):
        rise(keep=1.0)
    with pytest.raises(ValueError, match=r"rise: fill: got shape \(5,\)"):
        rise(fill=np.zeros(5))
    with pytest.raises(ValueError, match="detection: row: got 12, need 0 to 11"):
        explain.scores(made.outputs, explain.detection(12))
    with pytest.raises(TypeError, match="got outputs of several arrays, a DetectorOutput, need a"):
        explain.scores(made.outputs, 0)
    with pytest.raises(TypeError, match="similarity: got outputs of ndarray, need those of a det"):
        explain.scores(np.zeros((1, 3)), explain.similarity(np.zeros(4), np.zeros(3)))
    for layer in ("head", "rpn/conv1"):  # of regions; of proposals, without a gradient: zero
        if layer == "head":
            with pytest.raises(
                ValueError, match=r"layer 'head' has no map: .* ahead of .* regions"
            ):
                explain.grad_cam(*made.of, explain.detection(0), layer=layer)
        else:
            heat = explain.grad_cam(*made.of, explain.detection(0), layer=layer)
            assert not heat.any()
