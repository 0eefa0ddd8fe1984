"""The tables as data: a base record for their rows, and what differs from the row above.

Importing this costs nothing: the command line has its commands from here.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from c3l.runtime.plugins import Registry


@dataclass(frozen=True)
class Row:
    """A row: how its model is made. `label` is the paper's, where tables/paper.yaml has the row."""

    label: str
    backbone: str = "LLaVA-7B"  # writes the data and is tuned on it
    tuned: bool = True  # or scored as it is
    writer: str | None = None  # the backbone that writes the data, where it is another one
    crm: bool = False  # L_r: cross entropy on the best samples by I²C (section 3.2)
    clm: bool = False  # L_c: contrastive loss over an image's samples (section 3.3)
    selection: str = "i2c"  # what finds positives and targets: I²C, or a method of c3l.selection
    readings: Mapping[str, object] = field(default_factory=dict)  # what differs from the profile's
    share: float | None = None  # of the initial data, L_r's targets; None: the profile's
    base: str | None = None  # the label of the row of its table that it is compared with
    data: str | None = (
        None  # a data set of repro.stages.published that it is tuned on, not on its own
    )
    cut: bool = False  # of that set, a draw of as many samples as the final data have


@dataclass(frozen=True)
class Ranking:
    """A row of table 6: a method of c3l.selection that ranks the initial pairs."""

    label: str
    method: str
    control: str | None = None  # what the scores were made with in place of the pair's own image
    backbone: str = "LLaVA-7B"
    base: str | None = None


@dataclass(frozen=True)
class Table:
    """A table: its rows in order, and which of repro.columns it measures."""

    title: str | None  # None: the paper's, from tables/paper.yaml
    rows: tuple[Row | Ranking, ...]
    columns: tuple[str, ...]
    # What is drawn beside it: a line for each backbone, or pairs of the first and the last row.
    drawing: Literal["lines", "gallery"] | None = None
    tuning_seeds: int | None = None  # at most so many of the profile's; None: all of them
    in_all: bool = True  # whether `all` runs it


# ── Table 1: beside other models ─────────────────────────────────────────────────────────────────
# C³L* is the method with data that the other model wrote. (The rows are made of table 4's last.)


def other_models(c3l: "Row") -> tuple["Row", ...]:
    """The paper's eleven rows."""
    minigpt4 = replace(c3l, backbone="MiniGPT-4", base="MiniGPT-4")
    llava = replace(c3l, base="LLaVA")
    return (
        Row("MiniGPT-4", "MiniGPT-4 (Vicuna-7b)", tuned=False),
        Row("VisualGLM", "VisualGLM-6B", tuned=False),
        Row("LLaVA", "LLaVA-7B", tuned=False),
        Row("BLIP-2", "BLIP-2-13B", tuned=False),
        Row("InstructBLIP (Vicuna-7b)", "InstructBLIP-7B", tuned=False),
        Row("InstructBLIP (Vicuna-13b)", "InstructBLIP-13B", tuned=False),
        Row("IDEFICS-80B", "IDEFICS-80B", tuned=False),
        replace(minigpt4, label="MiniGPT-4 w/ C³L*", writer="LLaVA-7B"),
        replace(minigpt4, label="MiniGPT-4 w/ C³L"),
        replace(llava, label="LLaVA w/ C³L*", writer="MiniGPT-4"),
        replace(llava, label="LLaVA w/ C³L"),
    )


BENCHMARK_COLUMNS = ("SEED", "LLaVA^W", "MMB", "POPE")


# ── Tables 2 and 3: our final data beside the sets that others made ──────────────────────────────
# The published sets are several times as large as ours. Whether a difference comes from their size
# or from what is in them, the rows cut to our size tell; the paper does not have them.

PUBLISHED = {"ComVint": "comvint", "LLaVA-158k": "llava-158k", "LRV": "lrv"}
OURS = Row("Ours", crm=True, clm=True)  # table 4's last row
SETS = (*(Row(label, data=name) for label, name in PUBLISHED.items()), OURS)
CUT = tuple(
    Row(f"{label}, cut to our size", data=name, cut=True) for label, name in PUBLISHED.items()
)
LENGTHS = ("instances", "Q len", "A len", "words a record", "Q tokens", "A tokens")


# ── Table 4: ablation of the two modules ─────────────────────────────────────────────────────────
# The baseline's data are written with the instructions and filtered, by the backbone as it is.
# Row 2 has no CRM, yet L_c needs positives and negatives: I²C ranks them, only L_r is off.

BASELINE = Row("instructions + filtering")
CLM = replace(BASELINE, label="instructions + filtering + CLM", clm=True)
CRM = replace(BASELINE, label="instructions + filtering + CRM", crm=True)
C3L = replace(CRM, label="instructions + filtering + CRM + CLM", clm=True)
# The paper has no number for these two.
AREA = "POPE AUC"
TRUTH = "image-dependent claims, %"
ABLATION = ("SEED", "POPE", AREA, TRUTH)


# ── Table 5: other ways to select ────────────────────────────────────────────────────────────────
# Each row is table 4's last one with other positives and targets. Beyond the paper: a random order,
# instruction-following difficulty, and another form of the score (as in table 7).


def rivals(backbone: str) -> tuple[Row, ...]:
    """The rows of one backbone, all compared with I²C's."""
    i2c = replace(C3L, label=f"{backbone} w/ I²C", backbone=backbone)
    rival = replace(i2c, base=i2c.label)
    return (
        replace(rival, label=f"{backbone} w/ Self-Instruct", selection="self_instruct"),
        replace(rival, label=f"{backbone} w/ VIGC", selection="vigc"),
        i2c,
        replace(rival, label=f"{backbone} w/ random", selection="random"),
        replace(rival, label=f"{backbone} w/ perplexity", selection="ifd"),
        replace(rival, label=f"{backbone} w/ log-ratio", readings={"score_form": "logratio_mean"}),
    )


TABLE5_ROWS = rivals("LLaVA-7B") + rivals("LLaVA-13B")


# ── Table 6: what each score knows of the truth ──────────────────────────────────────────────────
# Not in the paper: it needs the truth, which the pocket world has. Beside the forms of eq. 1 stand
# other ways to select, and controls whose scores come from a wrong image. VIGC is not among them:
# it makes pairs of its own, and ranks none.

RANKING = (
    *("AUROC", "AUROC, false", "AUROC, no image", "AUROC, false, same class"),
    *("best 10%", "best 10%, false", "best 10%, no image", "best 10%, descriptions"),
    "length ρ",
)
FORMS = (
    *("literal_sum", "literal_mean", "full_vocab_sum", "full_vocab_mean", "renormalised"),
    *("generalised", "bernoulli", "logratio", "logratio_mean"),
)
RIVALS = ("likelihood", "text_likelihood", "ifd", "length", "self_instruct", "random")
RANKINGS = (
    *(Ranking(method, method) for method in FORMS + RIVALS),
    *(
        Ranking(f"{method}, {control} image", method, control)
        for control in ("shuffled", "constant")
        for method in ("literal_sum", "logratio_mean", "likelihood")
    ),
)


# ── Table 7: one reading changed at a time ───────────────────────────────────────────────────────
# Not in the paper, which is silent on all of these. Each row is table 4's last one but for a field
# of c3l.Readings, where it is said what the values mean.

ALTERNATIVES: dict[str, tuple[object, ...]] = {
    "without_image": ("blank", "noise", "mean"),
    "score_eos": (True,),
    "score_form": (
        *("literal_mean", "full_vocab_sum", "full_vocab_mean", "renormalised"),
        *("generalised", "bernoulli", "logratio", "logratio_mean"),
    ),
    "contrastive_form": ("infonce",),
    "projection": ("none",),
    "embedding": ("input",),
    "anchor": ("prompt",),
    "contrastive_image": (True,),
    "temperature": (0.05, 0.5),
    "contrastive_weight": (0.3, 3.0),
    "joining": ("sequential",),
    "target": ("answer",),
    "group": ("image_and_class",),
    "share_within": ("class",),
    "final_selection": ("i2c",),
    "vlit_start": ("generator",),
    "pairs_from": ("caption_and_image",),
    "pair_temperature": (1.0,),
    "pair_top_p": (1.0,),
    "blacklist": (True,),
    "tuning": ("projector", "lora", "qlora", "full"),
    "epochs": (1,),
    "warmup_ratio": (0.0,),
    "schedule": ("linear",),
}


# L_c reaches a projector where it sees the image, and not otherwise (`c3l.reach`).
TOGETHER: dict[tuple[str, object], dict[str, object]] = {
    ("tuning", "projector"): {"contrastive_image": True},
}


def changed(row: Row, reading: str, value: object) -> Row:
    """`row` with one reading changed, to be compared with it, and what has to go with it. The value
    is written as in YAML."""
    text = value if isinstance(value, str) else json.dumps(value)
    readings = {reading: value} | TOGETHER.get((reading, value), {})
    return replace(row, label=f"{reading} = {text}", readings=readings, base=row.label)


# One reading is about the row without CRM alone, so that row is there to be compared with.
POSITIVE = changed(CLM, "positive_without_crm", "random")
SENSITIVITY = (
    C3L,
    *(changed(C3L, reading, value) for reading in ALTERNATIVES for value in ALTERNATIVES[reading]),
    CLM,
    replace(POSITIVE, label=f"{CLM.label}, {POSITIVE.label}"),
)


# ── Figure 3: how much of the initial data L_r learns from ───────────────────────────────────────
# Each row is table 4's last one with another share; a label is the line's name and the share.

PROPORTION = ("LLaVA^W", TRUTH)
SHARES = (0.05, 0.10, 0.20, 0.30, 0.50, 1.00)
PROPORTIONS = tuple(
    replace(
        C3L,
        label=f"{line}, {share:.0%}",
        backbone=backbone,
        share=share,
        base=None if share == 0.10 else f"{line}, 10%",  # the paper's choice
    )
    for line, backbone in (("LLaVA", "LLaVA-7B"), ("MiniGPT-4", "MiniGPT-4"))
    for share in SHARES
)


# ── Figure 4: pairs made without and with C³L ────────────────────────────────────────────────────
# The final data of table 4's first and last row, with I²C under the untouched backbone.

WITHOUT = replace(BASELINE, label="without C³L")
WITH = replace(C3L, label="with C³L", base=WITHOUT.label)
RELEVANCE = ("I²C", "I²C a token")


TABLES: Registry[Table] = Registry(
    "repro.tables",
    {
        "table1": Table(None, other_models(C3L), BENCHMARK_COLUMNS),
        "table2": Table(None, SETS, LENGTHS),
        "table3": Table(
            None,
            tuple(row if row is OURS else replace(row, base=OURS.label) for row in SETS + CUT),
            ("SEED", TRUTH),
        ),
        "table4": Table(None, (BASELINE, CLM, CRM, C3L), ABLATION),
        "table5": Table(None, TABLE5_ROWS, ("SEED", TRUTH)),
        "table6": Table("Scores against the truth of the pairs they rank", RANKINGS, RANKING),
        # One tuning seed for its many rows: a reading changes the data first of all, and their
        # share of true, image-dependent pairs takes no tuning. Its rows are none of the paper's,
        # and would be a third of `all`.
        "table7": Table(
            "The full method with one reading changed at a time",
            SENSITIVITY,
            ABLATION,
            tuning_seeds=1,
            in_all=False,
        ),
        "figure3": Table(None, PROPORTIONS, PROPORTION, "lines"),
        "figure4": Table(
            "Pairs made without and with C³L for the same images",
            (WITHOUT, WITH),
            (*RELEVANCE, TRUTH),
            "gallery",
        ),
    },
)

ALL = tuple(name for name, table in TABLES.shipped.items() if table.in_all)
