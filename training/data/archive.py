"""Folders that are packed in one file: read in one pass, and never unpacked to disk."""

import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from ..common.text import plain_line
from .errors import DataError
from .labels import named
from .notes import Notes

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")

_LARGEST = 2**28  # bytes of one file; an image of more has too many pixels, too
_UTF8 = 0x800  # the flag of a file in a .zip whose name is UTF-8
_BLOCK = 512  # bytes; a tar file is made of them, and ends with some that are zero
_ERRORS = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(EOFError, OSError, RuntimeError, ValueError),  # RuntimeError: a zip file with a password
)


class Packed:
    """A file or folder in an archive: what `pathlib.Path` can do, as far as it is needed here."""

    def __init__(self, archive: Path, inside: PurePosixPath):
        self._archive, self._inside = archive, inside
        self._children: dict[str, Packed] = {}
        self._content: bytes | None = None
        self._link = False

    @property
    def name(self) -> str:
        """Return the last part of the path; of the root, the archive's."""
        return self._inside.name or self._archive.name

    @property
    def suffix(self) -> str:
        """Return the ending of the name, with its dot."""
        return self._inside.suffix

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
        return self._children.get(name) or _Missing(self._archive, self._inside / name)

    def __str__(self) -> str:
        inside = f": {plain_line(str(self._inside), 200)}" if self._inside.parts else ""
        return f"{self._archive}{inside}"

    def put(self, inside: PurePosixPath, content: bytes | None, *, link: bool = False) -> None:
        """Add a file, a folder where there is no content, or a link; the last of a name counts."""
        node = self
        for name in inside.parts:
            node._content, node._link = None, False
            node = node._children.setdefault(name, Packed(self._archive, node._inside / name))
        if not node._children:
            node._content, node._link = content, link


class _Missing(Packed):
    """What is not in the archive: neither a file nor a folder."""

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
        DataError: it is no archive, damaged, cut short or encrypted.
    """
    root = Packed(path, PurePosixPath())
    try:
        with path.open("rb") as file:
            if path.name.lower().endswith(".zip"):
                _read_zip(file, root, endings, notes)
            else:
                _read_tar(file, root, endings)
    except _ERRORS as error:
        reason = plain_line(str(error).partition("\n")[0].rstrip(":"), 300) or type(error).__name__
        raise DataError(f"{path}: damaged archive: {reason}; copy or download it again") from None
    return root


def _read_zip(file, root: Packed, endings: tuple[str, ...], notes: Notes) -> None:
    with zipfile.ZipFile(file) as packed:
        check_names(packed)
        entries = packed.infolist()
        for name, entry in zip(_names(entries, notes), entries, strict=True):
            link = stat.S_ISLNK(entry.external_attr >> 16)
            folder = name.endswith("/")
            wanted = name.lower().endswith(endings) and not link
            if wanted:
                _check_size(name, entry.file_size)
            content = packed.read(entry) if wanted else b""
            root.put(_inside(name), None if folder or link else content, link=link)


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


def _read_tar(file, root: Packed, endings: tuple[str, ...]) -> None:
    with tarfile.open(fileobj=file) as packed:
        for member in packed:
            if member.isdir():
                root.put(_inside(member.name), None)
            elif member.isfile():
                wanted = member.name.lower().endswith(endings)
                if wanted:
                    _check_size(member.name, member.size)
                unpacked = packed.extractfile(member) if wanted else None
                root.put(_inside(member.name), unpacked.read() if unpacked else b"")
            elif member.islnk() or member.issym():
                root.put(_inside(member.name), None, link=True)
        # `tarfile` takes anything that is not a header for the end; the checksum of gzip is
        # looked at only by whoever reads on to the last byte.
        stream = packed.fileobj
        assert stream is not None
        stream.seek(packed.offset)
        if stream.read(_BLOCK) != bytes(_BLOCK):
            raise tarfile.ReadError("cut short, or not a tar file from some point on")
        while stream.read(1 << 20):
            pass


def _check_size(name: str, size: int) -> None:
    if size > _LARGEST:
        raise ValueError(f"{plain_line(name, 200)} has {size:,} bytes, need {_LARGEST:,} at most")


def _inside(name: str) -> PurePosixPath:
    """Return a member's path from the root of the archive, however it is written."""
    return PurePosixPath(*(part for part in PurePosixPath(name).parts if part != "/"))
