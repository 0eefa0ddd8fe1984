"""One's own images for `c3l.generate`: which are drawn, which cannot be read, links to some."""

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from c3l import pipeline
from c3l.errors import ImageError, UserError
from c3l.progress import VERBOSE, say, track
from c3l.samples import ImageFolder
from c3l.store import Source

INITIAL = 1334  # the paper's 20,000 initial samples, fifteen an image


class Pictures:
    """The images of a folder in a seeded order. The first ones are for the initial data.

    An image that cannot be read is left out when its turn comes and counted in `unreadable`: better
    then than found broken hours later. Raises UserError for a folder without images.
    """

    def __init__(self, folder: ImageFolder, links: Path, seed: int):
        self.folder, self._links = folder, links
        self.unreadable: Counter[str] = Counter()
        self._names = folder.names()
        if not self._names:
            raise UserError(f"there is no image in {folder.path}; give another --images")
        random.Random(seed).shuffle(self._names)
        self._order = self._readable()

    @property
    def count(self) -> int:
        """Of all images, those that cannot be read too."""
        return len(self._names)

    def initial(self, count: int | None) -> list[str]:
        """The first `count`, by default the paper's number and at most its four in five."""
        count = count or min(INITIAL, max(1, len(self._names) * 4 // 5))
        if count > len(self._names):
            raise UserError(
                f"{self.folder.path} has {len(self._names)} images; give a smaller --initial than "
                f"{count}"
            )
        places = track(range(count), "images")
        return [name for _, name in zip(places, self._order, strict=False)]

    def others(self) -> Iterator[str]:
        """Those that have not been taken yet."""
        return self._order

    def linked(self, part: str, names: list[str]) -> Source:
        """Some images as a stage's input: a folder of links, under the names that they have."""
        place = self._links / part
        shutil.rmtree(place, ignore_errors=True)
        for name in names:
            link = place / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((self.folder.path / name).absolute())
        return pipeline.image_source(place, len(names))

    def _readable(self) -> Iterator[str]:
        for name in self._names:
            try:
                self.folder[name]
            except ImageError as error:
                self.unreadable[error.reason] += 1
                say(f"Left out: {error}.", at=VERBOSE)
            else:
                yield name


def parts(names: Iterator[str], size: int) -> Iterator[list[str]]:
    """The names, so many at a time."""
    while some := list(islice(names, size)):
        yield some
