"""From a table's rows to stages: the same stage for every row that shares it."""

from collections.abc import Mapping

from c3l.artifacts.graph import closure
from c3l.artifacts.store import Stage
from c3l.method import Pipeline, augmented_pipeline
from c3l.reach import contrast_unreached, model_type
from c3l.selection import selector
from c3l.settings import MethodSettings
from c3l.stages import scoring, training
from c3l.stages.common import Weights
from repro.columns import COLUMNS, DataSet, RowStages
from repro.inputs import Inputs, labels_of
from repro.profile import Profile
from repro.rows import Ranking, Row
from repro.stages import evaluation, published, ranking

Runs = list[list[Stage]]
"""The stages behind a cell: [data seed][tuning seed]."""

Cells = dict[str, dict[str, Runs]]
"""The stages behind a table: row label, column, runs."""


def stages(cells: Cells) -> list[Stage]:
    """Return all stages that a table reads its numbers from."""
    return [
        stage for row in cells.values() for runs in row.values() for run in runs for stage in run
    ]


def rows(tables: Mapping[str, Cells]) -> dict[str, list[str]]:
    """Return the rows, as "table4: CRM", that each stage is made for, by its key."""
    labels: dict[str, list[str]] = {}
    for name, cells in tables.items():
        for label, row in cells.items():
            for key in closure(stages({label: row})):
                labels.setdefault(key, []).append(f"{name}: {label}")
    return labels


def stages_for_row(
    row: Row | Ranking, columns: tuple[str, ...], profile: Profile, inputs: Inputs, seeds: list[int]
) -> dict[str, Runs]:
    """Return the stages behind each cell of a row, by column.

    A benchmark that the profile has no task for is unscored, and so are all columns of a row whose
    backbone it lacks. Columns about the truth are left out where it is not known.
    """
    if reason := _out_of_reach(row, profile) or _without_effect(row, profile, inputs):
        stage = evaluation.unscored(reason)
        names = [n for n in columns if inputs.final_graphs or not COLUMNS[n].needs_truth]
        return {name: [[stage]] for name in names}
    cells: dict[str, Runs] = {}
    for seed in seeds:
        row_stages = stages_to_measure(row, profile, inputs, seed)
        for name in columns:
            if run := COLUMNS[name].build(name, row_stages):
                cells.setdefault(name, []).append(run)
    return cells


def stages_to_measure(row: Row | Ranking, profile: Profile, inputs: Inputs, seed: int) -> RowStages:
    """Return what the columns of a row measure, for one data seed."""
    backbone = inputs.backbones.get(row.backbone) or profile.served[row.backbone]
    if isinstance(row, Ranking):
        ranked = _ranking(row, backbone, profile, inputs, seed)
        return RowStages(row, profile, inputs, backbone, ranking=ranked)
    dataset = _dataset(row, profile, inputs, seed) if row.tuned else None
    models = [backbone] * profile.sizes.tuning_seeds
    if dataset:
        models = _tuned(row, dataset, backbone, profile, seed)
    return RowStages(row, profile, inputs, backbone, models, dataset)


def pipeline(row: Row, backbone: Weights, profile: Profile, inputs: Inputs, seed: int) -> Pipeline:
    """Return section 3.4 as a row varies it, up to the final data."""
    settings = MethodSettings(
        readings=profile.readings_of(row.writer or row.backbone, **row.readings),
        generation=profile.generation,
        training=profile.training.settings_for(crm=row.crm, clm=row.clm),
        share=profile.share if row.share is None else row.share,
    )
    return augmented_pipeline(
        backbone,
        inputs.initial,
        inputs.final,
        settings,
        seed,
        size=profile.sizes.final_samples,
        crm=row.crm,
        clm=row.clm,
        selection=row.selection,
        score_batch_size=profile.scoring.i2c_batch_size,
    )


def _dataset(row: Row, profile: Profile, inputs: Inputs, seed: int) -> DataSet:
    if row.data is not None:
        dataset = inputs.published[row.data]
        samples = published.comparison(dataset)
        if row.cut:
            samples = published.cut(samples, profile.sizes.final_samples, seed)
        return DataSet(samples, dataset.images, dataset.graphs)
    backbone = inputs.backbones[row.writer or row.backbone]
    steps = pipeline(row, backbone, profile, inputs, seed)
    writer = None if row.writer else steps.generator
    return DataSet(steps.final, inputs.final.source, inputs.final_graphs, writer)


def _tuned(
    row: Row, dataset: DataSet, backbone: Weights, profile: Profile, seed: int
) -> list[Weights]:
    """Return a model for each tuning seed, tuned on the row's data set (VLIT)."""
    readings = profile.readings_of(row.backbone, **row.readings)
    start = dataset.writer if dataset.writer and readings.vlit_start == "generator" else backbone
    settings = profile.training.vlit
    return [
        # another seed for each data seed: tuning's luck must not repeat itself
        training.vlit(
            start, dataset.samples, dataset.images, settings, readings, 100 * seed + tuning
        )
        for tuning in range(profile.sizes.tuning_seeds)
    ]


def _ranking(row: Ranking, backbone: Weights, profile: Profile, inputs: Inputs, seed: int) -> Stage:
    """Return the initial pairs as the row ranks them."""
    steps = pipeline(Row(row.label, row.backbone), backbone, profile, inputs, seed)
    samples, scores, batch_size = steps.candidates, steps.scores, profile.scoring.i2c_batch_size
    if row.control is not None:
        if row.control == "constant":
            changed = images = ranking.constant(samples)
        else:
            changed, images = ranking.shuffled(samples, seed), inputs.initial.source
        readings = profile.readings_of(row.backbone)
        scores = scoring.scores(backbone, changed, images, readings, batch_size)
    answer_logprobs = None
    if "answer_logprobs" in selector(row.method).needs:
        answer_logprobs = scoring.answer_logprobs(backbone, samples, batch_size)
    return ranking.ranking(
        samples,
        scores,
        inputs.initial_graphs,
        ranker=row.method,
        share=profile.share,
        seed=seed,
        answer_logprobs=answer_logprobs,
    )


def _out_of_reach(row: Row | Ranking, profile: Profile) -> str | None:
    """Explain why a row cannot be run with the profile's backbones, or return None."""
    for label in labels_of(row):
        if label in profile.backbones:
            continue
        if label not in profile.served:
            return f"the profile {profile.name} has no backbone {label}"
        if isinstance(row, Ranking) or row.tuned:
            return f"{label} is served at an address, where nothing can be trained or scored by I²C"
    return None


def _without_effect(row: Row | Ranking, profile: Profile, inputs: Inputs) -> str | None:
    """Explain why a row that changes a reading cannot be made with the profile's others, or return
    None. Where those themselves exclude each other, making its generator is an error."""
    if not (isinstance(row, Row) and row.readings and row.clm):
        return None
    label = row.writer or row.backbone
    kind = model_type(inputs.backbones[label])
    if contrast_unreached(profile.readings_of(label), kind):
        return None
    return contrast_unreached(profile.readings_of(label, **row.readings), kind)
