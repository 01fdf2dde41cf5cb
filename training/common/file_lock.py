"""A lock on an open file: one process at a time.

`flock` belongs to an open file, so the kernel lets go of it however the process ends, by SIGKILL
too, and it holds among processes that cannot see each other, as those of two containers.
"""

import errno
import fcntl

# What systems say where there are none: of NFS, FUSE, Lustre, CIFS, 9p.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


class NoLocksError(OSError):
    """The file system has no locks; `strerror` is how it says so."""


def try_lock(descriptor: int) -> bool:
    """Take the lock of an open file, until it is closed, unless somebody else has it.

    Returns:
        Whether it was taken.

    Raises:
        NoLocksError: the file system has none.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise NoLocksError(error.errno, error.strerror) from None
    return True
