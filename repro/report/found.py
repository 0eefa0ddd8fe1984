"""Which tables have been run, and the stages behind them."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from c3l.artifacts.graph import not_in_store
from c3l.artifacts.store import Store
from c3l.runtime.errors import UserError
from repro.profile import Profile
from repro.recipe import Cells, stages
from repro.rows import TABLES
from repro.run.run import Run

DAMAGED = "cannot be read"
# What JSON of another shape than a table's raises.
DAMAGE = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Found:
    """A finished table as it lies in the runs folder, and the stages that it was made from."""

    record: dict
    cells: Cells


def find(
    profile: Profile, seeds: int | None, runs: Path
) -> tuple[dict[str, Found], dict[str, str], Store]:
    """The tables below a runs folder that were made with these options, why the others are not
    there, and the store.

    Without `seeds`, each table counts with the data seeds that it was last run with. A table whose
    JSON names other artefacts than these options lead to, or artefacts that are not whole in the
    store, has not been run with them. Raises UserError where that is so of all of them.
    """
    folder = runs / profile.name
    records, missing = _read(folder)
    if not records:
        damaged = [f"{name}.json" for name, why in missing.items() if why == DAMAGED]
        said = f" that can be read ({', '.join(damaged)} cannot)" if damaged else ""
        raise UserError(
            f"There is no table in {folder}{said}: run `python -m repro all`, or one table, first."
        )
    together = defaultdict(list)
    for name, record in records.items():
        together[seeds or len(record["seeds"])].append(name)
    cells: dict[str, Cells] = {}
    for count, names in together.items():
        run = Run.stored(names, profile, list(range(count)), runs)
        cells |= run.tables
    store = run.store
    found = {}
    for name, record in records.items():
        if _artefacts(record) != _expected(cells[name]):
            missing[name] = "was last run with other options"
        elif not_in_store(stages(cells[name]), store):
            missing[name] = "lacks some of its artefacts"
        else:
            found[name] = Found(record, cells[name])
    if not found:
        raise UserError(
            f"The tables in {folder} were made with other options: give the same --profile, --set "
            "and --seeds, or run `python -m repro all` with these ones first."
        )
    return found, {name: missing[name] for name in TABLES if name in missing}, store


def _read(folder: Path) -> tuple[dict[str, dict], dict[str, str]]:
    """The tables' JSON in a folder, and why there is none of the others."""
    records, missing = {}, {}
    for name in TABLES:
        try:
            record = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
            _artefacts(record)
            len(record["seeds"])
        except FileNotFoundError:
            missing[name] = "has not been run"
        except DAMAGE:
            missing[name] = DAMAGED
        else:
            if record["rows"] and record["seeds"]:
                records[name] = record
            else:
                missing[name] = DAMAGED
    return records, missing


def _artefacts(record: dict) -> dict:
    """The digests behind each cell that a table's JSON names."""
    return {
        row["label"]: {column: cell["artefacts"] for column, cell in row["cells"].items()}
        for row in record["rows"]
    }


def _expected(cells: Cells) -> dict:
    return {
        label: {
            column: [stage.key for some in runs for stage in some] for column, runs in row.items()
        }
        for label, row in cells.items()
    }
