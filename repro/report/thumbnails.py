"""The page's thumbnails and texts, each stored once however often it is shown."""

import base64
import hashlib
import io
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from PIL import Image, ImageOps

from c3l.runtime.errors import ImageError
from c3l.samples import ImageFolder

SIDE = 96  # pixels of a thumbnail's longer side
QUALITY = 70
# Pillow's decoders raise all of these for damaged files.
DAMAGED = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


class Thumbnails:
    """Thumbnails as data URIs, one for each image; the same bytes are the same image."""

    def __init__(self) -> None:
        self.uris: list[str] = []
        self._positions: dict[str, int | None] = {}

    def add(self, content: bytes | None) -> int | None:
        """The position of an image file's thumbnail in `uris`; None if it is no image."""

        def decode() -> Image.Image:
            with Image.open(io.BytesIO(content)) as image:
                return ImageOps.exif_transpose(image).convert("RGB")

        if content is None:
            return None
        return self._add(hashlib.sha256(content).hexdigest(), decode, *DAMAGED)

    def add_named(self, folder: ImageFolder, name: str) -> int | None:
        """The same for an image of a folder."""
        return self._add(f"{folder.path}/{name}", lambda: folder[name].copy(), ImageError)

    def _add(
        self, key: str, decode: Callable[[], Image.Image], *errors: type[Exception]
    ) -> int | None:
        if key not in self._positions:
            self._positions[key] = None
            with suppress(*errors):
                self.uris.append(_thumbnail(decode()))
                self._positions[key] = len(self.uris) - 1
        return self._positions[key]


class TextPool:
    """Strings, each once: cells of a table share most of their questions, and answers repeat."""

    def __init__(self) -> None:
        self._positions: dict[str, int] = {}

    @property
    def strings(self) -> list[str]:
        return list(self._positions)

    def add(self, text: str) -> int:
        """The position of a text in `strings`."""
        return self._positions.setdefault(text, len(self._positions))


def data_uri(kind: str, content: bytes) -> str:
    """The content as an address that needs no network."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


svg_uri = partial(data_uri, "image/svg+xml")


def _thumbnail(image: Image.Image) -> str:
    image.thumbnail((SIDE, SIDE))
    files = []
    # Drawings are smaller without loss, photographs with.
    for settings in ({"lossless": True}, {"quality": QUALITY}):
        image.save(buffer := io.BytesIO(), "WEBP", method=6, **settings)
        files.append(buffer.getvalue())
    return data_uri("image/webp", min(files, key=len))
