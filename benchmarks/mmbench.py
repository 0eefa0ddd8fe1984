"""MMBench (English, dev): multiple choice under CircularEval, which rotates the options."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from benchmarks.base import MeanBenchmark, Question, QuestionKey, image_bytes

if TYPE_CHECKING:
    import pandas as pd
    from lmms_eval.tasks.mmbench.mmbench_evals import MMBench_Evaluator

# Rotation k of question i has the index i + k * 1,000,000.
ROTATION = 1_000_000


class MMBench(MeanBenchmark):
    """MMBench: one row per question, right if every rotation of its options is."""

    def table(self, samples: list[dict], images: Mapping[int, str]) -> "pd.DataFrame":
        """`response` is the answer to the unrotated question; `readable` is about all rotations."""
        import pandas as pd
        from lmms_eval.tasks.mmbench.mmbench_evals import MMBench_Evaluator

        evaluator = MMBench_Evaluator()
        log = pd.DataFrame([sample["gpt_eval_score"] for sample in samples])
        log["doc_id"] = [sample["doc_id"] for sample in samples]
        answers = dict(zip(log["index"], log["answer"], strict=True))
        rows = []
        for _, rotations in log.sort_values("index").groupby(log["index"] % ROTATION):
            unrotated = rotations.iloc[0]
            if unrotated["index"] >= ROTATION:  # lmms-eval scores no group without it
                continue
            rows.append(
                {
                    "question_id": str(unrotated["index"]),
                    "image_id": images[unrotated["doc_id"]],
                    "category": unrotated["category"],
                    "answer": unrotated["answer"],
                    "response": unrotated["prediction"],
                    "readable": all(_letter(evaluator, r) for _, r in rotations.iterrows()),
                    "correct": float(evaluator.eval_sub_data(rotations, answers, static_only=True)),
                }
            )
        return pd.DataFrame(rows)

    def question(self, row: dict) -> tuple[QuestionKey, Question]:
        # An option that a question lacks is the text "nan".
        options = {letter: row[letter] for letter in "ABCD" if row[letter] not in (None, "nan")}
        key, image = ("", str(row["index"])), image_bytes(row["image"])
        return key, Question(row["question"], row["answer"], image, options)


def _letter(evaluator: "MMBench_Evaluator", item: "pd.Series") -> str | None:
    """The letter that lmms-eval reads from an answer."""
    from lmms_eval.tasks._task_utils.mcq_extract import extract_mcq_answer

    letters = sorted(evaluator.build_choices(item))
    letter = evaluator.prefetch_answer(item)
    return letter or extract_mcq_answer(item["prediction"], choices=letters) or None


MMBENCH = MMBench(
    "mmbench/mmbench_en_dev_static.yaml",
    "gpt_eval_score",
    "gpt_eval_score (mmbench_en_dev_static: options matched without a judge)",
    data_set="lmms-lab/MMBench",
    rows=4_329,
    answer_tokens=4,
)
