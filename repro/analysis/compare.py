"""Verdicts on the paper's claims from finished tables.

A claim is reproduced if the 95% interval of every difference lies within its bounds, and not
reproduced if that of any lies outside. The first verdict needs no correction for the number of
differences: a false claim passes only if chance favours all at once. The second gets likelier with
their number.
"""

from collections.abc import Iterator

import repro.paper
from c3l.artifacts.graph import not_in_store
from c3l.artifacts.store import Store
from c3l.runtime.errors import UserError
from repro.analysis.differences import row_difference
from repro.analysis.table import finished_table
from repro.columns import COLUMNS
from repro.paper import Claim, Pair
from repro.profile import Profile
from repro.recipe import Cells, stages
from repro.render.claims import render_claims
from repro.rows import TABLES
from repro.run.run import Run

REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
UNDECIDED, UNTESTABLE = "undecided", "untestable"

FEW_SEEDS = (
    "Verdicts from fewer than three data seeds are weak evidence: at the variances of the pocket "
    "world, with two tuning seeds each, rows that differ in nothing but their seeds came out as "
    "different in 27% of simulated comparisons with one data seed, 16% with two, 7% with three, 5% "
    "with five."
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

    - `claims`, each with the fields of `repro.paper.Claim`, `verdict` and `pairs`: each with
      `row`, `base`, `column`, `beside` (the claim's verdict is without it), `verdict`, `paper` (the
      paper's difference, None where it has none),
      `n` (the fewer questions of the two rows), `difference` (by
      `repro.analysis.differences.row_difference`; None if untestable) and `untestable` (the reason,
      or None);
    - `numbers`, in the paper profile only: every cell for which the paper has a number, and whether
      its interval contains it.
    """
    table = finished_table(name, cells, profile, seeds, store)
    measured = {row["label"]: row["cells"] for row in table["rows"]}

    def compare_pair(claim: Claim, pair: Pair) -> dict:
        reason, difference = _untestable_reason(pair, measured, profile), None
        if reason is None:
            runs, base = (cells[row][pair.column] for row in (pair.row, pair.base))
            difference = row_difference(COLUMNS[pair.column], runs, base, profile.resamples, store)
            reason = None if difference else f"no difference in {pair.column} can be computed"
        sizes = [measured[row][pair.column]["n"] for row in (pair.row, pair.base) if difference]
        return pair._asdict() | {
            "verdict": verdict(difference["interval"], claim.bounds) if difference else UNTESTABLE,
            "paper": _difference_in_paper(name, pair),
            "n": min(sizes, default=0),
            "difference": difference,
            "untestable": reason,
        }

    claims = []
    for claim in claims_about(name):
        pairs = [compare_pair(claim, pair) for pair in claim.pairs]
        counted = [pair["verdict"] for pair in pairs if not pair["beside"]]
        result = {"verdict": combine_verdicts(counted), "pairs": pairs}
        claims.append(claim.model_dump(exclude={"compared"}) | result)
    fields = ("table", "profile", "seeds", "tuning_seeds", "commit", "interval", "units")
    warning = [FEW_SEEDS] if table["tuning_seeds"] and len(seeds) < 3 else []
    return {key: table[key] for key in fields} | {
        "notes": table["notes"] + warning,
        "claims": claims,
        "numbers": _numbers(measured) if profile.name == "paper" else [],
    }


def verdict(interval: list[float], bounds: tuple[float, float]) -> str:
    """Compare a difference's interval with the bounds that the claim sets it."""
    (low, high), (lower, upper) = interval, bounds
    if lower < low and high < upper:
        return REPRODUCED
    return NOT_REPRODUCED if high <= lower or upper <= low else UNDECIDED


def combine_verdicts(verdicts: list[str]) -> str:
    """Return a claim's verdict: the first of not reproduced, untestable, undecided and
    reproduced that a part has.
    """
    return min(verdicts, key=(NOT_REPRODUCED, UNTESTABLE, UNDECIDED, REPRODUCED).index)


def _untestable_reason(pair: Pair, measured: dict, profile: Profile) -> str | None:
    for row in (pair.row, pair.base):
        if (cell := measured[row].get(pair.column)) is None:
            return f"{row}: {pair.column} is not measured in the {profile.name} profile"
        if cell["value"] is None:
            return f"{row}: {cell['unscored']}"
    return None


def _difference_in_paper(table: str, pair: Pair) -> float | None:
    paper = repro.paper.load()[table]
    values = [paper.cell(row, pair.column) for row in (pair.row, pair.base)]
    return None if None in values else round(values[0] - values[1], 2)


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
