"""The page's thumbnails and texts, each stored once however often it is shown."""

import base64
import hashlib
import io

from PIL import Image, ImageOps

from c3l.runtime.errors import ImageError
from c3l.samples import ImageFolder

SIDE = 96  # pixels of a thumbnail's longer side
QUALITY = 70


class Thumbnails:
    """Thumbnails as data URIs, one for each image; the same bytes are the same image."""

    def __init__(self) -> None:
        self.uris: list[str] = []
        self._positions: dict[str, int | None] = {}

    def add(self, content: bytes | None) -> int | None:
        """The position of an image file's thumbnail in `uris`; None if it is no image."""
        if content is None:
            return None
        key = hashlib.sha256(content).hexdigest()
        if key not in self._positions:
            try:
                with Image.open(io.BytesIO(content)) as image:
                    upright = ImageOps.exif_transpose(image).convert("RGB")
                self._positions[key] = self._append(upright)
            # Pillow's decoders raise all of these for damaged files.
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
                self._positions[key] = None
        return self._positions[key]

    def add_named(self, folder: ImageFolder, name: str) -> int | None:
        """The same for an image of a folder."""
        key = f"{folder.path}/{name}"
        if key not in self._positions:
            try:
                self._positions[key] = self._append(folder[name])
            except ImageError:
                self._positions[key] = None
        return self._positions[key]

    def _append(self, image: Image.Image) -> int:
        small = image.copy()
        small.thumbnail((SIDE, SIDE))
        # Drawings are smaller without loss, photographs with.
        files = _webp(small, lossless=True), _webp(small, quality=QUALITY)
        self.uris.append(data_uri("image/webp", min(files, key=len)))
        return len(self.uris) - 1


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


def _webp(image: Image.Image, **settings) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", method=6, **settings)
    return buffer.getvalue()
