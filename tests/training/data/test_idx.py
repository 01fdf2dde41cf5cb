"""IDX files: exact when whole, refused when not."""

import gzip
import re
import struct

import numpy as np
import pytest

from convax.training.data import DataError, load_idx, read_idx

CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}
PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


def idx(array):
    """An array as the bytes of an IDX file."""
    array = np.asarray(array)
    code = CODES[array.dtype.str[1:]]
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gz"])
@pytest.mark.parametrize("dtype", CODES)
def test_read_idx_reads_every_dtype(tmp_path, dtype, pack):
    array = np.array([[1, 2, 3], [100, 50, 0]], dtype)
    found = read_idx(write(tmp_path / "a", pack(idx(array))))
    assert found.dtype == array.dtype and found.dtype.isnative
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("shape", [(0,), (5,), (2, 0, 3), (1, 2, 3, 4)])
def test_read_idx_reads_every_rank(tmp_path, shape):
    found = read_idx(write(tmp_path / "a", idx(np.zeros(shape, np.uint8))))
    assert found.shape == shape


def test_read_idx_reads_a_header_written_by_hand(tmp_path):
    content = bytes([0, 0, 0x0B, 1]) + bytes([0, 0, 0, 2]) + bytes([0x01, 0x02, 0xFF, 0xFF])
    np.testing.assert_array_equal(read_idx(write(tmp_path / "a", content)), [0x0102, -1])


WHOLE = idx(PIXELS)
PACKED = gzip.compress(WHOLE, mtime=0)


@pytest.mark.parametrize("length", range(len(WHOLE)))
def test_every_truncation_is_found(tmp_path, length):
    path = write(tmp_path / "cut", WHOLE[:length])
    with pytest.raises(DataError, match=r"cut: (not an IDX file|cut short).*; (give|copy)"):
        read_idx(path)


@pytest.mark.parametrize("length", range(len(PACKED)))
def test_every_truncation_of_a_gz_is_found(tmp_path, length):
    path = write(tmp_path / "cut.gz", PACKED[:length])
    with pytest.raises(DataError, match=r"cut\.gz: (not an IDX file|damaged gzip file|cut short)"):
        read_idx(path)


def test_every_flipped_bit_of_a_gz_is_found_or_harmless(tmp_path):
    refused = 0
    for i in range(len(PACKED)):
        for bit in range(8):
            flipped = bytearray(PACKED)
            flipped[i] ^= 1 << bit
            path = write(tmp_path / "flipped.gz", flipped)
            try:  # a bit of the time stamp, say, does no harm
                np.testing.assert_array_equal(read_idx(path), PIXELS)
            except DataError as error:
                assert str(error).startswith(str(path)) and "\n" not in str(error)
                refused += 1
    assert refused > 6 * len(PACKED)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"not an IDX file: it starts with the bytes \(none\)"),
        (b"\x89PNG\r\n", r"not an IDX file: it starts with the bytes 89 50 4e 47, need 00 00"),
        (b"\0\0\x0a\1" + b"\0" * 9, r"not an IDX file.*00 00 0a 01"),
        (b"\0\0\x08\0" + b"\0" * 9, r"not an IDX file.*00 00 08 00"),
        (b"\0\0\x08\2" + b"\0" * 5, r"cut short inside its header"),
        (WHOLE[:-1], r"cut short: its header says 2 x 3 x 4 numbers, 24 bytes, but 23 follow"),
        (WHOLE + b"\0", r"too long: its header says 2 x 3 x 4 numbers, 24 bytes, but more"),
        (gzip.compress(WHOLE + b"\0", mtime=0), r"too long"),
        (PACKED + b"junk", r"damaged gzip file: Not a gzipped file"),
        (PACKED[:-8] + b"\0" * 8, r"damaged gzip file: CRC check failed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_read_idx_rejects_broken_files(tmp_path, content, message):
    path = write(tmp_path / "a", content)
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}: {message}"):
        read_idx(path)


def test_read_idx_allocates_nothing_for_a_lying_header(tmp_path):
    huge = struct.pack(">BBBB3I", 0, 0, 8, 3, *[2**32 - 1] * 3)  # 79 octillion bytes
    for content in (huge + b"\1", gzip.compress(huge)):
        with pytest.raises(DataError, match="cut short"):
            read_idx(write(tmp_path / "a", content))


def test_read_idx_names_a_file_it_cannot_open(tmp_path):
    with pytest.raises(DataError, match=r"nothing: cannot be read: No such file"):
        read_idx(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"cannot be read: Is a directory"):
        read_idx(tmp_path)


# load_idx


def four_files(folder, *, ending="", dot=False, **replaced):
    """A tiny dataset of MNIST's layout."""
    arrays = {
        "train-images": PIXELS,
        "train-labels": np.array([2, 0], np.uint8),
        "t10k-images": PIXELS[:1],
        "t10k-labels": np.array([1], np.uint8),
    } | {key.replace("_", "-"): value for key, value in replaced.items()}
    for stem, array in arrays.items():
        kind = "idx3-ubyte" if stem.endswith("images") else "idx1-ubyte"
        content = gzip.compress(idx(array)) if ending else idx(array)
        write(folder / f"{stem}{'.' if dot else '-'}{kind}{ending}", content)
    return folder


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("dot", [False, True])
def test_load_idx_reads_four_files(tmp_path, ending, dot):
    dataset = load_idx(four_files(tmp_path, ending=ending, dot=dot))
    np.testing.assert_array_equal(dataset.train.images, PIXELS[..., None])
    np.testing.assert_array_equal(dataset.test.images, PIXELS[:1, ..., None])
    assert dataset.train.labels.tolist() == [2, 0] and dataset.test.labels.tolist() == [1]
    assert dataset.train.labels.dtype == np.int32
    assert dataset.validation.images.shape == (0, 3, 4, 1)
    assert dataset.classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        (
            {"train_labels": np.array([1], np.uint8)},
            r"train-images\S* has 2 images but train-labels\S* 1",
        ),
        (
            {"t10k_labels": np.array([1, 2], np.uint8)},
            r"t10k-images\S* has 1 images but t10k-labels\S* 2",
        ),
        ({"t10k_labels": np.array([3], np.uint8)}, r"test part has label 3, .* none above 2"),
        ({"t10k_images": PIXELS[:1, :2]}, r"images are 3 x 4 but test images 2 x 4"),
        ({"train_images": PIXELS[0]}, r"train-images\S*: holds uint8 of shape \(3, 4\), need"),
        (
            {"train_labels": np.array([2, 0], np.int32)},
            r"train-labels\S*: holds int32 of shape \(2,\)",
        ),
        (
            {"train_images": PIXELS[:0], "train_labels": np.array([], np.uint8)},
            r"shape \(0, 3, 4\)",
        ),
    ],
)
def test_load_idx_rejects_files_that_do_not_fit(tmp_path, replaced, message):
    with pytest.raises(DataError, match=message):
        load_idx(four_files(tmp_path, **replaced))


@pytest.mark.parametrize(
    "name", ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"]
)
def test_a_missing_file_is_named_with_the_remedy(tmp_path, name):
    (four_files(tmp_path) / f"{name}-ubyte").unlink()
    with pytest.raises(DataError, match=rf"no {name}-ubyte here.*`convax fetch mnist`"):
        load_idx(tmp_path)


def test_a_file_in_place_of_the_folder(tmp_path):
    with pytest.raises(DataError, match=r"a: a file; data\.path should be the folder"):
        load_idx(write(tmp_path / "a", WHOLE))
    with pytest.raises(DataError, match=r"b: not there; data\.path should be the folder"):
        load_idx(tmp_path / "b")


def test_load_idx_reads_mnist(data_dir):
    if not (data_dir / "mnist").is_dir():
        pytest.skip("no mnist in CONVAX_DATA")
    dataset = load_idx(data_dir / "mnist")
    assert dataset.train.images.shape == (60_000, 28, 28, 1)
    assert dataset.test.images.shape == (10_000, 28, 28, 1)
    assert dataset.classes == tuple("0123456789")
    # The class counts as published with the dataset.
    assert np.bincount(dataset.train.labels).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    assert dataset.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
