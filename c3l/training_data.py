"""The samples of some data that training can use, and the reasons for which it leaves out others.

The reasons are those of `c3l.scores.Score`: a sample without a score for one of them teaches
nothing.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from c3l.artifacts.files import digest
from c3l.backbones.base import Backbone
from c3l.data.left_out import LeftOut, format_counts
from c3l.instructions import CLASSES, format_pair, pair_prompt
from c3l.readings import Readings
from c3l.runtime import distributed
from c3l.runtime.errors import ImageError, UserError, printable
from c3l.runtime.progress import track
from c3l.samples import Data, ImageFolder, Sample, content_of, read_data
from c3l.scores import Score, read_contents, read_scores

NO_SCORE = "no_score"
"""The reason of a sample without a score whose data give none."""
_BATCH = 64  # texts that are tokenised together


# ── Samples that no training can use ─────────────────────────────────────────────────────────────


def unusable(
    backbone: Backbone, samples: Sequence[Sample], images: ImageFolder, *, pairs: bool = False
) -> dict[int, str]:
    """Return the reasons why samples cannot be trained on, by their index.

    With `pairs` a sample is read as a generator writes it, which is longer (`as_pair`).
    """
    reasons = without_answer_or_image(samples, images)
    rest = [i for i in range(len(samples)) if i not in reasons]
    too_long_of_rest = too_long(backbone, [samples[i] for i in rest], pairs=pairs)
    return reasons | {rest[i]: reason for i, reason in too_long_of_rest.items()}


def without_answer_or_image(samples: Sequence[Sample], images: ImageFolder) -> dict[int, str]:
    """Return the reasons of samples with an empty answer or an unreadable image, by index.

    Each image is opened once. In a launch each process opens a part of them, and all return the
    same.
    """
    reasons = {i: "empty_answer" for i, s in enumerate(samples) if not s.answer.strip()}
    names = {i: sample.image for i, sample in enumerate(samples) if i not in reasons}

    def check(names: Sequence[str]) -> dict[str, str]:
        unreadable = {}
        for name in track(names, "images"):
            try:
                images[name]
            except ImageError as error:
                unreadable[name] = error.reason
        return unreadable

    unreadable = _shared(dict.fromkeys(names.values()), check)
    return reasons | {i: unreadable[name] for i, name in names.items() if name in unreadable}


def too_long(backbone: Backbone, samples: Sequence[Sample], *, pairs: bool) -> dict[int, str]:
    """Return the reasons of samples that exceed the context or have no answer token, by index."""
    texts = [as_pair(sample) if pairs else (sample.question, sample.answer) for sample in samples]
    # Texts of similar length together: one long text would pad all others.
    order = sorted(range(len(texts)), key=lambda i: len(texts[i][0]) + len(texts[i][1]))
    batches = [order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]
    reasons: dict[int, str] = {}
    for batch in track(batches, "texts", [*map(len, batches)]):
        questions, answers = zip(*(texts[i] for i in batch), strict=True)
        for i, (total, answer) in zip(batch, backbone.lengths(questions, answers), strict=True):
            if total > backbone.context:
                reasons[i] = "longer_than_context"
            elif not answer:  # to the tokenizer
                reasons[i] = "empty_answer"
    return reasons


def as_pair(sample: Sample) -> tuple[str, str]:
    """Return the request for a sample and the reply, as a generator learns to write it."""
    instruction = sample.instruction if sample.instruction in CLASSES else CLASSES[0]
    return pair_prompt(instruction, 1), format_pair(sample.question, sample.answer)


def _shared(
    names: Iterable[str], function: Callable[[list[str]], dict[str, str]]
) -> dict[str, str]:
    """function(names) → values by name, computed in parts by the processes of a launch."""
    part = list(names)[distributed.rank() :: distributed.world_size()]
    parts = distributed.all_gather_call(lambda: function(part))
    return {name: value for part in parts for name, value in part.items()}


# ── Training from files ──────────────────────────────────────────────────────────────────────────


@dataclass
class TrainingData:
    """Data, and the reasons for which samples of them are left out, by index."""

    data: Data
    images: ImageFolder
    values: list[float | None] | None = None
    """For a generator, each sample's I²C or None."""
    reasons: dict[int, str] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """The data's name, for messages."""
        return printable(self.data.name)

    @property
    def indices(self) -> list[int]:
        """The indices of the samples to train on."""
        return [i for i in range(len(self.data.samples)) if i not in self.reasons]

    @property
    def samples(self) -> list[Sample]:
        """The samples to train on."""
        return [self.data.samples[i] for i in self.indices]

    @property
    def counts(self) -> dict[str, int]:
        """The number left out, by reason."""
        return dict(Counter(item.reason for item in self.left_out))

    @property
    def left_out(self) -> list[LeftOut]:
        """The samples left out and the turns that are no sample, in the order of the data."""
        return self.data.list_left_out(map(self.reasons.get, count()))

    def leave_out(self, reasons: Mapping[int, str], *, strict: bool = False) -> None:
        """Leave samples out, by their indices in `samples`.

        Raises UserError where none remains, and with `strict` for any.
        """
        indices = self.indices
        self.reasons |= {indices[i]: reason for i, reason in reasons.items()}
        if strict and reasons:
            first = min(reasons)
            turn = [turn for turn in self.data.turns if turn.sample][indices[first]]
            raise UserError(
                f"{len(reasons)} samples of {self.source} cannot be trained on, "
                f"{printable(turn.id)} among them ({turn.location}: {reasons[first]}); mend them, "
                "or train without --strict"
            )
        if len(self.reasons) == len(self.data.samples):
            usable = f" that can be trained on ({format_counts(self.counts)})"
            none = f"there is no sample in {self.source}{usable if self.counts else ''}"
            raise UserError(f"{none}; give another --data")

    def digest_images(self) -> str:
        """Return one digest of the images of the samples to train on: their names and bytes.

        All processes of a launch call it; each reads a part.
        """
        names = sorted({sample.image for sample in self.samples})
        return digest(_shared(names, lambda part: {n: self.images.digest(n) for n in part}))


def read_training_data(
    source: str | Path,
    images: Path | None,
    *,
    scores: Path | None = None,
    readings: Readings | None = None,
    strict: bool = False,
) -> TrainingData:
    """Return the samples of some data.

    With `readings` they are a generator's, which need a score: from a file of `scores`, else from
    the data themselves. Raises UserError for what the caller can mend.
    """
    data = read_data(source, strict=strict)
    training_data = TrainingData(data, data.pictures(images))
    training_data.leave_out({})
    if readings:
        training_data.leave_out(_take_values(training_data, scores, readings))
    return training_data


def _take_values(
    training_data: TrainingData, scores: Path | None, readings: Readings
) -> dict[int, str]:
    """Set the samples' values and return the reasons of those without one, by index."""
    samples, source = training_data.data.samples, training_data.source
    if scores is None:
        values = [_number(sample.meta.get("i2c")) for sample in samples]
        reasons = [sample.meta.get("unscored") for sample in samples]
        missing = (
            f"no sample of {source} has a score; add them by `python -m c3l "
            "score --out scored.jsonl`, or give a file of scores as --scores"
        )
    else:
        from c3l.relevance import in_form

        stored = read_scores(scores)
        matched = match_scores(samples, stored, training_data.data.name, scores)
        content = dict(zip(map(id, stored), read_contents(scores), strict=True))
        for sample, score in zip(samples, matched, strict=True):
            if content[id(score)] not in (None, content_of(sample)):  # of another of the same id
                raise UserError(
                    f"{printable(str(scores))} scores another {printable(sample.id)} than that of "
                    f"{source}: image, question or answer differ; score these data again"
                )
        values = [_number(value) for value in in_form(matched, readings.score_form)]
        reasons = [score.unscored for score in matched]
        missing = f"{printable(str(scores))} scores no sample of {source}"
    if all(value is None for value in values):
        raise UserError(missing)
    training_data.values = values
    return {
        i: reason if isinstance(reason, str) else NO_SCORE
        for i, (value, reason) in enumerate(zip(values, reasons, strict=True))
        if value is None
    }


def match_scores(
    samples: Sequence[Sample], scores: Sequence[Score], source: str, path: Path
) -> list[Score]:
    """Return the score of each sample: in order where the sequences of ids agree, else by id.

    Raises UserError for a sample without a score, and for an id that occurs more than once, so
    that its scores cannot be assigned.
    """
    ids, score_ids = [sample.id for sample in samples], [score.id for score in scores]
    if ids == score_ids:
        return list(scores)
    file = printable(str(path))
    for name, sequence in ((source, ids), (str(path), score_ids)):
        repeated = next((id_ for id_, n in Counter(sequence).items() if n > 1), None)
        if repeated is not None:
            raise UserError(
                f"the id {printable(repeated)} stands in {printable(name)} more than once, and the "
                f"ids of {file} are not those of {printable(source)} in their order; score these "
                "data again, or give every sample an id of its own"
            )
    by_id = dict(zip(score_ids, scores, strict=True))
    if missing := [id_ for id_ in ids if id_ not in by_id]:
        raise UserError(
            f"{file} has no score of {len(missing)} samples of {printable(source)}, "
            f"{printable(missing[0])} among them; score these data again"
        )
    return [by_id[id_] for id_ in ids]


def _number(value: Any) -> float | None:
    """A finite number, or None for anything else."""
    with suppress(OverflowError):  # an integer of hundreds of digits
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    return None
