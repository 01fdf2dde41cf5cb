"""The error of this package."""

from ..common.errors import ConvaxError


class DataError(ConvaxError, ValueError):
    """The data cannot be used: names the file or the key, what is wrong, and the remedy.

    The message is written for the person who gave the data; the command line prints it as it is.
    """


class UnreadableError(DataError):
    """The bytes of a file are no whole image: another format, damaged, cut short, or too large.

    A file that the system does not let read is none of these: its image may be there tomorrow.

    Args:
        file: its path.
        kind: what it should be: "an image".
        reason: in a few words.
    """

    def __init__(self, file: str, kind: str, reason: str):
        super().__init__(file, kind, reason)  # by which it is pickled
        self.file, self.kind, self.reason = file, kind, reason

    def __str__(self) -> str:
        return f"{self.file}: cannot be read as {self.kind}: {self.reason}"
