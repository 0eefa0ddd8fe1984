"""Small benchmarks in the column layout of the real ones, and a backbone that answers by table."""

from pathlib import Path

import numpy as np
from datasets import Dataset, Features, Image, Sequence, Value
from PIL import Image as PILImage

TEXT, WHOLE = Value("string"), Value("int64")


def image(seed: int) -> PILImage.Image:
    """A seeded 24 px image."""
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    return PILImage.fromarray(pixels)


def write(folder: Path, rows: list[dict], features: dict, split: str, config: str = "default"):
    """Write rows as one parquet file with the README.md that names its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{split}-00000-of-00001.parquet"
    Dataset.from_list(rows, Features(features)).to_parquet(folder / name)
    (folder / "README.md").write_text(
        f"---\nconfigs:\n- config_name: {config}\n  data_files:\n"
        f"  - split: {split}\n    path: {name}\n---\n"
    )
    return folder


def seedbench(folder: Path, n: int = 12, video: int = 1) -> Path:
    """n image questions, two to an image, dimensions 1 to 9 in turn, answers A to D in turn."""
    rows = []
    for i in range(n + video):
        options = [f"option {j} of {i}" for j in range(4)]
        rows.append(
            {
                "answer": "ABCD"[i % 4],
                **{f"choice_{c}": text for c, text in zip("abcd", options, strict=True)},
                "data_id": str(i // 2),
                "data_type": "image" if i < n else "video",
                "question": f"Which option belongs to number {i}?",
                "question_id": str(1000 + i),
                "question_type_id": i % 9 + 1,
                "image": [image(i // 2)] * (1 if i < n else 2),
                "segment": None,
            }
        )
    names = ["answer", "choice_a", "choice_b", "choice_c", "choice_d", "data_id", "data_type"]
    features = {name: TEXT for name in [*names, "question", "question_id"]} | {
        "question_type_id": WHOLE,
        "image": Sequence(Image()),
        "segment": Sequence(WHOLE),
    }
    return write(folder, rows, features, "test")


CATEGORIES = ("random", "popular", "adversarial")


def pope(folder: Path, pairs: int = 4, categories: tuple[str, ...] = CATEGORIES) -> Path:
    """For each category `pairs` images, each with one question to say yes to and one to say no."""
    rows = []
    for category in categories:
        for i in range(pairs):
            for answer in ("yes", "no"):
                rows.append(
                    {
                        "id": str(len(rows)),
                        "question_id": str(len(rows)),
                        "question": f"Is there thing {i} of the {answer} {category} kind?",
                        "answer": answer,
                        "image_source": f"scene-{i}",
                        "image": image(i),
                        "category": category,
                    }
                )
    features = {name: TEXT for name in rows[0]} | {"image": Image()}
    return write(folder, rows, features, "test")


def mmbench(folder: Path, n: int = 3) -> Path:
    """n questions of two options, each shown a second time with its options turned round."""
    rows = []
    for i in range(n):
        for turn in range(2):
            options = ["red", "blue"] if turn == 0 else ["blue", "red"]
            rows.append(
                {
                    "index": i + turn * 1_000_000,
                    "question": f"What colour is thing {i}, turn {turn}?",
                    "hint": "nan",
                    "answer": "AB"[turn],
                    "A": options[0],
                    "B": options[1],
                    "C": "nan",
                    "D": "nan",
                    "category": "attribute_recognition",
                    "image": image(i),
                    "source": "made",
                    "L2-category": "finegrained_perception",
                    "comment": "nan",
                    "split": "dev",
                }
            )
    features = {name: TEXT for name in rows[0]} | {"index": WHOLE, "image": Image()}
    return write(folder, rows, features, "dev", config="en")


def llava_w(folder: Path) -> Path:
    """One question of each of the three categories about one image."""
    rows = [
        {
            "question_id": str(i),
            "question": f"Tell me about it ({category}).",
            "image": image(0),
            "caption": "A red ball.",
            "gpt_answer": "It is a red ball.",
            "category": category,
            "image_id": "000",
        }
        for i, category in enumerate(("conv", "detail", "complex"))
    ]
    features = {name: TEXT for name in rows[0]} | {"image": Image()}
    return write(folder, rows, features, "train")


class TableBackbone:
    """Answers a question by the first key of `table` that it contains; has no model at all."""

    name, dtype = "table", None

    def __init__(self, table: dict[str, str], otherwise: str = ""):
        self.table, self.otherwise = table, otherwise
        self.digest = f"{len(table)} answers"
        self.calls: list[dict] = []

    def generate(self, questions, images=None, **settings) -> list[str]:
        self.calls.append({"questions": questions, "images": images} | settings)
        return [
            next((answer for key, answer in self.table.items() if key in q), self.otherwise)
            for q in questions
        ]
