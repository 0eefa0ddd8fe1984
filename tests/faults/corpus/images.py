"""Image files: damaged, misnamed, huge on purpose, and of every kind that a viewer shows."""

import io
import random
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tests.faults.corpus.generate import Case

UNREADABLE, TOO_LARGE = "set aside: image_unreadable", "set aside: image_too_large"
FORMATS = {
    "PNG": ".png",
    "JPEG": ".jpg",
    "WEBP": ".webp",
    "BMP": ".bmp",
    "GIF": ".gif",
    "TIFF": ".tif",
}
RED, BLUE = (255, 0, 0), (0, 0, 255)


def encoded(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def shown(colour: tuple[int, int, int]) -> str:
    """The fate of a picture whose first pixel must come out in this colour."""
    return "accepted {:d},{:d},{:d}".format(*colour)


def cases(rng: random.Random) -> Iterator[Case]:
    for number, (name, content, fate, file) in enumerate(
        [*_damaged(rng), *_modes(), *_oriented(), *_animated(), *_bombs(), *_no_images()]
    ):
        yield Case("image", f"{number}: {name}", content, fate, file)


def _damaged(rng: random.Random) -> Iterator[tuple]:
    noise = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    for form, file in FORMATS.items():
        whole = encoded(Image.fromarray(noise), form)
        yield f"{form}, whole", whole, "accepted", file
        other = rng.choice([f for f in FORMATS.values() if f != file])
        yield f"{form}, called {other}", whole, "accepted", other
        yield f"{form}, of no byte", b"", UNREADABLE, file
        for share in (0.02, 0.3, 0.6):
            cut = whole[: int(share * len(whole))]
            yield f"{form}, cut after {share:.0%}", cut, UNREADABLE, file
        for k in range(4):
            damaged = bytearray(whole)
            for _ in range(8):
                damaged[rng.randrange(len(whole))] = rng.randrange(256)
            yield f"{form}, eight bytes changed ({k})", bytes(damaged), "any", file


def _modes() -> Iterator[tuple]:
    size = (24, 24)
    steps = np.full((24, 24), 0x4040, dtype=np.uint16)
    for form in ("PNG", "TIFF"):
        content = encoded(Image.fromarray(steps), form)
        yield f"{form}, 16 bits of grey", content, shown((64, 64, 64)), FORMATS[form]
    big = steps.astype(">u2")
    yield (
        "TIFF, 16 bits, the other byte first",
        encoded(Image.frombytes("I;16B", size, big.tobytes()), "TIFF"),
        shown((64, 64, 64)),
        ".tif",
    )
    yield (
        "PNG, 16 bits of each colour",
        _png(24, 24, 16, 2, b"\x80\x00\x40\x00\x20\x00" * 24),
        (shown((128, 64, 32))),
        ".png",
    )
    for mode, kind in (("I", np.int32), ("F", np.float32)):
        content = encoded(Image.fromarray(steps.astype(kind)), "TIFF")
        yield f"TIFF, 32 bits ({mode})", content, UNREADABLE, ".tif"
    for form in ("JPEG", "TIFF"):
        content = encoded(Image.new("CMYK", size, (0, 255, 255, 0)), form)
        yield f"{form}, CMYK", content, shown(RED), FORMATS[form]
    palette = Image.new("P", size, 1)
    palette.putpalette([0, 0, 0, *BLUE])
    for form in ("PNG", "GIF", "TIFF", "BMP"):
        yield f"{form}, palette", encoded(palette, form), shown(BLUE), FORMATS[form]
    for form in ("PNG", "GIF"):
        content = encoded(palette, form, transparency=1)
        yield f"{form}, palette, transparent", content, shown((255,) * 3), FORMATS[form]
    clear, half = Image.new("RGBA", size, (*RED, 0)), Image.new("RGBA", size, (*RED, 128))
    for form in ("PNG", "WEBP", "TIFF"):
        options = {"lossless": True} if form == "WEBP" else {}
        content = encoded(clear, form, **options)
        yield f"{form}, transparent", content, shown((255,) * 3), FORMATS[form]
    yield "PNG, half transparent", encoded(half, "PNG"), shown((255, 127, 127)), ".png"
    grey = Image.new("LA", size, (7, 0))
    yield "PNG, grey and transparent", encoded(grey, "PNG"), shown((255,) * 3), ".png"
    for form in ("PNG", "TIFF", "BMP"):
        content = encoded(Image.new("1", size, 1), form)
        yield f"{form}, one bit", content, shown((255,) * 3), FORMATS[form]
    yield "JPEG, grey", encoded(Image.new("L", size, 0), "JPEG"), shown((0, 0, 0)), ".jpg"
    yield "PNG, one pixel", encoded(Image.new("RGB", (1, 1), RED), "PNG"), shown(RED), ".png"


def _oriented() -> Iterator[tuple]:
    """A picture whose upper left pixel is red once it is turned as its EXIF says."""
    upright = Image.new("RGB", (24, 16), BLUE)
    upright.paste(RED, (0, 0, 8, 8))
    stored = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    for value, turn in stored.items():
        picture = upright if turn is None else upright.transpose(turn)
        exif = Image.Exif()
        exif[0x0112] = value
        yield (
            f"PNG, EXIF orientation {value}",
            encoded(picture, "PNG", exif=exif),
            (shown(RED)),
            ".png",
        )
    for value in (0, 9, 65535):
        exif = Image.Exif()
        exif[0x0112] = value
        yield (
            f"PNG, EXIF orientation {value}, which is none",
            encoded(upright, "PNG", exif=exif),
            shown(RED),
            ".png",
        )
    exif = b"Exif\0\0" + b"\xff" * 20
    yield "JPEG, EXIF that is none", encoded(upright, "JPEG", exif=exif), "any", ".jpg"


def _animated() -> Iterator[tuple]:
    first, second = (Image.new("RGB", (24, 24), colour) for colour in (RED, BLUE))
    for form in ("GIF", "PNG", "WEBP", "TIFF"):
        options = {"lossless": True} if form == "WEBP" else {}
        content = encoded(first, form, save_all=True, append_images=[second], **options)
        yield f"{form}, animated", content, shown(RED), FORMATS[form]


def _bombs() -> Iterator[tuple]:
    for side in (9_500, 14_000, 60_000):
        content = _png(side, side, 1, 0, None)
        yield f"PNG, a bomb of {side:,} pixels square", content, TOO_LARGE, ".png"
    yield "PNG, of 2³¹ pixels a side", _png(2**31 - 1, 2**31 - 1, 8, 2, None), TOO_LARGE, ".png"
    for width, height in ((60_000, 1), (1, 60_000), (2_001, 10)):
        content = encoded(Image.new("L", (width, height)), "PNG")
        yield f"PNG, a strip of {width} × {height}", content, TOO_LARGE, ".png"
    yield (
        "PNG, a strip of 2,000 × 10",
        encoded(Image.new("L", (2_000, 10)), "PNG"),
        ("accepted"),
        ".png",
    )
    bmp = bytearray(encoded(Image.new("RGB", (2, 2)), "BMP"))
    bmp[18:26] = struct.pack("<ii", 40_000, 40_000)
    yield "BMP, that says it is huge", bytes(bmp), TOO_LARGE, ".bmp"
    gif = bytearray(encoded(Image.new("P", (2, 2)), "GIF"))
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    yield "GIF, that says it is huge", bytes(gif), TOO_LARGE, ".gif"
    text = b"Comment\0\0" + zlib.compress(b"a" * 100_000_000, 9)
    picture = encoded(Image.new("RGB", (4, 4)), "PNG")
    yield (
        "PNG, a text chunk of 100 MB",
        picture[:33] + _chunk(b"zTXt", text) + picture[33:],
        (UNREADABLE),
        ".png",
    )


def _no_images() -> Iterator[tuple]:
    yield "text", b"no image", UNREADABLE, ".png"
    yield "zeros", bytes(1000), UNREADABLE, ".jpg"
    yield "HTML", b"<html><img src=x onerror=alert(1)></html>", UNREADABLE, ".gif"
    yield (
        "SVG",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        UNREADABLE,
        (".png"),
    )
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) run showpage\n"
    yield "PostScript, which would be run", script, UNREADABLE, ".png"
    yield "a pickle", b"\x80\x04cos\nsystem\n(S'exit 1'\ntR.", UNREADABLE, ".png"
    yield "an archive", b"PK\x03\x04" + bytes(60), UNREADABLE, ".webp"


def _chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)


def _png(width: int, height: int, bits: int, kind: int, row: bytes | None) -> bytes:
    """A PNG by hand, of equal rows; without a row one whose pixels are a few bytes of nothing."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    rows = bytes(1000) if row is None else (b"\0" + row) * height
    pixels = _chunk(b"IDAT", zlib.compress(rows, 9))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + _chunk(b"IEND", b"")
