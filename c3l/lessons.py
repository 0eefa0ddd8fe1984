"""What a training from files learns from: samples of data, without those that teach nothing."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

from c3l.artifacts.files import digest
from c3l.backbones.base import Backbone
from c3l.data.left_out import LeftOut
from c3l.readings import Readings
from c3l.runtime import distributed
from c3l.runtime.errors import UserError, printable
from c3l.samples import Data, ImageFolder, Sample, Turn, content_of, read_data
from c3l.scores import Score, read_contents, read_scores
from c3l.unusable import too_long, without_use

UNSCORED = "no_score"
"""The reason of a sample without a score whose data do not say why."""


@dataclass
class Lessons:
    """Data, and the reasons for which some of its samples are left out, by place."""

    data: Data
    images: ImageFolder
    values: list[float | None] | None = None
    """For a generator each sample's I²C, where it has one."""

    def __post_init__(self):
        self.reasons: dict[int, str] = {}

    @property
    def source(self) -> str:
        """The data's name, for sentences."""
        return printable(self.data.name)

    @property
    def places(self) -> list[int]:
        """The places of the samples to train on."""
        return [place for place in range(len(self.data.samples)) if place not in self.reasons]

    @property
    def samples(self) -> list[Sample]:
        """The samples to train on."""
        return [self.data.samples[place] for place in self.places]

    @property
    def counts(self) -> dict[str, int]:
        """How many are left out, by reason."""
        return dict(Counter(item.reason for item in self.left_out))

    @property
    def left_out(self) -> list[LeftOut]:
        """What is left out, in the order of the data: what is no sample, and samples."""
        places = count()
        both = ((t, self.reasons.get(next(places)) if t.sample else t.why) for t in self.data.turns)
        return [LeftOut(turn.id, turn.where, why) for turn, why in both if why]

    def turn(self, place: int) -> Turn:
        """The place in the data of a sample."""
        return next(islice((turn for turn in self.data.turns if turn.sample), place, None))

    def leave_out(self, reasons: Mapping[int, str], *, strict: bool = False) -> None:
        """Leave samples out, named by their places among `samples`.

        Raises UserError where none remains, and with `strict` where there is one.
        """
        places = self.places
        self.reasons |= {places[i]: why for i, why in reasons.items()}
        if strict and reasons:
            first = min(reasons)
            turn = self.turn(places[first])
            raise UserError(
                f"{len(reasons)} samples of {self.source} cannot be trained on, {printable(turn.id)} "
                f"among them ({turn.where}: {reasons[first]}); mend them, or train without --strict"
            )
        if len(self.reasons) == len(self.data.samples):
            counts = ", ".join(f"{why} {count}" for why, count in sorted(self.counts.items()))
            raise UserError(
                f"there is no sample in {self.source}"
                + (f" that can be trained on ({counts})" if counts else "")
                + "; give another --data"
            )


def read_lessons(
    source: str | Path,
    images: Path | None,
    *,
    scores: Path | None = None,
    readings: Readings | None = None,
    strict: bool = False,
) -> Lessons:
    """Return the samples of some data.

    With `readings` they are a generator's, and only those with a score count: of a file of
    `scores`, else of the data themselves. Raises UserError for what the caller can mend.
    """
    data = read_data(source, strict=strict)
    lessons = Lessons(data, data.pictures(images))
    lessons.leave_out({})
    if readings:
        unscored = _take_values(lessons, scores, readings)
        lessons.leave_out(unscored)
    return lessons


def check_images(lessons: Lessons, *, strict: bool) -> None:
    """Look at every image, and leave out samples without one or without an answer.

    All processes of a launch call it. Raises UserError where nothing remains.
    """
    lessons.leave_out(without_use(lessons.samples, lessons.images), strict=strict)


def digest_images(lessons: Lessons) -> str:
    """Return one digest of the images that the samples to train on name: their names and bytes.

    All processes of a launch call it; each reads a part.
    """
    names = sorted({sample.image for sample in lessons.samples})
    own = names[distributed.rank() :: distributed.world_size()]
    parts = distributed.all_gather_call(lambda: {name: lessons.images.digest(name) for name in own})
    return digest({name: value for part in parts for name, value in part.items()})


def check_lengths(lessons: Lessons, backbone: Backbone, *, strict: bool) -> None:
    """Leave out what the backbone cannot read. Raises UserError where nothing remains."""
    pairs = lessons.values is not None
    lessons.leave_out(too_long(backbone, lessons.samples, pairs=pairs), strict=strict)


def _take_values(lessons: Lessons, scores: Path | None, readings: Readings) -> dict[int, str]:
    """Set the samples' values and return why some have none, by place."""
    samples = lessons.data.samples
    if scores is None:
        values = [_number(sample.meta.get("i2c")) for sample in samples]
        said = [sample.meta.get("unscored") for sample in samples]
        if all(value is None for value in values):
            raise UserError(
                f"no sample of {lessons.source} has a score; add them by `python -m c3l "
                "score --out scored.jsonl`, or give a file of scores as --scores"
            )
    else:
        from c3l.relevance import in_form

        theirs = read_scores(scores)
        matched = match_scores(samples, theirs, lessons.data.name, scores)
        _check_contents(samples, matched, theirs, lessons.source, scores)
        values = [_number(value) for value in in_form(matched, readings.score_form)]
        said = [score.unscored for score in matched]
        if all(value is None for value in values):
            raise UserError(f"{printable(str(scores))} scores no sample of {lessons.source}")
    lessons.values = values
    return {
        place: why if isinstance(why, str) else UNSCORED
        for place, (value, why) in enumerate(zip(values, said, strict=True))
        if value is None
    }


def match_scores(
    samples: Sequence[Sample], scores: Sequence[Score], source: str, path: Path
) -> list[Score]:
    """Return the score of each sample: by place where the ids agree in sequence, else by id.

    Raises UserError where some sample has no score, and where an id that stands more than once
    leaves open which score is whose.
    """
    ids, theirs = [sample.id for sample in samples], [score.id for score in scores]
    if ids == theirs:
        return list(scores)
    for name, some in ((source, ids), (str(path), theirs)):
        repeated = next((id_ for id_, count in Counter(some).items() if count > 1), None)
        if repeated is not None:
            raise UserError(
                f"the id {printable(repeated)} stands in {printable(name)} more than once, and the ids of "
                f"{printable(str(path))} are not those of {printable(source)} in their order; score these "
                "data again, or give every sample an id of its own"
            )
    by_id = dict(zip(theirs, scores, strict=True))
    if lost := [id_ for id_ in ids if id_ not in by_id]:
        raise UserError(
            f"{printable(str(path))} has no score of {len(lost)} samples of {printable(source)}, "
            f"{printable(lost[0])} among them; score these data again"
        )
    return [by_id[id_] for id_ in ids]


def _check_contents(
    samples: Sequence[Sample],
    matched: Sequence[Score],
    scores: Sequence[Score],
    source: str,
    path: Path,
) -> None:
    """Raise UserError where a score is of another sample of the same id."""
    content = dict(zip(map(id, scores), read_contents(path), strict=True))
    for sample, score in zip(samples, matched, strict=True):
        if content[id(score)] not in (None, content_of(sample)):
            raise UserError(
                f"{printable(str(path))} scores another {printable(sample.id)} than that of {source}: image, "
                "question or answer differ; score these data again"
            )


def _number(value: Any) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer of hundreds of digits
        return None
