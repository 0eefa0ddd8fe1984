"""SEED-Bench, image part: four options, answered by a letter or by the options' likelihoods."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from benchmarks.base import MeanBenchmark, Question, QuestionKey, image_bytes

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

# SEED's question_type_id; 10 to 12 are video.
DIMENSIONS = {
    1: "Scene Understanding",
    2: "Instance Identity",
    3: "Instance Attributes",
    4: "Instance Location",
    5: "Instances Counting",
    6: "Spatial Relation",
    7: "Instance Interaction",
    8: "Visual Reasoning",
    9: "Text Understanding",
}


class SeedBench(MeanBenchmark):
    """SEED by letters: the first character of an answer is its letter."""

    @staticmethod
    def process_docs(rows: "Dataset") -> "Dataset":
        """Leave out the video questions."""
        return rows.filter(lambda kind: kind == "image", input_columns="data_type")

    def table(self, samples: list[dict], images: Mapping[int, str]) -> "pd.DataFrame":
        import pandas as pd

        rows = []
        for sample in samples:
            doc = sample["doc"]
            kind = int(doc["question_type_id"])
            columns = {
                "question_id": str(doc["question_id"]),
                "image_id": images[sample["doc_id"]],
                "category": DIMENSIONS.get(kind, str(kind)),
                "answer": doc["answer"],
            }
            rows.append(columns | self._response(sample))
        return pd.DataFrame(rows)

    def _response(self, sample: dict) -> dict:
        scored = sample["seed_image"]
        letter, answer = scored["pred"].lower().strip(), scored["answer"].lower().strip()
        return {
            "response": sample["filtered_resps"][0],
            "readable": letter in ("a", "b", "c", "d"),
            "correct": float(letter == answer),
        }

    def question(self, row: dict) -> tuple[QuestionKey, Question]:
        options = {letter: row[f"choice_{letter.lower()}"] for letter in "ABCD"}
        image = image_bytes((row["image"] or [None])[0])
        key = "", str(row["question_id"])
        return key, Question(row["question"], row["answer"], image, options)


class SeedBenchLikelihood(SeedBench):
    """SEED by likelihood: the answer is the option with the smallest loss."""

    def _response(self, sample: dict) -> dict:
        losses = [loss for loss, _ in sample["filtered_resps"]]
        return {
            "response": "ABCD"[losses.index(min(losses))],
            "readable": True,
            "correct": float(sample["acc"]),
        }


_SHARED = {"scale": 100, "data_set": "lmms-lab/SEED-Bench", "folder": "seedbench", "rows": 14_233}
SEEDBENCH = SeedBench(
    "seedbench/seedbench.yaml", "seed_image", "seed_image", answer_tokens=4, **_SHARED
)
SEEDBENCH_PPL = SeedBenchLikelihood(
    "seedbench/seedbench_ppl.yaml",
    "acc",
    "seed_image by likelihood (seedbench_ppl)",
    options=4,
    served_hint="--set scoring.tasks.SEED=seedbench asks for letters",
    **_SHARED,
)
