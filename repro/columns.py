"""The columns of tables: the stages behind a cell, and its number from their samples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from benchmarks.served import Served
from c3l.artifacts.stage import Source, Stage
from c3l.stages import scoring
from c3l.stages.common import Weights
from repro.analysis import jackknife, ranking, statistics
from repro.analysis.statistics import (
    Difference,
    Estimate,
    Influence,
    Statistic,
    accuracy,
    linearise,
    mean,
    mean_f1,
    relative_score,
    score_ratio,
)
from repro.inputs import Inputs
from repro.profile import Profile
from repro.rows import Ranking, Row
from repro.stages import evaluation, published

if TYPE_CHECKING:
    import pandas as pd

Frames: TypeAlias = "list[list[pd.DataFrame]]"
"""The samples of a cell's artefacts: [data seed][tuning seed]."""


@dataclass(frozen=True)
class DataSet:
    """The data that the models of a row and data seed are tuned on."""

    samples: Stage
    images: Source
    graphs: Source | None
    writer: Weights | None = None
    """The generator, where it is the backbone that is tuned, or was trained from it."""


@dataclass(frozen=True)
class RowStages:
    """The stages of a row that columns measure, for one data seed."""

    row: Row | Ranking
    profile: Profile
    inputs: Inputs
    backbone: Weights | Served
    models: list[Weights | Served] = field(default_factory=list)
    """One for each tuning seed, or the backbone as it is."""
    dataset: DataSet | None = None
    ranking: Stage | None = None
    """The initial pairs as a row of table 6 ranks them."""


Build = Callable[[str, RowStages], list[Stage]]
"""From a column's name and a row to the stages that its cell is computed from, [tuning seed]; an
empty list leaves the cell out."""


def build_evaluations(name: str, stages: RowStages) -> list[Stage]:
    """Score each tuned model on the benchmark that the profile has for the column."""
    profile, source = stages.profile, stages.inputs.benchmarks.get(name)
    if source is None:
        reason = f"the profile {profile.name} has no task for {name}"
        return [evaluation.unscored(reason) for _ in stages.models]
    task = profile.scoring.tasks[name]
    return [evaluation.evaluation(m, task, source, profile.scoring) for m in stages.models]


def build_truth(name: str, stages: RowStages) -> list[Stage]:
    """Judge the data set by its scene graphs, where the truth is known."""
    if not (stages.dataset and stages.inputs.final_graphs):
        return []
    return [evaluation.truth(stages.dataset.samples, stages.dataset.graphs)]


def build_relevance(name: str, stages: RowStages) -> list[Stage]:
    """Score the data set by I²C under the backbone as it is."""
    row, backbone, dataset = stages.row, stages.backbone, stages.dataset
    if not dataset or isinstance(row, Ranking) or isinstance(backbone, Served):
        return []
    readings = stages.profile.readings_of(row.backbone, **row.readings)
    batch_size = stages.profile.scoring.i2c_batch_size
    scores = scoring.scores(backbone, dataset.samples, dataset.images, readings, batch_size)
    return [evaluation.relevance(backbone, dataset.samples, scores, readings)]


def build_lengths(name: str, stages: RowStages) -> list[Stage]:
    """Measure the texts of the data set."""
    if not stages.dataset or isinstance(stages.backbone, Served):
        return []
    return [published.lengths(stages.dataset.samples, stages.backbone)]


def build_ranking(name: str, stages: RowStages) -> list[Stage]:
    """Rank the initial pairs as the row says."""
    return [stages.ranking] if stages.ranking else []


@dataclass(frozen=True)
class Column:
    """A column: what it is measured on, and how."""

    unit: str
    """What n counts, in words."""
    influence: Callable[[Frames], Influence]
    """From a row's samples to its number and each image's part of it."""
    build: Build = build_evaluations
    metric: str | None = None
    """What is measured, where artefacts serve several columns and cannot say it themselves."""
    compared: bool = True
    """True if rows are compared with their bases here."""
    exact: bool = False
    """True if the number is counted, not estimated: it has no interval."""

    @property
    def benchmark(self) -> bool:
        """True if it is measured on each tuned model; otherwise once a data seed."""
        return self.build is build_evaluations

    @property
    def needs_truth(self) -> bool:
        """True if it exists only where scene graphs say what is true."""
        return self.build is build_truth

    def estimate(self, row: Influence) -> Estimate:
        """Return a row's number with its interval."""
        return Estimate(row.value, None, None) if self.exact else statistics.estimate(row)

    def difference(
        self, row: Influence, base: Influence, alike: Sequence[Influence] = ()
    ) -> Difference:
        """Return a row's number minus its base's (`repro.analysis.statistics.difference`)."""
        change = statistics.difference(row, base, alike)
        return change._replace(error=0.0) if self.exact else change


def counted(
    unit: str,
    counts: "Callable[[pd.DataFrame, list[str]], np.ndarray]",
    statistic: Statistic,
    *,
    smooth: Statistic | None = None,
    build: Build = build_evaluations,
    metric: str | None = None,
) -> Column:
    """Return a column whose number is a statistic of additive counts.

    `counts` takes samples and the images' ids, in order, to [images, ...]; `smooth` is the
    statistic without its rounding, if it has one.
    """

    def influence(frames: Frames) -> Influence:
        images = jackknife.image_ids(frames)
        table = np.array([[counts(frame, images) for frame in run] for run in frames])
        return linearise(table, images, statistic, smooth)

    return Column(unit, influence, build, metric)


def computed(
    unit: str,
    value: jackknife.Metric,
    *,
    build: Build = build_evaluations,
    metric: str | None = None,
) -> Column:
    """A column of any metric: a function of a model's samples, 0 to 100.

    `value` is called for each model with all of its samples, and once without each of at most
    thirty groups of images.
    """
    return Column(unit, partial(jackknife.metric_influence, metric=value), build, metric)


def correct_counts(samples: "pd.DataFrame", images: list[str]) -> np.ndarray:
    """[images, 2]: answers that are right, and all."""
    right = samples["correct"].to_numpy(float)
    return _summed([right, np.ones_like(right)], samples, images)


def claim_counts(samples: "pd.DataFrame", images: list[str]) -> np.ndarray:
    """[images, 2]: claims that are true and need the image, and all."""
    right = [list(claims).count("true_image") for claims in samples["claims"]]
    everything = [len(claims) for claims in samples["claims"]]
    return _summed([np.array(right, float), np.array(everything, float)], samples, images)


def relevance_counts(
    samples: "pd.DataFrame", images: list[str], *, by_token: bool = False
) -> np.ndarray:
    """[images, 2]: the sum of I²C, and of how many pairs; by token × 100 and of how many tokens."""
    i2c, tokens = (samples[name].to_numpy(float) for name in ("i2c", "tokens"))
    pair = [100 * i2c, tokens] if by_token else [i2c, np.ones_like(i2c)]
    return _summed(pair, samples, images)


def pope_counts(samples: "pd.DataFrame", images: list[str]) -> np.ndarray:
    """[images, 3 categories, 3]: true positives, false positives, false negatives of "yes".

    An unreadable answer is none of them, as in lmms-eval.
    """
    category, answer, reading = (
        samples[name].to_numpy(object)[:, None] for name in ("category", "answer", "reading")
    )
    categories = category == ["random", "popular", "adversarial"]
    kinds = (answer == ["yes", "no", "yes"]) & (reading == ["yes", "yes", "no"])
    return _summed([kind[:, None] & categories for kind in kinds.T], samples, images)


def pope_area(samples: "pd.DataFrame") -> float:
    """The mean of POPE's three areas under the ROC curve, 0 to 100."""
    from benchmarks.pope import category_mean_area

    return 100 * category_mean_area(samples)


def score_counts(samples: "pd.DataFrame", images: list[str]) -> np.ndarray:
    """[images, 3]: the judge's scores of the candidate and of the reference, and answers."""
    scores = samples[["candidate_score", "reference_score"]].to_numpy(float).T
    return _summed([*scores, np.ones(len(samples))], samples, images)


def length_counts(
    samples: "pd.DataFrame", images: list[str], *, names: tuple[str, ...], each: str
) -> np.ndarray:
    """[images, 2]: lengths in the columns `names`, and the number of turns or records behind them.

    `each` is "turn" or "record"; a record is counted with its first turn.
    """
    first = ~samples["record"].duplicated() if each == "record" else np.ones(len(samples))
    sums = samples[list(names)].sum(axis=1).to_numpy(float)
    return _summed([sums, np.asarray(first, float)], samples, images)


def instances(frames: Frames) -> Influence:
    """Number of records of a data set, a mean over data seeds."""
    counts = np.array([[float(frame["record"].nunique()) for frame in run] for run in frames])
    return Influence(counts.mean().item(), counts, np.array(["all"]), 0 * counts[..., None])


def _summed(parts: Sequence[np.ndarray], samples: "pd.DataFrame", images: list[str]) -> np.ndarray:
    """[images, ..., parts] from values of each sample, each part [samples, ...]."""
    values = np.stack(parts, axis=-1)
    counts = np.zeros((len(images), *values.shape[1:]))
    position = {image: k for k, image in enumerate(images)}
    np.add.at(counts, samples["image_id"].map(position).to_numpy(int), values)
    return counts


COLUMNS: dict[str, Column] = {
    "SEED": counted("questions a model", correct_counts, accuracy),
    "POPE": counted("questions a model", pope_counts, mean_f1),
    "POPE AUC": computed("questions a model", pope_area),
    "LLaVA^W": counted("questions a model", score_counts, relative_score, smooth=score_ratio),
    "MMB": counted("questions a model", correct_counts, accuracy),
    "image-dependent claims, %": counted(
        "claims a data set", claim_counts, accuracy, build=build_truth
    ),
} | {
    f"{name}{suffix}": Column(
        "pairs a data seed",
        partial(function, against=against),
        build=build_ranking,
        metric=f"{metric} {rest}",
        compared=False,
    )
    for name, function, metric in (
        ("AUROC", ranking.area, "area under the ROC curve × 100, true image-dependent pairs over"),
        ("best 10%", ranking.precision, "% true image-dependent pairs in the best tenth, beside"),
    )
    for suffix, against, rest in (
        ("", None, "all others"),
        (", false", "false", "false ones"),
        (", no image", "no_image", "true ones that need no image"),
    )
}
for name, by_token, metric in (
    ("I²C", False, "mean of eq. 1 summed over an answer's tokens"),
    ("I²C a token", True, "mean over all answers' tokens × 100"),
):
    counts = partial(relevance_counts, by_token=by_token)
    COLUMNS[name] = replace(
        counted("samples a data set", counts, mean, build=build_relevance),
        metric=f"I²C of the final samples under the untouched backbone, {metric}",
    )
for name, influence, metric in (
    (
        "AUROC, false, same class",
        partial(ranking.area, against="false", within="class"),
        "as AUROC, false, each pair beside those of its instruction class",
    ),
    (
        "best 10%, descriptions",
        partial(ranking.share_of_class, name="detailed description"),
        "% detailed descriptions in the best tenth",
    ),
    (
        "length ρ",
        ranking.length_correlation,
        "Spearman's correlation × 100 of score and answer length in tokens",
    ),
):
    COLUMNS[name] = Column(
        "pairs a data seed", influence, build=build_ranking, metric=metric, compared=False
    )
COLUMNS["instances"] = Column(
    "turns a data set",
    instances,
    build_lengths,
    metric="published records; a conversation of several turns is one",
    exact=True,
)
COLUMNS |= {
    name: counted(
        "turns a data set",
        partial(length_counts, names=texts, each=each),
        mean,
        build=build_lengths,
        metric=metric,
    )
    for name, texts, each, metric in (
        ("Q len", ("question_words",), "turn", "words of a turn's question, cut at white space"),
        ("A len", ("answer_words",), "turn", "words of a turn's answer, cut at white space"),
        ("words a record", ("question_words", "answer_words"), "record", "of all its turns"),
        ("Q tokens", ("question_tokens",), "turn", "of a turn's question, the backbone's"),
        ("A tokens", ("answer_tokens",), "turn", "of a turn's answer, the backbone's"),
    )
}
