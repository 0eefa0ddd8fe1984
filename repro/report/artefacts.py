"""The artefacts behind the tables, each with what its manifest says and what it was made from."""

from c3l.artifacts.graph import closure
from c3l.artifacts.store import Source, Stage, Store


class Artefacts:
    """A list for the page: `all` has inputs before what is made of them."""

    def __init__(self, store: Store):
        self._store = store
        self.all: list[dict] = []
        self.configs: list[dict] = []
        self.commits: list[str] = []
        self.devices: list[str] = []
        self._places: dict[str, int] = {}

    def add(self, stage: Stage) -> int:
        """The place of a stage's artefact in `all`; what it was made from is there as well."""
        if stage.key not in self._places:
            for key, made in closure([stage]).items():
                if key not in self._places:
                    self._places[key] = len(self.all)
                    self.all.append(self._said(made))
        return self._places[stage.key]

    def _said(self, stage: Stage) -> dict:
        said = {
            "stage": stage.name,
            "key": stage.key,
            "config": _place(stage.config, self.configs),
            "inputs": {name: self._input(source) for name, source in stage.inputs.items()},
        }
        if stage.seed is not None:
            said["seed"] = stage.seed
        # What only the making of others needed may have been removed since.
        if manifest := self._store.manifest(stage):
            said |= {name: manifest[name] for name in ("made", "seconds")}
            said["commit"] = _place(manifest["commit"], self.commits)
            said["device"] = _place(manifest["device"], self.devices)
        return said

    def _input(self, source: Stage | Source) -> int | list[str]:
        """A place in `all`, or of what no stage made the name and the digest of its contents.

        Not the path: who reads the page need not know where things lie on the machine it is from.
        """
        if isinstance(source, Stage):
            return self._places[source.key]
        return [source.path.name, source.key]


def _place(value, values: list) -> int:
    if value not in values:
        values.append(value)
    return values.index(value)
