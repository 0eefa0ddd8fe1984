"""One's own images for `c3l.generate`: which are drawn, which cannot be read, links to some."""

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from c3l.artifacts.store import Source
from c3l.data.left_out import LeftOut, format_counts
from c3l.runtime.errors import ImageError, UserError, printable
from c3l.runtime.progress import VERBOSE, echo, track
from c3l.samples import ImageFolder

INITIAL = 1334  # the paper's 20,000 initial samples, fifteen an image


class ImageSubset:
    """The images of a folder in a seeded order. The first ones are for the initial data.

    An image that cannot be read is left out when its turn comes, better then than found broken
    hours later. `left_out` names them, and what is no image that is read here. Raises UserError for
    a folder without images.
    """

    def __init__(self, folder: ImageFolder, links: Path, seed: int):
        self.folder, self._links = folder, links
        self._names, self.left_out = folder.listed()
        if not self._names:
            counts = format_counts(self.unreadable)
            raise UserError(
                f"there is no image in {printable(str(folder.path))}"
                f"{f' that can be read ({counts})' if counts else ''}; give another --images"
            )
        random.Random(seed).shuffle(self._names)
        self._order = self._readable()

    @property
    def unreadable(self) -> Counter[str]:
        """Count the images left out, by reason."""
        return Counter(item.reason for item in self.left_out)

    @property
    def count(self) -> int:
        """Count all images, readable or not."""
        return len(self._names)

    def initial(self, count: int | None) -> list[str]:
        """Return the first `count`, by default the paper's number and at most its four in five."""
        count = count or min(INITIAL, max(1, len(self._names) * 4 // 5))
        if count > len(self._names):
            raise UserError(
                f"{printable(str(self.folder.path))} has {len(self._names)} images; give a smaller "
                f"--initial than {count}"
            )
        return [name for _, name in zip(track(range(count), "images"), self._order, strict=False)]

    def remaining(self) -> Iterator[str]:
        """Iterate over those that have not been taken yet."""
        return self._order

    def linked(self, part: str, names: list[str]) -> Source:
        """Return images as a stage's input: a folder of links under their names."""
        place = self._links / part
        shutil.rmtree(place, ignore_errors=True)
        for name in names:
            link = place / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((self.folder.path / name).absolute())
        return Source.from_path(place, ImageFolder(place).names())

    def _readable(self) -> Iterator[str]:
        for name in self._names:
            try:
                self.folder[name]
            except ImageError as error:
                self.left_out.append(LeftOut(name, str(self.folder.path), error.reason))
                echo(f"Left out: {error}.", minimum=VERBOSE)
            else:
                yield name


def in_batches(names: Iterator[str], size: int) -> Iterator[list[str]]:
    """Yield the names, `size` at a time."""
    while batch := list(islice(names, size)):
        yield batch
