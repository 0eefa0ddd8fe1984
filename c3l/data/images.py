"""The images below a folder: RGB, upright, and none that takes more memory than a picture does."""

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
from cachetools import LRUCache, cached
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError, features

from c3l.artifacts.files import digest_file
from c3l.data.left_out import LeftOut
from c3l.runtime.errors import ImageError, UserError, printable, short_repr

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
)

# By content, whatever a file is called: left to itself Pillow tries them all, and hands what
# looks like PostScript to a Ghostscript process.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")

HEIF_SUFFIXES, AVIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"}), frozenset({".avif"})

UNREAD_SUFFIXES = frozenset(
    {".jxl", ".jp2", ".svg", ".psd", ".ico", ".tga", ".ppm", ".pgm", ".eps", ".xcf"}
    | {".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"}
)
"""Formats of pictures that are not read."""

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp"}
    | {".mts", ".m2ts"}
)

# How the files of one container begin: these brands are HEIF's and AVIF's, others are a video's.
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")

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
        self._cached_open = cached(LRUCache(memory, getsizeof=picture_bytes))(self._open)
        self._animated: set[str] = set()

    def names(self) -> list[str]:
        """Return the sorted relative paths of all files with the suffix of a readable image."""
        return self.listed()[0]

    def listed(self) -> tuple[list[str], list[LeftOut]]:
        """Return `names`, and the pictures and videos that are not among them.

        Links to folders are followed as reading a path through them does; a folder that several
        names lead to is listed once, by its own name where it has one here.
        """
        suffixes, names, left_out = readable_suffixes(), [], []

        def leave_out(name: str, reason: str) -> None:
            left_out.append(LeftOut(name, str(self.path), reason))

        for name in self._files(lambda folder: leave_out(folder, "folder_unreadable")):
            suffix = os.path.splitext(name)[1].lower()
            if suffix in VIDEO_SUFFIXES:
                leave_out(name, "video")
            elif suffix in suffixes:
                if not os.path.isfile(path := self.path / name):
                    leave_out(name, "image_unreadable" if path.exists() else "image_missing")
                elif name.encode(errors="ignore").decode() != name:
                    leave_out(name, "not_utf8_name")
                else:
                    names.append(name)
            elif suffix in HEIF_SUFFIXES | AVIF_SUFFIXES | UNREAD_SUFFIXES:
                leave_out(name, "image_unsupported")
        return sorted(names), sorted(left_out, key=lambda item: item.name)

    def _files(self, unreadable: Callable[[str], None]) -> Iterator[str]:
        """Yield the relative paths of all files; links to folders come after the folders."""
        listed: set[tuple[int, int]] = set()
        begun = [str(self.path)]
        while begun:
            links: list[str] = []
            for start in begun:
                walk = os.walk(start, onerror=lambda e: unreadable(self._relative(e.filename)))
                for folder, below, files in walk:
                    state = os.stat(folder)
                    if (state.st_dev, state.st_ino) in listed:
                        below.clear()
                        continue
                    listed.add((state.st_dev, state.st_ino))
                    links += [link for name in below if os.path.islink(link := f"{folder}/{name}")]
                    yield from (self._relative(f"{folder}/{name}") for name in files)
            begun = sorted(links)

    def _relative(self, path: str) -> str:
        return os.path.relpath(path, self.path)

    def __getitem__(self, name: str) -> Image.Image:
        return self._cached_open(name)

    def digest(self, name: str) -> str | None:
        """Return the sha256 of an image's bytes, or None where it is not there to be read."""
        try:
            return digest_file(self._path(name))
        except (OSError, ValueError, ImageError):
            return None

    def _path(self, name: str) -> Path:
        """Return the file of an image. Raises ImageError for one outside the folder."""
        # By name alone: links that the folder's owner placed in it may lead elsewhere, and behind
        # a link ".." is not the folder that the link lies in.
        inside = os.path.normpath(name)
        if os.path.isabs(inside):  # as some data sets name the images of their folder
            inside = os.path.relpath(inside, os.path.abspath(self.path))
        if inside.split(os.sep)[0] == os.pardir:
            raise ImageError(
                f"image {printable(name)} lies outside {self.path}; use paths relative to it",
                "image_outside",
            )
        return self.path / inside

    def _open(self, name: str) -> Image.Image:
        path = self._path(name)
        try:
            if path.exists() and not path.is_file():  # a pipe would be waited for
                raise ValueError("it is no regular file")
            return self._decoded(path, name)
        except FileNotFoundError:
            raise ImageError(
                f"image {printable(name)} is missing from {self.path}", "image_missing"
            ) from None
        except ImageError:
            raise
        # Pillow's decoders raise anything for damaged files: OSError, SyntaxError, ValueError,
        # struct.error, zlib.error, and TypeError or IndexError out of EXIF.
        except Exception as error:
            shown_path, reason = printable(str(self.path / name)), short_repr(str(error))
            raise ImageError(
                f"image {shown_path} cannot be read ({reason})", "image_unreadable"
            ) from error

    def _decoded(self, path: Path, name: str) -> Image.Image:
        # For the whole process, and some libraries set it when they are imported: a cut image
        # would be filled with grey and pass for a picture.
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused below
            try:
                image = Image.open(path, formats=readable_formats())
            except Image.DecompressionBombError as error:
                raise _too_large(path, str(error)) from error
            except UnidentifiedImageError:
                if not (unsupported := _unsupported(path)):
                    raise
                kind, reason = unsupported
                raise ImageError(f"image {printable(str(path))} is {kind}", reason) from None
        with image:
            small, large = sorted(image.size)
            if small * large > MAX_PIXELS or large > MAX_ASPECT * small:
                raise _too_large(path, f"{image.width} × {image.height} pixels")
            if getattr(image, "is_animated", False) and name not in self._animated:
                self._animated.add(name)
                log.warning("image %s is animated; its first frame is used", printable(str(path)))
            return _rgb(ImageOps.exif_transpose(image))


@cache
def readable_formats() -> tuple[str, ...]:
    """Return Pillow's names of the readable formats: HEIF where pillow-heif is installed."""
    formats = FORMATS
    if features.check("avif"):
        formats += ("AVIF",)
    if find_spec("pillow_heif"):
        import pillow_heif

        pillow_heif.register_heif_opener()
        formats += ("HEIF",)
    return formats


def readable_suffixes() -> frozenset[str]:
    """Return the suffixes of these formats."""
    optional = {"AVIF": AVIF_SUFFIXES, "HEIF": HEIF_SUFFIXES}
    return IMAGE_SUFFIXES.union(*(optional.get(name, ()) for name in readable_formats()))


def _unsupported(path: Path | BytesIO) -> tuple[str, str] | None:
    """Describe a file that Pillow does not know, with a remedy, and give the reason to count by."""
    with open(path, "rb") if isinstance(path, Path) else BytesIO(path.getvalue()) as file:
        head = file.read(12)
    suffix, brand = Path(str(path)).suffix.lower(), head[8:12] if head[4:8] == b"ftyp" else b""
    if brand in _HEIF_BRANDS + _AVIF_BRANDS and len(readable_formats()) == len(FORMATS) + 2:
        return None  # damaged
    if brand in _HEIF_BRANDS:
        return "HEIF (HEIC): install pillow-heif, or convert it to JPEG", "image_unsupported"
    if brand in _AVIF_BRANDS:
        return "AVIF: install pillow 11.3 or newer, or convert it to JPEG", "image_unsupported"
    if brand or suffix in VIDEO_SUFFIXES:
        return "a video", "video"
    if suffix in UNREAD_SUFFIXES:
        return f"of a format that is not read ({suffix}): convert it to JPEG", "image_unsupported"
    return None


def picture_bytes(image: Image.Image) -> int:
    """Return the memory that a decoded picture takes."""
    return image.width * image.height * len(image.getbands())


def _too_large(path: Path, size: str) -> ImageError:
    return ImageError(
        f"image {printable(str(path))} is too large ({size}); at most {MAX_PIXELS:,} pixels, one "
        f"side at most {MAX_ASPECT} times the other",
        "image_too_large",
    )


def _rgb(image: Image.Image) -> Image.Image:
    """Return the picture as a viewer shows it on a white page. ValueError where it has no range."""
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips: all above 255 would be white.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode}: 32 bits a channel have no black and white")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
