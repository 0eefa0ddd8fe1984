"""The rows of the paper's tables: a base record, and what differs from the row above."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Row:
    """How one row's model is made. `label` is the row's name in tables/paper.yaml."""

    label: str
    backbone: str = "LLaVA-7B"  # writes the data and is tuned on it
    crm: bool = False  # L_r: cross entropy on the best samples by I²C (section 3.2)
    clm: bool = False  # L_c: contrastive loss over an image's samples (section 3.3)
    readings: Mapping[str, object] = field(default_factory=dict)  # what differs from the profile's


# ── Table 4: ablation of the two modules ─────────────────────────────────────────────────────────
# The baseline's data are written with the instructions and filtered, by the backbone as it is.
# Row 2 has no CRM, yet L_c needs positives and negatives: I²C ranks them, only L_r is off.

BASELINE = Row("instructions + filtering")
CLM = replace(BASELINE, label="instructions + filtering + CLM", clm=True)
CRM = replace(BASELINE, label="instructions + filtering + CRM", crm=True)
C3L = replace(CRM, label="instructions + filtering + CRM + CLM", clm=True)


# Rows in the paper's order.
TABLES: dict[str, tuple[Row, ...]] = {
    "table4": (BASELINE, CLM, CRM, C3L),
}

# Which of repro.columns a table measures; the paper has no number for the last one.
COLUMNS: dict[str, tuple[str, ...]] = {
    "table4": ("SEED", "POPE", "image-dependent, %"),
}
