"""A table's rows in its columns: their numbers, and one row minus another, from their samples."""

from io import BytesIO
from math import inf

import pandas as pd

import repro.paper
from c3l.artifacts.store import Store
from repro.analysis.statistics import Difference, Influence, UndefinedError, mcnemar
from repro.analysis.verdicts import (
    Bounds,
    chance_not_reproduced,
    chance_reproduced,
    equivalence,
)
from repro.columns import COLUMNS, Frames
from repro.paper import Pair
from repro.recipe import Cells, Runs
from repro.rows import TABLES


def frames(runs: Runs, store: Store) -> Frames:
    """Read the samples of a cell's artefacts, all of which are stored."""
    return [
        [pd.read_parquet(BytesIO(store.read(stage, "samples.parquet"))) for stage in run]
        for run in runs
    ]


def rounded(value: float, low: float | None, high: float | None) -> dict:
    """Return `value` and `interval` to four decimals; a count has no interval."""
    interval = None if low is None or high is None else [round(low, 4), round(high, 4)]
    return {"value": round(value, 4), "interval": interval}


class Measurements:
    """The numbers of a table's rows, each read from the store once."""

    def __init__(self, table: str, cells: Cells, store: Store):
        self._table, self._cells, self._store = table, cells, store
        self._rows = {row.label: row for row in TABLES[table].rows}
        self._influences: dict[tuple[str, str], Influence | UndefinedError] = {}

    def influence(self, label: str, column: str) -> Influence:
        """Return a row's number in a column, and each image's part of it.

        Raises UndefinedError for the reason why there is none.
        """
        key = (label, column)
        if key not in self._influences:
            try:
                self._influences[key] = self._read(self._cells[label][column], column)
            except UndefinedError as error:
                self._influences[key] = error
        if isinstance(result := self._influences[key], UndefinedError):
            raise result
        return result

    def difference(self, pair: Pair) -> Difference | None:
        """Return a row minus another, or None where a number is missing or rows are not compared.

        Both rows' variance over seeds is pooled with that of the table's other rows of the same
        backbone.
        """
        labels, column = (pair.row, pair.base), pair.column
        if not COLUMNS[column].compared:
            return None
        try:
            change = [self.influence(label, column) for label in labels]
        except UndefinedError:
            return None
        keys = [[s.key for run in self._cells[r][column] for s in run] for r in labels]
        if keys[0] == keys[1]:
            return Difference(0.0, 0.0, 1.0)
        return COLUMNS[column].difference(*change, self._alike(pair))

    def describe(self, pair: Pair, bounds: Bounds | None = None) -> dict | None:
        """Return the fields of a difference in the JSON, or None where there is none.

        `value`, `interval` (95%), `detectable` (the smallest true difference that 80% of such
        comparisons would detect, at 5% two-sided), `df` (degrees of freedom), `power_if_paper`
        (P(reproduced) if the paper's difference is true), `false_alarm` (P(not reproduced) if the
        true difference is zero; both None where the paper has no number), for finite bounds
        `equivalence` (p of two one-sided tests), and where the questions are the same for every
        row and answered right or wrong, `p` of McNemar's exact test over questions. Without a
        claim's bounds the difference is to have the paper's sign.
        """
        if (change := self.difference(pair)) is None:
            return None
        paper = self.paper_difference(pair)
        if bounds is None and paper:
            bounds = (0, inf) if paper > 0 else (-inf, 0)
        fields = rounded(change.value, *change.interval()) | {
            "detectable": round(change.detectable, 4),
            "df": round(change.df, 1),
            "power_if_paper": None,
            "false_alarm": None,
        }
        if bounds and paper is not None:
            fields["power_if_paper"] = round(chance_reproduced(change, paper, bounds), 3)
            fields["false_alarm"] = round(chance_not_reproduced(change, 0.0, bounds), 3)
        if bounds and inf not in map(abs, bounds):
            fields["equivalence"] = round(equivalence(change, bounds), 4)
        if COLUMNS[pair.column].benchmark:
            rows = (self._cells[label][pair.column] for label in (pair.row, pair.base))
            if counts := discordant_questions(*(frames(runs, self._store) for runs in rows)):
                fields["p"] = mcnemar(*counts)
        return fields

    def paper(self, label: str, column: str) -> float | None:
        """Return the paper's number, or None where it has none."""
        table = repro.paper.load().get(self._table)
        return table.cell(label, column) if table else None

    def paper_difference(self, pair: Pair) -> float | None:
        """Return the paper's difference, or None where it has none."""
        row, base = (self.paper(label, pair.column) for label in (pair.row, pair.base))
        return None if row is None or base is None else round(row - base, 2)

    def _read(self, runs: Runs, column: str) -> Influence:
        facts = [self._store.metadata(stage) for run in runs for stage in run]
        if reasons := dict.fromkeys(f["unscored"] for f in facts if f.get("unscored")):
            raise UndefinedError("; ".join(reasons))
        return COLUMNS[column].influence(frames(runs, self._store))

    def _alike(self, pair: Pair) -> list[Influence]:
        """Rows of the backbone that both rows have, these two among them."""
        backbones = {self._rows[label].backbone for label in (pair.row, pair.base)}
        influences = []
        for label, row in self._rows.items():
            if {row.backbone} == backbones and pair.column in self._cells.get(label, {}):
                try:
                    influences.append(self.influence(label, pair.column))
                except UndefinedError:
                    continue
        return influences


def discordant_questions(row: Frames, base: Frames) -> tuple[int, int] | None:
    """Count the benchmark questions that a row has right more often than its base, and less often.

    None where answers are not right or wrong. With one model a row these are the discordant pairs
    of McNemar's test. With several, a question counts once, for the row in which more models have
    it right: several models' answers to it are not independent. The test's p is about these models,
    not about the way they were made: at the variances of the pocket world it is below 0.05 in every
    other simulated comparison of rows that differ in nothing but their seeds
    (docs/records/decisions.md); the interval accounts for seeds.
    """
    answers = [pd.concat([frame for run in runs for frame in run]) for runs in (row, base)]
    if not all("correct" in frame for frame in answers):
        return None
    # POPE numbers the questions of each category from 1.
    right, base_right = (f.groupby(["category", "question_id"])["correct"].sum() for f in answers)
    margin = right - base_right
    return int((margin > 0).sum()), int((margin < 0).sum())
