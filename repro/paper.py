"""The numbers of the paper's tables, from paper.yaml, and its claims, from claims.yaml."""

from math import inf
from pathlib import Path
from typing import Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PaperRow(_Part):
    """One row: `cells` maps a column to the printed number, on the paper's scale (0 to 100).

    A cell that is empty in the paper is absent. `printed` holds the paper's other text.
    """

    label: str
    cells: dict[str, float] = {}
    printed: dict[str, str] = {}


class PaperTable(_Part):
    """One table of the paper, or figure; rows in the paper's order.

    Footnotes are ours: where the paper disagrees with itself.
    """

    title: str
    backbone: str | None = None
    columns: list[str]
    rows: list[PaperRow]
    footnotes: list[str] = []

    @model_validator(mode="after")
    def _cells_are_in_columns(self) -> "PaperTable":
        for row in self.rows:
            if stray := row.cells.keys() - set(self.columns):
                raise ValueError(f"row {row.label!r} has cells outside the columns: {stray}")
        return self

    def cell(self, label: str, column: str) -> float | None:
        """The printed number, or None where the paper has none."""
        return next((row.cells.get(column) for row in self.rows if row.label == label), None)


class Pair(NamedTuple):
    """Two rows' numbers in a column; a claim is about the difference, row minus base."""

    row: str
    base: str
    column: str
    beside: bool = False
    """The column is not the paper's: its verdict is shown and counts for nothing."""


class Pairs(_Part):
    """A row and each of several bases, in each of several columns."""

    row: str
    bases: list[str] = Field(min_length=1)
    columns: list[str] = Field(min_length=1)
    beside: list[str] = []
    """Other measures of what the columns measure; their verdicts are shown beside."""


class Claim(_Part):
    """A sentence of the paper that a program can check.

    It `holds` where the difference of each pair is above zero, below zero, or within a margin of
    zero on either side.
    """

    id: str
    table: str
    where: str
    """Its place in the paper."""
    sentence: str
    holds: Literal["above", "below", "within"]
    margin: float | None = Field(default=None, gt=0)
    why: str | None = None
    """Origin of the margin if the paper names none."""
    compared: list[Pairs] = Field(min_length=1)

    @model_validator(mode="after")
    def _a_margin_is_for_within(self) -> "Claim":
        if (self.holds == "within") != (self.margin is not None):
            raise ValueError(f"claim {self.id!r}: a margin belongs to `within`, and to it alone")
        return self

    @property
    def pairs(self) -> list[Pair]:
        """The differences whose conjunction the claim is, and those beside them."""
        return [
            Pair(pairs.row, base, column, column in pairs.beside)
            for pairs in self.compared
            for base in pairs.bases
            for column in (*pairs.columns, *pairs.beside)
        ]

    @property
    def bounds(self) -> tuple[float, float]:
        """Lower and upper bound of the differences for which the claim holds."""
        if self.margin is not None:
            return -self.margin, self.margin
        return (0, inf) if self.holds == "above" else (-inf, 0)


def load() -> dict[str, PaperTable]:
    """Return the paper's tables by name: load()["table4"].rows[0].cells["SEED"] is 53.2."""
    return {name: PaperTable.model_validate(table) for name, table in _read("paper.yaml").items()}


def claims() -> list[Claim]:
    """Return the paper's claims, in its order."""
    return [Claim.model_validate(claim) for claim in _read("claims.yaml")]


def data_folder() -> Path:
    """Return the folder of the paper's numbers and committed results, in the clone or the wheel."""
    installed = Path(__file__).with_name("tables")
    return installed if installed.is_dir() else Path(__file__).parents[1] / "tables"


def _read(name: str):
    return yaml.safe_load((data_folder() / name).read_text(encoding="utf-8"))
