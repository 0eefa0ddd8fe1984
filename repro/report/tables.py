"""The finished tables in a runs folder, and the stages behind them."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from c3l.artifacts.graph import not_in_store
from c3l.artifacts.store import Store
from c3l.runtime.errors import UserError
from repro.profile import Profile
from repro.recipe import Cells, Runs, stages
from repro.rows import TABLES
from repro.run.run import Run

UNREADABLE = "cannot be read"
# Reading JSON that is not a table's raises any of these.
READ_ERRORS = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


@dataclass(frozen=True)
class FinishedTable:
    """A table's JSON in the runs folder, and the stages that it was made from."""

    record: dict
    cells: Cells


def find_tables(
    profile: Profile, seeds: int | None, runs: Path
) -> tuple[dict[str, FinishedTable], dict[str, str], Store]:
    """Return the tables that were made with these options, why others are missing, and the store.

    Without `seeds`, each table counts with the data seeds that it was last run with. A table whose
    JSON names other artefacts than these options lead to, or artefacts that are not whole in the
    store, has not been run with them. Raises UserError where that is so of all of them.
    """
    folder = runs / profile.name
    records, missing = _read_records(folder)
    if not records:
        damaged = [f"{name}.json" for name, reason in missing.items() if reason == UNREADABLE]
        detail = f" that can be read ({', '.join(damaged)} cannot)" if damaged else ""
        raise UserError(
            f"There is no table in {folder}{detail}: run `python -m repro all`, or one table, "
            "first."
        )
    names_by_seeds = defaultdict(list)
    for name, record in records.items():
        names_by_seeds[seeds or len(record["seeds"])].append(name)
    cells: dict[str, Cells] = {}
    for count, names in names_by_seeds.items():
        run = Run.stored(names, profile, list(range(count)), runs)
        cells |= run.tables
    tables = {}
    for name, record in records.items():
        if _recorded_digests(record) != _expected_digests(cells[name]):
            missing[name] = "was last run with other options"
        elif not_in_store(stages(cells[name]), run.store):
            missing[name] = "lacks some of its artefacts"
        else:
            tables[name] = FinishedTable(record, cells[name])
    if not tables:
        raise UserError(
            f"The tables in {folder} were made with other options: give the same --profile, --set "
            "and --seeds, or run `python -m repro all` with these ones first."
        )
    return tables, {name: missing[name] for name in TABLES if name in missing}, run.store


def _read_records(folder: Path) -> tuple[dict[str, dict], dict[str, str]]:
    """Return the tables' JSON in a folder, and why others are missing."""
    records, missing = {}, {}
    for name in TABLES:
        try:
            record = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
            _recorded_digests(record)
            if not (len(record["seeds"]) and len(record["rows"])):
                raise ValueError
            records[name] = record
        except FileNotFoundError:
            missing[name] = "has not been run"
        except READ_ERRORS:
            missing[name] = UNREADABLE
    return records, missing


def _recorded_digests(record: dict) -> dict:
    return {
        row["label"]: {column: cell["artefacts"] for column, cell in row["cells"].items()}
        for row in record["rows"]
    }


def _expected_digests(cells: Cells) -> dict:
    def digests(row: dict[str, Runs]) -> dict[str, list[str]]:
        return {name: [stage.key for run in runs for stage in run] for name, runs in row.items()}

    return {label: digests(row) for label, row in cells.items()}
