"""The inference function and evaluation of a trained run."""

import jax
import numpy as np
import pytest
from PIL import Image

import convax
from convax.inference import predictor as module
from convax.inference.predictor import cut
from convax.training import data
from convax.training.config.schema import ConfigError, Input, Statistics
from convax.training.data.preprocess import Preprocessing, measure, preprocess
from convax.training.evaluation import evaluate_split
from convax.training.experiment import prepare
from convax.training.run.checkpoint import CheckpointError
from convax.training.run.directory import RunError
from convax.training.tasks.classification.task import make_probabilities
from convax.training.tasks.registry import make_task


@pytest.fixture(scope="module")
def predictor(whole):
    return convax.load(whole.path)


@pytest.fixture(scope="module")
def dataset(whole):
    return prepare(whole.config()).dataset


def test_probabilities(predictor, dataset):
    probabilities = predictor(dataset.test.images)
    assert probabilities.shape == (53, 3)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert predictor.classes == ("0", "1", "2")
    assert predictor.image_shape == (6, 6, 1)


def test_evaluate_agrees_with_predict_and_with_the_training_run(whole, predictor, dataset):
    result = convax.evaluate(whole.path)
    assert result.count == len(dataset.test.labels)
    probabilities = predictor(dataset.test.images)
    hits = probabilities.argmax(axis=1) == dataset.test.labels
    assert result.accuracy == hits.mean()
    chosen = probabilities[np.arange(53), dataset.test.labels]
    np.testing.assert_allclose(result.loss, -np.log(chosen).mean(), rtol=1e-5)
    np.testing.assert_allclose(result.probabilities, probabilities, rtol=1e-5, atol=1e-7)
    assert whole.info()["result"]["test"]["loss"] == result.loss
    with pytest.raises(AttributeError, match="no metric 'mean_iou' here; there are loss, accuracy"):
        result.mean_iou  # noqa: B018


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("checkpoint", ["best", "last"])
def test_every_split_and_checkpoint_can_be_evaluated(whole, split, checkpoint):
    result = convax.evaluate(whole.path, split, checkpoint=checkpoint)
    assert (result.split, result.count) == (split, whole.dataset().counts[split])


BATCH_SIZES = (1, 8, 64, 512)


def test_the_batch_size_does_not_matter(predictor, dataset):
    together = predictor(dataset.test.images)
    one_by_one = np.concatenate([predictor(image[None]) for image in dataset.test.images[:5]])
    np.testing.assert_allclose(one_by_one, together[:5], rtol=1e-5, atol=1e-7)
    many = np.concatenate([dataset.test.images] * 12)
    assert len(many) > BATCH_SIZES[-1]
    np.testing.assert_allclose(predictor(many)[:53], together, rtol=1e-5, atol=1e-7)
    assert predictor(dataset.test.images[:0]).shape == (0, 3)


def test_new_batch_sizes_rarely_compile(whole, dataset):
    fresh = convax.load(whole.path)
    images = np.concatenate([dataset.test.images] * 20)
    for count in (1, 2, 3, 7, 8, 9, 30, 64, 65, 200, 512, 513, 600, 1000):
        assert fresh(images[:count]).shape == (count, 3)
    assert fresh.function._cache_size() <= len(BATCH_SIZES)


def test_weights_may_be_constants(whole, predictor, dataset):
    fixed = convax.load(whole.path, constants=True)
    images = dataset.test.images[:9]
    np.testing.assert_allclose(fixed(images), predictor(images), rtol=1e-5, atol=1e-7)
    assert fixed.function._cache_size() == 0  # which takes the weights
    np.testing.assert_allclose(
        fixed.function(fixed.params, fixed.state, images[:1]), fixed(images[:1]), rtol=1e-5
    )


def test_batches_are_little_larger_than_what_is_in_them(predictor, dataset, monkeypatch):
    """65 images are not computed as 512."""
    for count in (1, 2, 8, 9, 20, 40, 64, 65, 200, 300, 512, 513, 1000):
        batches = cut(count, BATCH_SIZES)
        assert sum(batches) - count <= max(count, 7) and set(batches) <= set(BATCH_SIZES)
        cheapest = cut(count, BATCH_SIZES, extra=3)
        assert sum(cheapest) >= count and set(cheapest) <= set(BATCH_SIZES)
        assert sum(cheapest) + 3 * len(cheapest) <= sum(batches) + 3 * len(batches)
    asked = []
    monkeypatch.setattr(predictor, "function", lambda p, s, x: asked.append(len(x)) or x[:, 0, 0])
    predictor(np.concatenate([dataset.test.images] * 2)[:65])
    assert asked == [64, 1]


def test_a_batch_that_fits_is_not_copied_and_answers_may_be_changed(
    predictor, dataset, monkeypatch
):
    """Nor is it padded: what stands for a program of its size is given the images themselves."""
    given, function = [], predictor.function
    keep = lambda p, s, x: given.append(x) or function(p, s, x)  # noqa: E731
    monkeypatch.setattr(predictor, "function", keep)
    for count, same in ((1, True), (8, True), (3, False)):
        images = dataset.test.images[:count]
        answers = predictor(images)
        assert np.shares_memory(given[-1], images) == same
        answers[:] = 0
    one = predictor(dataset.test.images[0])
    one[:] = 0


def test_no_batch_takes_more_memory_than_a_bound(whole, monkeypatch):
    """The largest operation is the product of an image, 64 numbers, with the kernel (64, 16)."""
    each = 4 * (64 + 64 * 16 + 16)
    monkeypatch.setattr(module, "MOST_BYTES", 64 * each)
    assert convax.load(whole.path).sizes == (1, 8, 64)
    monkeypatch.setattr(module, "MOST_BYTES", 1)
    assert convax.load(whole.path).sizes == (1,)


def test_evaluation_takes_no_larger_batches_than_twice_those_of_a_step(whole):
    def batch(**training):
        config = whole.config()
        config = config.model_copy(update={"training": config.training.model_copy(update=training)})
        return make_task(config, 3).batches.evaluation

    assert (batch(), batch(batch_size=2), batch(batch_size=400)) == (32, 4, 500)
    assert batch(batch_size=64, grad_accum_steps=16) == 8


def test_floats_in_the_unit_interval_are_the_same_picture(predictor, dataset):
    images = dataset.test.images[:8]
    floats = predictor(images.astype(np.float64) / 255)
    np.testing.assert_allclose(floats, predictor(images), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(predictor(images[..., 0]), predictor(images))


def test_the_function_can_be_used_inside_jax(predictor, dataset):
    x = dataset.test.images[:2].astype(np.float32) / 255

    def confidence(x):
        return predictor.function(predictor.params, predictor.state, x).max()

    saliency = jax.grad(confidence)(x)
    assert saliency.shape == x.shape
    assert np.abs(saliency).max() > 0


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (np.zeros((2, 7, 6, 1), np.uint8), ValueError, r"got \(2, 7, 6, 1\), need \(N, 6, 6, 1\)"),
        (np.zeros((6, 6), np.uint8), ValueError, r"predict: wrong image shape: got \(6, 6\)"),
        (
            np.zeros((1, 6, 6, 1), np.int64),
            TypeError,
            "predict: wrong dtype: got int64, need uint8",
        ),
        (
            np.full((1, 6, 6, 1), 255.0),
            ValueError,
            r"must lie in \[0, 1\]: got 255 to 255; pass uint",
        ),
        (np.full((1, 6, 6, 1), np.nan), ValueError, r"must lie in \[0, 1\]"),
        (np.full((1, 6, 6, 1), 1.001), ValueError, r"must lie in \[0, 1\]: got 1.001 to 1.001;"),
    ],
)
def test_bad_images(predictor, images, error, message):
    with pytest.raises(error, match=message):
        predictor(images)


def test_values_that_rounding_left_outside_by_a_hair_are_brought_back(predictor):
    ones = np.ones((1, 6, 6, 1), np.float32)
    for white in (ones * np.float32(1 + 1e-6), (ones + np.float64(1e-9)).astype(np.float64)):
        np.testing.assert_array_equal(predictor(white), predictor(ones))
    half = np.ones((1, 6, 6, 1), np.float16) * np.float16(1.001)  # the next one after 1
    np.testing.assert_array_equal(predictor(half), predictor(ones))
    np.testing.assert_array_equal(predictor(-1e-7 * ones), predictor(0 * ones))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1"])
def test_pictures_of_any_size_and_color(predictor, tmp_path, mode):
    picture = np.zeros((60, 60), np.uint8)
    picture[:, 20:40] = 255
    path = tmp_path / "middle.png"
    Image.fromarray(picture).convert(mode).save(path)
    image = predictor.read(path)
    assert image.shape == (6, 6, 1)
    np.testing.assert_array_equal(predictor.read(path, invert=True), 255 - image)
    assert predictor(image[None]).argmax() == 1


def test_a_run_without_a_checkpoint(copied):
    (copied.checkpoints / "last").unlink()
    (copied.checkpoints / "best").unlink()
    with pytest.raises(CheckpointError, match="no checkpoint was saved here"):
        convax.load(copied.path)


def test_no_such_checkpoint(whole):
    with pytest.raises(CheckpointError, match="got 'bset', need 'best' or 'last'"):
        convax.load(whole.path, checkpoint="bset")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("dataset.json", "{", "dataset.json: damaged: not JSON"),
        ("dataset.json", "{}", "dataset.json: damaged: classes: Field required"),
        ("dataset.json", None, "dataset.json: cannot be read"),
        ("config.toml", None, "not a run directory: it has no config.toml"),
        ("config.toml", "seed = 1\n", "config.toml: data: missing"),
    ],
)
def test_a_damaged_run_directory(copied, file, text, message):
    path = copied.path / file
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(RunError, match=message):
        convax.load(copied.path)


def test_no_run_directory(tmp_path):
    with pytest.raises(RunError, match="no such run directory; `convax train` makes one"):
        convax.load(tmp_path / "nothing")


def test_evaluate_notices_changed_data(copied):
    copied.write_dataset(copied.dataset()._replace(fingerprint="other"))
    with pytest.raises(RunError, match="the data has changed since this run began"):
        convax.evaluate(copied.path)


def test_an_evaluation_that_misses_an_example_is_an_error(whole, dataset):
    def forgetful(params, state, images, labels, weights):
        sums = {"loss": 0.0, "correct": 0, "count": int(weights.sum()) - 1}
        return sums, np.zeros((len(labels), 3), np.float32)

    task = make_task(whole.config(), 3)

    with pytest.raises(RuntimeError, match="test: 51 of 53 examples were counted"):
        evaluate_split(task, forgetful, None, None, dataset, "test")
    with pytest.raises(
        RunError, match=r"validation: this split of the data is empty; set data.val"
    ):
        empty = dataset._replace(validation=data.Split(*(a[:0] for a in dataset.validation)))
        evaluate_split(task, forgetful, None, None, empty, "validation")


def test_preprocessing_by_hand():
    spec = Preprocessing((4, 5), "pad", (0.5,), (0.25,))
    image = np.full((1, 2, 2, 1), 255, np.uint8)
    x = np.asarray(preprocess(jax.numpy.asarray(image), spec))[0, :, :, 0]
    # Black (0) is (0 - 0.5) / 0.25 = -2, white (1) is 2; the odd column goes to the right.
    expected = np.full((4, 5), -2.0)
    expected[1:3, 1:3] = 2.0
    np.testing.assert_allclose(x, expected)


def test_resizing_keeps_a_constant_image_and_scales_a_ramp():
    spec = Preprocessing((8, 8), "resize", (0.0,), (1.0,))
    flat = preprocess(jax.numpy.full((1, 4, 4, 1), 51, jax.numpy.uint8), spec)
    np.testing.assert_allclose(flat, np.full((1, 8, 8, 1), 0.2), rtol=1e-6)
    assert preprocess(jax.numpy.zeros((1, 16, 16, 1)), spec).shape == (1, 8, 8, 1)


def test_statistics_are_those_of_the_training_images(whole, dataset):
    spec = measure(dataset.train, whole.config().input)
    pixels = dataset.train.images.astype(np.float64) / 255
    np.testing.assert_allclose(spec.mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(spec.std, pixels.std(axis=(0, 1, 2)), rtol=1e-9)


@pytest.mark.parametrize("value", [0, 127, 255])
def test_a_constant_channel_is_not_scaled(whole, value):
    split = data.Split(np.full((1258, 8, 8, 1), value, np.uint8), np.zeros(1258, np.int32))
    assert measure(split, whole.config().input).std == (1.0,)


def test_given_statistics_are_not_measured(dataset):
    """Of one channel here; ImageNet's are of three."""
    spec = Input(size=[6, 6], fit="pad", normalize=Statistics(mean=[0.25], std=[0.5]))
    measured = measure(dataset.train, spec)
    assert (measured.mean, measured.std) == ((0.25,), (0.5,))
    gray = np.full((1, 6, 6, 1), 0.5, np.float32)
    np.testing.assert_array_equal(preprocess(gray, measured), gray)
    colors = data.Split(np.zeros((2, 6, 6, 3), np.uint8), np.zeros(2, np.int32))
    imagenet = spec.model_copy(update={"normalize": "imagenet"})
    assert measure(colors, imagenet).mean == (0.485, 0.456, 0.406)
    message = "input.normalize: mean and std of 3 channels, but the images have 1; write"
    with pytest.raises(ConfigError, match=message):
        measure(dataset.train, imagenet)


def test_the_mean_alone_is_subtracted_from_values_in_0_to_255(whole, dataset):
    images = dataset.train.images
    spec = measure(dataset.train, whole.config().input.model_copy(update={"normalize": "mean"}))
    got = preprocess(images, spec._replace(fit="resize", size=images.shape[1:3]))
    np.testing.assert_allclose(got, images - images.mean(), atol=1e-3)


def test_probabilities_of_a_network_trained_on_the_squared_error():
    logits = jax.numpy.array([[0.9, 0.1, -0.3], [-0.1, -0.2, -0.3]])
    shares = np.asarray(make_probabilities("mse")(logits))
    np.testing.assert_allclose(shares[0], [0.9, 0.1, 0.0], atol=1e-5)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
    assert shares[1].argmax() == 0


def test_images_too_large_to_pad(whole, dataset):
    small = whole.config().input.model_copy(update={"size": [5, 8]})
    with pytest.raises(
        ValueError, match=r"input.size: images of 6x6 cannot be padded to 5x8; write"
    ):
        measure(dataset.train, small)
