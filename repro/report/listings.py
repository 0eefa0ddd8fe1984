"""What stands behind a number: questions with a model's answers, or pairs with what is known of
them.

A *set* holds what several artefacts share (a benchmark's questions, a data set's pairs), column by
column; a *result* what one artefact adds to it. Texts are places in `Texts`, images in `Pictures`.
What does not fit is left to a seeded draw, the same for all artefacts of a set, so that rows can be
compared question by question; `total` says how many there are.
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
from repro.report.pictures import Pictures, Texts

QUESTIONS = 1200  # of each benchmark: all of the pocket world's
PAIRS = 150  # of each data set
POOL = 300  # of each pool of pairs that table 6 ranks
SEED = 0  # of the draws


class Listings:
    """All sets and results of the page."""

    def __init__(self, store: Store, texts: Texts, pictures: Pictures):
        self.sets: list[dict] = []
        self.results: list[dict] = []
        self._store, self._texts, self._pictures = store, texts, pictures
        self._sets: dict[tuple, tuple[int, list]] = {}
        self._results: dict[str, int | None] = {}
        self._samples: dict[str, dict[str, Sample]] = {}
        self._kinds: dict[str, Callable[[Stage, pd.DataFrame], dict]] = {
            "evaluation": self._evaluation,
            "truth": self._truth,
            "relevance": self._relevance,
            "lengths": self._lengths,
            "ranking": self._ranking,
        }

    def add(self, stage: Stage) -> int | None:
        """The place of an artefact's result in `results`; None where it lists nothing."""
        if stage.key not in self._results:
            path = self._store.path(stage) / "samples.parquet"
            self._results[stage.key] = None
            if stage.name in self._kinds and path.is_file():
                self.results.append(self._kinds[stage.name](stage, pd.read_parquet(path)))
                self._results[stage.key] = len(self.results) - 1
        return self._results[stage.key]

    def _evaluation(self, stage: Stage, frame: pd.DataFrame) -> dict:
        task, data = stage.config["task"], stage.inputs["data"]
        benchmark = BENCHMARKS[task]
        rows = {
            benchmark.question_key(row["category"], row["question_id"]): row
            for row in frame.to_dict("records")
        }

        def made(drawn: list) -> list[tuple]:
            found = benchmark.questions(data.path, set(drawn))
            return [self._question(rows[place], found.get(place)) for place in drawn]

        number, drawn = self._set((task, data.key), list(rows), QUESTIONS, made, "expected answer")
        picked = [rows[place] for place in drawn]
        options = self.sets[number]["options"]
        return {
            "set": number,
            "said": [
                self._texts.add(_chosen(row["response"], [self._texts.all[k] for k in some]))
                for row, some in zip(picked, options, strict=True)
            ],
            "right": "".join(_right(row.get("correct")) for row in picked),
            "notes": self._notes([_judgement(row) for row in picked]),
        }

    def _truth(self, stage: Stage, frame: pd.DataFrame) -> dict:
        return self._pairs(stage, frame, lambda row: VERDICTS[row["verdict"]])

    def _relevance(self, stage: Stage, frame: pd.DataFrame) -> dict:
        return self._pairs(
            stage, frame, lambda row: f"I²C {row['i2c']:.2f} over {row['tokens']} tokens"
        )

    def _lengths(self, stage: Stage, frame: pd.DataFrame) -> dict:
        def said(row: dict) -> str:
            words, tokens = (
                f"{row[f'question_{unit}']} and {row[f'answer_{unit}']} {unit}"
                for unit in ("words", "tokens")
            )
            return f"question and answer: {words}; {tokens}"

        return self._pairs(stage, frame, said)

    def _ranking(self, stage: Stage, frame: pd.DataFrame) -> dict:
        def said(row: dict) -> str:
            chosen = ", chosen" if row["chosen"] else ""
            return f"score {row['value']:.4g}{chosen}; {VERDICTS[row['verdict']]}"

        frame = frame.rename(columns={"id": "question_id"})
        frame["correct"] = (frame["verdict"] == "true_image").astype(float)
        return self._pairs(stage, frame, said, POOL)

    def _pairs(
        self,
        stage: Stage,
        frame: pd.DataFrame,
        said: Callable[[dict], str],
        most: int = PAIRS,
    ) -> dict:
        """A result about the samples that a stage read."""
        written = stage.inputs["samples"]
        rows = {row["question_id"]: row for row in frame.to_dict("records")}

        def made(drawn: list) -> list[tuple]:
            samples, folder = self._read(written), nearest_images(written)
            return [self._pair(samples[name], folder) for name in drawn]

        ids = list(rows)
        number, drawn = self._set((written.key, len(ids), most), ids, most, made, "answer")
        picked = [rows[name] for name in drawn]
        return {
            "set": number,
            "right": "".join(_right(row.get("correct")) for row in picked),
            "notes": self._notes([said(row) for row in picked]),
        }

    def _question(self, row: dict, found: Question | None) -> tuple:
        category = row["category"]
        if found is None:
            unread = f"(the text of question {row['question_id']} cannot be read from the data set)"
            return category, unread, [], str(row["answer"]), None
        options = [f"{letter}. {text}" for letter, text in found.options.items()]
        image = self._pictures.add(found.image)
        return category, found.question, options, _chosen(found.answer, options), image

    def _pair(self, sample: Sample, folder: ImageFolder | None) -> tuple:
        image = folder and self._pictures.add_named(folder, sample.image)
        return sample.instruction, sample.question, [], sample.answer, image

    def _read(self, written: Stage) -> dict[str, Sample]:
        if written.key not in self._samples:
            samples = read_samples(self._store.path(written) / SAMPLES)
            self._samples[written.key] = {sample.id: sample for sample in samples}
        return self._samples[written.key]

    def _set(
        self, key: tuple, ids: list, most: int, made: Callable[[list], list[tuple]], answer: str
    ) -> tuple[int, list]:
        """The place of a set in `sets`, made if it is not there yet, and which ids it shows."""
        if key not in self._sets:
            drawn = draw_sample(ids, most)
            columns = zip(*made(drawn), strict=True) if drawn else [()] * 5
            category, question, options, answers, images = columns
            add = self._texts.add
            self.sets.append(
                {
                    "answer": answer,
                    "total": len(ids),
                    "id": [add(name if isinstance(name, str) else name[1]) for name in drawn],
                    "category": [add(name) for name in category],
                    "question": [add(text) for text in question],
                    "options": [[add(text) for text in some] for some in options],
                    "answers": [add(text) for text in answers],
                    "image": list(images),
                }
            )
            self._sets[key] = len(self.sets) - 1, drawn
        return self._sets[key]

    def _notes(self, notes: list[str | None]) -> list[int | None] | None:
        """The places of notes; None where nothing is noted."""
        if not any(notes):
            return None
        return [None if note is None else self._texts.add(note) for note in notes]


def draw_sample(items: Sequence, most: int, seed: int = SEED) -> list:
    """A seeded draw of at most so many, in their order."""
    if len(items) <= most:
        return list(items)
    return [items[k] for k in sorted(random.Random(seed).sample(range(len(items)), most))]


def nearest_images(stage: Stage) -> ImageFolder | None:
    """The images that a stage's samples are about: the nearest input of that name."""
    level = [stage]
    while level:
        for made in level:
            if isinstance(source := made.inputs.get("images"), Source):
                return ImageFolder(source.path)
        level = [source for made in level for source in made.stages]
    return None


def _chosen(answer: str, options: list[str]) -> str:
    """An answer; one that is an option's letter with the option behind it."""
    return next((text for text in options if text.split(". ")[0] == answer), answer)


def _right(correct: float | None) -> str:
    """One letter for the page: "1" right, "0" wrong, "-" where that is not said."""
    return {1.0: "1", 0.0: "0"}.get(correct, "-")


def _judgement(row: dict) -> str | None:
    """What there is to say of an answer besides that it is right or wrong."""
    if "candidate_score" in row:
        if isinstance(row["failure"], str):
            return f"not judged: {row['failure']}"
        scores = f"{row['candidate_score']:g} for this answer, {row['reference_score']:g} for the"
        return f"judge: {scores} expected one. {row['review']}"
    return None if row["readable"] else "the benchmark's parser cannot read this answer"
