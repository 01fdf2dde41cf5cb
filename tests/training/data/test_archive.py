"""Archives: the same as the folders that are in them, and every kind of damage."""

import io
import random
import sys
import tarfile
import zipfile
import zlib

import pytest
from PIL import Image

from convax.training.data import DataError, Notes, load_folder
from convax.training.data.archive import read_archive

FILES = {"a/1.png": b"first", "a/b/2.PNG": b"second", "a/notes.txt": b"text"}
NOISE = random.Random(0).randbytes(50_000)  # that gzip cannot make smaller


def write(path, files):
    """An archive of the kind that its name says."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, content in files.items():
                packed.writestr(name, content)
        return path
    with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as packed:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.TGZ"])
def test_read_archive_lists_files_and_reads_the_wanted_ones(tmp_path, name):
    root = read_archive(write(tmp_path / name, FILES), (".png",), Notes())
    (a,) = root.iterdir()
    assert (root.name, a.name, str(a)) == (name, "a", f"{tmp_path / name}: a")
    assert sorted(place.name for place in a.iterdir()) == ["1.png", "b", "notes.txt"]
    assert (a / "1.png").read_bytes() == b"first"
    assert (a / "b" / "2.PNG").read_bytes() == b"second" and (a / "b" / "2.PNG").suffix == ".PNG"
    assert (a / "notes.txt").read_bytes() == b"", "nobody asked for it"
    assert (a.is_dir(), a.is_file()) == (True, False)
    assert ((a / "1.png").is_dir(), (a / "1.png").is_file()) == (False, True)
    assert ((a / "gone").is_dir(), (a / "gone").is_file()) == (False, False)


@pytest.mark.parametrize("ending", [".zip", ".tar"])
def test_read_archive_takes_paths_in_any_form(tmp_path, ending):
    files = {"./a/1.png": b"old", "/b/1.png": b"b", "a//1.png": b"new"}
    root = read_archive(write(tmp_path / f"x{ending}", files), (".png",), Notes())
    assert sorted(place.name for place in root.iterdir()) == ["a", "b"]
    assert (root / "a" / "1.png").read_bytes() == b"new", "the last of equal names"
    assert (root / "b" / "1.png").read_bytes() == b"b"


def test_read_archive_keeps_empty_folders_and_follows_no_links(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as packed:
        for name, kind in (
            ("empty", tarfile.DIRTYPE),
            ("link.png", tarfile.SYMTYPE),
            ("hard.png", tarfile.LNKTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            packed.addfile(member)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        packed.writestr("empty/", "")
        for name in ("link.png", "hard.png"):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o120777 << 16
            packed.writestr(entry, "/etc/passwd")
    for name in ("x.tar", "x.zip"):
        root = read_archive(tmp_path / name, (".png",), Notes())
        assert {place.name for place in root.iterdir()} == {"empty", "link.png", "hard.png"}
        assert (root / "empty").is_dir() and list((root / "empty").iterdir()) == []
        for link in (root / "link.png", root / "hard.png"):
            assert (link.is_symlink(), link.is_dir(), link.is_file()) == (True, False, False)
            assert link.read_bytes() == b""


def test_backslashes_in_a_zip_separate_folders(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        for name in ("a\\", "a\\1.png", "b\\c/2.png"):
            entry = zipfile.ZipInfo("x")
            entry.filename = name
            packed.writestr(entry, name)
    notes = Notes()
    root = read_archive(tmp_path / "x.zip", (".png",), notes)
    assert (root / "a" / "1.png").read_bytes() == b"a\\1.png"
    assert (root / "b" / "c" / "2.png").is_file()
    (line,) = notes.lines()
    assert line == "names in the archive have backslashes, which are taken to separate folders"


@pytest.mark.parametrize(
    ("raw", "name", "note"),
    [
        (
            "caf\u00e9",
            "caf\u00e9",
            "names in the archive do not say in which encoding they are, and are read as UTF-8: "
            "'caf\u00e9'",
        ),
        (
            b"caf\x82",
            "caf\u00e9",
            "names in the archive do not say in which encoding they are, and are read as code page "
            "437: 'caf\u00e9'; if they are of another, as Shift-JIS or GBK, pack it again with",
        ),
        ("\u72ac".encode("shift_jis"), "\u00ee\u00f3", "names in the archive do not say in which"),
        ("\u72d7".encode("gbk"), "\u2563\u2556", "names in the archive do not say in which"),
        # The second byte of this one is a backslash.
        ("\u8868".encode("shift_jis"), "\u00f2\\", "names in the archive do not say in which"),
    ],
)
def test_names_of_a_zip_without_the_flag_of_utf_8(tmp_path, raw, name, note):
    raw = raw if isinstance(raw, bytes) else raw.encode()
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        packed.writestr(len(raw) * "x" + "/1.png", b"content")
    content = (tmp_path / "x.zip").read_bytes().replace(len(raw) * b"x", raw)
    (tmp_path / "x.zip").write_bytes(content)
    notes = Notes()
    root = read_archive(tmp_path / "x.zip", (".png",), notes)
    assert (root / name / "1.png").read_bytes() == b"content"
    assert notes.lines()[0].startswith(note) and len(notes.lines()) == 1


def test_names_of_a_zip_that_are_guesses_stand_in_dataset_json(tmp_path):
    """The folders of the classes, each once; one of GBK alone would do as UTF-8."""
    image = io.BytesIO()
    Image.new("L", (4, 4)).save(image, "PNG")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        for name in ("xx/1.png", "xx/2.png", "yy/1.png", "plain/1.png"):
            packed.writestr(name, image.getvalue())
    content = (tmp_path / "x.zip").read_bytes()
    for plain, raw in ((b"xx", "\u72ac".encode("shift_jis")), (b"yy", "\u732b".encode("gbk"))):
        content = content.replace(plain, raw)
    (tmp_path / "x.zip").write_bytes(content)
    found = load_folder(tmp_path / "x.zip", channels=1)
    (line,) = found.notes
    assert found.classes == ("plain", "\u00ee\u00f3", "\u251c\u00bf")
    assert "code page 437: '\u00ee\u00f3', '\u251c\u00bf'; if they are of another" in line


def test_a_name_in_utf_8_beside_another_is_known(tmp_path):
    """Info-ZIP's field 0x7075, which Python reads from 3.13 on."""
    name, old = "\u72ac/1.png".encode(), "\u72ac/1.png".encode("shift_jis")
    field = b"\x01" + zlib.crc32(old).to_bytes(4, "little") + name
    entry = zipfile.ZipInfo("xx/1.png")
    entry.extra = b"\x75\x70" + len(field).to_bytes(2, "little") + field
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        packed.writestr(entry, b"content")
    content = (tmp_path / "x.zip").read_bytes().replace(b"xx/1.png", old)
    (tmp_path / "x.zip").write_bytes(content)
    notes = Notes()
    root = read_archive(tmp_path / "x.zip", (".png",), notes)
    if sys.version_info >= (3, 13):
        assert (root / "\u72ac" / "1.png").is_file() and notes.lines() == ()
    else:
        assert (root / "\u00ee\u00f3" / "1.png").is_file() and len(notes.lines()) == 1


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz"])
def test_truncated_archive_is_rejected(tmp_path, name):
    path = write(tmp_path / name, {f"a/{i}.png": NOISE[1536 * i :][:1536] for i in range(6)})
    content = path.read_bytes()
    end = len(content) - (10_240 if name == "x.tar" else 1)  # Python pads a tar file with zeros
    for length in [0, 1, 2 * 512, *range(4, end, 509), 4 * 512]:
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"^\S+: damaged archive: .*; copy or down") as caught:
            read_archive(path, (".png",), Notes())
        assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz"])
def test_archive_with_a_changed_byte_is_rejected(tmp_path, name):
    path = write(tmp_path / name, {"a/1.png": NOISE})
    content = bytearray(path.read_bytes())
    content[25_000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: damaged archive: .*(CRC|crc)"):
        read_archive(path, (".png",), Notes())


def test_tar_with_a_broken_header_is_rejected(tmp_path):
    path = write(tmp_path / "x.tar", {"a/1.png": b"first", "a/2.png": b"second"})
    content = bytearray(path.read_bytes())
    content[1024:1124] = bytes(range(100))
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged archive: cut short, or not a tar file from some"):
        read_archive(path, (".png",), Notes())


def test_zip_with_a_password_is_rejected(tmp_path):
    path = write(tmp_path / "x.zip", {"a/1.png": b"first"})
    content = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(signature) + flags] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.zip: damaged archive: .*password required"):
        read_archive(path, (".png",), Notes())


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz"])
def test_file_that_is_no_archive_is_rejected(tmp_path, name):
    (tmp_path / name).write_bytes(b"none")
    with pytest.raises(DataError, match=rf"{name}: damaged archive: .*; copy or download it again"):
        read_archive(tmp_path / name, (".png",), Notes())
