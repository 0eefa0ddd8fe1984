"""The artefacts behind the tables, each with its manifest and its inputs."""

from c3l.artifacts.graph import closure
from c3l.artifacts.store import Source, Stage, Store


class Artefacts:
    """The page's list of artefacts: `records` has inputs before their outputs."""

    def __init__(self, store: Store):
        self._store = store
        self.records: list[dict] = []
        self.configs: list[dict] = []
        self.commits: list[str] = []
        self.devices: list[str] = []
        self._positions: dict[str, int] = {}

    def add(self, stage: Stage) -> int:
        """Add a stage's artefact and its inputs; return its position in `records`."""
        if stage.key not in self._positions:
            for key, ancestor in closure([stage]).items():
                if key not in self._positions:
                    self._positions[key] = len(self.records)
                    self.records.append(self._record(ancestor))
        return self._positions[stage.key]

    def _record(self, stage: Stage) -> dict:
        record = {
            "stage": stage.name,
            "key": stage.key,
            "config": _position(stage.config, self.configs),
            "inputs": {name: self._input(source) for name, source in stage.inputs.items()},
        }
        if stage.seed is not None:
            record["seed"] = stage.seed
        # An artefact that only other stages needed may have been removed since.
        if manifest := self._store.manifest(stage):
            record |= {name: manifest[name] for name in ("made", "seconds")}
            record["commit"] = _position(manifest["commit"], self.commits)
            record["device"] = _position(manifest["device"], self.devices)
        return record

    def _input(self, source: Stage | Source) -> int | list[str]:
        """A stage's position in `records`, or a source's name and digest.

        Not its path: a reader of the page need not know this machine's folders.
        """
        if isinstance(source, Stage):
            return self._positions[source.key]
        return [source.path.name, source.key]


def _position(value, values: list) -> int:
    if value not in values:
        values.append(value)
    return values.index(value)
