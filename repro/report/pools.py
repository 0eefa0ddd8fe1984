"""The scored pools of initial pairs: I²C by class, against length, and token by token.

A pool is what a backbone wrote and scored under the profile's own readings: those of rows that
change none.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from c3l.artifacts.graph import closure
from c3l.artifacts.store import Stage, Store
from c3l.instructions import CLASSES
from c3l.samples import Sample, read_samples
from c3l.scores import Score, read_scores, unscored
from c3l.stages.common import SAMPLES, SCORES
from repro.report.found import Found
from repro.report.listings import draw
from repro.rows import TABLES, Row

SHOWN = 8  # pairs of each class, token by token


@dataclass(frozen=True)
class Pool:
    """The initial pairs of a backbone with their scores, of all data seeds together."""

    backbone: str
    stages: dict[int, Stage]
    """The scores by data seed."""
    pairs: list[tuple[Sample, Score]]
    """Those that have a score."""
    without: dict[str, int]
    """How many have none, by reason."""

    def of_class(self, name: str) -> list[tuple[Sample, Score]]:
        return [pair for pair in self.pairs if pair[0].instruction == name]


def pools(found: dict[str, Found], store: Store) -> list[Pool]:
    """The pools behind the tables, by backbone in the tables' order."""
    stages: dict[str, dict[int, Stage]] = {}
    for name, table in found.items():
        for row in TABLES[name].rows:
            if isinstance(row, Row) and row.readings:
                continue
            writer = (isinstance(row, Row) and row.writer) or row.backbone
            for seed, stage in _scores(table.cells[row.label]):
                stages.setdefault(writer, {})[seed] = stage
    return [_pool(backbone, some, store) for backbone, some in stages.items()]


def _scores(row: dict) -> Iterator[tuple[int, Stage]]:
    """The scores of filtered initial pairs behind a row, with their data seed."""
    for runs in row.values():
        for seed, some in enumerate(runs):
            for stage in closure(some).values():
                if stage.name == "scores" and stage.inputs["samples"].name == "filtered":
                    yield seed, stage


def _pool(backbone: str, stages: dict[int, Stage], store: Store) -> Pool:
    pairs, every = [], []
    for _, stage in sorted(stages.items()):
        folders = [store.path(made) for made in (stage.inputs["samples"], stage)]
        if not (folders[1] / SCORES).is_file():  # unscored: the table says why
            continue
        samples = {sample.id: sample for sample in read_samples(folders[0] / SAMPLES)}
        scores = read_scores(folders[1] / SCORES)
        every += scores
        pairs += [(samples[score.id], score) for score in scores if not score.unscored]
    return Pool(backbone, stages, pairs, unscored(every))


def by_token(pool: Pool) -> list[dict]:
    """A seeded draw of pairs of each class, with what each token of the answer adds to eq. 1.

    Records as figure 4's pairs have them: `id`, `image`, `class`, `question`, `answer`, `i2c`,
    `pieces` and `contributions`.
    """
    from c3l.backbones.loading import load_pieces
    from c3l.relevance import contributions

    scored = next(iter(pool.stages.values()))
    pieces_of = load_pieces(scored.inputs["backbone"].path)
    end = scored.config["readings"]["score_eos"]
    drawn = [pair for name in CLASSES for pair in draw(pool.of_class(name), SHOWN)]
    found = []
    for sample, score in drawn:
        pieces = pieces_of(sample.question, sample.answer, end)
        adds = [round(part, 6) for part in contributions(score).tolist()]
        if len(pieces) != len(adds):
            raise RuntimeError(f"The answer of {sample.id} has other tokens than were scored.")
        found.append(
            {
                "id": sample.id,
                "image": sample.image,
                "class": sample.instruction,
                "question": sample.question,
                "answer": sample.answer,
                "i2c": score.i2c,
                "pieces": pieces,
                "contributions": adds,
            }
        )
    return found
