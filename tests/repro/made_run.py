"""A small run for the report, of artefacts made on the spot: two tables, both figures, a claim.

Texts that data may hold to do harm stand where a model, a data set or a table could have written
them.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import repro.paper
from c3l.artifacts.store import Job, Source, Stage, Store
from c3l.backbones.loading import load_pieces
from c3l.samples import Sample, write_samples
from c3l.scores import Score, write_scores
from c3l.stages import common
from repro import profile
from repro.analysis import gallery
from repro.analysis.table import finished_table
from repro.recipe import Cells, stages
from repro.render import figures
from repro.report.contents import Contents
from repro.report.page import render_page
from repro.report.tables import FinishedTable
from repro.rows import RELEVANCE, TABLES, TRUTH, Row, Table
from repro.stages import evaluation as driver
from tests.benchmarks import data
from tests.repro.toy import images

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(2)>",
    "\"quotes\" & 'more' <!-- <b>",
    "half a pair \ud83d of surrogates",
)
CLASSES = ("conversation", "detailed description", "complex reasoning")
KNOWN = "instructions + filtering"  # a row of the paper's table 4
ROWS = (
    Row(KNOWN),
    Row(HOSTILE[1], base=KNOWN),
    Row("without a judge", base=KNOWN),
)
MADE = {
    "table4": Table(None, ROWS, ("SEED", "POPE", TRUTH)),
    "figure3": Table(
        None, tuple(Row(f"LLaVA, {share}%") for share in (5, 10)), (TRUTH,), drawing="lines"
    ),
    "figure4": Table("Pairs", (Row("without"), Row("with")), (*RELEVANCE, TRUTH), "gallery"),
}
CLAIM = {
    "id": "better",
    "table": "table4",
    "where": "section 4",
    "sentence": f"It is better {HOSTILE[0]}.",
    "holds": "above",
    "compared": [{"row": HOSTILE[1], "bases": [KNOWN], "columns": ["SEED"]}],
}
SAMPLES = [
    # no file of samples may hold half a surrogate pair
    Sample(f"pair-{k}", f"scene-2-{k % 4}.png", f"What {k}? {HOSTILE[k % 3]}", f"A cup {k}.", name)
    for k, name in enumerate(CLASSES * 4)
]
MISSING = {"table": "table1", "why": "has not been run", "command": "python -m repro table1"}


def write(job: Job) -> dict:
    write_samples(job.out / "samples.jsonl", SAMPLES)
    return {"read": len(SAMPLES) + 2, "dropped": {"duplicate": 2}}


def score(job: Job) -> dict:
    pieces_of, rng = load_pieces(job.inputs["backbone"]), np.random.default_rng(0)
    scores = []
    for sample in SAMPLES:
        n = len(pieces_of(sample.question, sample.answer, False))
        visual, direct = -rng.random((2, n), dtype=np.float32) * 3
        i2c = float(np.sum(np.exp(visual) * (visual - direct)))
        scores.append(Score(sample.id, i2c, visual, direct, np.abs(visual - direct)))
    scores[-1] = Score(SAMPLES[-1].id, unscored="image_missing")
    write_scores(job.out / "scores.parquet", scores)
    return {}


def relate(job: Job) -> dict:
    pieces = ["A", " cup", "."]
    rows = [
        {"question_id": s.id, "image_id": s.image, "category": s.instruction}
        | {"question": s.question, "answer": s.answer, "i2c": 1.5 + k, "tokens": 3}
        | {"pieces": [*pieces[:2], HOSTILE[k % 3]], "contributions": [-0.3, 5.0, 0.0]}
        for k, s in enumerate(SAMPLES)
    ]
    pd.DataFrame(rows).to_parquet(job.out / "samples.parquet")
    return {"n": len(rows)}


def judge(job: Job) -> dict:
    verdicts = ["true_image", "no_image", "false", "malformed"] * 3
    rows = [
        {"question_id": s.id, "image_id": s.image, "category": s.instruction, "verdict": verdict}
        for s, verdict in zip(SAMPLES, verdicts, strict=True)
    ]
    correct = [float(v == "true_image") for v in verdicts]
    frame = pd.DataFrame(rows).assign(correct=correct, claims=[[v] for v in verdicts])
    frame.to_parquet(job.out / "samples.parquet")
    return {"metric": "share", "value": 25.0, "n": len(rows), "extra": {}}


def answer(job: Job) -> dict:
    """Right on the first config["right"] questions; every fifth answer is hostile."""
    seed = job.config["task"] == "seedbench"
    rows = []
    for k in range(24):
        category = data.CATEGORIES[k // 8]
        right = float(k < job.config["right"])
        said = ("yes", "no")[(k + (right == 0)) % 2]
        rows.append(
            {
                "question_id": str(1000 + k if seed else k),
                "image_id": str(k // 2),
                "category": "Instance Identity" if seed else category,
                "answer": "ABCD"[k % 4] if seed else ("yes", "no")[k % 2],
                "response": HOSTILE[k % 3] if k % 5 == 0 else "B" if seed else said,
                "readable": k % 5 != 0,
                "correct": right,
                "reading": said,
            }
        )
    pd.DataFrame(rows).to_parquet(job.out / "samples.parquet")
    return {"metric": "right answers", "n": 24, "extra": {"unreadable": 0.2}}


def make(folder: Path, backbone: Path) -> str:
    """The page of the run."""
    loaded = profile.load("pocket")
    store = Store(folder / "store")
    with pytest.MonkeyPatch.context() as patch:
        for name, table in MADE.items():
            patch.setitem(TABLES, name, table)
        claims = [repro.paper.Claim.model_validate(CLAIM)]
        patch.setattr(repro.paper, "claims", lambda: claims)
        found = {}
        for name, some in _cells(folder, backbone).items():
            for stage in stages(some):
                store.make(stage)
            found[name] = FinishedTable(finished_table(name, some, loaded, [0], store), some)
        found["figure3"].record["files"] = list(
            drawn := figures.draw_figure(found["figure3"].record)
        )
        record, pictures = gallery.build_gallery("figure4", found["figure4"].cells, 0, store)
        found["figure4"].record["gallery"] = record
        for name, content in (drawn | pictures).items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        contents = Contents(found, [MISSING], loaded, store, folder)
        # what JSON may hold and no other file can
        contents.data["texts"][0] = HOSTILE[3]
        return render_page(contents)


def _cells(folder: Path, backbone: Path) -> dict[str, Cells]:
    images(folder / "images", 4, seed=2)
    pictures = common.image_source(folder / "images", 4)
    weights = common.backbone_source(backbone)
    sources = {
        "seedbench": Source.from_path(data.seedbench(folder / "seedbench", n=24, video=0)),
        "pope": Source.from_path(data.pope(folder / "pope")),
    }
    readings = {"readings": {"score_eos": False, "without_image": "removed"}}
    initial = Stage("filtered", 1, write, {}, {"images": pictures})
    pool = {"backbone": weights, "samples": initial, "images": pictures}
    scores = Stage("scores", 1, score, readings, pool)
    final = Stage("final", 1, write, {}, {"generator": scores, "images": pictures}, seed=0)
    truth = Stage("truth", 1, judge, {}, {"samples": final})
    scored = Stage("scores", 1, score, readings, pool | {"samples": final})
    relevance = Stage("relevance", 1, relate, {}, {"samples": final, "scores": scored})

    def evaluation(task: str, right: int) -> Stage:
        inputs = {"weights": final, "data": sources[task]}
        return Stage("evaluation", 1, answer, {"task": task, "right": right}, inputs)

    table4 = {
        row.label: {
            "SEED": [[evaluation("seedbench", right), evaluation("seedbench", right + 1)]],
            "POPE": [[evaluation("pope", right)]],
            TRUTH: [[truth]],
        }
        for row, right in zip(ROWS, (10, 18, 5), strict=True)
    }
    table4["without a judge"]["SEED"] = [[driver.unscored(f"nobody judged {HOSTILE[0]}")]]
    return {
        "table4": table4,
        "figure3": {row.label: {TRUTH: [[truth]]} for row in MADE["figure3"].rows},
        "figure4": {
            row.label: {name: [[relevance]] for name in RELEVANCE} | {TRUTH: [[truth]]}
            for row in MADE["figure4"].rows
        },
    }
