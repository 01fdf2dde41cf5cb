"""Archives made to take memory, time or the stack: refused by a line, before they are unpacked."""

import bz2
import gzip
import io
import struct
import tarfile
import tracemalloc
import zipfile

import numpy as np
import pytest

from convax.training.common import unpack_limits
from convax.training.data import DataError, Notes, load_npz
from convax.training.data.archive import read_archive
from convax.training.data.idx import read_idx
from tests.fuzz import sources


def with_sizes(content: bytes, size: int) -> bytes:
    """A .zip whose list says that each of its files has so many bytes."""
    written, place = bytearray(content), 0
    while (place := content.find(b"PK\1\2", place)) >= 0:
        written[place + 24 : place + 28] = struct.pack("<I", size)
        place += 4
    return bytes(written)


def long_name(name: str) -> bytes:
    """A tar archive of one file, whose name stands before it in a header of its own."""
    return sources.tar({name: b"x"})


def huge_header() -> bytes:
    """A tar archive with a header that says it has a gigabyte of names."""
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 2**30
    return gzip.compress(member.tobuf() + bytes(1024))


DEEP = "a/" * 40 + "1.png"
SAID = {
    "parts.zip": (sources.zipped({"a/" * 20_000 + "1.png": b"x"}), "a name of 40,005 characters"),
    "parts.tar.gz": (long_name("a/" * 100_000 + "1.png"), "a name of 200,005 characters"),
    "deep.zip": (sources.zipped({DEEP: b"x"}), "41 folders in one another"),
    "deep.tar": (sources.tar({DEEP: b"x"}, "w"), "41 folders in one another"),
    "sum.zip": (
        with_sizes(sources.zipped({f"a/{i}.png": b"x" for i in range(80)}), 2**28),
        "21,474,836,480 bytes unpacked, need 17,179,869,184 at most",
    ),
    "ratio.zip": (
        with_sizes(sources.zipped({f"a/{i}.png": b"x" for i in range(2)}), 2**28),
        "536,870,912 bytes unpacked, 2,",
    ),
}


@pytest.mark.parametrize("name", SAID)
def test_hostile_archive_is_refused_with_the_limit_and_the_remedy(tmp_path, name):
    content, said = SAID[name]
    (tmp_path / name).write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=rf"^\S+{name}: ") as caught:
            read_archive(tmp_path / name, (".png",), Notes())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert said in message and len(message) < 500
    assert "; if you trust it, set CONVAX_UNPACK_LIMITS=" in message
    assert message.endswith("; or unpack it, and name the folder")
    assert peak < 10 * 2**20


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("entries=4", "5 files and folders, or more, need 4 at most"),
        ("total=19", r"[24]0 bytes unpacked, need 19 at most"),
        ("file=9", "a/0.png has 10 bytes, need 9 at most"),
        ("depth=1", "2 folders in one another, a/0.png, need 1 at most"),
        ("name=6", "a name of 7 characters, a/0.png, need 6 at most"),
        ("total=1,size=3", "CONVAX_UNPACK_LIMITS: got 'size=3', need such as total=68719476736"),
        ("total=many", "CONVAX_UNPACK_LIMITS: got 'total=many'"),
    ],
)
@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz"])
def test_the_environment_sets_the_limits(tmp_path, monkeypatch, name, limit, said):
    files = {f"a/{i}.png": 10 * b"x" for i in range(4)} | {"a/notes.txt": 99 * b"x"}
    (tmp_path / name).write_bytes(getattr(sources, "zipped" if name == "x.zip" else "tar")(files))
    read_archive(tmp_path / name, (".png",), Notes())
    monkeypatch.setenv("CONVAX_UNPACK_LIMITS", limit)
    with pytest.raises(DataError, match=f"{name}: {said}"):
        read_archive(tmp_path / name, (".png",), Notes())


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_what_is_not_wanted_of_a_tar_is_counted_as_it_is_unpacked(tmp_path, monkeypatch, pack):
    monkeypatch.setattr(unpack_limits, "_ALWAYS_ALLOWED", 2**20)
    path = tmp_path / "x.tgz"
    path.write_bytes(pack(sources.tar({"a/1.png": b"x", "a/2.bin": bytes(2**23)}, "w")))
    with pytest.raises(
        DataError, match=r"bytes unpacked, [\d,]+ times those of the file, need 100"
    ):
        read_archive(path, (".png",), Notes())
    monkeypatch.setenv("CONVAX_UNPACK_LIMITS", "ratio=1000000")
    assert (read_archive(path, (".png",), Notes()) / "a" / "1.png").read_bytes() == b"x"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_of_every_method_is_read(tmp_path, method):
    noise = np.random.default_rng(0).bytes(20_000)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as packed:
        packed.writestr("a/1.png", noise)
    found = read_archive(tmp_path / "x.zip", (".png",), Notes())
    assert (found / "a" / "1.png").read_bytes() == noise


def test_a_zip_that_lies_about_a_size_unpacks_no_more_than_that(tmp_path):
    path = tmp_path / "x.zip"
    path.write_bytes(sources.zipped({"a/1.png": bytes(2**24)}))
    path.write_bytes(with_sizes(path.read_bytes(), 10))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="Bad CRC-32"):
            read_archive(path, (".png",), Notes())
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_a_tar_whose_header_is_a_bomb_is_refused(tmp_path):
    (tmp_path / "x.tar.gz").write_bytes(huge_header())
    with pytest.raises(DataError, match=r"damaged archive: a header of 1,073,741,824 bytes"):
        read_archive(tmp_path / "x.tar.gz", (".png",), Notes())


@pytest.mark.parametrize("kind", ["old", "pax"])
def test_a_sparse_file_in_a_tar_is_refused(tmp_path, kind):
    """Its map of holes takes many times its bytes in memory."""
    member = tarfile.TarInfo("a/1.png")
    member.size = 512
    if kind == "old":
        member.type = tarfile.GNUTYPE_SPARSE
    else:
        member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    with tarfile.open(tmp_path / "x.tar", "w") as packed:
        packed.addfile(member, io.BytesIO(b"0\n" + bytes(510)))
    with pytest.raises(DataError, match="a sparse file, which is not read: pack it without --spa"):
        read_archive(tmp_path / "x.tar", (".png",), Notes())


def test_an_archive_that_needs_more_memory_than_there_is(tmp_path, monkeypatch):
    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr("convax.training.data.archive._read_zip", no_memory)
    (tmp_path / "x.zip").write_bytes(sources.zipped({"a/1.png": b"x"}))
    with pytest.raises(DataError, match="needs more memory than there is; unpack it, and name"):
        read_archive(tmp_path / "x.zip", (".png",), Notes())


def test_an_npz_file_that_unpacks_to_far_more_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(with_sizes(sources.npz(np.random.default_rng(0), count=4), 2**31))
    with pytest.raises(DataError, match=r"x\.npz: 8,589,934,592 bytes unpacked, [\d,]+ times"):
        load_npz(path)


def test_a_gzipped_idx_file_that_unpacks_to_far_more_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unpack_limits, "_ALWAYS_ALLOWED", 2**20)
    path = tmp_path / "x.gz"
    path.write_bytes(
        gzip.compress(b"\0\0\x08\x03" + struct.pack(">III", 2**13, 32, 32) + bytes(2**23))
    )
    with pytest.raises(DataError, match=r"x\.gz: [\d,]+ bytes unpacked, [\d,]+ times"):
        read_idx(path)


def test_a_file_of_pytorch_that_unpacks_to_far_more_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from convax.training.weights.safetensors_io import WeightsError
    from convax.training.weights.torch_file import read_state_dict

    path = tmp_path / "x.pt"
    path.write_bytes(with_sizes(sources.zipped({"x/data.pkl": b"x", "x/data/0": b"x"}), 2**31))
    with pytest.raises(WeightsError, match=r"x\.pt: 4,294,967,296 bytes unpacked, [\d,]+ times"):
        read_state_dict(path)
    monkeypatch.setenv("CONVAX_UNPACK_LIMITS", "entries=1")
    with pytest.raises(WeightsError, match=r"x\.pt: 2 files and folders, or more, need 1 at most"):
        read_state_dict(path)


def test_deeply_chained_headers_of_a_tar_end_in_a_line(tmp_path):
    """Each pax header is read by a call within that of the one before it."""
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 0
    (tmp_path / "x.tar").write_bytes(member.tobuf() * 5000 + bytes(1024))
    with pytest.raises(DataError, match="damaged archive: headers in one another"):
        read_archive(tmp_path / "x.tar", (".png",), Notes())
