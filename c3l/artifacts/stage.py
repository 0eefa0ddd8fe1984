"""Stages, their inputs and their jobs (`c3l.artifacts.store` keeps what stages make)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from c3l.artifacts.files import digest, digest_file, digest_files


@dataclass(frozen=True)
class Source:
    """An input that no stage made: a file or folder outside the store, with its digest."""

    path: Path
    key: str
    names: tuple[str, ...] | None = None
    """The files of a folder that count; None: all of them."""
    read_as: str | None = None
    """The way of reading, where that counts as well: weights in another precision."""

    @classmethod
    def from_path(
        cls, path: Path, names: Iterable[str] | None = None, read_as: str | None = None
    ) -> "Source":
        """Digest a file, or the files of a folder, as they are now."""
        names = None if names is None else tuple(names)
        return cls(path, cls._digest(path, names, read_as), names, read_as)

    @staticmethod
    def _digest(path: Path, names: tuple[str, ...] | None, read_as: str | None) -> str:
        contents = digest_file(path) if path.is_file() else digest_files(path, names)
        return digest([contents, read_as]) if read_as else contents

    def difference(self) -> str | None:
        """Describe contents that have another digest by now, or return None."""
        same = self._digest(self.path, self.names, self.read_as) == self.key
        return None if same else "its files do not match its digest"

    def files(self) -> list[Path]:
        """Return the files that are read."""
        if self.names is not None:
            return [self.path / name for name in self.names]
        if self.path.is_file():
            return [self.path]
        return [path for path in self.path.rglob("*") if path.is_file()]  # none, if it is not there


@dataclass(frozen=True)
class Job:
    """A run of a stage's function: read `inputs`, write into `out`, return the metadata.

    `partial` survives a crash and is there again when the stage is taken up; `keys` are the
    inputs' digests. `still_needed` is for processes that only help the one that makes the stage,
    with shards (`c3l.artifacts.shards`) in `partial`: it says whether these are still wanted.
    """

    out: Path
    partial: Path
    inputs: dict[str, Path]
    keys: dict[str, str]
    config: dict
    seed: int | None
    still_needed: Callable[[], bool] | None = None


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
                "inputs": self.input_keys,
                "seed": self.seed,
            }
        )

    @property
    def input_keys(self) -> dict[str, str]:
        """The digests of the inputs, by name."""
        return {name: source.key for name, source in self.inputs.items()}

    @property
    def stages(self) -> "list[Stage]":
        """The inputs that are stages themselves."""
        return [source for source in self.inputs.values() if isinstance(source, Stage)]
