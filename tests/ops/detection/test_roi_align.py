"""RoIAlign: by hand, against loops and torchvision, its two forms, padding, limits and errors."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from jax import export

from convax import ops
from tests.golden import roi as golden_roi
from tests.reference import roi as reference
from tests.reference.random_boxes import COUNT, random_boxes

SIZE, OUTPUT = (5, 6), (2, 3)
HOW = {
    "aligned": dict(),
    "not aligned": dict(sampling_ratio=1, aligned=False),
    "adaptive": dict(sampling_ratio=0),
    "adaptive, not aligned": dict(sampling_ratio=0, aligned=False),
    "many samples": dict(sampling_ratio=5),
}
IMPLEMENTATIONS = ("cpu", "xla", "jaxpr")


@pytest.fixture(params=HOW.values(), ids=list(HOW))
def how(request):
    return request.param


def random_map(rng, *shape):
    return jnp.asarray(rng.standard_normal(shape), jnp.float32)


def some_boxes(rng, *leading, size=SIZE):
    """Boxes half of which reach out of the map."""
    corners = np.sort(rng.uniform(-0.2, 1.2, (*leading, 2, 2)), axis=-2)
    boxes = corners.reshape(*leading, 4) * (size[1], size[0], size[1], size[0])
    return jnp.asarray(boxes, jnp.float32)


def value_and_grads(function, x, boxes, g):
    y, vjp = jax.vjp(function, x, boxes)
    return y, *vjp(g)


def test_roi_align_equals_hand_arithmetic():
    x = jnp.arange(16.0).reshape(4, 4, 1)
    box = jnp.array([[0.0, 0.0, 2.0, 2.0]])
    read = partial(ops.roi_align, x, box, 1, sampling_ratio=1)
    # One sample, at (1, 1): between the middles of four pixels, or at that of element (1, 1).
    np.testing.assert_allclose(read().ravel(), [(0 + 1 + 4 + 5) / 4])
    np.testing.assert_allclose(read(aligned=False).ravel(), [5])
    # Twice the scale: at (2, 2) of the map, the middle of the whole.
    np.testing.assert_allclose(read(spatial_scale=2.0).ravel(), [(5 + 6 + 9 + 10) / 4])
    # A ramp in x: d out / d x1 = d out / d x2 = 1/2 as the sample moves with the middle of the box.
    gradient = jax.grad(lambda b: ops.roi_align(x, b, 1, sampling_ratio=1).sum())(box + 0.1)
    np.testing.assert_allclose(gradient, [[0.5, 2, 0.5, 2]], rtol=1e-5)


@pytest.mark.parametrize("name", golden_roi.ALIGNED)
def test_roi_align_equals_torchvision_as_recorded(name):
    how = dict(spatial_scale=golden_roi.SCALE) | golden_roi.ALIGNED[name]
    with golden_roi.golden() as t:
        boxes = jnp.asarray(t["boxes"])
        align = lambda x: ops.roi_align(x, boxes, golden_roi.OUTPUT_SIZE, **how)  # noqa: E731
        y, vjp = jax.vjp(align, jnp.asarray(t["x"]))
        np.testing.assert_allclose(y, t[name], rtol=1e-5, atol=2e-5)
        (gx,) = vjp(jnp.asarray(t["g"]))
        np.testing.assert_allclose(gx, t[f"{name}_grad"], rtol=1e-5, atol=5e-5)


def test_roi_align_equals_torchvision(torch, rng, how):
    vision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    x, boxes = random_map(rng, *SIZE, 3), some_boxes(rng, COUNT)
    image = torch.tensor(np.moveaxis(x, -1, 0)[None])
    arguments = how.get("sampling_ratio", 2) or -1, how.get("aligned", True)
    expected = vision.ops.roi_align(image, [torch.tensor(np.asarray(boxes))], OUTPUT, 1, *arguments)
    y = ops.roi_align(x, boxes, OUTPUT, **how)
    np.testing.assert_allclose(y, np.moveaxis(expected.numpy(), 1, -1), rtol=1e-5, atol=1e-5)


def test_any_boxes_equal_loops(rng, how):
    x, g = random_map(rng, *SIZE, 2), random_map(rng, COUNT, *OUTPUT, 2)
    align = lambda x, boxes: ops.roi_align(x, boxes, OUTPUT, **how)  # noqa: E731
    program = jax.jit(partial(value_and_grads, align))
    given_map, given_g = np.asarray(x, float), np.asarray(g, float)

    @settings(max_examples=30)
    @given(random_boxes(SIZE))
    def each(boxes):
        y, gx, gb = program(x, boxes, g)
        assert np.isfinite(gb).all()
        # Where rounding decides, of a sample at a jump or of the number of samples, all goes.
        spread = np.array([[b[3] - b[1], b[2] - b[0]] for b in boxes.astype(float)]) / OUTPUT
        near = np.abs(spread - np.round(spread)).min(1) < 1e-4
        exact = (boxes == np.round(2 * boxes) / 2).all(1)
        unsure = near & ~exact if how.get("sampling_ratio") == 0 else np.zeros(COUNT, bool)
        unsure |= reference.edge_distance(boxes, SIZE, OUTPUT, **how) < 1e-4
        expected = reference.roi_align(given_map, boxes, OUTPUT, **how)
        np.testing.assert_allclose(y[~unsure], expected[~unsure], rtol=1e-5, atol=3e-5)
        if not unsure.any():
            expected = np.zeros(x.shape)
            for r, box in enumerate(boxes):
                for p, q, taps in reference.reads(box, SIZE, OUTPUT, **how):
                    for i, j, w in taps:
                        expected[i, j] += w * given_g[r, p, q]
            np.testing.assert_allclose(gx, expected, rtol=1e-5, atol=3e-5)

    each()


def test_gradient_of_the_map_is_the_transpose(rng, how):
    """<g, A x> = <A^T g, x>, by `vjp` and by `linear_transpose`."""
    x, boxes = random_map(rng, *SIZE, 2), some_boxes(rng, COUNT)
    align = jax.jit(lambda x: ops.roi_align(x, boxes, OUTPUT, **how))
    g = random_map(rng, COUNT, *OUTPUT, 2)
    expected = jnp.vdot(g, align(x))
    for transposed in (jax.vjp(align, x)[1], jax.linear_transpose(align, x)):
        np.testing.assert_allclose(jnp.vdot(transposed(g)[0], x), expected, rtol=1e-4, atol=1e-4)


def test_forms_are_equal_to_rounding(rng, how):
    x, boxes = random_map(rng, *SIZE, 2), some_boxes(rng, COUNT)
    g = random_map(rng, COUNT, *OUTPUT, 2)
    found = []
    for name in IMPLEMENTATIONS:
        with ops.implementation(name):
            program = partial(value_and_grads, lambda x, b: ops.roi_align(x, b, OUTPUT, **how))
            found.append(jax.jit(program)(x, boxes, g))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_batches_equal_a_loop_over_images(rng):
    """Leading axes, `vmap`, and one image after the other."""
    x, boxes = random_map(rng, 2, *SIZE, 1), some_boxes(rng, 2, 3)
    g = random_map(rng, 2, 3, *OUTPUT, 1)
    align = partial(ops.roi_align, output_size=OUTPUT)
    batch = jax.jit(partial(value_and_grads, align))(x, boxes, g)
    vmapped = jax.jit(partial(value_and_grads, jax.vmap(align)))(x, boxes, g)
    one = jax.jit(partial(value_and_grads, align))
    each = [one(*operands) for operands in zip(x, boxes, g, strict=True)]
    for a, b, c in zip(batch, vmapped, map(jnp.stack, zip(*each, strict=True)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(a, c, rtol=1e-5, atol=1e-5)


def test_large_maps_equal_products(rng):
    """On CPU their gradient has a form of its own."""
    size = (90, 81)
    x, boxes = random_map(rng, *size, 1), some_boxes(rng, 3, size=size)
    g = random_map(rng, 3, *OUTPUT, 1)
    found = []
    for name in ("cpu", "xla"):
        with ops.implementation(name):
            program = partial(value_and_grads, lambda x, b: ops.roi_align(x, b, OUTPUT))
            found.append(jax.jit(program)(x, boxes, g))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_backward_pass_of_the_map_has_no_scatter(rng):
    x, boxes = random_map(rng, *SIZE, 2), some_boxes(rng, COUNT)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(ops.roi_align(x, boxes, OUTPUT) ** 2)))
    assert "scatter" not in gradient.lower(x).as_text()


def test_padding_and_nan_are_finite(rng, how):
    x = random_map(rng, *SIZE, 2)
    boxes = jnp.array([[0.0, 0, 0, 0], [np.nan, 1, 3, 3], [5, 4, 1, 2], [-1e9, -1e9, 1e9, 1e9]])
    found = value_and_grads(
        lambda x, b: ops.roi_align(x, b, OUTPUT, **how), x, boxes, jnp.ones((4, *OUTPUT, 2))
    )
    for a in found:
        assert jnp.isfinite(a).all()
    np.testing.assert_array_equal(found[0][1], 0)


def test_coordinates_are_not_narrowed_to_the_type_of_the_map(rng):
    x = random_map(rng, *SIZE, 2).astype(jnp.bfloat16)
    boxes = some_boxes(rng, COUNT)
    y = ops.roi_align(x, boxes, OUTPUT)
    assert y.dtype == jnp.bfloat16
    expected = ops.roi_align(x.astype(jnp.float32), boxes, OUTPUT).astype(jnp.bfloat16)
    np.testing.assert_array_equal(y.astype(jnp.float32), expected.astype(jnp.float32))


def test_nothing_to_read_gives_nothing():
    for x, boxes in (((5, 6, 2), (0, 4)), ((0, 5, 6, 2), (0, 3, 4))):
        y, vjp = jax.vjp(lambda *a: ops.roi_align(*a, 2), jnp.zeros(x), jnp.zeros(boxes))
        assert y.shape == (*boxes[:-1], 2, 2, 2)
        assert [a.shape for a in vjp(y)] == [x, boxes]


def test_second_call_compiles_nothing(rng, caplog):
    first, second = (random_map(rng, *SIZE, 2) for _ in range(2))
    boxes = some_boxes(rng, COUNT)
    ops.roi_align(first, boxes, OUTPUT)
    with jax.log_compiles():
        ops.roi_align(second, boxes, OUTPUT)
        assert not [r for r in caplog.records if "ompiling" in r.getMessage()]


def test_roi_align_exports_with_a_symbolic_batch(rng):
    align = lambda x, boxes: jnp.sum(jnp.sin(ops.roi_align(x, boxes, OUTPUT)))  # noqa: E731
    f = jax.value_and_grad(align, (0, 1))
    (n,) = export.symbolic_shape("n")
    types = [jax.ShapeDtypeStruct((n, *s), jnp.float32) for s in ((*SIZE, 2), (3, 4))]
    exported = export.export(jax.jit(f), platforms=("cpu", "cuda", "tpu"))(*types)
    x, boxes = random_map(rng, 2, *SIZE, 2), some_boxes(rng, 2, 3)
    found, expected = (jax.tree.leaves(g(x, boxes)) for g in (exported.call, f))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")  # of jax2onnx
def test_roi_align_converts_to_onnx(rng):
    for package in ("jax2onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install convax[onnx]")
    import jax2onnx
    import onnxruntime

    x, boxes = random_map(rng, *SIZE, 2), some_boxes(rng, COUNT)
    align = lambda x, boxes: ops.roi_align(x, boxes, OUTPUT)  # noqa: E731
    with ops.implementation("jaxpr"), jax.disable_jit():  # as `convax export --onnx` does
        model = jax2onnx.to_onnx(align, inputs=[x.shape, boxes.shape])
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = [i.name for i in session.get_inputs()]
    (y,) = session.run(None, dict(zip(names, map(np.asarray, (x, boxes)), strict=True)))
    np.testing.assert_allclose(y, align(x, boxes), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("x", "boxes"), [((5, 6), (3, 4)), ((5, 6, 2), (4,)), ((2, 5, 6, 2), (3, 4))]
)
def test_roi_align_refuses_shapes_that_do_not_fit(x, boxes):
    message = r"^roi_align: shapes do not fit: got x \(.*\) and boxes \(.*\), need.*write boxes\[No"
    with pytest.raises(ValueError, match=message):
        ops.roi_align(jnp.zeros(x), jnp.zeros(boxes), 2)


def test_roi_align_refuses_an_empty_map_and_integers():
    with pytest.raises(ValueError, match=r"^roi_align: no elements: got x \(0, 6, 2\), need at le"):
        ops.roi_align(jnp.zeros((0, 6, 2)), jnp.zeros((3, 4)), 2)
    with pytest.raises(TypeError, match=r"^roi_align: x is not floating point: got uint8"):
        ops.roi_align(jnp.zeros((5, 6, 2), jnp.uint8), jnp.zeros((3, 4)), 2)
    with pytest.raises(TypeError, match=r"^roi_align: boxes is not floating point: got int32"):
        ops.roi_align(jnp.zeros((5, 6, 2)), jnp.zeros((3, 4), jnp.int32), 2)
    with pytest.raises(ValueError, match=r"^roi_align: boxes have no last axis of size 4"):
        ops.roi_align(jnp.zeros((5, 6, 2)), jnp.zeros((3, 5)), 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(output_size=0), "bad output_size: got 0, need a positive int, or 2 of them"),
        (dict(output_size=(2, 2, 2)), "bad output_size: got (2, 2, 2), need"),
        (dict(sampling_ratio=-1), "bad sampling_ratio: got -1, need an int >= 0"),
        (dict(sampling_ratio=1.5), "bad sampling_ratio: got 1.5, need an int >= 0"),
        (dict(spatial_scale=0.0), "bad spatial_scale: got 0.0, need a finite number > 0; write sp"),
        (dict(spatial_scale=np.inf), "bad spatial_scale: got inf, need a finite number > 0"),
    ],
    ids=str,
)
def test_roi_align_refuses_wrong_options(options, message):
    with pytest.raises(ValueError) as error:
        ops.roi_align(jnp.zeros((5, 6, 2)), jnp.zeros((3, 4)), **dict(output_size=2) | options)
    assert str(error.value).startswith(f"roi_align: {message}")


def test_roi_align_refuses_a_traced_scale():
    read = lambda s: ops.roi_align(jnp.zeros((5, 6, 2)), jnp.zeros((3, 4)), 2, spatial_scale=s)  # noqa: E731
    with pytest.raises(TypeError, match=r"^roi_align: spatial_scale is traced: got .*, need a num"):
        jax.jit(read)(0.5)
