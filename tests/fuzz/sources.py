"""Good files of every kind that convax reads, small, to be damaged."""

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import safetensors.numpy
from PIL import Image

CIFAR_NAMES = [f"class{i}" for i in range(10)]


def idx(array: np.ndarray) -> bytes:
    """An IDX file of bytes."""
    lengths = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + lengths + array.astype(np.uint8).tobytes()


def mnist(rng: np.random.Generator, *, count: int, zipped: bool = False) -> dict[str, bytes]:
    """The four files of MNIST, with noise in them."""
    files = {}
    for part in ("train", "t10k"):
        files[f"{part}-images-idx3-ubyte"] = idx(rng.integers(0, 256, (count, 28, 28)))
        files[f"{part}-labels-idx1-ubyte"] = idx(np.arange(count) % 10)
    if not zipped:
        return files
    return {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in files.items()}


def cifar(rng: np.random.Generator, *, count: int) -> dict[str, bytes]:
    """The files of CIFAR-10's binary version."""

    def batch() -> bytes:
        records = rng.integers(0, 256, (count, 3073), np.uint8)
        records[:, 0] = np.arange(count) % 10
        return records.tobytes()

    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    return {name: batch() for name in names} | {"batches.meta.txt": "\n".join(CIFAR_NAMES).encode()}


def picture(array: np.ndarray, kind: str = "PNG", mode: str | None = None) -> bytes:
    """A picture file."""
    image, file = Image.fromarray(array), io.BytesIO()
    (image if mode is None else image.convert(mode)).save(file, kind)
    return file.getvalue()


def classes(
    rng: np.random.Generator, *, size: int, count: int, names: list[str]
) -> dict[str, bytes]:
    """Pictures in train/CLASS and test/CLASS."""
    return {
        f"{part}/{name}/{i}.jpg": picture(rng.integers(0, 256, (size, size, 3), np.uint8), "JPEG")
        for part, many in (("train", count), ("test", 1))
        for name in names
        for i in range(many)
    }


def npz(rng: np.random.Generator, *, count: int, keras: bool = True) -> bytes:
    """An .npz file, compressed or not, with either set of names."""
    images = rng.integers(0, 256, (count, 6, 6), np.uint8)
    labels = (np.arange(count) % 2).astype(np.int64)
    file = io.BytesIO()
    if keras:
        np.savez_compressed(file, x_train=images, y_train=labels, x_test=images, y_test=labels)
    else:
        np.savez(file, images=images, labels=labels, classes=["cat", "dog"])
    return file.getvalue()


def weights(rng: np.random.Generator) -> bytes:
    """A safetensors file."""
    shapes = {"conv/kernel": (3, 3, 1, 4), "conv/bias": (4,), "dense/kernel": (16, 3)}
    return safetensors.numpy.save(
        {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    )


def masks(rng: np.random.Generator, *, size: int, count: int) -> dict[str, bytes]:
    """Photographs with masks, in the manner of Penn-Fudan."""
    files = {}
    for i in range(count):
        files[f"PNGImages/{i}.png"] = picture(rng.integers(0, 256, (size, size, 3), np.uint8))
        files[f"PedMasks/{i}_mask.png"] = picture(rng.integers(0, 3, (size, size)).astype(np.uint8))
    return files


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """Put files into a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def tar(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    """The files in a tar archive."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as packed:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return file.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    """The files in a zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return file.getvalue()
