"""What the page holds once however often it is shown: thumbnails and texts."""

import base64
import hashlib
import io

from PIL import Image, ImageOps

from c3l.runtime.errors import ImageError
from c3l.samples import ImageFolder

SIDE = 96  # pixels of a thumbnail's longer side
QUALITY = 70


class Pictures:
    """Thumbnails as data URIs, one for each image; the same bytes are the same image."""

    def __init__(self) -> None:
        self.uris: list[str] = []
        self._places: dict[str, int | None] = {}

    def add(self, content: bytes | None) -> int | None:
        """The place of an image file's thumbnail in `uris`; None for what is no image."""
        if content is None:
            return None
        key = hashlib.sha256(content).hexdigest()
        if key not in self._places:
            self._places[key] = self._opened(content)
        return self._places[key]

    def add_named(self, folder: ImageFolder, name: str) -> int | None:
        """The same for an image of a folder."""
        key = f"{folder.path}/{name}"
        if key not in self._places:
            try:
                self._places[key] = self._made(folder[name])
            except ImageError:
                self._places[key] = None
        return self._places[key]

    def _opened(self, content: bytes) -> int | None:
        try:
            with Image.open(io.BytesIO(content)) as image:
                return self._made(ImageOps.exif_transpose(image).convert("RGB"))
        # Pillow's decoders raise all of these for damaged files.
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return None

    def _made(self, image: Image.Image) -> int:
        small = image.copy()
        small.thumbnail((SIDE, SIDE))
        # Drawings are smaller without loss, photographs with.
        files = _webp(small, lossless=True), _webp(small, quality=QUALITY)
        self.uris.append(data_uri("image/webp", min(files, key=len)))
        return len(self.uris) - 1


def _webp(image: Image.Image, **settings) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", method=6, **settings)
    return buffer.getvalue()


class Texts:
    """Strings, each once: cells of a table share most of their questions, and answers repeat."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self._places: dict[str, int] = {}

    def add(self, text: str) -> int:
        """The place of a text in `all`."""
        if text not in self._places:
            self._places[text] = len(self.all)
            self.all.append(text)
        return self._places[text]


def data_uri(kind: str, content: bytes) -> str:
    """The content as an address that needs no network."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
