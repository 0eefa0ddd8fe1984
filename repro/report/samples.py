"""The samples behind a number: questions with a model's answers, or pairs with their scores.

A *set* holds what several artefacts share (a benchmark's questions, a data set's pairs), column by
column; a *result* holds one artefact's additions. Texts are positions in `TextPool`, images in
`Thumbnails`. Beyond a limit a seeded draw is shown, the same for all artefacts of a set, so that
rows can be compared question by question; `total` says how many there are.
"""

import random
from collections.abc import Callable, Sequence

import pandas as pd

from benchmarks import BENCHMARKS
from benchmarks.base import Question
from c3l.artifacts.store import Source, Stage, Store
from c3l.samples import ImageFolder, Sample, read_samples
from c3l.stages.common import SAMPLES
from repro.render.gallery import VERDICTS
from repro.report.thumbnails import TextPool, Thumbnails

QUESTIONS = 1200  # of each benchmark: all of the pocket world's
PAIRS = 150  # of each data set
POOL = 300  # of each pool of pairs that table 6 ranks
SEED = 0  # of the draws

Line = tuple[str, str, list[str], str, int | None]
"""Category, question, options, answer and thumbnail."""


NOTES: dict[str, Callable[[dict], str]] = {
    "truth": lambda row: _truth(row["verdict"], list(row["claims"])),
    "relevance": lambda row: f"I²C {row['i2c']:.2f} over {row['tokens']} tokens",
    "lengths": lambda row: (
        f"question and answer: {row['question_words']} and {row['answer_words']} words; "
        f"{row['question_tokens']} and {row['answer_tokens']} tokens"
    ),
    "ranking": lambda row: (
        f"score {row['value']:.4g}{', chosen' if row['chosen'] else ''}; {VERDICTS[row['verdict']]}"
    ),
}
"""A line on a pair, from the samples of the stage that read it."""


class SampleLists:
    """All sets and results of the page."""

    def __init__(self, store: Store, texts: TextPool, thumbnails: Thumbnails):
        self.sets: list[dict] = []
        self.results: list[dict] = []
        self._store, self._texts, self._thumbnails = store, texts, thumbnails
        self._sets: dict[tuple, tuple[int, list]] = {}
        self._positions: dict[str, int | None] = {}
        self._samples: dict[str, dict[str, Sample]] = {}

    def add(self, stage: Stage) -> int | None:
        """The position of an artefact's result in `results`; None if it has no samples."""
        if stage.key not in self._positions:
            path = self._store.path(stage) / "samples.parquet"
            self._positions[stage.key] = None
            if stage.name in ("evaluation", *NOTES) and path.is_file():
                list_samples = self._pairs if stage.name in NOTES else self._evaluation
                self.results.append(list_samples(stage, pd.read_parquet(path)))
                self._positions[stage.key] = len(self.results) - 1
        return self._positions[stage.key]

    def _evaluation(self, stage: Stage, frame: pd.DataFrame) -> dict:
        task, data = stage.config["task"], stage.inputs["data"]
        benchmark = BENCHMARKS[task]
        rows = {
            benchmark.question_key(row["category"], row["question_id"]): row
            for row in frame.to_dict("records")
        }

        def read_lines(keys: list) -> list[Line]:
            questions = benchmark.questions(data.path, set(keys))
            return [self._question_line(rows[key], questions.get(key)) for key in keys]

        keys = list(rows)
        number, keys = self._set((task, data.key), keys, QUESTIONS, read_lines, "expected answer")
        strings = self._texts.strings
        answers = [
            _with_option(rows[key]["response"], [strings[k] for k in options])
            for key, options in zip(keys, self.sets[number]["options"], strict=True)
        ]
        return {
            "set": number,
            "said": [self._texts.add(answer) for answer in answers],
            "right": "".join(_mark(rows[key].get("correct")) for key in keys),
            "notes": self._notes([_judgement(rows[key]) for key in keys]),
        }

    def _pairs(self, stage: Stage, frame: pd.DataFrame) -> dict:
        """A result about the samples that a stage read."""
        source, note, limit = stage.inputs["samples"], NOTES[stage.name], PAIRS
        if stage.name == "ranking":
            frame, limit = frame.rename(columns={"id": "question_id"}), POOL
            frame["correct"] = (frame["verdict"] == "true_image").astype(float)
        rows = {row["question_id"]: row for row in frame.to_dict("records")}

        def read_lines(ids: list) -> list[Line]:
            samples, folder = self._read(source), nearest_images(source)
            return [self._pair_line(samples[name], folder) for name in ids]

        ids = list(rows)
        number, ids = self._set((source.key, len(ids), limit), ids, limit, read_lines, "answer")
        return {
            "set": number,
            "right": "".join(_mark(rows[name].get("correct")) for name in ids),
            "notes": self._notes([note(rows[name]) for name in ids]),
        }

    def _question_line(self, row: dict, question: Question | None) -> Line:
        category = row["category"]
        if question is None:
            text = f"(the text of question {row['question_id']} cannot be read from the data set)"
            return category, text, [], str(row["answer"]), None
        options = [f"{letter}. {text}" for letter, text in question.options.items()]
        thumbnail = self._thumbnails.add(question.image)
        answer = _with_option(question.answer, options)
        return category, question.question, options, answer, thumbnail

    def _pair_line(self, sample: Sample, folder: ImageFolder | None) -> Line:
        thumbnail = folder and self._thumbnails.add_named(folder, sample.image)
        return sample.instruction, sample.question, [], sample.answer, thumbnail

    def _read(self, stage: Stage) -> dict[str, Sample]:
        if stage.key not in self._samples:
            samples = read_samples(self._store.path(stage) / SAMPLES)
            self._samples[stage.key] = {sample.id: sample for sample in samples}
        return self._samples[stage.key]

    def _set(
        self,
        key: tuple,
        ids: list,
        limit: int,
        read_lines: Callable[[list], list[Line]],
        answer: str,
    ) -> tuple[int, list]:
        """The position of a set in `sets`, added if it is new, and the ids that it shows."""
        if key not in self._sets:
            sample = draw_sample(ids, limit)
            columns = zip(*read_lines(sample), strict=True) if sample else [()] * 5
            category, question, options, answers, images = columns
            add = self._texts.add
            self.sets.append(
                {
                    "answer": answer,
                    "total": len(ids),
                    "id": [add(name if isinstance(name, str) else name[1]) for name in sample],
                    "category": [add(name) for name in category],
                    "question": [add(text) for text in question],
                    "options": [[add(text) for text in texts] for texts in options],
                    "answers": [add(text) for text in answers],
                    "image": list(images),
                }
            )
            self._sets[key] = len(self.sets) - 1, sample
        return self._sets[key]

    def _notes(self, notes: list[str | None]) -> list[int | None] | None:
        """The positions of notes; None if there are none."""
        if not any(notes):
            return None
        return [None if note is None else self._texts.add(note) for note in notes]


def draw_sample(items: Sequence, limit: int, seed: int = SEED) -> list:
    """Draw at most `limit` of the items, in their order."""
    indices = random.Random(seed).sample(range(len(items)), min(limit, len(items)))
    return [items[k] for k in sorted(indices)]


def nearest_images(stage: Stage) -> ImageFolder | None:
    """The images that a stage's samples are about: the nearest input of that name."""
    level = [stage]
    while level:
        for ancestor in level:
            if isinstance(source := ancestor.inputs.get("images"), Source):
                return ImageFolder(source.path)
        level = [source for ancestor in level for source in ancestor.stages]
    return None


def _truth(verdict: str, claims: list[str]) -> str:
    """A pair's verdict and, where its answer makes several claims, how many need the image."""
    count = f"; {claims.count('true_image')} of {len(claims)} claims {VERDICTS['true_image']}"
    return VERDICTS[verdict] + (count if len(claims) > 1 else "")


def _with_option(answer: str, options: list[str]) -> str:
    """An answer; the letter of an option with the option itself."""
    return next((text for text in options if text.split(". ")[0] == answer), answer)


def _mark(correct: float | None) -> str:
    """One letter for the page: "1" right, "0" wrong, "-" not known."""
    return {1.0: "1", 0.0: "0"}.get(correct, "-")


def _judgement(row: dict) -> str | None:
    """A note on an answer, besides right or wrong."""
    if "candidate_score" in row:
        if isinstance(row["failure"], str):
            return f"not judged: {row['failure']}"
        scores = f"{row['candidate_score']:g} for this answer, {row['reference_score']:g} for the"
        return f"judge: {scores} expected one. {row['review']}"
    return None if row["readable"] else "the benchmark's parser cannot read this answer"
