"""Which of the paper's claims hold in what has been run.

A claim is a conjunction of differences between two rows, each of which has to lie within bounds
(`repro.paper.Claim`). It is reproduced if the whole 95% interval of every difference does, and not
reproduced if that of some difference lies wholly outside.

To be called reproduced by chance it takes luck with all differences at once, so that verdict needs
no correction for their number. The other one is the more easily come by, the more a claim says: a
claim of ten differences that are all just true has ten chances to meet an interval that misses.
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
    "Verdicts from fewer than three data seeds say little: at the variances of the pocket world, "
    "with two tuning seeds each, rows that differ in nothing but their seeds were told apart in "
    "27% of simulated comparisons with one data seed, in 16% with two, 7% with three, 5% with five."
)


def claims_about(table: str) -> list[Claim]:
    """The paper's claims about a table. Raises ValueError for one about a row it does not have."""
    found = [claim for claim in repro.paper.claims() if claim.table == table]
    labels, columns = {row.label for row in TABLES[table].rows}, set(TABLES[table].columns)
    for claim in found:
        for pair in claim.pairs:
            if stray := ({pair.row, pair.base} - labels) | ({pair.column} - columns):
                raise ValueError(f"claim {claim.id!r}: {table} has no {', '.join(sorted(stray))}")
    return found


def tables_with_claims() -> list[str]:
    """The tables that the paper claims something about."""
    about = {claim.table for claim in repro.paper.claims()}
    return [name for name in TABLES if name in about]


def reports(run: Run) -> Iterator[str]:
    """The markdown of each table of a run that the paper claims something about.

    Raises UserError for one whose artefacts are not all there.
    """
    for name in tables_with_claims():
        if (cells := run.tables.get(name)) is None:
            continue
        if not_in_store(stages(cells), run.store):
            raise not_run_error(name)
        found = findings(name, cells, run.profile, run.seeds, run.store)
        yield render_claims(found)


def not_run_error(name: str) -> UserError:
    """What to say of a table whose artefacts are not all there."""
    return UserError(
        f"{name} has not been run with these options: run `python -m repro {name}` with the same "
        "ones first."
    )


def findings(name: str, cells: Cells, profile: Profile, seeds: list[int], store: Store) -> dict:
    """The claims about a table whose artefacts are all there, each with its verdict.

    Returns a record of the finished table's `table`, `profile`, `seeds`, `tuning_seeds`, `commit`,
    `interval`, `units` and `notes`, with

    - `claims`, each with the fields of `repro.paper.Claim`, `verdict` and `pairs`: each with
      `row`, `base`, `column`, `verdict`, `paper` (the paper's difference, None where it has none),
      `n` (the fewer questions of the two rows), `difference` (as `repro.analysis.differences.row_difference`
      says it; None if untestable) and `untestable` (why, or None);
    - `numbers`, in the paper profile alone: every cell of which the paper has a number, and whether
      its interval contains it.
    """
    table = finished_table(name, cells, profile, seeds, store)
    measured = {row["label"]: row["cells"] for row in table["rows"]}

    def compared(claim: Claim, pair: Pair) -> dict:
        reason, found = _why_untestable(pair, measured, profile), None
        if reason is None:
            runs, base = (cells[row][pair.column] for row in (pair.row, pair.base))
            found = row_difference(COLUMNS[pair.column], runs, base, profile.resamples, store)
            reason = None if found else f"no difference in {pair.column} can be computed"
        return pair._asdict() | {
            "verdict": verdict(found["interval"], claim.bounds) if found else UNTESTABLE,
            "paper": _in_the_paper(name, pair),
            "n": min(measured[r][pair.column]["n"] for r in (pair.row, pair.base)) if found else 0,
            "difference": found,
            "untestable": reason,
        }

    found = []
    for claim in claims_about(name):
        pairs = [compared(claim, pair) for pair in claim.pairs]
        said = {"verdict": combine_verdicts([pair["verdict"] for pair in pairs]), "pairs": pairs}
        found.append(claim.model_dump(exclude={"compared"}) | said)
    kept = ("table", "profile", "seeds", "tuning_seeds", "commit", "interval", "units")
    few = [FEW_SEEDS] if table["tuning_seeds"] and len(seeds) < 3 else []
    return {key: table[key] for key in kept} | {
        "notes": table["notes"] + few,
        "claims": found,
        "numbers": _numbers(measured) if profile.name == "paper" else [],
    }


def verdict(interval: list[float], bounds: tuple[float, float]) -> str:
    """Of a difference with this interval, which the claim says lies between these bounds."""
    (low, high), (least, most) = interval, bounds
    if least < low and high < most:
        return REPRODUCED
    return NOT_REPRODUCED if high <= least or most <= low else UNDECIDED


def combine_verdicts(verdicts: list[str]) -> str:
    """Of a claim from those of its parts: false with one of them, true with all of them.

    In between, a part that cannot be tested goes before one that is undecided: more seeds would
    decide the one and not the other.
    """
    ranked = (NOT_REPRODUCED, UNTESTABLE, UNDECIDED, REPRODUCED)
    return min(verdicts, key=ranked.index)


def _why_untestable(pair: Pair, measured: dict, profile: Profile) -> str | None:
    for row in (pair.row, pair.base):
        cell = measured[row].get(pair.column)
        if cell is None:
            return f"{row}: {pair.column} is not measured in the {profile.name} profile"
        if cell["value"] is None:
            return f"{row}: {cell['unscored']}"
    return None


def _in_the_paper(table: str, pair: Pair) -> float | None:
    paper = repro.paper.load()[table]
    values = [paper.cell(row, pair.column) for row in (pair.row, pair.base)]
    return None if None in values else round(values[0] - values[1], 2)


def _numbers(measured: dict) -> list[dict]:
    """Our interval beside the paper's number, which the paper profile alone may compare."""
    found = []
    for row, cells in measured.items():
        for column, cell in cells.items():
            if cell["paper"] is not None:
                contains = None
                if cell["value"] is not None:
                    low, high = cell["interval"]
                    contains = low <= cell["paper"] <= high
                found.append({"row": row, "column": column, "contains": contains} | cell)
    return found
