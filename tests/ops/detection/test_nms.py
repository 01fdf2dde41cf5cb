"""Suppression: against loops and torchvision, its two forms, chains, ties, padding, messages."""

from functools import partial

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convax import ops
from tests.golden.detection import THRESHOLDS, boxes, golden
from tests.reference import detection as reference

BOXES = jnp.array([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 3.0], [8.0, 0.0, 9.0, 1.0]])
SCORES = jnp.array([0.6, 0.9, 0.7])


def kept_of(result):
    """The indices that are valid, which come first; the others are 0."""
    indices, valid = map(np.asarray, result)
    count = int(valid.sum())
    assert valid[:count].all() and not indices[count:].any()
    return indices[:count].tolist()


def crowd(rng, n, places=5):
    """Boxes in clusters with two equal ones, and scores of which some are equal."""
    made = boxes(rng, n, rng.uniform(0, 200, (places, 2)))
    return made, np.round(rng.uniform(size=n), 2).astype(np.float32)


# The threshold as an array: one program for all of them.
nms_at = jax.jit(lambda b, s, t, **others: ops.nms(b, s, iou_threshold=t, **others))


def test_nms_equals_hand_arithmetic():
    assert kept_of(ops.nms(BOXES, SCORES, iou_threshold=0.5)) == [1, 2]
    assert kept_of(ops.nms(BOXES, SCORES, iou_threshold=0.8)) == [1, 2, 0]  # IoU 0.75
    assert kept_of(ops.nms(BOXES, SCORES, iou_threshold=0.75)) == [1, 2, 0]  # not above
    assert kept_of(ops.nms(BOXES, SCORES, iou_threshold=0.5, max_output=1)) == [1]
    kept = ops.nms(BOXES, SCORES, iou_threshold=0.5, max_output=9)
    assert kept.indices.shape == (9,) and kept_of(kept) == [1, 2]
    assert kept.indices.dtype == jnp.int32


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_nms_equals_torchvision(threshold):
    with golden() as g:
        b, s, classes = g["crowd"], g["scores"], g["classes"]
        t = np.float32(threshold)
        assert kept_of(nms_at(b, s, t)) == g[f"nms_{threshold}"].tolist()
        by_class = kept_of(nms_at(b, s, t, groups=classes))
        assert by_class == g[f"batched_nms_{threshold}"].tolist()


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_nms_equals_live_torchvision(threshold, rng):
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    import torch

    b, s = crowd(rng, 300)
    classes = rng.integers(0, 4, 300).astype(np.int32)
    t = np.float32(threshold)
    tensors = torch.tensor(b), torch.tensor(s)
    expected = torchvision.ops.nms(*tensors, float(t)).tolist()
    assert kept_of(nms_at(b, s, t)) == expected
    expected = torchvision.ops.batched_nms(*tensors, torch.tensor(classes), float(t)).tolist()
    assert kept_of(nms_at(b, s, t, groups=classes)) == expected


FORMS = ("cpu", "xla", "jaxpr")


@pytest.mark.parametrize("groups", [None, np.arange(120, dtype=np.int32) % 3])
def test_all_forms_give_the_same_bits(groups, rng):
    valid = np.arange(120) % 7 != 0
    crowds = [crowd(rng, 120) for _ in THRESHOLDS]
    results = []
    for form in FORMS:
        with ops.implementation(form):
            f = jax.jit(lambda b, s, t: ops.nms(b, s, iou_threshold=t, valid=valid, groups=groups))
            found = [f(*c, np.float32(t)) for c, t in zip(crowds, THRESHOLDS, strict=True)]
            results.append(jax.tree.map(np.asarray, found))
    for other in results[1:]:
        jax.tree.map(np.testing.assert_array_equal, results[0], other)
    assert len({int(kept.valid.sum()) for kept in results[0]}) > 5  # another number each


@pytest.mark.parametrize("form", FORMS)
def test_implementations_take_their_own_form(form, rng):
    """In rounds there is a product of matrices, in rows and rounds a loop."""
    b, s = crowd(rng, 50)
    with ops.implementation(form):
        text = jax.jit(lambda b, s: ops.nms(b, s, iou_threshold=0.5)).lower(b, s).as_text()
    assert ("dot_general" in text) == (form != "cpu")
    assert ("while" in text) == (form != "jaxpr")
    assert "scatter" not in text


def test_a_chain_takes_as_many_rounds_as_it_is_long():
    """Each box suppresses the next, which then does not suppress the one after it."""
    n = 400
    x = np.arange(n, dtype=np.float32) * 5
    chain = jnp.stack([x, 0 * x, x + 12, 0 * x + 10], axis=1)  # IoU with the next: 7 / 17
    scores = jnp.linspace(1, 0.1, n)
    for form in ("cpu", "xla"):
        with ops.implementation(form):
            kept = kept_of(ops.nms(chain, scores, iou_threshold=0.3))
        assert kept == list(range(0, n, 2))


def test_equal_scores_go_by_index():
    same = jnp.tile(jnp.array([[0.0, 0.0, 4.0, 4.0]]), (4, 1))
    scores = jnp.array([-0.0, 0.0, 0.5, 0.5])
    assert kept_of(ops.nms(same, scores, iou_threshold=0.5)) == [2]
    assert kept_of(ops.nms(same, scores, iou_threshold=1.0)) == [2, 3, 0, 1]
    assert kept_of(ops.nms(same, -jnp.ones(4), iou_threshold=0.5)) == [0]


def test_from_a_threshold_of_one_on_every_valid_box_is_kept(rng):
    b, s = crowd(rng, 60)
    for threshold in (1.0, 2.0):
        assert len(kept_of(nms_at(b, s, np.float32(threshold)))) == 60


def test_padding_and_nan_scores_are_not_kept_and_suppress_nothing():
    b = jnp.concatenate([BOXES, BOXES, jnp.zeros((2, 4))])
    s = jnp.array([0.6, jnp.nan, 0.7, 0.5, 0.9, 0.4, 0.0, jnp.inf])
    valid = jnp.array([True, True, True, True, False, True, False, False])
    kept = kept_of(ops.nms(b, s, iou_threshold=0.5, valid=valid))
    assert kept == [2, 0]
    assert kept_of(ops.nms(b, s, iou_threshold=0.5, valid=valid & False)) == []
    assert kept_of(ops.soft_nms(b, s, valid=valid & False)[::2]) == []
    minus = jnp.array([-jnp.inf, 0.1, 0.2])  # a score like any other
    assert kept_of(ops.nms(BOXES, minus, iou_threshold=0.8)) == [2, 1, 0]


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_overlaps_of_narrow_boxes_are_computed_wide(dtype, rng):
    """Areas of boxes of 300 pixels have no place in float16."""
    b, s = crowd(rng, 40)
    low = jnp.asarray(b, dtype), jnp.asarray(s, dtype)
    wide = (leaf.astype(jnp.float32) for leaf in low)
    assert kept_of(nms_at(*low, jnp.float32(0.5))) == kept_of(nms_at(*wide, jnp.float32(0.5)))
    large = jnp.array([[0, 0, 300, 300], [0, 0, 300, 290], [310, 0, 610, 300]], dtype)
    kept = nms_at(large, jnp.array([0.9, 0.8, 0.7], dtype), jnp.float32(0.5))
    assert kept_of(kept) == [0, 2]


def test_groups_do_not_suppress_each_other():
    b, s = jnp.tile(BOXES[:1], (4, 1)), jnp.array([0.1, 0.2, 0.3, 0.4])
    groups = jnp.array([7, 7, -1, 7])
    assert kept_of(ops.nms(b, s, iou_threshold=0.5, groups=groups)) == [3, 2]


R = 8
DRAWN = hnp.arrays(np.int8, (R, 2, 2), elements=st.integers(0, 16)).map(
    lambda corners: np.sort(corners, axis=1).reshape(R, 4).astype(np.float32) / 2
)
DRAWN_SCORES = hnp.arrays(
    np.float32, R, elements=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, np.float32(np.nan)])
)


@given(
    *(
        DRAWN,
        DRAWN_SCORES,
        hnp.arrays(bool, R),
        hnp.arrays(np.int32, R, elements=st.integers(0, 1)),
    ),
    st.sampled_from(THRESHOLDS),
)
@settings(max_examples=100)
def test_nms_of_drawn_boxes_equals_loops(b, s, valid, groups, threshold):
    measure = lambda one, other: np.float32(reference.iou(one, other)[0])  # noqa: E731
    t = np.float32(threshold)
    got = kept_of(nms_at(b, s, t, valid=valid, groups=groups))
    wide = b.astype(float)  # half pixels: areas are exact, and quotients rounded once
    assert got == reference.nms(wide, s, t, valid, groups, measure=measure)


# -------------------------------------------------------------------------------------- soft


@pytest.mark.parametrize("method", ["gaussian", "linear"])
def test_soft_nms_equals_loops(method, rng):
    b, s = crowd(rng, 30)
    valid = np.arange(30) % 5 != 0
    options = {"method": method, "sigma": 0.4, "iou_threshold": 0.2}
    found = ops.soft_nms(b, s, **options, max_output=20, valid=jnp.asarray(valid))
    expected = reference.soft_nms(b.astype(float), s, method, 0.4, 0.2, 20, valid)
    np.testing.assert_array_equal(found.indices, [i for i, _ in expected])
    np.testing.assert_allclose(found.scores, [score for _, score in expected], rtol=1e-4)
    few = ops.soft_nms(b[:2], s[:2], max_output=5)
    np.testing.assert_array_equal(few.valid, [True, True, False, False, False])


def test_soft_nms_equals_hand_arithmetic():
    # IoU 0.75 of the first two
    found = ops.soft_nms(BOXES, SCORES, method="linear", iou_threshold=0.5)
    np.testing.assert_array_equal(found.indices, [1, 2, 0])
    np.testing.assert_allclose(found.scores, [0.9, 0.7, 0.6 * 0.25], rtol=1e-6)
    found = ops.soft_nms(BOXES, SCORES, sigma=0.5)
    np.testing.assert_allclose(found.scores[2], 0.6 * np.exp(-(0.75**2) / 0.5), rtol=1e-6)


def test_a_linear_factor_has_its_gradient():
    f = lambda b, s: ops.soft_nms(b, s, method="linear", max_output=3).scores[2]  # noqa: E731
    of_boxes, of_scores = jax.grad(f, (0, 1))(BOXES, SCORES)
    np.testing.assert_allclose(of_scores, [0.25, 0, 0], rtol=1e-6)
    # IoU = 4 y / 16: its slope in the lower edge of the second box is 1 / 4
    np.testing.assert_allclose(of_boxes[1, 3], -0.6 / 4, rtol=1e-6)
    assert jnp.all(jnp.isfinite(of_boxes))


# ----------------------------------------------------------------------------------- programs


def test_a_batch_is_the_images_one_by_one(rng):
    b, s = map(np.stack, zip(*(crowd(rng, 40) for _ in range(3)), strict=True))
    f = partial(ops.nms, iou_threshold=0.3, max_output=10)
    together = jax.vmap(f)(b, s)
    for n in range(3):
        for one, row in zip(f(b[n], s[n]), together, strict=True):
            np.testing.assert_array_equal(one, row[n])
    thresholds = jnp.array([0.2, 0.4, 0.6])
    for_each = jax.vmap(lambda t: ops.nms(b[0], s[0], iou_threshold=t))(thresholds)
    for n, t in enumerate(thresholds):
        expected = ops.nms(b[0], s[0], iou_threshold=float(t))
        np.testing.assert_array_equal(for_each.indices[n], expected.indices)


def detect(b, s):
    """As a detector's end: the best boxes of each image, suppressed, gathered."""

    def of_image(b, s):
        kept = ops.nms(b, s, iou_threshold=0.5, max_output=5)
        boxes = jnp.where(kept.valid[:, None], b[kept.indices], 0)
        return boxes, jnp.where(kept.valid, s[kept.indices], 0)

    return jax.vmap(of_image)(b, s)


def test_nms_is_exported_with_a_symbolic_batch(rng):
    (N,) = jax.export.symbolic_shape("N")
    shapes = [jax.ShapeDtypeStruct((N, *rest), jnp.float32) for rest in ((30, 4), (30,))]
    exported = jax.export.export(jax.jit(detect), platforms=["cpu", "cuda", "tpu"])(*shapes)
    again = jax.export.deserialize(exported.serialize())
    b, s = map(np.stack, zip(*(crowd(rng, 30) for _ in range(3)), strict=True))
    for got, expected in zip(again.call(b, s), detect(b, s), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.slow
def test_nms_is_converted_to_onnx(rng):
    jax2onnx = pytest.importorskip("jax2onnx", reason="jax2onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    shapes = [jax.ShapeDtypeStruct((2, 30, *rest), jnp.float32) for rest in ((4,), ())]
    with ops.implementation("jaxpr"), jax.disable_jit():
        model = jax2onnx.to_onnx(detect, shapes, opset=21)
    b, s = map(np.stack, zip(*(crowd(rng, 30) for _ in range(2)), strict=True))
    session = runtime.InferenceSession(model.SerializeToString())
    names = [i.name for i in session.get_inputs()]
    found = session.run(None, dict(zip(names, (b, s), strict=True)))
    for got, expected in zip(found, detect(b, s), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: ops.nms(BOXES, SCORES[:2], iou_threshold=0.5),
            ValueError,
            r"nms: shapes do not match: got boxes \(3, 4\) and scores \(2,\)",
        ),
        (
            lambda: ops.nms(BOXES[:0], SCORES[:0], iou_threshold=0.5),
            ValueError,
            r"nms: no boxes: got boxes \(0, 4\), need at least one",
        ),
        (
            lambda: ops.nms(BOXES, SCORES.astype(int), iou_threshold=0.5),
            TypeError,
            "nms: scores is not floating point",
        ),
        (
            lambda: ops.nms(BOXES, SCORES, iou_threshold=-0.1),
            ValueError,
            "nms: bad iou_threshold: got -0.1, need iou_threshold >= 0",
        ),
        (
            lambda: ops.nms(BOXES, SCORES, iou_threshold=0.5, max_output=0),
            ValueError,
            "nms: bad max_output: got 0, need an integer >= 1",
        ),
        (
            lambda: ops.nms(BOXES, SCORES, iou_threshold=0.5, valid=jnp.ones(3)),
            TypeError,
            "nms: valid is no truth values: got float32",
        ),
        (
            lambda: ops.nms(BOXES, SCORES, iou_threshold=0.5, valid=jnp.ones(2, bool)),
            ValueError,
            r"nms: valid does not match: got shape \(2,\), need \(3,\)",
        ),
        (
            lambda: ops.nms(BOXES, SCORES, iou_threshold=0.5, groups=SCORES),
            TypeError,
            "nms: groups are not integers: got float32",
        ),
        (
            lambda: ops.nms(BOXES, SCORES, iou_threshold=0.5, groups=jnp.zeros(2, int)),
            ValueError,
            r"nms: groups do not match: got shape \(2,\), need \(3,\)",
        ),
        (
            lambda: ops.soft_nms(BOXES, SCORES, method="hard"),
            ValueError,
            "soft_nms: unknown method: got 'hard', need 'gaussian' or 'linear'",
        ),
        (
            lambda: ops.soft_nms(BOXES, SCORES, sigma=0.0),
            ValueError,
            "soft_nms: bad sigma: got 0.0, need sigma > 0",
        ),
        (
            lambda: ops.soft_nms(BOXES, SCORES, iou_threshold=-1.0),
            ValueError,
            "soft_nms: bad iou_threshold: got -1.0",
        ),
    ],
)
def test_errors_name_the_argument_and_the_remedy(call, error, message):
    with pytest.raises(error, match=message):
        call()
