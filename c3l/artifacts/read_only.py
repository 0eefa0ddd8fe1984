"""A store that is only read: nothing is made, repaired or removed."""

import logging
from pathlib import Path

from c3l.artifacts.integrity import Integrity
from c3l.artifacts.stage import Stage
from c3l.artifacts.store import Store
from c3l.runtime.errors import UserError

log = logging.getLogger(__name__)


class NotStoredError(UserError):
    """An artefact is needed and missing."""


class ReadOnlyStore(Store):
    """Artefacts below a folder that need not be writable, or exist at all."""

    def __init__(self, root: Path):
        self.root = Path(root).absolute()
        self._integrity = Integrity()

    def find(self, stage: Stage) -> Path | None:
        """Return the stage's artefact if it is whole. A damaged one is named and stays."""
        path = self.path(stage)
        if path.exists() and (damage := self._integrity.damage(path)):
            log.warning("%s is damaged: %s. The next run makes it again.", path, damage)
            return None
        return path if path.exists() else None

    def make(self, stage: Stage) -> Path:
        """Return the artefact. Raise NotStoredError where it is not there."""
        if path := self.find(stage):
            return path
        raise NotStoredError(f"{self.path(stage)} is not there or damaged.")

    def build_shards(self, stage: Stage) -> None:
        """Do nothing: nothing is being made."""

    def discard(self, stage: Stage) -> None:
        """Leave everything where it is."""

    def remove_leftovers(self) -> None:
        """Leave everything where it is."""
