"""The one kind of error a user is meant to read."""


class UserError(Exception):
    """Something the caller gave is wrong: one sentence saying what, where, and what to do.

    The command lines print it to standard error and exit with status 2, without a traceback.
    """
