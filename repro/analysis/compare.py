"""Verdicts on the paper's claims from finished tables.

A claim is reproduced if every difference is (`repro.analysis.verdicts`), and not reproduced if any
is not. The first verdict needs no correction for the number of differences: a false claim passes
only if chance favours all at once. The second gets likelier with their number.
"""

from collections.abc import Iterator
from math import prod

import repro.paper
from c3l.artifacts.graph import not_in_store
from c3l.artifacts.store import Store
from c3l.runtime.errors import UserError
from repro.analysis.differences import Measurements
from repro.analysis.table import finished_table
from repro.analysis.verdicts import UNTESTABLE, combine_verdicts, undecided, verdict
from repro.paper import Claim, Pair
from repro.profile import Profile
from repro.recipe import Cells, stages
from repro.render.claims import render_claims
from repro.rows import TABLES
from repro.run.run import Run

FEW_SEEDS = (
    "Verdicts from fewer than three data seeds are weak evidence: at the variances of the pocket "
    "world, with two tuning seeds each, rows that differ in nothing but their seeds came out as "
    "different in 11% to 25% of simulated comparisons with one data seed; with two in 3% to 7%, "
    "but with intervals about half as wide again as with three (docs/records/coverage.md)."
)


def claims_about(table: str) -> list[Claim]:
    """Return the paper's claims about a table. Raises ValueError for one about a missing row."""
    claims = [claim for claim in repro.paper.claims() if claim.table == table]
    labels, columns = {row.label for row in TABLES[table].rows}, set(TABLES[table].columns)
    for claim in claims:
        for pair in claim.pairs:
            if stray := ({pair.row, pair.base} - labels) | ({pair.column} - columns):
                raise ValueError(f"claim {claim.id!r}: {table} has no {', '.join(sorted(stray))}")
    return claims


def tables_with_claims() -> list[str]:
    """Names of the tables that the paper makes claims about."""
    names = {claim.table for claim in repro.paper.claims()}
    return [name for name in TABLES if name in names]


def reports(run: Run) -> Iterator[str]:
    """Yield the markdown of the claims about each table of a run.

    Raises UserError for a table whose artefacts are not all stored.
    """
    for name in tables_with_claims():
        if (cells := run.tables.get(name)) is None:
            continue
        if not_in_store(stages(cells), run.store):
            raise not_run_error(name)
        yield render_claims(findings(name, cells, run.profile, run.seeds, run.store))


def not_run_error(name: str) -> UserError:
    """Return the error for a table whose artefacts are not all stored."""
    return UserError(
        f"{name} has not been run with these options: run `python -m repro {name}` with the same "
        "ones first."
    )


def findings(name: str, cells: Cells, profile: Profile, seeds: list[int], store: Store) -> dict:
    """Return the claims about a table whose artefacts are all stored, each with its verdict.

    A record of the finished table's `table`, `profile`, `seeds`, `tuning_seeds`, `commit`,
    `interval`, `units` and `notes`, with

    - `claims`, each with the fields of `repro.paper.Claim`, `verdict`, `undecided` ("open",
      "cannot be decided here" where P(reproduced | the paper's differences) is below 0.8, or None
      for another verdict), `power_if_paper` and `false_alarm` (of the whole claim, as if its
      differences were independent; None if any has none), and `pairs`: each with `row`, `base`,
      `column`, `beside` (all that is said of the whole claim is without it), `verdict`,
      `undecided`, `paper` (the paper's difference, None where it has none),
      `n` (the fewer questions of the two rows), `difference` (by
      `repro.analysis.differences.Measurements.describe`; None if untestable) and `untestable`
      (the reason, or None);
    - `numbers`, in the paper profile only: every cell for which the paper has a number, and whether
      its interval contains it.
    """
    measurements = Measurements(name, cells, store)
    table = finished_table(name, cells, profile, seeds, store, measurements)
    measured = {row["label"]: row["cells"] for row in table["rows"]}

    def compare_pair(claim: Claim, pair: Pair) -> dict:
        reason, change = _untestable_reason(pair, measured, profile), None
        if reason is None:
            change = measurements.difference(pair)
            reason = None if change else f"no difference in {pair.column} can be computed"
        fields = measurements.describe(pair, claim.bounds) if change else None
        sizes = [measured[row][pair.column]["n"] for row in (pair.row, pair.base) if change]
        result = verdict(change, claim.bounds) if change else UNTESTABLE
        return pair._asdict() | {
            "verdict": result,
            "undecided": undecided(result, fields and fields["power_if_paper"]),
            "paper": measurements.paper_difference(pair),
            "n": min(sizes, default=0),
            "difference": fields,
            "untestable": reason,
        }

    claims = []
    for claim in claims_about(name):
        pairs = [compare_pair(claim, pair) for pair in claim.pairs]
        whole = _combine([pair for pair in pairs if not pair["beside"]])
        claims.append(claim.model_dump(exclude={"compared"}) | whole | {"pairs": pairs})
    fields = ("table", "profile", "seeds", "tuning_seeds", "commit", "interval", "units")
    warning = [FEW_SEEDS] if table["tuning_seeds"] and len(seeds) < 3 else []
    return {key: table[key] for key in fields} | {
        "notes": table["notes"] + warning,
        "claims": claims,
        "numbers": _numbers(measured) if profile.name == "paper" else [],
    }


def _combine(pairs: list[dict]) -> dict:
    """Return the verdict on the conjunction of differences, and the chances of getting it."""
    result = combine_verdicts([pair["verdict"] for pair in pairs])
    power = _all([pair["difference"] and pair["difference"]["power_if_paper"] for pair in pairs])
    alarms = [pair["difference"] and pair["difference"]["false_alarm"] for pair in pairs]
    none = _all([alarm if alarm is None else 1 - alarm for alarm in alarms])
    return {
        "verdict": result,
        "undecided": undecided(result, power),
        "power_if_paper": power,
        "false_alarm": None if none is None else round(1 - none, 3),
    }


def _all(chances: list[float | None]) -> float | None:
    """Chance that all of some independent things happen; None if any chance is unknown."""
    known = [chance for chance in chances if chance is not None]
    return round(prod(known), 3) if len(known) == len(chances) else None


def _untestable_reason(pair: Pair, measured: dict, profile: Profile) -> str | None:
    for row in (pair.row, pair.base):
        if (cell := measured[row].get(pair.column)) is None:
            return f"{row}: {pair.column} is not measured in the {profile.name} profile"
        if cell["value"] is None:
            return f"{row}: {cell['unscored']}"
    return None


def _numbers(measured: dict) -> list[dict]:
    """Cells beside the paper's numbers, with `contains`: whether the interval contains it."""
    numbers = []
    for row, cells in measured.items():
        for column, cell in cells.items():
            if cell["paper"] is not None:
                low, high = cell["interval"] or (None, None)
                contains = None if cell["value"] is None else low <= cell["paper"] <= high
                numbers.append({"row": row, "column": column, "contains": contains} | cell)
    return numbers
