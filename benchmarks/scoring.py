"""lmms-eval's logged samples as tables, one row per scored question.

Columns of every table: question_id, image_id (the cluster), category, answer, response, readable,
and correct (1.0 or 0.0), except where only a judge could tell or the metric is of no one question.
"""

import json
import math
from collections.abc import Mapping
from numbers import Number

import pandas as pd
from lmms_eval.tasks._task_utils.mcq_extract import extract_mcq_answer
from lmms_eval.tasks.mmbench.mmbench_evals import MMBench_Evaluator

from benchmarks import pope as pope_rules
from benchmarks.judge import judging
from benchmarks.sources import TASKS
from benchmarks.tasks import SEED_DIMENSIONS
from c3l.runtime.errors import UserError

# MMBench shows each question with its options rotated: rotation k of question i has the index
# i + k * 1,000,000.
ROTATION = 1_000_000


def seedbench(samples: list[dict], images: Mapping[int, str]) -> pd.DataFrame:
    """SEED: the first character of an answer is its letter."""
    rows = []
    for sample in samples:
        scored = sample["seed_image"]
        letter, answer = scored["pred"].lower().strip(), scored["answer"].lower().strip()
        rows.append(
            _seed_columns(sample, images)
            | {
                "response": sample["filtered_resps"][0],
                "readable": letter in ("a", "b", "c", "d"),
                "correct": float(letter == answer),
            }
        )
    return pd.DataFrame(rows)


def seedbench_ppl(samples: list[dict], images: Mapping[int, str]) -> pd.DataFrame:
    """SEED by likelihood: the answer is the option of the smallest loss."""
    rows = []
    for sample in samples:
        losses = [loss for loss, _ in sample["filtered_resps"]]
        rows.append(
            _seed_columns(sample, images)
            | {
                "response": "ABCD"[losses.index(min(losses))],
                "readable": True,
                "correct": float(sample["acc"]),
            }
        )
    return pd.DataFrame(rows)


def _seed_columns(sample: dict, images: Mapping[int, str]) -> dict:
    doc = sample["doc"]
    kind = int(doc["question_type_id"])
    return {
        "question_id": str(doc["question_id"]),
        "image_id": images[sample["doc_id"]],
        "category": SEED_DIMENSIONS.get(kind, str(kind)),
        "answer": doc["answer"],
    }


def pope(samples: list[dict], images: Mapping[int, str]) -> pd.DataFrame:
    """POPE: also `reading` (lmms-eval's rule, None if unreadable) and `llava_reading`."""
    rows = []
    for sample in samples:
        doc, response = sample["doc"], sample["filtered_resps"][0]
        reading = pope_rules.lmms_eval_reading(response)
        answer = doc["answer"].lower().strip()
        rows.append(
            {
                "question_id": str(doc["question_id"]),
                "image_id": images[sample["doc_id"]],
                "category": doc["category"],
                "answer": answer,
                "response": response,
                "readable": reading is not None,
                "correct": float(reading == answer),
                "reading": reading,
                "llava_reading": pope_rules.llava_reading(response),
            }
        )
    return pd.DataFrame(rows)


def mmbench(samples: list[dict], images: Mapping[int, str]) -> pd.DataFrame:
    """MMBench: one row per question, correct if every rotation of its options is (CircularEval).

    `response` is the answer to the unrotated question; `readable` asks all rotations.
    """
    evaluator = MMBench_Evaluator()
    shown = pd.DataFrame([sample["gpt_eval_score"] for sample in samples])
    shown["doc_id"] = [sample["doc_id"] for sample in samples]
    answers = dict(zip(shown["index"], shown["answer"], strict=True))
    rows = []
    for _, rotations in shown.sort_values("index").groupby(shown["index"] % ROTATION):
        main = rotations.iloc[0]
        if main["index"] >= ROTATION:  # lmms-eval scores no group without its unrotated question
            continue
        rows.append(
            {
                "question_id": str(main["index"]),
                "image_id": images[main["doc_id"]],
                "category": main["category"],
                "answer": main["answer"],
                "response": main["prediction"],
                "readable": all(_mmbench_letter(evaluator, r) for _, r in rotations.iterrows()),
                "correct": float(evaluator.eval_sub_data(rotations, answers, static_only=True)),
            }
        )
    return pd.DataFrame(rows)


def _mmbench_letter(evaluator: MMBench_Evaluator, item: pd.Series) -> str | None:
    """The letter lmms-eval reads from an answer, or None."""
    letters = sorted(evaluator.build_choices(item))
    found = evaluator.prefetch_answer(item)
    return found or extract_mcq_answer(item["prediction"], choices=letters) or None


def llava_w(samples: list[dict], images: Mapping[int, str]) -> pd.DataFrame:
    """LLaVA-Bench (in the wild): the answers and, where they were judged, what the judge said.

    `reference_score` and `candidate_score` (NaN where the judge failed), `review` (its whole reply)
    and `failure` (why there are no scores, or None).
    """
    rows = []
    for sample in samples:
        row = {
            "question_id": str(sample["doc"]["question_id"]),
            "image_id": images[sample["doc_id"]],
            "category": sample["doc"]["category"],
            "answer": sample["doc"]["gpt_answer"],
            "response": _text(sample["filtered_resps"][0]),
            "readable": True,
        }
        if judgement := sample.get(judging.METRIC):
            failure = judging.failure_reason(judgement)
            scores = (math.nan, math.nan) if failure else judgement["scores"]
            row |= dict(zip(("reference_score", "candidate_score"), scores, strict=True))
            row |= {"review": judgement["review"], "failure": failure}
        rows.append(row)
    return pd.DataFrame(rows)


# What has a table of its own.
TABLES = {
    function.__name__: function for function in (seedbench, seedbench_ppl, pope, mmbench, llava_w)
}


# Of these the number is the mean of the column `correct`.
MEANS = ("seedbench", "seedbench_ppl", "mmbench")
COLUMNS = ("question_id", "image_id", "category", "answer", "response", "readable")
"""Of every table."""


def table(task: str, samples: list[dict], images: Mapping[int, str]) -> pd.DataFrame:
    """lmms-eval's log of a task of benchmarks.sources as this project's table.

    Raises UserError for a task of somebody's own whose log or table lacks something.
    """
    key = TASKS[task].key
    if task not in TABLES:
        return each_question(samples, images, key)
    frame = TABLES[task](samples, images)
    if lacking := [name for name in COLUMNS if name not in frame]:
        raise UserError(f"The table of {task} has no column {', '.join(lacking)}.")
    return frame


def each_question(samples: list[dict], images: Mapping[int, str], key: str) -> pd.DataFrame:
    """Any benchmark, by what lmms-eval's metric `key` keeps of each question.

    A number is in the column `correct`. The entries of a mapping or a sequence, from which a metric
    of the whole data set is computed, are in columns of their own: `scored.NAME`, or `scored.0`,
    `scored.1`, … A question that the metric leaves out has no row, and one without an image is a
    cluster of its own. Raises UserError where the metric is of no question.
    """
    rows = [
        {
            "question_id": str(sample["doc_id"]),
            "image_id": images.get(sample["doc_id"], f"none, question {sample['doc_id']}"),
            "category": "",
            "answer": _plain(str(sample["target"])),
            "response": _plain(str(_text(sample["filtered_resps"][0]))),
            "readable": True,
        }
        | _scored(sample[key])
        for sample in samples
        if key in sample
    ]
    if not rows:
        raise UserError(f"lmms-eval's log has no {key!r} of any question.")
    frame = pd.DataFrame(rows)
    for name in frame.columns.difference([*COLUMNS, "correct"]):
        kinds = {type(value) for value in frame[name].dropna()}
        if len(kinds) > 1:  # no parquet column holds both
            numbers = kinds <= {bool, int, float}
            frame[name] = frame[name].astype(float) if numbers else frame[name].map(_json)
    return frame


def _scored(value: object) -> dict:
    """What a metric keeps of one question, as columns."""
    value = _native(value)
    if isinstance(value, Number):
        return {"correct": float(value)}
    if isinstance(value, Mapping):
        entries = {str(name): entry for name, entry in value.items()}
    elif isinstance(value, list | tuple):
        entries = {str(place): entry for place, entry in enumerate(value)}
    else:
        return {"scored": _plain(value)}
    return {f"scored.{name}": _plain(entry) for name, entry in entries.items()}


def _plain(value: object) -> str | bool | int | float | None:
    """A value that a table holds: what is no text and no number is JSON."""
    value = _native(value)
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode(
            "utf-8"
        )  # a half of a character has no place
    small = isinstance(value, int) and abs(value) < 2**63
    if isinstance(value, Number) and not small:
        return float(value)
    return value if small or value is None else _plain(_json(value))


def _native(value: object) -> object:
    """A value without numpy's or torch's type, in which many metrics give theirs."""
    return value.tolist() if hasattr(value, "tolist") else value


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _text(response) -> str:
    return response[0] if isinstance(response, list) else response
