""".npz files: two layouts, everything else refused by name."""

import re
import zipfile

import numpy as np
import pytest

from convax.training.data import DataError, load_npz

X = np.arange(2 * 5 * 6, dtype=np.uint8).reshape(2, 5, 6)
COLOR = np.arange(2 * 5 * 6 * 3, dtype=np.uint8).reshape(2, 5, 6, 3)
KERAS = {"x_train": X, "y_train": [1, 0], "x_test": X[:1], "y_test": [1]}
PLAIN = {"images": X, "labels": [1, 0]}


def save(folder, save=np.savez, **arrays):
    save(folder / "data.npz", **arrays)
    return folder / "data.npz"


@pytest.mark.parametrize("saver", [np.savez, np.savez_compressed])
def test_load_npz_reads_the_keras_layout(tmp_path, saver):
    dataset = load_npz(save(tmp_path, saver, **KERAS))
    np.testing.assert_array_equal(dataset.train.images, X[..., None])
    np.testing.assert_array_equal(dataset.test.images, X[:1, ..., None])
    assert dataset.train.labels.tolist() == [1, 0] and dataset.test.labels.tolist() == [1]
    assert len(dataset.validation.labels) == 0
    assert dataset.classes == ("0", "1")


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint64])
@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_load_npz_reads_the_plain_layout(tmp_path, dtype, shape):
    labels = np.array([1, 0], dtype).reshape(shape)
    dataset = load_npz(
        save(tmp_path, images=COLOR, labels=labels, classes=["cat", "dog", "cow"], more=X)
    )
    np.testing.assert_array_equal(dataset.train.images, COLOR)
    assert dataset.train.labels.dtype == np.int32 and dataset.train.labels.tolist() == [1, 0]
    assert dataset.classes == ("cat", "dog", "cow")
    assert dataset.test.images.shape == (0, 5, 6, 3)


CHANGED = [
    ({"images": X / 255}, r"images: dtype float64, need uint8, .*32; store \(255 \* x\)\.round"),
    (
        {"images": X.astype(np.int64)},
        r"images: dtype int64, need uint8, .*32; store values in 0\.\.255",
    ),
    ({"images": X[0]}, r"images: shape \(5, 6\), need \(N, H, W\) or \(N, H, W, C\)"),
    ({"images": X[:0], "labels": [0]}, r"images: shape \(0, 5, 6\).*none of them 0"),
    (
        {"images": COLOR.transpose(0, 3, 1, 2)},
        r"images: shape \(2, 3, 5, 6\) looks channels first.*transpose\(0, 2, 3, 1\)",
    ),
    ({"images": np.array([None, 1])}, r"images: cannot be read: Object arrays.*store it again"),
    ({"labels": np.array(["a", None])}, r"labels: cannot be read: Object arrays"),
    ({"labels": [1, 0, 1]}, r"images holds 2 images but labels 3 labels; store one label"),
    ({"labels": [1.0, 0.0]}, r"labels: dtype float64, need integers; store y\.astype"),
    ({"labels": [True, False]}, r"labels: dtype bool, need integers"),
    ({"labels": np.eye(2, dtype=int)}, r"labels: shape \(2, 2\), need \(N,\).*argmax\(axis=1\)"),
    ({"labels": [-1, 0]}, r"labels: labels from -1 to 0, need 0 up.*number the classes from 0"),
    ({"labels": [0, 10**12]}, r"labels: labels from 0 to 1000000000000, need .* below 65536"),
    ({"classes": ["cat"]}, r"labels: label 1 where there are 1 classes; .*`classes`"),
    ({"classes": ["cat", "cat"]}, r"classes: <U3 of shape \(2,\), need distinct strings"),
    ({"classes": [1, 2]}, r"classes: int64 of shape \(2,\), need distinct strings \(K,\)"),
    ({"classes": [["cat", "dog"]]}, r"classes: <U3 of shape \(1, 2\), need"),
]


@pytest.mark.parametrize(("changed", "message"), CHANGED)
def test_load_npz_rejects_wrong_arrays(tmp_path, changed, message):
    path = save(tmp_path, **(PLAIN | changed))
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}: {message}") as caught:
        load_npz(path)
    assert "\n" not in str(caught.value)


def test_the_test_part_must_fit_the_training_part(tmp_path):
    with pytest.raises(DataError, match=r"y_test: label 2 where there are 2 classes"):
        load_npz(save(tmp_path, **(KERAS | {"y_test": [2]})))
    with pytest.raises(DataError, match=r"x_train .* \(5, 6, 1\) but x_test of \(4, 6, 1\)"):
        load_npz(save(tmp_path, **(KERAS | {"x_test": X[:1, 1:]})))


@pytest.mark.parametrize("key", KERAS)
def test_a_missing_key_is_named(tmp_path, key):
    arrays = {k: v for k, v in KERAS.items() if k != key}
    with pytest.raises(DataError, match=rf"no {key} in it, only .*; store x_train, y_train"):
        load_npz(save(tmp_path, **arrays))


def test_all_missing_keys_are_named(tmp_path):
    with pytest.raises(DataError, match=r"no images and no labels in it, only photos; store"):
        load_npz(save(tmp_path, photos=X))


def test_load_npz_unpickles_nothing(tmp_path):
    class Trap:
        def __reduce__(self):
            return pytest.fail, ("unpickled",)

    trap = np.empty(2, object)
    trap[:] = Trap()
    with pytest.raises(DataError, match="Object arrays cannot be loaded"):
        load_npz(save(tmp_path, images=X, labels=trap))


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"PK\x03\x04junk"])
def test_load_npz_rejects_what_is_no_npz_file(tmp_path, content):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.npz: not an \.npz file, or cut short; data\.path"):
        load_npz(path)


def test_load_npz_names_a_missing_file(tmp_path):
    for path in (tmp_path, tmp_path / "a.npz"):
        with pytest.raises(DataError, match=r": no such file; data\.path should be a file"):
            load_npz(path)


def test_load_npz_rejects_a_zip_of_other_files(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images", "hello")
        archive.writestr("labels", "hello")
    with pytest.raises(DataError, match=r"images: not an array; store it with np\.savez"):
        load_npz(path)


@pytest.mark.parametrize("saver", [np.savez, np.savez_compressed])
def test_damaged_npz_is_rejected_or_harmless(tmp_path, saver):
    whole = save(tmp_path, saver, **PLAIN).read_bytes()
    path = tmp_path / "damaged.npz"
    for i in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[i] ^= 0x55
        path.write_bytes(damaged)
        try:
            dataset = load_npz(path)
        except DataError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)
        else:
            np.testing.assert_array_equal(dataset.train.images, X[..., None])
            assert dataset.train.labels.tolist() == [1, 0]
