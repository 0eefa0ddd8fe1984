"""The errors a user is meant to read."""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from reprlib import Repr

# What a disk says that is full, read-only, not ours or broken.
CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM)

_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 100
short_repr = _SHORT.repr
"""Return a value out of user data for a sentence: on one line, escaped, and never long."""


class UserError(Exception):
    """Something the caller gave is wrong: one sentence saying what, where, and what to do.

    The command lines print it to standard error and exit with status 2, without a traceback.
    """


class ImageError(UserError):
    """An image that cannot be used; `reason` says why, as a word to count by."""

    def __init__(self, message: str, reason: str):
        super().__init__(message)
        self.reason = reason


def write_error(path: Path, error: OSError) -> UserError:
    """Return the sentence for a file or folder that cannot be written."""
    return UserError(f"{printable(str(path))} cannot be written ({error.strerror or error})")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into the `write_error` of a path."""
    try:
        yield
    except OSError as error:
        raise write_error(path, error) from error


def require_parent(out: Path) -> None:
    """Raise UserError unless the folder exists that `out` is to lie in."""
    if not (parent := out.absolute().parent).is_dir():
        raise UserError(f"{printable(str(parent))} is no folder; make it, or give another --out")


def write_error_reason(error: BaseException | None) -> str | None:
    """Return why a disk refused, in the system's words, or None for another kind of error.

    Libraries wrap the system's error or keep no more of it than its words (safetensors).
    """
    for cause in causes_of(error):
        if isinstance(cause, OSError) and cause.errno in CANNOT_WRITE:
            return os.strerror(cause.errno)
        for reason in map(os.strerror, CANNOT_WRITE):
            if f"{reason} (os error" in str(cause):
                return reason
    return None


def causes_of(error: BaseException | None) -> list[BaseException]:
    """Return an error and its causes."""
    causes: list[BaseException] = []
    while error is not None and error not in causes:
        causes.append(error)
        error = error.__cause__ or error.__context__
    return causes


class NotFiniteError(UserError):
    """A model predicts NaN or infinity; `rows` are indices into the batch."""

    def __init__(self, rows: Sequence[int], names: Sequence[str] = ()):
        """Name the rows by the caller's `names`, one a row, if given."""
        rest = f" and {len(rows) - 10} more" if len(rows) > 10 else ""
        places = list_names([names[row] for row in rows]) if names else f"rows {rows[:10]}{rest}"
        super().__init__(
            f"the model's predictions are not finite at {places}; its weights are damaged, or too "
            "large for their precision"
        )
        self.rows = list(rows)


def list_names(names: Sequence[str]) -> str:
    """Return the first ten names out of user data for a sentence, and how many more there are."""
    rest = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(map(printable, names[:10])) + rest


def escape_unprintable(text: str, keep: str = "") -> str:
    """Return a text as a terminal may show it: unprintable letters but those in `keep` escaped.

    No user data can then move the cursor or colour the words.
    """
    return "".join(
        letter
        if letter.isprintable() or letter in keep
        else letter.encode("unicode_escape").decode()
        for letter in text
    )


def printable(name: str) -> str:
    """Return a name out of user data for a sentence: as it is, or `short_repr` where it is odd."""
    return name if name.isprintable() and len(name) <= 200 else short_repr(name)
