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
from repro.report.samples import draw_sample
from repro.report.tables import FinishedTable
from repro.rows import TABLES, Row

PAIRS_BY_TOKEN = 8  # of each class


@dataclass(frozen=True)
class Pool:
    """A backbone's initial pairs with their scores, all data seeds together."""

    backbone: str
    stages: dict[int, Stage]
    """The scores by data seed."""
    pairs: list[tuple[Sample, Score]]
    """Pairs that have a score."""
    without: dict[str, int]
    """Counts of pairs without a score, by reason."""

    def in_class(self, name: str) -> list[tuple[Sample, Score]]:
        return [pair for pair in self.pairs if pair[0].instruction == name]


def find_pools(tables: dict[str, FinishedTable], store: Store) -> list[Pool]:
    """The pools behind the tables, by backbone in the tables' order."""
    stages: dict[str, dict[int, Stage]] = {}
    for name, table in tables.items():
        for row in TABLES[name].rows:
            if isinstance(row, Row) and row.readings:
                continue
            writer = (isinstance(row, Row) and row.writer) or row.backbone
            for seed, stage in _score_stages(table.cells[row.label]):
                stages.setdefault(writer, {})[seed] = stage
    return [_read_pool(backbone, by_seed, store) for backbone, by_seed in stages.items()]


def _score_stages(row: dict) -> Iterator[tuple[int, Stage]]:
    """The scores of filtered initial pairs behind a row, with their data seed."""
    for runs in row.values():
        for seed, models in enumerate(runs):
            for stage in closure(models).values():
                if stage.name == "scores" and stage.inputs["samples"].name == "filtered":
                    yield seed, stage


def _read_pool(backbone: str, stages: dict[int, Stage], store: Store) -> Pool:
    pairs, all_scores = [], []
    for _, stage in sorted(stages.items()):
        if not (store.path(stage) / SCORES).is_file():  # unscored: the table says why
            continue
        path = store.path(stage.inputs["samples"]) / SAMPLES
        samples = {sample.id: sample for sample in read_samples(path)}
        scores = read_scores(store.path(stage) / SCORES)
        all_scores += scores
        pairs += [(samples[score.id], score) for score in scores if not score.unscored]
    return Pool(backbone, stages, pairs, unscored(all_scores))


def contributions_by_token(pool: Pool) -> list[dict]:
    """A seeded draw of pairs of each class, with each answer token's contribution to eq. 1.

    The records are those of figure 4's pairs: `id`, `image`, `class`, `question`, `answer`, `i2c`,
    `pieces` and `contributions`.
    """
    from c3l.backbones.loading import load_pieces
    from c3l.relevance import contributions

    scored = next(iter(pool.stages.values()))
    pieces_of = load_pieces(scored.inputs["backbone"].path)
    score_eos = scored.config["readings"]["score_eos"]

    def by_token(sample: Sample, score: Score) -> dict:
        pieces = pieces_of(sample.question, sample.answer, score_eos)
        parts = [round(part, 6) for part in contributions(score).tolist()]
        if len(pieces) != len(parts):
            raise RuntimeError(f"The answer of {sample.id} has other tokens than were scored.")
        texts = {name: getattr(sample, name) for name in ("id", "image", "question", "answer")}
        scores = {"i2c": score.i2c, "pieces": pieces, "contributions": parts}
        return texts | {"class": sample.instruction} | scores

    samples = (draw_sample(pool.in_class(name), PAIRS_BY_TOKEN) for name in CLASSES)
    return [by_token(*pair) for pairs in samples for pair in pairs]
