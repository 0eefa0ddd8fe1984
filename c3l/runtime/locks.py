"""Locks between processes: files that one process at a time holds; a kill frees them."""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from c3l.runtime.errors import UserError, printable, write_error

# What a file system answers that has no locks (some network disks, some FUSE mounts).
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)


class Lock(FileLock):
    """filelock's lock, as a class of its own: lmms-eval has filelock's hand out one lock a path to
    a whole process, which may then take it twice."""


@contextmanager
def locked(path: Path, timeout: float = -1) -> Iterator[None]:
    """Hold the lock of a file, which the system takes from a process that dies.

    Raises filelock's Timeout where another process holds it for longer than `timeout` seconds (−1:
    never), and UserError on a file system without locks.
    """
    lock = Lock(path, timeout=timeout)
    try:
        lock.acquire()
    except Timeout:
        raise
    except (OSError, NotImplementedError) as error:  # the latter is older filelock's ENOSYS
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise
        reason = os.strerror(getattr(error, "errno", None) or errno.ENOSYS)
        raise UserError(
            f"{printable(str(path.absolute().parent))} lies on a file system without locks "
            f"({reason}); give one on a local disk"
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def exclusive_output(out: Path) -> Iterator[None]:
    """Be the only process that makes `out`, by a lock file beside it that is gone afterwards.

    Raises UserError where another process is at work on it, and where no lock can be had.
    """
    if not out.name:
        raise UserError(f"{printable(str(out))} is no place for a result; give a new folder")
    path = out.absolute().with_name(f".{out.name}.lock")
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(path, timeout=0))
        except Timeout as error:
            raise UserError(
                f"another run is at work on {printable(str(out))}; wait for it, or stop it"
            ) from error
        except OSError as error:
            raise write_error(out, error) from error
        # While it is held: who has opened the file meanwhile sees that it has no name any more.
        stack.callback(path.unlink, missing_ok=True)
        yield
