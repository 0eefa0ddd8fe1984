"""Content-addressed artefacts: what has been made is never made again, and never half there.

A stage is a pure function of its configuration, its seed and its inputs; its key is a digest of
all of them, where weights and image bytes count and names do not. An artefact is the folder
`ROOT/<stage>/<key>/` with the stage's files and a `manifest.json`.

Trade-offs, taken on purpose:
- keys are known before anything runs (a stage's key holds its inputs' keys, not their bytes),
  so a run can be planned; a change of code is seen only when the stage's version is raised;
- work happens in `.tmp-<key>` and is fsynced before it is renamed: a crash costs the stage, never
  the store. What a long stage wants to find again after a crash goes to `.partial-<key>`;
- a lock per key (flock) lets several processes share a store. The system frees the lock of a dead
  process, so whoever holds it may remove that key's leftovers;
- files are hashed when a process first reads them, and again when the system says that they have
  been touched since: before a stage runs and after it, so that nothing is made from damaged inputs;
- a damaged artefact is named, set aside under `ROOT/damaged` for a person to look at (the last one
  of each key) and made again.
"""

import errno
import hashlib
import logging
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import Timeout

from c3l.artifacts import provenance
from c3l.artifacts.files import digests, fsync, fsync_tree, read_checked, write_checked
from c3l.artifacts.integrity import MANIFEST, Integrity
from c3l.artifacts.shards import NoShardsRemaining, helper_seconds, shards_remaining
from c3l.artifacts.stage import Job, Source, Stage
from c3l.runtime.errors import UserError, write_error_reason
from c3l.runtime.locks import locked
from c3l.runtime.progress import Position, progress_file, read_progress

__all__ = ["Job", "Source", "Stage", "Store"]

log = logging.getLogger(__name__)

INPUTS = "inputs.json"
PLACE = "place.json"  # in `.partial-<key>`: how far the stage is
TRIES = 3  # to make what is damaged again and again
RSS_UNITS_PER_GIB = 2**30 if sys.platform == "darwin" else 2**20  # bytes on macOS, else KiB


class Store:
    """Artefacts below one folder, which any number of processes may share.

    Raises UserError when the folder cannot be written.
    """

    def __init__(self, root: Path):
        self.root = Path(root).absolute()
        self._integrity = Integrity()
        try:
            (self.root / "locks").mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise UserError(
                f"The runs folder {self.root} cannot be written ({error.strerror}); "
                "choose another one."
            ) from error

    def path(self, stage: Stage) -> Path:
        """Return the folder of the stage's artefact, made or not."""
        return self.root / stage.name / stage.key

    def find(self, stage: Stage) -> Path | None:
        """Return the stage's artefact if it is there and every file matches its digest.

        A damaged one is named in a warning, set aside, and counts as absent.
        """
        path = self.path(stage)
        if path.exists() and self._integrity.damage(path):
            with self._lock(stage.key):
                if path.exists() and (damage := self._integrity.damage(path)):
                    self._set_aside(path, damage)
        return path if path.exists() else None

    def manifest(self, stage: Stage) -> dict | None:
        """Return the manifest of an artefact, or None when it is absent or damaged."""
        return read_checked(self.path(stage) / MANIFEST)

    def metadata(self, stage: Stage) -> dict:
        """Return the metadata of an artefact. Raises UserError if it is damaged by now."""
        if manifest := self.manifest(stage):
            return manifest["facts"]
        raise _damaged_since(self.path(stage) / MANIFEST)

    def read(self, stage: Stage, name: str) -> bytes:
        """Return a file of an artefact. Raises UserError if it is damaged by now."""
        path, manifest = self.path(stage) / name, self.manifest(stage)
        with suppress(OSError):
            content = path.read_bytes()
            if manifest and hashlib.sha256(content).hexdigest() == manifest["files"].get(name):
                return content
        raise _damaged_since(path)

    def modified_since_sealed(self, stage: Stage) -> bool:
        """Return whether a file is missing or younger than the manifest, which is written last.

        A cheap check of artefacts that nobody is about to read.
        """
        path, manifest = self.path(stage), self.manifest(stage)
        if manifest is None:
            return path.exists()
        try:
            sealed = (path / MANIFEST).stat().st_mtime_ns
            return any((path / name).stat().st_mtime_ns > sealed for name in manifest["files"])
        except OSError:
            return True

    def progress(self, stage: Stage) -> Position | None:
        """Return the progress of a running stage, if it has reported any."""
        return read_progress(self._partial_path(stage) / PLACE)

    def shards_left(self, stage: Stage) -> int:
        """Count the unfinished shards of a running stage."""
        return shards_remaining(self._partial_path(stage))

    def make(self, stage: Stage) -> Path:
        """Return the stage's artefact, made now (inputs first) if it is absent or damaged."""
        for _ in range(TRIES):
            if path := self.find(stage):
                return path
            inputs = self._inputs(stage)
            with self._lock(stage.key):
                if not self.path(stage).exists():  # no other process has made it meanwhile
                    self._build(stage, inputs)
        if path := self.find(stage):
            return path
        raise UserError(
            f"{self.path(stage)} or what it is made from was damaged {TRIES} times while it was "
            "made; have the disk and the memory checked, or choose another runs folder."
        )

    def build_shards(self, stage: Stage) -> None:
        """Make shards of a stage that another process is making, until none remains to begin."""
        inputs = self._inputs(stage)
        partial, begun = self._partial_path(stage), self._manifests(stage)

        def still_needed() -> bool:
            return read_checked(partial / INPUTS) == begun

        with (
            self._write_errors(),
            suppress(NoShardsRemaining),
            tempfile.TemporaryDirectory() as out,
        ):
            if still_needed():
                stage.run(_job(stage, Path(out), partial, inputs, still_needed))

    def discard(self, stage: Stage) -> None:
        """Take an artefact out so that it is made again; the next `Job.partial` is what it held."""
        final, partial = self.path(stage), self._partial_path(stage)
        with self._lock(stage.key):
            if final.exists():
                shutil.rmtree(partial, ignore_errors=True)
                os.rename(final, partial)
                write_checked(partial / INPUTS, self._manifests(stage))

    def remove_leftovers(self) -> None:
        """Remove the half-written files of dead processes."""
        for leftover in [*self.root.glob("*/.tmp-*"), *self.root.glob("*/.partial-*")]:
            key = leftover.name.split("-", 1)[1]
            if leftover.name.startswith(".partial-") and not (leftover.parent / key).exists():
                continue  # a long stage will go on from there
            # Where the lock is not free, another process is at work on it.
            with suppress(Timeout), self._lock(key, timeout=0):
                shutil.rmtree(leftover, ignore_errors=True)

    def _inputs(self, stage: Stage) -> dict[str, Path]:
        """Return the paths of the inputs, made if need be and verified."""
        paths = {}
        for name, source in stage.inputs.items():
            if isinstance(source, Source):
                self._integrity.verify(source)
            paths[name] = self.make(source) if isinstance(source, Stage) else source.path
        return paths

    def _build(self, stage: Stage, inputs: dict[str, Path]) -> None:
        """Make the artefact, under its lock; nothing, if an input was damaged in the meantime."""
        final = self.path(stage)
        work = final.with_name(f".tmp-{stage.key}")
        started = time.perf_counter()
        try:
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            partial = self._partial(stage)
            try:
                reasons = (self.metadata(source).get("unscored") for source in stage.stages)
                if unscored := next(filter(None, reasons), None):
                    facts = {"unscored": unscored}
                else:
                    with progress_file(partial / PLACE):
                        facts = stage.run(_job(stage, work, partial, inputs))
            except Exception:
                if self._are_intact(stage, partial):
                    raise
                return
            if not self._are_intact(stage, partial):
                return
            seconds = time.perf_counter() - started + helper_seconds(partial)
            self._seal(work, stage, facts, seconds)
            os.rename(work, final)
            fsync(final.parent)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(partial, ignore_errors=True)

    def _partial_path(self, stage: Stage) -> Path:
        return self.path(stage).with_name(f".partial-{stage.key}")

    def _partial(self, stage: Stage) -> Path:
        """Return the folder of an earlier attempt's work.

        It is empty if an input was made again since: that one may have been damaged by then.
        """
        partial, inputs = self._partial_path(stage), self._manifests(stage)
        if read_checked(partial / INPUTS) != inputs:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            write_checked(partial / INPUTS, inputs)
            for folder in (partial.parent, self.root):
                fsync(folder)
        return partial

    def _manifests(self, stage: Stage) -> dict[str, dict | None]:
        """Return the manifests of the inputs that are stages, by key."""
        return {source.key: self.manifest(source) for source in stage.stages}

    def _seal(self, work: Path, stage: Stage, facts: dict, seconds: float) -> None:
        """Write the manifest and bring everything in the folder to the disk."""
        manifest = {
            "stage": stage.name,
            "version": stage.version,
            "key": stage.key,
            "inputs": stage.input_keys,
            "config": stage.config,
            "seed": stage.seed,
            "facts": facts,
            "files": digests(work),
            "versions": provenance.versions(),
            "commit": provenance.commit(),
            "device": provenance.device(),
            "seconds": round(seconds, 3),
            # of this process up to now: an upper bound of what the stage itself needed
            "peak_memory_gib": round(
                resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / RSS_UNITS_PER_GIB, 2
            ),
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_checked(work / MANIFEST, manifest)
        fsync_tree(work)

    def _are_intact(self, stage: Stage, partial: Path) -> bool:
        """Return whether the inputs are still what they were when they were verified.

        Raises UserError for a changed source, and then removes `partial`.
        """
        try:
            for source in stage.inputs.values():
                if isinstance(source, Source):
                    self._integrity.verify(source)
        except UserError:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return not any(self._integrity.damage(self.path(source)) for source in stage.stages)

    def _set_aside(self, path: Path, damage: str) -> None:
        aside = self.root / "damaged" / path.parent.name / path.name
        aside.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(path, aside)
        log.warning("%s is damaged: %s. Set aside in %s; it is made again.", path, damage, aside)

    @contextmanager
    def _lock(self, key: str, timeout: float = -1) -> Iterator[None]:
        with self._write_errors(), locked(self.root / "locks" / f"{key}.lock", timeout):
            yield

    @contextmanager
    def _write_errors(self) -> Iterator[None]:
        """Turn a full or read-only disk into a sentence; libraries hide it in their own errors."""
        try:
            yield
        except (UserError, Timeout):
            raise
        except Exception as error:
            name = getattr(error, "filename", None)
            if name is not None and not Path(str(name)).is_relative_to(self.root):
                raise
            reason = write_error_reason(error)
            if shutil.disk_usage(self.root).free < 2**20:
                reason = os.strerror(errno.ENOSPC)
            if reason is None:
                raise
            raise UserError(
                f"The runs folder {self.root} cannot be written ({reason}); make room or choose "
                "another one, then run the same command again: finished stages are kept."
            ) from error


def _job(stage: Stage, out: Path, partial: Path, inputs: dict[str, Path], still_needed=None) -> Job:
    return Job(out, partial, inputs, stage.input_keys, stage.config, stage.seed, still_needed)


def _damaged_since(path: Path) -> UserError:
    return UserError(
        f"{path} was damaged while the run was at work: run the same command again, which sets it "
        "aside and makes it anew."
    )
