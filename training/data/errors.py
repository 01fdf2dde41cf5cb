"""The error of this package."""

from ..common.errors import ConvaxError


class DataError(ConvaxError, ValueError):
    """The data cannot be used: names the file or the key, what is wrong, and the remedy.

    The message is written for the person who gave the data; the command line prints it as it is.
    """
