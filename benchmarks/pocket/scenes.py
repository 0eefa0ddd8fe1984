"""The pocket world: scenes of coloured things, drawn from a seed, each with its graph.

A scene holds one to four things, each of a kind, a colour, a size and a cell of a grid of two
rows and three columns; a setting; sometimes a rope that ties two things together; sometimes a
sign with a word on it. A kind has a *usual* colour and a known use: the language prior that a
model can fall for. Splits never touch: a scene belongs to the split that its digest names, and
one combination of kind, colour and place in five is seen in benchmark scenes alone.
"""

import hashlib
import json
import random
from dataclasses import dataclass
from functools import cache

WORLD_VERSION = 1

USUAL_COLOUR = {
    "ball": "red",
    "box": "blue",
    "tree": "green",
    "star": "yellow",
    "cup": "white",
    "ring": "purple",
    "lamp": "yellow",
    "flag": "red",
}
USE = {
    "ball": "playing",
    "box": "storing",
    "tree": "shade",
    "star": "decoration",
    "cup": "drinking",
    "ring": "wearing",
    "lamp": "light",
    "flag": "signalling",
}
KINDS = tuple(USUAL_COLOUR)
COLOURS = ("red", "blue", "green", "yellow", "white", "purple")
BALANCED = 1 / len(COLOURS)  # the share of usual colours that tells nothing
SIZES = ("small", "large")
PLACES = ("northwest", "north", "northeast", "southwest", "south", "southeast")
# Each setting favours three kinds: what POPE's popular and adversarial negatives live on.
SETTINGS = {
    "in a field": ("tree", "ball", "flag"),
    "on a beach": ("ball", "cup", "flag"),
    "in the snow": ("tree", "star", "box"),
    "at night": ("lamp", "star", "ring"),
}
SIGNS = ("open", "shop", "cafe", "stop", "exit", "sale")

# Which scenes a split may use, as buckets of the scene's digest, and how often a thing has its
# usual colour there. Benchmarks are balanced: the usual colour comes as often as any other.
BUCKETS = {
    "pretraining": range(0, 6),
    "initial": range(6, 7),
    "final": range(7, 8),
    "comparison": range(8, 9),
    "benchmark": range(9, 10),
}
USUAL_SHARE = {
    "pretraining": 0.7,
    "initial": 0.3,
    "final": 0.3,
    "comparison": 0.3,
    "benchmark": BALANCED,
}


@dataclass(frozen=True, order=True)
class Thing:
    """One thing of a scene; `place` is an index into PLACES."""

    place: int
    kind: str
    colour: str
    size: str

    @property
    def row(self) -> int:
        return self.place // 3

    @property
    def column(self) -> int:
        return self.place % 3


@dataclass(frozen=True)
class Scene:
    """A scene's graph. Things stand in reading order; `rope` holds two indices into them."""

    setting: str
    things: tuple[Thing, ...]
    rope: tuple[int, int] | None = None
    sign: str | None = None

    def to_dict(self) -> dict:
        """The graph as JSON-able data, places by name."""
        return {
            "setting": self.setting,
            "things": [
                {"kind": t.kind, "colour": t.colour, "size": t.size, "place": PLACES[t.place]}
                for t in self.things
            ],
            "rope": list(self.rope) if self.rope else None,
            "sign": self.sign,
        }

    @classmethod
    def from_dict(cls, graph: dict) -> "Scene":
        """Inverse of `to_dict`."""
        things = tuple(
            Thing(PLACES.index(t["place"]), t["kind"], t["colour"], t["size"])
            for t in graph["things"]
        )
        rope = tuple(graph["rope"]) if graph["rope"] else None
        return cls(graph["setting"], things, rope, graph["sign"])

    @property
    def digest(self) -> str:
        """Sha256 of the canonical graph; names the scene's split."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def kinds(self) -> set[str]:
        return {thing.kind for thing in self.things}


@cache
def is_held_out(kind: str, colour: str, place: int) -> bool:
    """Whether this combination is kept for benchmark scenes (one in five is)."""
    text = f"{kind} {colour} {place}"
    return int(hashlib.sha256(text.encode()).hexdigest(), 16) % 5 == 0


def split_of(scene: Scene) -> str | None:
    """The one split a scene may appear in, or None where it may appear in no split."""
    bucket = int(scene.digest, 16) % 10
    split = next(name for name, buckets in BUCKETS.items() if bucket in buckets)
    held_out = any(is_held_out(t.kind, t.colour, t.place) for t in scene.things)
    return split if held_out == (split == "benchmark") else None


def draw_scene(rng: random.Random, split: str, usual_share: float | None = None) -> Scene:
    """A random scene of a split; `usual_share` overrides the split's share of usual colours."""
    share = USUAL_SHARE[split] if usual_share is None else usual_share
    while True:
        scene = _propose(rng, share)
        if split_of(scene) == split:
            return scene


def draw_scenes(seed: int, split: str, count: int) -> list[Scene]:
    """`count` different scenes of a split, the same ones for the same seed."""
    rng = random.Random(f"{WORLD_VERSION}/{split}/{seed}")
    scenes: dict[str, Scene] = {}
    while len(scenes) < count:
        scene = draw_scene(rng, split)
        scenes.setdefault(scene.digest, scene)
    return list(scenes.values())


def _propose(rng: random.Random, usual_share: float) -> Scene:
    setting = rng.choice(list(SETTINGS))
    weights = [3 if kind in SETTINGS[setting] else 1 for kind in KINDS]
    things: list[Thing] = []
    for place in sorted(rng.sample(range(len(PLACES)), rng.choice((1, 2, 2, 3, 3, 4)))):
        if things and rng.random() < 0.15:
            kind = rng.choice(things).kind
        else:
            kind = rng.choices(KINDS, weights)[0]
        usual = rng.random() < usual_share
        others = [colour for colour in COLOURS if colour != USUAL_COLOUR[kind]]
        colour = USUAL_COLOUR[kind] if usual else rng.choice(others)
        things.append(Thing(place, kind, colour, rng.choice(SIZES)))
    rope = None
    if len(things) > 1 and rng.random() < 0.5:
        rope = tuple(sorted(rng.sample(range(len(things)), 2)))
    sign = rng.choice(SIGNS) if rng.random() < 0.5 else None
    return Scene(setting, tuple(things), rope, sign)
