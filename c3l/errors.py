"""The errors a user is meant to read."""

import errno
import os

# What a disk says that is full, read-only, not ours or broken.
CANNOT_WRITE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EIO,
    errno.EACCES,
    errno.EPERM,
)


class UserError(Exception):
    """Something the caller gave is wrong: one sentence saying what, where, and what to do.

    The command lines print it to standard error and exit with status 2, without a traceback.
    """


class ImageError(UserError):
    """An image that cannot be used; `reason` says why, as a word to count by."""

    def __init__(self, message: str, reason: str):
        super().__init__(message)
        self.reason = reason


def cannot_write(error: BaseException | None) -> str | None:
    """Why a disk refused, in the system's words; None for an error that is about something else.

    Libraries wrap the system's error or keep no more of it than its words (safetensors).
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in CANNOT_WRITE:
            return os.strerror(error.errno)
        for reason in map(os.strerror, CANNOT_WRITE):
            if f"{reason} (os error" in str(error):
                return reason
        error = error.__cause__ or error.__context__
    return None
