"""POPE: F1 of the answers by two rules for reading them, and the area under the ROC curve.

F1 depends on how readily a model says "yes"; the area depends only on the order of the questions by
the likelihood of "yes".

lmms-eval takes exactly "yes" or "no" for an answer; what is neither vanishes from precision, recall
and F1 (accuracy counts it wrong). LLaVA's evaluation script, which the published numbers come from,
calls an answer "no" when its first sentence holds the word no or not, and "yes" otherwise.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.base import Benchmark, Question, QuestionKey, image_bytes

if TYPE_CHECKING:
    import pandas as pd

CATEGORIES = ("random", "popular", "adversarial")


def lmms_eval_reading(response: str) -> str | None:
    """ "yes", "no", or None for an answer that lmms-eval's rule cannot read."""
    text = response.lower().strip()
    return text if text in ("yes", "no") else None


def llava_reading(response: str) -> str:
    """ "yes" or "no" as LLaVA's `eval_pope.py` reads it: every answer is one of the two."""
    first_sentence = response.split(".")[0].replace(",", "")
    words = first_sentence.split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def f1(answers: np.ndarray, readings: np.ndarray) -> float:
    """F1 of "yes", 0 to 1; 0 where precision and recall are both 0 or undefined.

    Args:
        answers: [n] reference answers, "yes" or "no".
        readings: [n] "yes", "no" or None; None is neither a hit nor a miss, as in lmms-eval.
    """
    hits = np.sum((answers == "yes") & (readings == "yes"))
    false_alarms = np.sum((answers == "no") & (readings == "yes"))
    misses = np.sum((answers == "yes") & (readings == "no"))
    # 2PR / (P + R), and 0 where P + R is 0.
    return float(2 * hits / (2 * hits + false_alarms + misses)) if hits else 0.0


def category_mean_f1(samples: "pd.DataFrame", reading: str = "reading") -> float:
    """Mean of F1 over random, popular and adversarial negatives, 0 to 1 (the paper's number).

    `samples` has the columns category, answer and the one named by `reading`.
    """
    parts = [samples[samples["category"] == category] for category in CATEGORIES]
    return float(np.mean([f1(p["answer"].to_numpy(), p[reading].to_numpy()) for p in parts]))


def log_odds_of_yes(doc: dict, results: list[tuple[float, bool]]) -> dict[str, dict]:
    """Record a question's score for lmms-eval (`process_results` of tasks/pope_auc.yaml).

    `results` are the losses of "Yes" and "No", mean nats a token. The score is their difference,
    log P(Yes) − log P(No) where each is one token, as in the tokenizers of all our backbones.
    """
    (loss_yes, _), (loss_no, _) = results
    answer = doc["answer"].lower().strip()
    return {
        "pope_auc": {
            "category": doc["category"],
            "answer": answer,
            "score": float(loss_no) - float(loss_yes),
        }
    }


def area_under_roc(answers: np.ndarray, scores: np.ndarray) -> float:
    """Probability that a question to be answered yes scores above one to be answered no.

    A tie counts one half. NaN where either kind is missing.

    Args:
        answers: [n] reference answers, "yes" or "no".
        scores: [n], higher for a likelier "yes".
    """
    from scipy.stats import rankdata

    yes = answers == "yes"
    positives, negatives = int(yes.sum()), int((~yes).sum())
    if not positives * negatives:
        return float("nan")
    wins = rankdata(scores)[yes].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * negatives))


def category_mean_area(samples: "pd.DataFrame") -> float:
    """Mean over the three categories of the area under the ROC curve, 0 to 1.

    `samples` has the columns category, answer and score.
    """
    category, answer, score = (samples[c].to_numpy() for c in ("category", "answer", "score"))
    parts = [category == name for name in CATEGORIES]
    return float(np.mean([area_under_roc(answer[part], score[part]) for part in parts]))


def mean_area(records: list[dict]) -> float:
    """Aggregate lmms-eval's records of all questions (`category_mean_area`)."""
    import pandas as pd

    return category_mean_area(pd.DataFrame(records))


class PopeQuestions(Benchmark):
    """The questions of POPE, whose ids are unique in a category only."""

    def missing_part(self, samples: "pd.DataFrame") -> str | None:
        missing = sorted(set(CATEGORIES) - set(samples["category"]))
        return f"no questions of POPE's {', '.join(missing)} sampling" if missing else None

    def question_key(self, category: str, question_id: str) -> QuestionKey:
        return category, question_id

    def question(self, row: dict) -> tuple[QuestionKey, Question]:
        key, answer = (row["category"], row["question_id"]), row["answer"].lower().strip()
        return key, Question(row["question"], answer, image_bytes(row["image"]))


class PopeBench(PopeQuestions):
    """POPE: the mean of three F1 scores, by lmms-eval's rule; beside it LLaVA's rule."""

    def table(self, samples: list[dict], images: Mapping[int, str]) -> "pd.DataFrame":
        """Also `reading` (lmms-eval's rule, None if unreadable) and `llava_reading`."""
        import pandas as pd

        rows = []
        for sample in samples:
            doc, response = sample["doc"], sample["filtered_resps"][0]
            reading = lmms_eval_reading(response)
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
                    "llava_reading": llava_reading(response),
                }
            )
        return pd.DataFrame(rows)

    def value(self, samples: "pd.DataFrame", official: float) -> float:
        return 100 * category_mean_f1(samples)

    def recompute(self, samples: "pd.DataFrame", aggregation: Callable) -> float:
        """F1 over all questions together, which is lmms-eval's number."""
        return 100 * f1(samples["answer"].to_numpy(), samples["reading"].to_numpy())

    def extra(self, samples: "pd.DataFrame", results: dict) -> dict:
        """lmms-eval's pooled numbers and those of LLaVA's own rule, all 0 to 100."""
        pooled = {
            key.removeprefix("pope_"): 100 * results[f"{key},none"]
            for key in ("pope_accuracy", "pope_precision", "pope_recall", "pope_f1_score")
        }
        return {
            "pooled": pooled,
            # lmms-eval's pope_yes_ratio is that of the reference answers; this is the model's.
            "yes_share": 100 * float((samples["reading"] == "yes").mean()),
            "llava_rule": {
                "mean_f1": 100 * category_mean_f1(samples, "llava_reading"),
                "accuracy": 100 * float((samples["llava_reading"] == samples["answer"]).mean()),
                "yes_share": 100 * float((samples["llava_reading"] == "yes").mean()),
            },
        }

    def baseline_scores(self, samples: "pd.DataFrame") -> list[float | None]:
        """1 right, 0 wrong, None unreadable, which F1 counts as neither."""
        pairs = zip(samples["correct"].tolist(), samples["readable"], strict=True)
        return [correct if readable else None for correct, readable in pairs]

    def with_scores(self, samples: "pd.DataFrame", scores: list) -> "pd.DataFrame":
        opposite = {"yes": "no", "no": "yes"}
        readings = [
            None if score is None else answer if score else opposite[answer]
            for score, answer in zip(scores, samples["answer"], strict=True)
        ]
        return samples.assign(correct=[score or 0.0 for score in scores], reading=readings)


class PopeRanking(PopeQuestions):
    """POPE by likelihood: the mean of three areas under the ROC curve of yes against no."""

    def table(self, samples: list[dict], images: Mapping[int, str]) -> "pd.DataFrame":
        """Also `score`; no `correct`, since an order has no right and wrong questions."""
        import pandas as pd

        rows = []
        for sample in samples:
            record = sample["pope_auc"]
            rows.append(
                {
                    "question_id": str(sample["doc"]["question_id"]),
                    "image_id": images[sample["doc_id"]],
                    "category": record["category"],
                    "answer": record["answer"],
                    "response": "yes" if record["score"] > 0 else "no",
                    "readable": True,
                    "score": record["score"],
                }
            )
        return pd.DataFrame(rows)

    def recompute(self, samples: "pd.DataFrame", aggregation: Callable) -> float:
        return 100 * category_mean_area(samples)

    def extra(self, samples: "pd.DataFrame", results: dict) -> dict:
        """The area of each category, and the share of questions with "yes" likelier, 0 to 100."""
        areas = {
            name: 100 * area_under_roc(part["answer"].to_numpy(), part["score"].to_numpy())
            for name, part in samples.groupby("category")
        }
        return {"categories": areas, "yes_share": 100 * float((samples["score"] > 0).mean())}

    def baseline_scores(self, samples: "pd.DataFrame") -> list[float]:
        return samples["score"].tolist()

    def with_scores(self, samples: "pd.DataFrame", scores: list) -> "pd.DataFrame":
        return samples.assign(score=scores)


POPE = PopeBench(
    "pope/pope.yaml",
    "pope_f1_score",
    "mean F1 over random, popular, adversarial",
    100,
    "lmms-lab/POPE",
    rows=9_000,
    answer_tokens=4,
)
POPE_AUC = PopeRanking(
    str(Path(__file__).with_name("tasks") / "pope_auc.yaml"),
    "pope_auc",
    "mean area under the ROC curve over random, popular, adversarial, by likelihood of yes",
    100,
    "lmms-lab/POPE",
    folder="pope",
    rows=9_000,
    options=2,
    served_hint="the column POPE reads written answers",
)
