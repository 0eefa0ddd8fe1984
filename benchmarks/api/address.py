"""Addresses of servers, which stand in profiles, manifests and cells: no part may be secret."""

import re
from urllib.parse import urlsplit

ADDRESS_HINT = "give https://host/v1, without a user, a key or a query"
ENDPOINT = "/chat/completions"


def parse_base_url(text: str, description: str) -> str:
    """Return the address as clients take it, without slashes at its end.

    Raises ValueError, the end of a sentence, for an invalid address. It does not repeat the text,
    which may hold a key.
    """
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # brackets, an invalid port
        valid = False
    if not valid or re.search(r"[\s@?#\\]", text) or not text.isprintable():
        raise ValueError(f"it is no {description}")
    base = text.rstrip("/")
    if base.lower().endswith(ENDPOINT):
        raise ValueError(f"leave out {ENDPOINT} at its end, which is added")
    return base


def parse_model_name(text: str) -> str:
    """Return the name of a model at an address. Raises ValueError for an impossible one."""
    if not text.strip() or not text.isprintable():
        raise ValueError("it is no name of a model: give the one that the server knows it by")
    return text
