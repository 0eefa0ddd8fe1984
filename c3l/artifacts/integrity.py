"""Checks that files are still what they were.

Hashing takes seconds a gigabyte, asking the system whether a file was touched microseconds. So a
process hashes a file when it first reads it, and again only when it looks different."""

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from c3l.artifacts.files import first_difference, read_checked
from c3l.artifacts.stage import Source
from c3l.runtime.errors import UserError

MANIFEST = "manifest.json"
SETTLED = 100_000_000  # ns: clocks of file systems are coarse

Look = list[tuple[int, int, int, int]]
"""For each file, what a file system changes together with it; the time of change last."""


class Integrity:
    """The files that this process has verified, and how they looked then."""

    def __init__(self):
        self._looks: dict[tuple[Path, str], Look] = {}

    def damage(self, path: Path) -> str | None:
        """Describe the damage of the artefact in a folder, or return None."""
        manifest = read_checked(path / MANIFEST)
        if manifest is None or manifest.get("key") != path.name:
            return f"{MANIFEST} is missing or does not match its digest"
        files = manifest["files"]
        try:
            look = _look([path / MANIFEST, *(path / name for name in files)])
        except OSError as error:
            return f"{Path(error.filename).relative_to(path)} cannot be read ({error.strerror})"
        return self._difference((path, path.name), look, lambda: first_difference(path, files))

    def verify(self, source: Source) -> None:
        """Raise UserError for a source that is no longer what the run was planned with."""
        try:
            look = _look(source.files())
            damage = self._difference((source.path, source.key), look, source.difference)
        except OSError as error:
            damage = f"{error.filename} cannot be read ({error.strerror})"
        if damage:
            raise UserError(
                f"{source.path} is not what it was when the run began ({damage}): run the same "
                "command again."
            )

    def _difference(
        self, key: tuple[Path, str], look: Look, compare: Callable[[], str | None]
    ) -> str | None:
        """Compare the files, unless they look as they did when there was no difference."""
        if self._looks.get(key) == look:
            return None
        difference = compare()
        # What has just been written may be written again without looking any different.
        newest = max((changed for *_, changed in look), default=0)
        if difference is None and newest < time.time_ns() - SETTLED:
            self._looks[key] = look
        return difference


def _look(files: Iterable[Path]) -> Look:
    stats = map(os.stat, files)
    return [(stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for stat in stats]
