"""Addresses of servers: what may stand in a profile, and with it in every manifest and cell."""

import re
from urllib.parse import urlsplit

ADDRESS_HINT = "give https://host/v1, without a user, a key or a query"
ENDPOINT = "/chat/completions"


def is_address(text: str) -> bool:
    """Return whether a server can be asked there, and nothing in it is secret."""
    try:
        parts = urlsplit(text)
        well = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # brackets, a port that is none
        return False
    return bool(well) and not re.search(r"[\s@?#\\]", text) and text.isprintable()


def parse_base_url(text: str, what: str) -> str:
    """The address as clients take it, without slashes at its end.

    Raises ValueError, a sentence's end about `what`, for what is no address. It does not repeat the
    text: that may hold a key.
    """
    if not is_address(text):
        raise ValueError(f"it is no {what}")
    base = text.rstrip("/")
    if base.lower().endswith(ENDPOINT):
        raise ValueError(f"leave out {ENDPOINT} at its end, which is added")
    return base


def parse_model_name(text: str) -> str:
    """The name of a model at an address. Raises ValueError for one that no model has."""
    if not text.strip() or not text.isprintable():
        raise ValueError("it is no name of a model: give the one that the server knows it by")
    return text
