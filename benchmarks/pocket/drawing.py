"""Scenes as pictures: 48 by 48 pixels, six cells of 16 by 16 above a strip for the sign."""

import math
import random

from PIL import Image, ImageDraw, ImageFont

from benchmarks.pocket.scenes import Scene, Thing

SIDE = 48
CELL = 16  # a patch of the vision encoder: what stands in a cell, one token sees whole
RADIUS = {"small": 4, "large": 7}
COLOUR = {
    "red": (220, 40, 40),
    "blue": (50, 80, 220),
    "green": (40, 160, 60),
    "yellow": (240, 210, 50),
    "white": (250, 250, 250),
    "purple": (150, 60, 180),
}
GROUND = {
    "in a field": (170, 205, 140),
    "on a beach": (225, 200, 150),
    "in the snow": (200, 220, 240),
    "at night": (45, 45, 80),
}
OUTLINE = (15, 15, 15)
ROPE = (120, 80, 30)


def draw(scene: Scene) -> Image.Image:
    """The RGB picture of a scene; the same scene gives the same pixels."""
    image = Image.new("RGB", (SIDE, SIDE), GROUND[scene.setting])
    pen = ImageDraw.Draw(image)
    # A thing's exact position is noise, not part of the graph: it follows from the digest.
    rng = random.Random(scene.digest)
    centres = [_centre(thing, rng) for thing in scene.things]
    if scene.rope:
        pen.line([centres[i] for i in scene.rope], fill=ROPE, width=2)
    for thing, (x, y) in zip(scene.things, centres, strict=True):
        _SHAPES[thing.kind](pen, x, y, RADIUS[thing.size], COLOUR[thing.colour])
    if scene.sign:
        _draw_sign(image, scene.sign)
    return image


def _centre(thing: Thing, rng: random.Random) -> tuple[int, int]:
    slack = CELL // 2 - RADIUS[thing.size]
    x = thing.column * CELL + CELL // 2 + rng.randint(-slack, slack - 1)
    y = thing.row * CELL + CELL // 2 + rng.randint(-slack, slack - 1)
    return x, y


def _draw_sign(image: Image.Image, word: str) -> None:
    # Pillow's built-in bitmap font: the same pixels whatever fonts a machine has.
    font = ImageFont.load_default_imagefont()
    text = Image.new("L", (SIDE, 16))
    ImageDraw.Draw(text).text((2, 2), word.upper(), fill=255, font=font)
    text = text.crop(text.getbbox())
    top = SIDE - 12
    left = (SIDE - text.width) // 2
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, top, SIDE, SIDE), fill=(250, 250, 250))
    pen.bitmap((left, top + 2), text, fill=(10, 10, 10))


def _ball(pen, x, y, r, fill):
    pen.ellipse((x - r, y - r, x + r, y + r), fill=fill, outline=OUTLINE)


def _box(pen, x, y, r, fill):
    r -= 1
    pen.rectangle((x - r, y - r, x + r, y + r), fill=fill, outline=OUTLINE)


def _tree(pen, x, y, r, fill):
    pen.rectangle((x - 1, y, x + 1, y + r), fill=(90, 60, 30))
    pen.polygon([(x, y - r), (x - r, y + r // 2), (x + r, y + r // 2)], fill=fill, outline=OUTLINE)


def _star(pen, x, y, r, fill):
    points = []
    for k in range(10):
        reach = r + 1 if k % 2 == 0 else r * 0.45
        angle = math.pi * k / 5
        points.append((round(x + reach * math.sin(angle)), round(y - reach * math.cos(angle))))
    pen.polygon(points, fill=fill, outline=OUTLINE)


def _cup(pen, x, y, r, fill):
    pen.arc((x + 1, y - r // 2, x + r, y + r // 2), -90, 90, fill=OUTLINE, width=1)
    corners = [(x - r, y - r + 1), (x + r // 2, y - r + 1), (x + r // 3, y + r), (x - r + 1, y + r)]
    pen.polygon(corners, fill=fill, outline=OUTLINE)


def _ring(pen, x, y, r, fill):
    pen.ellipse((x - r, y - r, x + r, y + r), outline=OUTLINE, width=1)
    pen.ellipse((x - r + 1, y - r + 1, x + r - 1, y + r - 1), outline=fill, width=max(2, r // 3))


def _lamp(pen, x, y, r, fill):
    pen.line((x, y, x, y + r), fill=OUTLINE, width=1)
    pen.line((x - r // 2, y + r, x + r // 2, y + r), fill=OUTLINE, width=1)
    shade = [(x - r // 2, y - r), (x + r // 2, y - r), (x + r, y + r // 4), (x - r, y + r // 4)]
    pen.polygon(shade, fill=fill, outline=OUTLINE)


def _flag(pen, x, y, r, fill):
    pen.line((x - r + 1, y - r, x - r + 1, y + r), fill=OUTLINE, width=1)
    pen.rectangle((x - r + 1, y - r, x + r, y + r // 4), fill=fill, outline=OUTLINE)


_SHAPES = {
    "ball": _ball,
    "box": _box,
    "tree": _tree,
    "star": _star,
    "cup": _cup,
    "ring": _ring,
    "lamp": _lamp,
    "flag": _flag,
}
