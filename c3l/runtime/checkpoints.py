"""Checkpoints of a training: the newest is kept, sealed; one without a seal is incomplete."""

import logging
import shutil
from pathlib import Path

from c3l.artifacts.files import SEAL, verify_digests, write_digests

log = logging.getLogger(__name__)


def keep_only(folder: Path, name: str) -> None:
    """Seal the checkpoint of that name, and only then remove all others."""
    write_digests(folder / name)
    for other in folder.glob("checkpoint-*"):
        if other.name != name:
            shutil.rmtree(other)


def last_checkpoint(folder: Path) -> str | None:
    """Return the newest complete checkpoint: one without a seal was not finished."""
    checkpoints = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for checkpoint in reversed(checkpoints):
        if not (checkpoint / SEAL).exists():
            continue
        if (damage := verify_digests(checkpoint)) is None:
            return str(checkpoint)
        log.warning("%s is damaged: %s. The training goes on from before it.", checkpoint, damage)
    return None
