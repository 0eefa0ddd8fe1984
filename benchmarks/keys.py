"""Keys of servers: in the environment, and nowhere else."""

import os

from c3l.errors import UserError


def key_in(variable: str | None) -> str:
    """The key that an environment variable holds; "no-key" without one: servers that need none take
    any, the clients do not take none.

    Raises UserError for one that no HTTP header can hold: the client would print it.
    """
    key = os.environ.get(variable or "", "").strip() or "no-key"
    if not (key.isascii() and key.isprintable()):
        raise UserError(f"the key in {variable} holds characters that no key has; set it again")
    return key
