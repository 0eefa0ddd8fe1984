"""Keys of servers: in the environment, and nowhere else."""

import base64
import html
import json
import os
import re
from functools import lru_cache
from urllib.parse import quote, quote_plus

from c3l.runtime.errors import UserError

NO_KEY = "no-key"
SHORTEST = 4
"""Characters of a text that is taken for a secret. A shorter one ("1", for servers that ask for
any) is found in what it has nothing to do with, grades for instance."""


def read_key(variable: str | None) -> str:
    """The key that an environment variable holds; "no-key" without one: servers that need none take
    any, the clients do not take none.

    Raises UserError for one that no HTTP header can hold: the client would print it.
    """
    key = os.environ.get(variable or "", "").strip() or NO_KEY
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UserError(f"the key in {variable} holds characters that no key has; set it again")
    return key


def missing_key_hint(variable: str | None) -> str:
    """ " (NAME is not set)" where the variable that should hold a key holds none."""
    unset = variable and not os.environ.get(variable, "").strip()
    return f" ({variable} is not set)" if unset else ""


def mask_key(text: str, key: str) -> str:
    """A text of a server's, which may repeat the key in one spelling or another, without it."""
    if len(key) < SHORTEST or key == NO_KEY:
        return text
    return _spellings(key).sub("***", text)


@lru_cache(maxsize=8)
def _spellings(key: str) -> re.Pattern:
    """The key as texts hold it: as it is, quoted, in addresses and HTML, in hexadecimals, and in
    base64 (alone, or in the middle of something else)."""
    forms = {
        key,
        repr(key)[1:-1],
        json.dumps(key)[1:-1],
        json.dumps(key)[1:-1].replace("/", r"\/"),
        quote(key),
        quote(key, safe=""),
        quote_plus(key),
        html.escape(key),
    }
    if len(key) >= 2 * SHORTEST:
        forms |= {key.encode().hex(), "".join(f"%{byte:02x}" for byte in key.encode())}
        for before in range(3):  # bytes of something else in the first group of three
            inner = base64.b64encode(bytes(before) + key.encode()).decode().rstrip("=")
            # What the first and the last sextet say is not the key's alone.
            inner = inner[(0, 2, 3)[before] : len(inner) - bool((before + len(key)) % 3)]
            forms |= {inner, inner.replace("+", "-").replace("/", "_")}
    longest_first = sorted(forms, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE)
