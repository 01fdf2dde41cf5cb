"""CIFAR's binary files: unpacked or not, and every way to get them wrong."""

import shutil

import numpy as np
import pytest

from convax.training.data import DataError, load, load_cifar

NAMES = [f"kind{i}" for i in range(10)]


def record(label, image, coarse=None):
    """One record, by hand."""
    first = [label] if coarse is None else [coarse, label]
    planes = [image[..., channel].tobytes() for channel in range(3)]
    return bytes(first) + b"".join(planes)


def write_cifar10(folder, rng):
    """Two images in each file; returns them all, in order."""
    folder.mkdir(parents=True, exist_ok=True)
    images = rng.integers(0, 256, (12, 32, 32, 3)).astype(np.uint8)
    files = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    for i, name in enumerate(files):
        both = (record((2 * i + j) % 10, images[2 * i + j]) for j in range(2))
        (folder / name).write_bytes(b"".join(both))
    (folder / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    return images


def unpacked(folder, rng):
    return folder, write_cifar10(folder, rng)


def above(folder, rng):
    return folder, write_cifar10(folder / "cifar-10-batches-bin", rng)


def packed(folder, rng):
    images = write_cifar10(folder / "made" / "cifar-10-batches-bin", rng)
    made = shutil.make_archive(str(folder / "cifar-10-binary"), "gztar", folder / "made")
    shutil.rmtree(folder / "made")
    return made, images


def fetched(folder, rng):
    return folder, packed(folder, rng)[1]


@pytest.mark.parametrize("lay_out", [unpacked, above, packed, fetched])
def test_load_cifar_reads_cifar10(tmp_path, rng, lay_out):
    path, images = lay_out(tmp_path, rng)
    dataset = load_cifar(path)
    np.testing.assert_array_equal(dataset.train.images, images[:10])
    np.testing.assert_array_equal(dataset.test.images, images[10:])
    assert dataset.train.labels.tolist() == list(range(10))
    assert dataset.test.labels.tolist() == [0, 1]
    assert dataset.classes == tuple(NAMES) and len(dataset.validation.labels) == 0
    assert dataset.train.images.dtype == np.uint8 and dataset.train.labels.dtype == np.int32


def test_load_cifar_puts_a_pixel_in_its_place(tmp_path, rng):
    """Red, green and blue of row 1, column 2 are bytes 1 + 34, 1 + 1024 + 34, 1 + 2048 + 34."""
    write_cifar10(tmp_path, rng)
    content = bytearray(3073)
    content[35], content[1059], content[2083] = 7, 8, 9
    (tmp_path / "test_batch.bin").write_bytes(content)
    image = load_cifar(tmp_path).test.images[0]
    assert image[1, 2].tolist() == [7, 8, 9] and image.sum() == 7 + 8 + 9


def test_load_cifar_reads_cifar100(tmp_path, rng):
    images = rng.integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    write = lambda name, *records: (tmp_path / name).write_bytes(b"".join(records))  # noqa: E731
    write("train.bin", record(99, images[0], coarse=1), record(0, images[1], coarse=2))
    write("test.bin", record(40, images[2], coarse=19))
    (tmp_path / "fine_label_names.txt").write_text("".join(f"fine{i}\n" for i in range(100)))
    dataset = load_cifar(tmp_path)
    np.testing.assert_array_equal(dataset.train.images, images[:2])
    assert (dataset.train.labels.tolist(), dataset.test.labels.tolist()) == ([99, 0], [40])
    assert dataset.classes[99] == "fine99"


def test_load_reads_cifar_by_its_source_name(tmp_path, rng, monkeypatch):
    monkeypatch.setenv("CONVAX_DATA", str(tmp_path))
    fetched(tmp_path / "cifar10", rng)
    dataset = load("cifar", path="cifar10", validation=3, seed=0)
    assert [len(part.labels) for part in dataset[:3]] == [7, 3, 2]


def spoil(name, content):
    return lambda folder: (folder / name).write_bytes(content)


WRONG = {
    "missing": (
        lambda folder: (folder / "data_batch_3.bin").unlink(),
        r": no data_batch_3\.bin here; put CIFAR's binary version there, or get CIFAR-10 with",
    ),
    "no names": (
        lambda folder: (folder / "batches.meta.txt").unlink(),
        r": no batches\.meta\.txt here; put CIFAR's",
    ),
    "few names": (
        spoil("batches.meta.txt", b"cat\ncat\ndog\n"),
        r"meta\.txt: has 2 different names, need 10, one a line; copy or download it again",
    ),
    "cut": (
        spoil("data_batch_2.bin", bytes(3072)),
        r"data_batch_2\.bin: 3072 bytes, need a multiple of 3073, the length of a record of CIFAR",
    ),
    "empty": (spoil("test_batch.bin", b""), r"test_batch\.bin: 0 bytes, need a multiple of 3073"),
    "label": (
        spoil("data_batch_5.bin", bytes(3073) + b"\x0a" + bytes(3072)),
        r"data_batch_5\.bin: label 10 in record 1 \(from 0\), need 0 to 9; copy or",
    ),
}


@pytest.mark.parametrize(("wrong", "message"), WRONG.values(), ids=WRONG)
def test_load_cifar_rejects_damaged_files(tmp_path, rng, wrong, message):
    write_cifar10(tmp_path, rng)
    wrong(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        load_cifar(tmp_path)
    assert str(caught.value).startswith(str(tmp_path)) and "\n" not in str(caught.value)


def test_load_cifar_names_a_file_it_cannot_read(tmp_path, rng, monkeypatch):
    write_cifar10(tmp_path, rng)

    def refuse(path):
        raise OSError(5, "Input/output error")

    names = (tmp_path / "batches.meta.txt").read_bytes()
    monkeypatch.setattr(
        "pathlib.Path.read_bytes", lambda path: names if path.suffix == ".txt" else refuse(path)
    )
    with pytest.raises(DataError, match=r"data_batch_1\.bin: cannot be read: Input/output error"):
        load_cifar(tmp_path)


def test_load_cifar_rejects_a_path_that_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file: a file; data\.path should be the folder of CIFAR"):
        load_cifar(tmp_path / "file")
    with pytest.raises(DataError, match=r"gone: not there; data\.path should be the folder of CIF"):
        load_cifar(tmp_path / "gone")


def test_load_cifar_rejects_an_archive_of_something_else(tmp_path):
    (tmp_path / "made").mkdir()
    made = shutil.make_archive(str(tmp_path / "other"), "gztar", tmp_path / "made")
    with pytest.raises(DataError, match=r"other\.tar\.gz: no batches\.meta\.txt here; put CIFAR"):
        load_cifar(made)
