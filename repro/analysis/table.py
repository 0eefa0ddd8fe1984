"""A finished table as JSON: numbers and intervals from the artefacts."""

import json
from collections import Counter
from decimal import Decimal
from numbers import Number

import numpy as np

import repro.paper
from c3l.artifacts.graph import closure
from c3l.artifacts.store import Store
from repro.analysis.differences import Measurements, rounded
from repro.analysis.statistics import UndefinedError, holm
from repro.columns import COLUMNS
from repro.paper import Pair
from repro.profile import Profile
from repro.recipe import Cells, Runs, stages
from repro.render import markdown
from repro.rows import TABLES, Ranking, Row, Table

INTERVAL = (
    "95% intervals by crossed random effects ({over}), with Satterthwaite's degrees of freedom"
)
ONE_SEED = (
    "With one data seed the intervals cover the choice of {levels}, not the data seed: rows may "
    "differ by more than their intervals say for no other reason than the seed."
)
STAND_INS = (
    "The published data sets are stand-ins here, written from scene graphs with known noise: "
    "see benchmarks/pocket/README.md."
)


def finished_table(
    name: str,
    cells: Cells,
    profile: Profile,
    seeds: list[int],
    store: Store,
    measurements: Measurements | None = None,
) -> dict:
    """Return the table in DESIGN's form, from artefacts that are all stored.

    Beyond the fields named there: `readings` (the profile's; rows say what they change), `made` and
    `core_seconds` (the date of the newest artefact, the time all of them took), `versions`, and for
    each cell `extra`: the value of every run as [data seed][tuning seed], the share of unreadable
    answers, and the means of what the benchmark reports beside its number. The cells of a row with
    a base have `difference`: the base's label and the fields of
    `repro.analysis.differences.Measurements.describe`; with a `p` also `p_holm`, adjusted for all
    comparisons of the table that have one; None where there is nothing to compare. `notes` are
    sentences about the table, the paper's footnotes among them.
    """
    table, paper = TABLES[name], repro.paper.load().get(name)
    measurements = measurements or Measurements(name, cells, store)
    manifests = [m for stage in closure(stages(cells)).values() if (m := store.manifest(stage))]
    measured = {
        row.label: {
            column: _cell(runs, row.label, column, measurements, store)
            for column, runs in cells[row.label].items()
        }
        for row in table.rows
    }
    _compare(table, measured, measurements)
    tuned = _tuning_seeds(cells)
    notes = _notes(table, measured, seeds, tuned, profile) + _short(cells, store)
    notes += _left_out(manifests) + (paper.footnotes if paper else [])
    return {
        "table": name,
        "title": table.title or paper.title,
        "profile": profile.name,
        "readings": profile.readings.model_dump(),
        "seeds": seeds,
        "tuning_seeds": tuned,
        "commit": ", ".join(sorted({manifest["commit"] for manifest in manifests})),
        "interval": INTERVAL.format(over=_levels(len(seeds), tuned)),
        "units": {c: COLUMNS[c].unit for row in cells.values() for c in row},
        "made": max(manifest["made"] for manifest in manifests),
        "core_seconds": round(sum(manifest["seconds"] for manifest in manifests), 1),
        "versions": manifests[-1]["versions"],
        "rows": [{"label": label, "cells": row} for label, row in measured.items()],
        "notes": notes,
    }


def _tuning_seeds(cells: Cells) -> int | None:
    """Return the number of models tuned for each data seed, or None where none is."""
    benchmarks = [runs for row in cells.values() for c, runs in row.items() if COLUMNS[c].benchmark]
    return max((len(run) for runs in benchmarks for run in runs), default=None)


def _levels(seeds: int, tuned: int | None) -> str:
    """Name the factors that the intervals cover."""
    items = "questions" if tuned else "pairs"
    factors = ["data seeds"] * (seeds > 1) + ["tuning seeds"] * ((tuned or 0) > 1)
    return " and ".join([", ".join([f"images with their {items}", *factors[:-1]]), *factors[-1:]])


def _notes(
    table: Table, measured: dict, seeds: list[int], tuned: int | None, profile: Profile
) -> list[str]:
    controls = [row for row in table.rows if isinstance(row, Ranking) and row.control is not None]
    notes = [_control(row, measured[row.label]) for row in controls]
    if profile.data == "pocket" and any(isinstance(row, Row) and row.data for row in table.rows):
        notes.append(STAND_INS)
    if len(seeds) == 1:
        notes.append(ONE_SEED.format(levels=_levels(1, tuned)))
    for row in table.rows:
        changes = row.readings if isinstance(row, Row) else {}
        if len(changes) > 1:
            values = ", ".join(f"{name} = {json.dumps(value)}" for name, value in changes.items())
            notes.append(f"{row.label}: {values} (one does not go without the other).")
    for label, row in measured.items():
        served = {cell["served"] for cell in row.values() if "served" in cell}
        notes += [f"{label}: served, {name}." for name in sorted(served)]
    return notes


def _short(cells: Cells, store: Store) -> list[str]:
    """Name the rows that learnt from fewer samples than configured."""
    notes = []
    for label, row in cells.items():
        manifests = (store.manifest(stage) for stage in closure(stages({label: row})).values())
        facts = [manifest["facts"] for manifest in manifests if manifest]
        if short := [fact for fact in facts if fact.get("asked", 0) > fact.get("samples", 0)]:
            notes.append(
                f"{label}: {min(fact['samples'] for fact in short)} of {short[0]['asked']} final "
                "samples at the least; the generator wrote no more that are valid and no "
                "duplicates."
            )
    return notes


def _left_out(manifests: list[dict]) -> list[str]:
    """Count dropped samples by reason: published turns, and samples without a score."""
    notes, unscored, read = [], Counter(), 0
    for manifest in manifests:
        facts = manifest["facts"]
        if manifest["stage"] == "comparison" and facts.get("dropped"):
            notes.append(
                f"{manifest['config']['name']}: {sum(facts['dropped'].values())} of "
                f"{facts['read']} published turns are left out ({_reasons(facts['dropped'])})."
            )
        if manifest["stage"] == "scores" and facts.get("without_score"):
            unscored.update(facts["without_score"])
            read += facts["samples"]
    if unscored:
        notes.append(
            f"{unscored.total()} of {read} samples have no score and count for no selection "
            f"({_reasons(unscored)})."
        )
    return notes


def _reasons(counts: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()))


def _control(row: Ranking, cells: dict) -> str:
    """State the control's verdict: a score of wrong images must not separate true from false."""
    cell = cells["AUROC, false"]
    if cell["value"] is None:
        return f"Control, {row.label}: {cell['unscored']}."
    better = "which is BETTER than chance: something else than the image tells what is false"
    verdict = better if cell["interval"][0] > 50 else "no better than chance, as it must be"
    return f"Control, {row.label}: {markdown.format_cell(cell)} against false pairs, {verdict}."


def _cell(runs: Runs, label: str, name: str, measurements: Measurements, store: Store) -> dict:
    column = COLUMNS[name]
    results = [[store.metadata(stage) for stage in run] for run in runs]
    flat = [result for run in results for result in run]
    cell = {
        "value": None,
        "interval": None,
        "n": 0,
        "paper": measurements.paper(label, name),
        "metric": column.metric or next((r["metric"] for r in flat if "metric" in r), None),
        "judge": next((r["judge"] for r in flat if r.get("judge")), None),
        "artefacts": [stage.key for run in runs for stage in run],
        "unscored": None,
        "extra": {},
    }
    try:
        estimate = column.estimate(measurements.influence(label, name))
    except UndefinedError as error:
        return cell | {"unscored": str(error)}
    if flat[0].get("served"):
        cell["served"] = flat[0]["served"]
    means = _mean([r.get("extra", {}) | {k: r[k] for k in ("unreadable",) if k in r} for r in flat])
    # An artefact that serves one column alone states its value.
    if all("value" in result for result in flat):
        values = [[result["value"] for result in run] for run in results]
        if reason := disagreement([result["value"] for result in flat], estimate.value):
            return cell | {"unscored": reason}
        means = {"values": values} | means
    return cell | rounded(*estimate) | {"n": min(r["n"] for r in flat), "extra": means}


def disagreement(measured: list[float], estimated: float) -> str | None:
    """Return the reason why a column's number is not the mean of its artefacts', or None.

    An artefact's number with few decimals may have been rounded, to one decimal or more.
    """
    exponents = (Decimal(repr(round(v, 10))).normalize().as_tuple().exponent for v in measured)
    slack = [max(1e-6, 0.5 * 10.0 ** min(-1, exponent)) for exponent in exponents]
    mean = float(np.mean(measured))
    if abs(mean - estimated) <= np.mean(slack) + 1e-9:
        return None
    return f"the column computes {estimated:.4f} from the samples, the benchmark says {mean:.4f}"


def _compare(table: Table, measured: dict, measurements: Measurements) -> None:
    """Put `difference` into each cell of rows with a base, and `p_holm` beside every `p`."""
    tested = []
    for row in table.rows:
        for name, cell in measured[row.label].items() if row.base is not None else ():
            cell["difference"] = None
            if cell["value"] is not None and measured[row.base][name]["value"] is not None:
                fields = measurements.describe(Pair(row.label, row.base, name))
                cell["difference"] = fields and {"base": row.base} | fields
                tested += [cell["difference"]] if fields and "p" in fields else []
    for difference, p in zip(tested, holm([d["p"] for d in tested]), strict=True):
        difference["p_holm"] = float(p)


def _mean(records: list[dict]) -> dict:
    """Average nested records of numbers; drop all that is no number."""
    means = {}
    for key in records[0]:
        values = [record[key] for record in records if key in record]
        if isinstance(values[0], dict):
            means[key] = _mean(values)
        elif isinstance(values[0], Number):
            means[key] = round(float(np.mean(values)), 4)
    return means
