"""Keys of servers, which stand in the environment and nowhere else."""

import base64
import html
import json
import os
import re
from functools import lru_cache
from urllib.parse import quote, quote_plus

from c3l.runtime.errors import UserError

NO_KEY = "no-key"
MIN_LENGTH = 4
"""Characters of a secret. A shorter key ("1", for servers that ask for any) also occurs in
unrelated text, grades for instance."""


def read_key(variable: str | None) -> str:
    """Return the key in an environment variable, "no-key" if there is none.

    The clients insist on a key; servers that need none accept any. Raises UserError for one that no
    HTTP header can hold: the client would print it.
    """
    key = os.environ.get(variable or "", "").strip() or NO_KEY
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UserError(f"the key in {variable} holds characters that no key has; set it again")
    return key


def missing_key_hint(variable: str | None) -> str:
    """Return " (NAME is not set)" if the variable holds no key."""
    unset = variable and not os.environ.get(variable, "").strip()
    return f" ({variable} is not set)" if unset else ""


def mask_key(text: str, key: str) -> str:
    """Mask the key in a server's text, in whatever spelling it is repeated."""
    if len(key) < MIN_LENGTH or key == NO_KEY:
        return text
    return _spellings(key).sub("***", text)


@lru_cache(maxsize=8)
def _spellings(key: str) -> re.Pattern:
    """The key's spellings in texts: plain, quoted, in addresses and HTML, in hexadecimals, and in
    base64, also in the middle of a longer text."""
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
    if len(key) >= 2 * MIN_LENGTH:
        forms |= {key.encode().hex(), "".join(f"%{byte:02x}" for byte in key.encode())}
        for offset in range(3):  # bytes of other text in the first group of three
            inner = base64.b64encode(bytes(offset) + key.encode()).decode().rstrip("=")
            # The first and the last sextet also hold bits of the neighbours.
            inner = inner[(0, 2, 3)[offset] : len(inner) - bool((offset + len(key)) % 3)]
            forms |= {inner, inner.replace("+", "-").replace("/", "_")}
    longest_first = sorted(forms, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE)
