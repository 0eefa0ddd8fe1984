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
  process, so whoever holds it may sweep that key's leftovers away;
- files are hashed once per process on their first reading. A damaged artefact is set aside under
  `ROOT/damaged` for a person to look at, and made again.
"""

import errno
import logging
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from filelock import FileLock, Timeout

from c3l import provenance
from c3l.errors import UserError
from c3l.files import digest, digest_file, fsync, read_sealed, write_sealed

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


@dataclass(frozen=True)
class Source:
    """An input that no stage made: a file or folder outside the store, and its contents' digest."""

    path: Path
    key: str


@dataclass(frozen=True)
class Job:
    """What a stage's function is given: read `inputs`, write into `out`, return the facts.

    `partial` survives a crash and is there again when the stage is taken up; `keys` are the
    inputs' digests.
    """

    out: Path
    partial: Path
    inputs: dict[str, Path]
    keys: dict[str, str]
    config: dict
    seed: int | None


@dataclass(frozen=True, eq=False)
class Stage:
    """A step of the pipeline.

    `run` is a function of a module (so that other processes find it) from a Job to a dict of
    facts for the manifest: counts, metrics. The fact "unscored" says why there is no result; then
    every stage that builds on this one is unscored for the same reason and does not run. The fact
    "transient" says that another time it may have one: a run discards the artefact and tries anew,
    with what it held in `Job.partial`.
    """

    name: str
    version: int
    run: Callable[[Job], dict]
    config: dict = field(default_factory=dict)
    inputs: "dict[str, Stage | Source]" = field(default_factory=dict)
    seed: int | None = None

    @cached_property
    def key(self) -> str:
        return digest(
            {
                "stage": self.name,
                "version": self.version,
                "config": self.config,
                "inputs": {name: source.key for name, source in self.inputs.items()},
                "seed": self.seed,
            }
        )

    @property
    def stages(self) -> "list[Stage]":
        """The inputs that are stages themselves."""
        return [source for source in self.inputs.values() if isinstance(source, Stage)]


class Store:
    """Artefacts below one folder; any number of processes may share it.

    Raises UserError when the folder cannot be written.
    """

    def __init__(self, root: Path):
        self.root = Path(root).absolute()
        self._intact: set[str] = set()
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
        """Where the stage's artefact lies or will lie."""
        return self.root / stage.name / stage.key

    def find(self, stage: Stage) -> Path | None:
        """The stage's artefact if it is there and every file matches its digest.

        A damaged one is named in a warning, set aside, and counts as absent.
        """
        path = self.path(stage)
        if path.exists() and self._damage(path):
            with self._lock(stage):
                if path.exists() and (damage := self._damage(path)):
                    self._set_aside(path, damage)
        return path if path.exists() else None

    def manifest(self, stage: Stage) -> dict | None:
        """The manifest of an artefact, or None when it is absent or damaged."""
        return read_sealed(self.path(stage) / MANIFEST)

    def make(self, stage: Stage) -> Path:
        """The stage's artefact, made now (inputs first) if it is not there whole."""
        if found := self.find(stage):
            return found
        inputs = {
            name: self.make(source) if isinstance(source, Stage) else source.path
            for name, source in stage.inputs.items()
        }
        with self._lock(stage):
            if (path := self.path(stage)).exists():  # made by another process in the meantime
                if not (damage := self._damage(path)):
                    return path
                self._set_aside(path, damage)
            return self._build(stage, inputs)

    def discard(self, stage: Stage) -> None:
        """Take an artefact out, if it is there, so that it is made again; the next attempt finds
        in `Job.partial` what it held."""
        final = self.path(stage)
        partial = final.with_name(f".partial-{stage.key}")
        with self._lock(stage), self._write_errors():
            if final.exists():
                shutil.rmtree(partial, ignore_errors=True)
                os.rename(final, partial)
        self._intact.discard(stage.key)

    def sweep(self) -> None:
        """Remove what dead processes left half-written."""
        for leftover in [*self.root.glob("*/.tmp-*"), *self.root.glob("*/.partial-*")]:
            key = leftover.name.split("-", 1)[1]
            if leftover.name.startswith(".partial-") and not (leftover.parent / key).exists():
                continue  # a long stage will go on from there
            try:
                with FileLock(self.root / "locks" / f"{key}.lock", timeout=0):
                    shutil.rmtree(leftover, ignore_errors=True)
            except Timeout:
                continue  # alive: another process is at work on it

    def _build(self, stage: Stage, inputs: dict[str, Path]) -> Path:
        final = self.path(stage)
        work, partial = (final.with_name(f".{kind}-{stage.key}") for kind in ("tmp", "partial"))
        keys = {name: source.key for name, source in stage.inputs.items()}
        started = time.perf_counter()
        try:
            with self._write_errors():
                shutil.rmtree(work, ignore_errors=True)
                work.mkdir(parents=True)
                partial.mkdir(exist_ok=True)
                reasons = (self.manifest(s)["facts"].get("unscored") for s in stage.stages)
                if unscored := next(filter(None, reasons), None):
                    facts = {"unscored": unscored}
                else:
                    facts = stage.run(Job(work, partial, inputs, keys, stage.config, stage.seed))
                self._seal(work, stage, keys, facts, time.perf_counter() - started)
                os.rename(work, final)
                fsync(final.parent)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(partial, ignore_errors=True)
        self._intact.add(stage.key)
        return final

    def _seal(self, work: Path, stage: Stage, keys: dict, facts: dict, seconds: float) -> None:
        """Write the manifest and bring everything in the folder to the disk."""
        files = sorted(path for path in work.rglob("*") if path.is_file())
        manifest = {
            "stage": stage.name,
            "version": stage.version,
            "key": stage.key,
            "inputs": keys,
            "config": stage.config,
            "seed": stage.seed,
            "facts": facts,
            "files": {str(path.relative_to(work)): digest_file(path) for path in files},
            "versions": provenance.versions(),
            "commit": provenance.commit(),
            "device": provenance.device(),
            "seconds": round(seconds, 3),
            # of this process up to now: an upper bound of what the stage itself needed
            "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_sealed(work / MANIFEST, manifest)
        for path in files:
            fsync(path)
        for folder in [work, *(path for path in work.rglob("*") if path.is_dir())]:
            fsync(folder)

    def _damage(self, path: Path) -> str | None:
        """What is wrong with an artefact, or None. Hashes every file, once per process."""
        if path.name in self._intact:
            return None
        manifest = read_sealed(path / MANIFEST)
        if manifest is None or manifest.get("key") != path.name:
            return f"{MANIFEST} is missing or does not match its digest"
        for name, expected in manifest["files"].items():
            try:
                if digest_file(path / name) != expected:
                    return f"{name} does not match its digest"
            except OSError as error:
                return f"{name} cannot be read ({error.strerror})"
        self._intact.add(path.name)
        return None

    def _set_aside(self, path: Path, damage: str) -> None:
        with self._write_errors():
            folder = self.root / "damaged"
            folder.mkdir(exist_ok=True)
            aside = Path(tempfile.mkdtemp(dir=folder, prefix=f"{path.parent.name}-"))
            os.rename(path, aside / path.name)
        log.warning("%s is damaged: %s. Set aside in %s; it is made again.", path, damage, aside)

    def _lock(self, stage: Stage) -> FileLock:
        return FileLock(self.root / "locks" / f"{stage.key}.lock")

    @contextmanager
    def _write_errors(self) -> Iterator[None]:
        """Turn a full or read-only disk into a sentence; libraries hide it in their own errors."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            number = error.errno if isinstance(error, OSError) else None
            name = getattr(error, "filename", None)
            ours = name is None or Path(str(name)).is_relative_to(self.root)
            if shutil.disk_usage(self.root).free < 2**20:
                number = errno.ENOSPC
            if number not in CANNOT_WRITE or not ours:
                raise
            reason = os.strerror(number)
            raise UserError(
                f"The runs folder {self.root} cannot be written ({reason}); make room or choose "
                "another one, then run the same command again: finished stages are kept."
            ) from error
