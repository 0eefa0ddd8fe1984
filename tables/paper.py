"""The numbers of the paper's tables, from paper.yaml."""

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, model_validator


class Row(BaseModel):
    """One row: cells maps a column to the printed number, on the paper's scale (0 to 100)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    label: str
    cells: dict[str, float]


class Table(BaseModel):
    """One table of the paper; rows in the paper's order."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    title: str
    backbone: str | None = None
    columns: list[str]
    rows: list[Row]

    @model_validator(mode="after")
    def _cells_are_in_columns(self) -> "Table":
        for row in self.rows:
            if stray := row.cells.keys() - set(self.columns):
                raise ValueError(f"row {row.label!r} has cells outside the columns: {stray}")
        return self

    def cell(self, label: str, column: str) -> float | None:
        """The printed number, or None where the paper has none."""
        return next((row.cells.get(column) for row in self.rows if row.label == label), None)


def load() -> dict[str, Table]:
    """The paper's tables by name: load()["table4"].rows[0].cells["SEED"] is 53.2."""
    text = Path(__file__).with_name("paper.yaml").read_text(encoding="utf-8")
    return {name: Table.model_validate(table) for name, table in yaml.safe_load(text).items()}
