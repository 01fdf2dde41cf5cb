"""Folders that are packed in one file: read in one pass, and never unpacked to disk."""

import bz2
import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import compress
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from ..common.text import plain_line
from ..common.unpack_limits import UnpackBudget, UnpackError
from .errors import DataError
from .labels import named
from .notes import Notes

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")

_UTF8 = 0x800  # the flag of a file in a .zip whose name is UTF-8
_BLOCK = 512  # bytes; a tar file is made of them, and ends with some that are zero
_LONGEST_HEADER = 2**20  # bytes of what stands before a file in a tar, such as a long name
_COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
# zipfile unpacks these two by size; of others all that the bytes read at a time hold.
_BY_SIZE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ERRORS = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(EOFError, OSError, RuntimeError, ValueError),  # RuntimeError: a zip file with a password
)


class Packed:
    """A file or folder in an archive: what `pathlib.Path` can do, as far as it is needed here."""

    __slots__ = ("_children", "_content", "_link", "_path")  # there may be millions

    def __init__(self, name: str, inside: "tuple[Any, str] | None" = None):
        self._path = inside, name  # that of the folder, which is made likewise; and the own name
        self._children: dict[str, Packed] = {}
        self._content: bytes | None = None
        self._link = False

    @property
    def name(self) -> str:
        """Return the last part of the path; of the root, the archive's."""
        return PurePosixPath(self._path[1]).name

    @property
    def suffix(self) -> str:
        """Return the ending of the name, with its dot."""
        return PurePosixPath(self._path[1]).suffix

    def is_dir(self) -> bool:
        """Return whether it is a folder."""
        return self._content is None and not self._link

    def is_file(self) -> bool:
        """Return whether it is a file."""
        return self._content is not None

    def is_symlink(self) -> bool:
        """Return whether it is a link, which is not followed: neither a file nor a folder."""
        return self._link

    def iterdir(self) -> Iterator["Packed"]:
        """Iterate over the entries of the folder, in no order of names."""
        return iter(self._children.values())

    def read_bytes(self) -> bytes:
        """Return the content; nothing of a file whose ending was not asked for."""
        return self._content or b""

    def __truediv__(self, name: str) -> "Packed":
        return self._children.get(name) or _Missing(name, self._path)

    def __str__(self) -> str:
        parts, (folder, name) = [], self._path
        while folder is not None:
            parts.append(name)
            folder, name = folder
        inside = f": {plain_line('/'.join(reversed(parts)), 200)}" if parts else ""
        return f"{name}{inside}"

    def put(
        self, parts: Sequence[str], content: bytes | None, budget: UnpackBudget, *, link: bool
    ) -> None:
        """Add a file, a folder where there is no content, or a link; the last of a name counts."""
        node = self
        for name in parts:
            node._content, node._link = None, False
            if name not in node._children:
                budget.add_entry()
                node._children[name] = Packed(name, node._path)
            node = node._children[name]
        if not node._children:
            node._content, node._link = content, link


class _Missing(Packed):
    """What is not in the archive: neither a file nor a folder."""

    __slots__ = ()

    def is_dir(self) -> bool:
        """Return False."""
        return False


Place: TypeAlias = Path | Packed


def source_of(file: Place) -> Path | bytes:
    """Return a file as its path, or as its content where it is in an archive."""
    return file if isinstance(file, Path) else file.read_bytes()


def is_archive(path: Path) -> bool:
    """Return whether it is a file with the name of an archive."""
    return path.name.lower().endswith(ARCHIVES) and path.is_file()


def read_archive(path: Path, endings: tuple[str, ...], notes: Notes) -> Packed:
    """Read an archive, .zip, .tar, .tar.gz or .tgz, and return its root folder.

    Every file is listed, and those that end in one of `endings`, in either case, are read. Links
    are listed as such. A backslash in a name in a .zip, which some programs of Windows write,
    separates folders.

    Args:
        path: the archive.
        endings: with their dots, in lower case.
        notes: where it is said that backslashes were taken for separators, and which names are
            guesses.

    Raises:
        DataError: it is no archive, damaged, cut short or encrypted; or passes a limit of
            `UnpackLimits`.
    """
    root = Packed(str(path))
    try:
        budget = UnpackBudget(path)
        with path.open("rb") as file:
            if path.name.lower().endswith(".zip"):
                _read_zip(file, root, endings, notes, budget)
            else:
                _read_tar(file, root, endings, budget)
    except UnpackError as error:
        raise DataError(f"{path}: {error}; or unpack it, and name the folder") from None
    except MemoryError:
        raise DataError(
            f"{path}: needs more memory than there is; unpack it, and name the folder"
        ) from None
    except _ERRORS as error:
        what = f"damaged archive: {_reason(error)}"
        raise DataError(f"{path}: {what}; copy or download it again") from None
    return root


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "headers in one another"
    return plain_line(str(error).partition("\n")[0].rstrip(":"), 300) or type(error).__name__


def _read_zip(
    file: Any, root: Packed, endings: tuple[str, ...], notes: Notes, budget: UnpackBudget
) -> None:
    with zipfile.ZipFile(file) as packed:
        entries = packed.infolist()
        budget.check_entries(len(entries))
        for entry in entries:
            budget.check_name(entry.filename)
        check_names(packed)
        names = _names(entries, notes)
        links = [stat.S_ISLNK(entry.external_attr >> 16) for entry in entries]
        wanted = [
            name.lower().endswith(endings) and not link
            for name, link in zip(names, links, strict=True)
        ]
        sizes = ((name, entry.file_size) for name, entry in zip(names, entries, strict=True))
        budget.add_files(compress(sizes, wanted))
        for name, entry, link, chosen in zip(names, entries, links, wanted, strict=True):
            content = read_entry(packed, entry) if chosen else b""
            folder = name.endswith("/")
            root.put(_inside(name, budget), None if folder or link else content, budget, link=link)


def read_entry(packed: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """Return the content of a file in a .zip; never more is unpacked than its list says."""
    with packed.open(entry) as file:
        if entry.compress_type in _BY_SIZE:
            return file.read(max(1, entry.file_size))
        return b"".join(iter(lambda: file.read(4096), b""))


def _names(entries: Sequence[zipfile.ZipInfo], notes: Notes) -> list[str]:
    """Return the names of the files in a .zip, with slashes between folders.

    Names without the flag for UTF-8 are of code page 437, says the format. macOS writes UTF-8 all
    the same, and other programs the encoding of their country, in which a backslash may be the
    second half of a character. Hardly an archive of another encoding is UTF-8 in all its names.
    """
    names = [entry.filename for entry in entries]
    said = [_says_its_encoding(entry) for entry in entries]
    separating = [True for _ in names]
    try:
        names = [n if s else n.encode("cp437").decode() for n, s in zip(names, said, strict=True)]
        guess, remedy = "UTF-8", ""
    except UnicodeError:
        guess = "code page 437"
        remedy = "; if they are of another, as Shift-JIS or GBK, pack it again with names in UTF-8"
        separating = [s or "/" not in n for n, s in zip(names, said, strict=True)]
    if not all(said):
        guessed = (name for name, s in zip(names, said, strict=True) if not s)
        shown = list(dict.fromkeys(part for name in guessed for part in _telling(name)))
        notes.add(
            "names in the archive do not say in which encoding they are, and are read as "
            f"{guess}: {named(shown, range(len(shown)))}{remedy}"
        )
    plain = [n.replace("\\", "/") if s else n for n, s in zip(names, separating, strict=True)]
    if plain != names:
        notes.add("names in the archive have backslashes, which are taken to separate folders")
    return plain


def _says_its_encoding(entry: zipfile.ZipInfo) -> bool:
    """Return whether a name is ASCII or known: by a flag, or by another in UTF-8 beside it."""
    known = entry.flag_bits & _UTF8 or entry.filename != entry.orig_filename
    return bool(known) or entry.filename.isascii()


def _telling(name: str) -> list[str]:
    """Return the folders in a name that are not ASCII, or else the file."""
    *folders, last = PurePosixPath(name).parts
    return [folder for folder in folders if not folder.isascii()] or [last]


def check_names(packed: zipfile.ZipFile) -> None:
    """Raise `zipfile.BadZipFile` where a file has another name than the archive's list gives it.

    What is read is checked anyhow; this is for files that a damaged name makes look unwanted.
    """
    for entry in packed.infolist():
        packed.open(entry).close()


def _read_tar(file: Any, root: Packed, endings: tuple[str, ...], budget: UnpackBudget) -> None:
    with ExitStack() as stack:
        head = file.read(8)
        file.seek(0)
        for magic, open_ in _COMPRESSED.items():
            if head.startswith(magic):
                file = _Unpacked(stack.enter_context(open_(file, "rb")), budget)
        packed = stack.enter_context(tarfile.open(fileobj=file, mode="r:", tarinfo=_Member))
        for member in packed:
            packed.members.clear()  # type: ignore[attr-defined] -- which would hold them all
            parts = _inside(member.name, budget)
            if member.isdir():
                root.put(parts, None, budget, link=False)
            elif member.isfile():
                wanted = member.name.lower().endswith(endings)
                if wanted:
                    budget.add_file(member.name, member.size)
                unpacked = packed.extractfile(member) if wanted else None
                root.put(parts, unpacked.read() if unpacked else b"", budget, link=False)
            elif member.islnk() or member.issym():
                root.put(parts, None, budget, link=True)
        # `tarfile` takes anything that is not a header for the end; the checksum of gzip is
        # looked at only by whoever reads on to the last byte.
        file.seek(packed.offset)
        if file.read(_BLOCK) != bytes(_BLOCK):
            raise tarfile.ReadError("cut short, or not a tar file from some point on")
        while file.read(1 << 20):
            pass


class _Member(tarfile.TarInfo):
    """An entry of a tar file whose header cannot be a bomb itself."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Member":
        """Return the entry of a header; raise where more than a long name follows it."""
        member = super().frombuf(buf, encoding, errors)
        heads = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
        heads += (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
        if member.type in heads and member.size > _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {member.size:,} bytes")
        if member.type == tarfile.GNUTYPE_SPARSE:
            cls._proc_gnusparse_10()
        return member

    @staticmethod
    def _proc_gnusparse_10(*_: Any) -> None:
        """Refuse a map of holes, which takes many times its bytes: `tarfile` calls it of pax."""
        raise tarfile.ReadError("a sparse file, which is not read: pack it without --sparse")


class _Unpacked:
    """A compressed file as it is unpacked, of which all that is read is counted."""

    def __init__(self, file: Any, budget: UnpackBudget):
        self._file, self._budget = file, budget
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        """Read so many bytes, or to the end."""
        content = self._file.read(size)
        self._budget.check_ratio(self._file.tell())
        return content

    def seek(self, place: int) -> None:
        """Go to a place, or to the end: forwards by reading, as the file itself would."""
        if place < self.tell():
            self._file.seek(place)
        while (ahead := place - self.tell()) and self.read(min(ahead, 1 << 20)):
            pass


def _inside(name: str, budget: UnpackBudget) -> list[str]:
    """Return the parts of a member's path from the root of the archive, however it is written."""
    budget.check_name(name)
    parts = [part for part in PurePosixPath(name).parts if part != "/"]
    budget.check_name(name, len(parts))
    return parts
