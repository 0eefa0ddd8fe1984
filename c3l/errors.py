"""The errors a user is meant to read."""


class UserError(Exception):
    """Something the caller gave is wrong: one sentence saying what, where, and what to do.

    The command lines print it to standard error and exit with status 2, without a traceback.
    """


class ImageError(UserError):
    """An image that cannot be used; `reason` says why, as a word to count by."""

    def __init__(self, message: str, reason: str):
        super().__init__(message)
        self.reason = reason
