"""LLaVA-Bench (in the wild): free answers, graded by a judge beside a reference answer."""

import json
import math
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.base import Benchmark, Question, QuestionKey, TokenCount, first_text, image_bytes

if TYPE_CHECKING:
    import pandas as pd
    from lmms_eval.api.task import ConfigurableTask

SCORES = ["reference_score", "candidate_score"]
CHARACTERS = 4
"""Characters of English text in a token: OpenAI's own rule of thumb."""
RECORD = 1500
"""Characters of a question with its context and reference where there are no files: assumed."""
MARKS = 120
"""Characters of the marks between the parts of a prompt."""
PING = {
    "question_id": "ping",
    "question": "What colour is the ball?",
    "caption": "There is one thing in a field. A small red ball stands north.",
    "gpt_answer": "The ball is red.",
    "category": "conv",
}


class LlavaBench(Benchmark):
    """LLaVA-Bench: the candidates' mean score relative to the references', from the judge."""

    def table(self, samples: list[dict], images: Mapping[int, str]) -> "pd.DataFrame":
        """Return the answers and, where they were judged, the judgements.

        These are `reference_score` and `candidate_score` (NaN where the judge failed), `review`
        (its whole reply) and `failure` (the reason where there are no scores, or None).
        """
        import pandas as pd

        from benchmarks.judge import judging

        rows = []
        for sample in samples:
            row = {
                "question_id": str(sample["doc"]["question_id"]),
                "image_id": images[sample["doc_id"]],
                "category": sample["doc"]["category"],
                "answer": sample["doc"]["gpt_answer"],
                "response": first_text(sample["filtered_resps"][0]),
                "readable": True,
            }
            if judgement := sample.get(self.key):
                failure = judging.failure_reason(judgement)
                scores = (math.nan, math.nan) if failure else judgement["scores"]
                row |= dict(zip(SCORES, scores, strict=True))
                row |= {"review": judgement["review"], "failure": failure}
            rows.append(row)
        return pd.DataFrame(rows)

    def try_judge(self, task: "ConfigurableTask") -> str | None:
        from benchmarks.judge import judging

        judgement = task.process_results(PING, ["It is red."])[self.key]
        reason = judging.failure_reason(judgement)
        return f"the judge cannot be used: {reason}" if reason else None

    def judge_failure(self, samples: "pd.DataFrame") -> str | None:
        from benchmarks.judge import judging

        reasons = samples["failure"].dropna().tolist()
        if summary := judging.failure_summary(reasons, len(samples)):
            return summary
        if not samples["reference_score"].any():
            return "the judge graded every reference answer 0: there is no ratio to it"
        return None

    def recompute(self, samples: "pd.DataFrame", aggregation: Callable) -> float:
        means = _means(samples)  # lmms-eval rounds both means and their ratio
        return round(means["candidate_score"] / means["reference_score"] * 100, 1)

    def extra(self, samples: "pd.DataFrame", results: dict) -> dict:
        """Both means, and lmms-eval's relative score for each category that has questions."""
        categories = {
            category: results[f"gpt_eval_llava_{category},none"]
            for category in sorted(set(samples["category"]))
        }
        return _means(samples) | {"categories": categories}

    def question(self, row: dict) -> tuple[QuestionKey, Question]:
        key, image = ("", str(row["question_id"])), image_bytes(row["image"])
        return key, Question(row["question"], row["gpt_answer"], image)

    def baseline_scores(self, samples: "pd.DataFrame") -> list[tuple[float, float]]:
        """The scores of the answer and of the reference."""
        return [*map(tuple, samples[SCORES[::-1]].to_numpy(float).tolist())]

    def with_scores(self, samples: "pd.DataFrame", scores: list) -> "pd.DataFrame":
        candidate, reference = zip(*scores, strict=True)
        return samples.assign(candidate_score=candidate, reference_score=reference)

    def judge_tokens(self, folder: Path, questions: int, answer: int, reply: int) -> TokenCount:
        """Count the tokens of lmms-eval's prompts about the records in `folder`.

        Args:
            questions: how many records of RECORD characters, where there are no files.
            answer: the most characters of an answer.
            reply: the most tokens of a reply. The question that tries the judge is one more.
        """
        lengths = _record_lengths(folder) or [RECORD] * questions
        longest = max(map(len, _rules()))
        characters = sum(lengths) + (longest + answer) * len(lengths)
        calls = len(lengths) + 1
        read = characters // CHARACTERS * calls // len(lengths)
        return TokenCount(calls, read, calls * reply)


def _means(samples: "pd.DataFrame") -> dict[str, float]:
    return {name: round(float(samples[name].mean()), 3) for name in SCORES}


def _rules() -> list[str]:
    """lmms-eval's instructions to the judge, for LLaVA-Bench's three categories."""
    package = Path(find_spec("lmms_eval").origin).parent
    rules = json.loads((package / "tasks" / "llava-in-the-wild" / "rule.json").read_text("utf-8"))
    return [rule["prompt"] for name, rule in rules.items() if name.startswith("llava_bench_")]


def _record_lengths(folder: Path) -> list[int]:
    """Characters of each record's question, context and reference, with the marks around them."""
    import pyarrow
    import pyarrow.parquet

    lengths = []
    columns = ["question", "caption", "gpt_answer"]
    for file in sorted(folder.rglob("*.parquet")) if folder.is_dir() else []:
        try:
            table = pyarrow.parquet.read_table(file, columns=columns)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowKeyError, OSError):
            continue
        for row in table.to_pylist():
            texts = ("\n".join(t) if isinstance(t, list) else t or "" for t in row.values())
            lengths.append(MARKS + sum(map(len, texts)))
    return lengths


LLAVA_W = LlavaBench(
    "llava-in-the-wild/llava-in-the-wild.yaml",
    "gpt_eval_llava_all",
    "gpt_eval_llava_all",
    data_set="lmms-lab/llava-bench-in-the-wild",
    rows=60,
    needs_judge=True,
)
