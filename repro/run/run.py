"""A run of tables: what has to be made, made; then each table from the artefacts."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from c3l.artifacts.graph import Stages
from c3l.artifacts.read_only import NotStoredError, ReadOnlyStore
from c3l.artifacts.store import Store
from c3l.runtime.errors import UserError
from c3l.runtime.locks import locked
from c3l.stages import launcher
from repro import inputs, recipe
from repro.inputs import Inputs
from repro.profile import Profile
from repro.recipe import Cells, stages
from repro.rows import TABLES, Ranking, Row, Table
from repro.run import engines, preflight, runner
from repro.run.progress import Progress, Times, duration, echo
from repro.stages import evaluation as driver


@dataclass(frozen=True)
class Run:
    """Tables to run, as stages."""

    tables: dict[str, Cells]
    profile: Profile
    seeds: list[int]
    store: Store

    @classmethod
    def prepare(
        cls,
        names: list[str],
        profile: Profile,
        seeds: list[int],
        store: Store,
        *,
        fetch: bool = True,
    ) -> "Run":
        """Check the input and make the stages; makes the pocket world if it is not there yet.

        Without `fetch` nothing is fetched from the Hub.
        """
        _require_a_backbone(names, profile)
        store.remove_leftovers()
        data = inputs.resolve_inputs(profile, store, _rows(names), fetch=fetch)
        return cls.of(names, profile, seeds, store, data)

    @classmethod
    def stored(
        cls,
        names: list[str],
        profile: Profile,
        seeds: list[int],
        runs: Path,
        *,
        fetch: bool = True,
    ) -> "Run":
        """The same from a runs folder that is only read.

        Where the pocket world is gone, it is made, which the folder must allow. Raises UserError
        otherwise.
        """
        reader = ReadOnlyStore(runs / "store")
        # Looked at before anybody says that it is being made.
        if profile.data != "pocket" or reader.find(driver.pocket_world()):
            with suppress(NotStoredError):
                return cls.prepare(names, profile, seeds, reader, fetch=fetch)
        made = cls.prepare(names, profile, seeds, Store(reader.root), fetch=fetch)
        return replace(made, store=reader)

    @classmethod
    def of(
        cls, names: list[str], profile: Profile, seeds: list[int], store: Store, data: Inputs
    ) -> "Run":
        """The stages on these data."""
        tables = {name: cells(TABLES[name], profile, data, seeds) for name in names}
        return cls(tables, profile, seeds, store)

    @classmethod
    def assumed(cls, names: list[str], profile: Profile, seeds: list[int], store: Store) -> "Run":
        """The stages as if the profile's input were there: to be planned, not to be run."""
        _require_a_backbone(names, profile)
        return cls.of(
            names, profile, seeds, store, inputs.placeholder_inputs(profile, _rows(names))
        )

    def finish(self, folder: Path, jobs: int, engine: engines.Name = "local") -> Iterator[str]:
        """Run what is missing; write each table to `folder` and give its markdown."""
        started = time.monotonic()
        targets = [stage for cells in self.tables.values() for stage in stages(cells)]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder} cannot be written ({error.strerror}).") from error
        runner.discard_transient(targets, self.store)
        todo = runner.not_in_store(targets, self.store)
        everything = runner.closure(targets)
        if launch := launcher.requested_launch():
            launch.check_stages(todo.values())
        preflight.check(todo.values())
        said = self.profile.expected
        times = Times(said, everything.values(), self.store, self._reckoned(todo) if todo else {})
        ran, rows = bool(todo), recipe.rows(self.tables)
        stored = len(everything) - len(todo)
        with Progress(todo, stored, times, jobs, rows=rows, everything=everything) as progress:
            while todo:
                runner.run(todo, self.store, jobs, progress, folder / "workers.log", engine)
                todo = runner.not_in_store(targets, self.store)  # nothing, if nothing was damaged
        seconds = time.monotonic() - started
        for name, cells in self.tables.items():
            yield self._write(name, cells, folder, seconds if ran else None)
        echo(f"Done in {duration(seconds)}; the tables are in {folder}.")

    def _reckoned(self, todo: Stages) -> dict[str, float]:
        """Seconds of the stages here, where the profile says nothing of how long any takes."""
        if self.profile.expected.seconds or self.profile.expected.factors:
            return {}
        from repro.estimate.devices import named
        from repro.estimate.plan import Estimator, estimate_stages

        found = estimate_stages(todo.values(), Estimator(named(None), self.profile))
        return {key: one.seconds for key, one in found.items()}

    def _write(self, name: str, cells: Cells, folder: Path, seconds: float | None) -> str:
        """Write NAME.json, .csv, .md and drawings, each whole or not at all; the markdown.

        The wall-clock is that of the last run that had something to do: a run that finds all of it
        stored writes the same bytes again.
        """
        from c3l.artifacts.files import write_atomically
        from repro.analysis.table import finished
        from repro.render import markdown

        table = finished(name, cells, self.profile, self.seeds, self.store)
        path = folder / f"{name}.json"
        said, drawings = self._drawn(name, table, cells)
        table |= said
        table["wall_clock_seconds"] = _wall_clock(path) if seconds is None else round(seconds, 1)
        files = drawings | {
            path.name: json.dumps(table, indent=1, ensure_ascii=False) + "\n",
            f"{name}.csv": markdown.render_csv(table),
            f"{name}.md": markdown.render_table(table),
        }
        with locked(self.store.root / "locks" / f"tables-{self.profile.name}.lock"):
            for file, content in files.items():
                try:
                    (folder / file).parent.mkdir(exist_ok=True)
                    write_atomically(folder / file, content)
                except OSError as error:
                    raise UserError(
                        f"{folder / file} cannot be written ({error.strerror})."
                    ) from error
        return files[f"{name}.md"]

    def _drawn(self, name: str, table: dict, cells: Cells) -> tuple[dict, dict[str, bytes]]:
        """What the table says of its drawing, and the drawing's files by name."""
        match TABLES[name].drawing:
            case "lines":
                from repro.render import figures

                drawings = figures.draw_figure(table)
                return {"files": [*drawings]}, drawings
            case "gallery":
                from repro.analysis import gallery

                record, pictures = gallery.build_gallery(name, cells, self.seeds[0], self.store)
                return {"gallery": record}, pictures
        return {}, {}


def _rows(names: list[str]) -> list[Row | Ranking]:
    return [row for name in names for row in TABLES[name].rows]


def _require_a_backbone(names: list[str], profile: Profile) -> None:
    """Raise UserError where the profile lacks the backbones of all rows."""
    backbones = dict.fromkeys(row.backbone for name in names for row in TABLES[name].rows)
    there = profile.backbones | profile.served
    if not backbones.keys() & there.keys():
        lacking, known = ", ".join(backbones), ", ".join(there) or "none"
        raise UserError(f"The profile {profile.name} has no backbone {lacking}; it has {known}.")


def cells(table: Table, profile: Profile, data: Inputs, seeds: list[int]) -> Cells:
    """The stages behind a table, of which its rows may share any."""
    if table.tuning_seeds is not None:
        profile = profile.with_tuning_seeds(at_most=table.tuning_seeds)
    return {
        row.label: recipe.stages_for_row(row, table.columns, profile, data, seeds)
        for row in table.rows
    }


def _wall_clock(path: Path) -> float | None:
    """The wall-clock in a table written before, if there is one."""
    try:
        return json.loads(path.read_text(encoding="utf-8")).get("wall_clock_seconds")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
