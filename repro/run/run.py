"""A run of tables: make what is missing, then write each table from the artefacts."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from c3l.artifacts.graph import Stages, not_in_store
from c3l.artifacts.read_only import NotStoredError, ReadOnlyStore
from c3l.artifacts.store import Store
from c3l.runtime import extras
from c3l.runtime.errors import UserError
from c3l.runtime.locks import locked
from c3l.runtime.progress import duration, echo
from c3l.stages import launcher
from repro import recipe
from repro.inputs import Inputs, placeholder_inputs, resolve_inputs
from repro.profile import Profile
from repro.recipe import Cells, stages
from repro.rows import TABLES, Table
from repro.run import engines, preflight, runner
from repro.run.screen import write_result
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
        placeholders: bool = False,
    ) -> "Run":
        """Check the input and make the stages; makes the pocket world if it is not there yet.

        Without `fetch` nothing is fetched from the Hub. With `placeholders` the input counts as if
        it were there: for a plan, not to be run.
        """
        rows = [row for name in names for row in TABLES[name].rows]
        needed = dict.fromkeys(row.backbone for row in rows)
        present = profile.backbones | profile.served
        if not needed.keys() & present.keys():
            raise UserError(
                f"The profile {profile.name} has no backbone {', '.join(needed)}; it has "
                f"{', '.join(present) or 'none'}."
            )
        if placeholders:
            inputs = placeholder_inputs(profile, rows)
        else:
            store.remove_leftovers()
            inputs = resolve_inputs(profile, store, rows, fetch=fetch)
        tables = {name: cells(TABLES[name], profile, inputs, seeds) for name in names}
        return cls(tables, profile, seeds, store)

    @classmethod
    def stored(
        cls, names: list[str], profile: Profile, seeds: list[int], runs: Path, *, fetch: bool = True
    ) -> "Run":
        """Prepare from a runs folder that is only read.

        Where the pocket world is gone, it is made, which the folder must allow. Raises UserError
        otherwise.
        """
        reader = ReadOnlyStore(runs / "store")
        # Look first: `prepare` would announce that it makes the world.
        if profile.data != "pocket" or reader.find(driver.pocket_world()):
            with suppress(NotStoredError):
                return cls.prepare(names, profile, seeds, reader, fetch=fetch)
        run = cls.prepare(names, profile, seeds, Store(reader.root), fetch=fetch)
        return replace(run, store=reader)

    def finish(self, folder: Path, jobs: int, engine: engines.Name = "local") -> Iterator[str]:
        """Run what is missing, write each table to `folder` and yield its markdown."""
        started = time.monotonic()
        targets = [stage for cells in self.tables.values() for stage in stages(cells)]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder} cannot be written ({error.strerror}).") from error
        runner.discard_transient(targets, self.store)
        todo = not_in_store(targets, self.store)
        if launch := launcher.requested_launch():
            launch.check_stages(todo.values())
        preflight.check(todo.values())
        if any(TABLES[name].drawing == "lines" for name in self.tables):
            extras.require("matplotlib", "A figure")
        runner.run_missing(
            targets,
            todo,
            self.store,
            jobs,
            folder / "workers.log",
            self.profile.expected,
            estimates=self._estimated_seconds(todo),
            rows=recipe.rows(self.tables),
            engine=engine,
        )
        seconds = time.monotonic() - started
        for name, cells in self.tables.items():
            yield self._write(name, cells, folder, seconds if todo else None)
        echo(f"Done in {duration(seconds)}; the tables are in {folder}.")

    def _estimated_seconds(self, todo: Stages) -> dict[str, float]:
        """Seconds by formula, on the device found here, where the profile states none."""
        if not todo or self.profile.expected.seconds or self.profile.expected.factors:
            return {}
        from repro.estimate.devices import device_named
        from repro.estimate.plan import Estimator

        estimates = Estimator(device_named(None), self.profile).estimate_all(todo.values())
        return {key: estimate.seconds for key, estimate in estimates.items()}

    def _write(self, name: str, cells: Cells, folder: Path, seconds: float | None) -> str:
        """Write NAME.json, .csv, .md and drawings, each atomically, and return the markdown.

        Without `seconds` the wall-clock stays that of the run before: a run that finds everything
        stored writes the same bytes again.
        """
        from repro.analysis.table import finished_table
        from repro.render import markdown

        table = finished_table(name, cells, self.profile, self.seeds, self.store)
        path = folder / f"{name}.json"
        fields, drawings = self._draw(name, table, cells)
        clock = _previous_wall_clock(path) if seconds is None else round(seconds, 1)
        table |= fields | {"wall_clock_seconds": clock}
        files = drawings | {
            path.name: json.dumps(table, indent=1, ensure_ascii=False) + "\n",
            f"{name}.csv": markdown.render_csv(table),
            f"{name}.md": markdown.render_table(table),
        }
        with locked(self.store.root / "locks" / f"tables-{self.profile.name}.lock"):
            for file, content in files.items():
                write_result(folder / file, content, make_folder=True)
        return files[f"{name}.md"]

    def _draw(self, name: str, table: dict, cells: Cells) -> tuple[dict, dict[str, bytes]]:
        """Return the table's fields about its drawing, and the drawing's files by name."""
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


def cells(table: Table, profile: Profile, inputs: Inputs, seeds: list[int]) -> Cells:
    """The stages behind a table; its rows share those that are the same."""
    if table.tuning_seeds is not None:
        profile = profile.with_tuning_seeds(at_most=table.tuning_seeds)
    return {
        row.label: recipe.stages_for_row(row, table.columns, profile, inputs, seeds)
        for row in table.rows
    }


def _previous_wall_clock(path: Path) -> float | None:
    try:
        return json.loads(path.read_text(encoding="utf-8")).get("wall_clock_seconds")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
