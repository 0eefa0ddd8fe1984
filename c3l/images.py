"""The images below a folder: RGB, upright, and none that takes more memory than a picture does."""

import logging
import os
import warnings
from pathlib import Path

import numpy as np
from cachetools import LRUCache, cached
from PIL import Image, ImageFile, ImageOps

from c3l.errors import ImageError, UserError, brief, told

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})

# By content, whatever a file is called: left to itself Pillow tries them all, and hands what
# looks like PostScript to a Ghostscript process.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")

MAX_PIXELS = 89_478_485
"""Above this (Pillow's own bound for a warning) a picture is taken for a decompression bomb."""

MAX_ASPECT = 200
"""The longer side over the shorter one: processors that scale the shorter side to the encoder's
size would make gigabytes of a strip one pixel high."""

log = logging.getLogger(__name__)


class ImageFolder:
    """The images below a folder, by their path relative to it: `folder["a/b.png"]`.

    Images are RGB, turned upright by their EXIF orientation; the last ones used are kept and
    shared, so do not draw on them. What is transparent shows white; 16 bits a channel become the
    upper 8; of an animation the first frame counts, and a warning says so.
    """

    def __init__(self, path: str | os.PathLike, memory: int = 2**28):
        """`memory`: how many bytes of pictures are kept."""
        self.path = Path(path)
        if not self.path.is_dir():
            raise UserError(f"{self.path} is no folder; give the folder that holds the images")
        self._cached_open = cached(LRUCache(memory, getsizeof=_size))(self._open)
        self._animated: set[str] = set()

    def names(self) -> list[str]:
        """The relative paths of all files with an image's suffix, in sorted order."""
        return sorted(
            file.relative_to(self.path).as_posix()
            for file in self.path.rglob("*")
            if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()
        )

    def __getitem__(self, name: str) -> Image.Image:
        return self._cached_open(name)

    def _open(self, name: str) -> Image.Image:
        # By name alone: links that the folder's owner placed in it may lead elsewhere. What is
        # opened is what was looked at: behind a link, ".." is not the folder the link lies in.
        inside = os.path.normpath(name)
        if os.path.isabs(name) or inside.split(os.sep)[0] == os.pardir:
            raise ImageError(
                f"image {told(name)} lies outside {self.path}; use paths relative to it",
                "image_outside",
            )
        path = self.path / inside
        try:
            if path.exists() and not path.is_file():  # a pipe would be waited for
                raise ValueError("it is no regular file")
            return self._decoded(path, name)
        except FileNotFoundError:
            raise ImageError(
                f"image {told(name)} is missing from {self.path}", "image_missing"
            ) from None
        except ImageError:
            raise
        # Pillow's decoders raise anything for damaged files: OSError, SyntaxError, ValueError,
        # struct.error, zlib.error, and TypeError or IndexError out of EXIF.
        except Exception as error:
            raise ImageError(
                f"image {told(str(self.path / name))} cannot be read ({brief(str(error))})",
                "image_unreadable",
            ) from error

    def _decoded(self, path: Path, name: str) -> Image.Image:
        # For the whole process, and some libraries set it when they are imported: a cut image
        # would be filled with grey and pass for a picture.
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused below
            try:
                image = Image.open(path, formats=FORMATS)
            except Image.DecompressionBombError as error:
                raise _too_large(path, str(error)) from error
        with image:
            small, large = sorted(image.size)
            if small * large > MAX_PIXELS or large > MAX_ASPECT * small:
                raise _too_large(path, f"{image.width} × {image.height} pixels")
            if getattr(image, "is_animated", False) and name not in self._animated:
                self._animated.add(name)
                log.warning("image %s is animated; its first frame is used", told(str(path)))
            return _rgb(ImageOps.exif_transpose(image))


def _size(image: Image.Image) -> int:
    return image.width * image.height * len(image.getbands())


def _too_large(path: Path, size: str) -> ImageError:
    return ImageError(
        f"image {told(str(path))} is too large ({size}); at most {MAX_PIXELS:,} pixels, one side "
        f"at most {MAX_ASPECT} times the other",
        "image_too_large",
    )


def _rgb(image: Image.Image) -> Image.Image:
    """The picture as a viewer shows it on a white page. Raises ValueError for what has no range."""
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips: all above 255 would be white.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode}: 32 bits a channel have no black and white")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
