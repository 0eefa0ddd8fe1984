"""From a table's rows to stages: the same stage for every row that shares it."""

from dataclasses import dataclass
from pathlib import Path

from c3l import pipeline
from c3l.errors import UserError
from c3l.files import digest_file, digest_files
from c3l.readings import Readings
from c3l.store import Source, Stage, Store
from repro import ranking_stages
from repro import stages as driver
from repro.columns import COLUMNS
from repro.profile import Profile
from repro.progress import say
from repro.rows import Ranking, Row

Runs = list[list[Stage]]
"""The stages behind a cell: [data seed][tuning seed]."""

Cells = dict[str, dict[str, Runs]]
"""The stages behind a table: row label, column, runs."""


def stages(cells: Cells) -> list[Stage]:
    """All stages that a table reads its numbers from."""
    return [
        stage for row in cells.values() for runs in row.values() for some in runs for stage in some
    ]


@dataclass(frozen=True)
class Data:
    """The images and benchmarks of a profile; only the files that are used count."""

    initial: Source
    final: Source
    benchmarks: dict[str, Source]
    initial_graphs: Source | None
    final_graphs: Source | None
    """Scene graphs of the images, where the world is made and the truth is known."""


def prepare(profile: Profile, store: Store) -> Data:
    """The profile's data, the pocket world made first if need be (under a minute).

    Raises UserError for a folder that lacks something.
    """
    folder = Path(profile.data)
    if profile.data == "pocket":
        world = driver.pocket_world()
        if not store.find(world):
            say("Making the pocket world.")
        folder = store.make(world)
    benchmarks = {
        column: benchmark_source(folder, task) for column, task in profile.scoring.tasks.items()
    }
    sizes = profile.sizes
    return Data(
        pipeline.image_source(folder / "initial" / "images", sizes.initial_images),
        pipeline.image_source(folder / "final" / "images", sizes.final_images),
        benchmarks,
        *(_graphs(folder / part) for part in ("initial", "final")),
    )


def _graphs(folder: Path) -> Source | None:
    path = folder / "graphs.jsonl"
    return Source(path, digest_file(path)) if path.is_file() else None


def benchmark_source(folder: Path, task: str) -> Source:
    """A benchmark's data in a folder laid out like the pocket world. Raises UserError without."""
    path = folder / "benchmarks" / task.removesuffix("_ppl")
    if not any(path.glob("**/*.parquet")):
        raise UserError(f"There is no data for {task}: no parquet file in {path}.")
    return Source(path, digest_files(path))


def row_stages(
    row: Row | Ranking, columns: tuple[str, ...], profile: Profile, data: Data, seeds: list[int]
) -> dict[str, Runs]:
    """The stages behind each cell of a row. Columns that cannot be measured here are left out."""
    backbone = _backbone(row.backbone, profile)
    if isinstance(row, Ranking):
        runs = [[_ranking(row, backbone, profile, data, seed)] for seed in seeds]
        return dict.fromkeys(columns, runs)
    cells: dict[str, Runs] = {}
    for seed in seeds:
        final, tuned = _models(row, backbone, profile, data, seed)
        for name in columns:
            if COLUMNS[name].benchmark:
                if name not in data.benchmarks:
                    raise UserError(f"The profile {profile.name} has no task for {name}.")
                task, source = profile.scoring.tasks[name], data.benchmarks[name]
                runs = [driver.evaluation(model, task, source, profile.scoring) for model in tuned]
            elif final and data.final_graphs:
                runs = [driver.truth(final, data.final_graphs)]
            else:
                continue
            cells.setdefault(name, []).append(runs)
    return cells


def _backbone(label: str, profile: Profile) -> Source:
    if label not in profile.backbones:
        known = ", ".join(profile.backbones)
        raise UserError(f"The profile {profile.name} has no backbone {label}; it has {known}.")
    return pipeline.backbone_source(profile.backbones[label])


def _models(
    row: Row, backbone: Source, profile: Profile, data: Data, seed: int
) -> tuple[Stage | None, list[Stage | Source]]:
    """A data seed's final data, if the row has any, and the models that are scored."""
    if not row.tuned:
        return None, [backbone] * profile.sizes.tuning_seeds
    readings = _readings(row, profile)
    writer = _backbone(row.writer or row.backbone, profile)
    generator = _generator(row, writer, profile, data, seed)
    final = _final_data(generator, writer, profile, readings, data, seed)
    start = generator if readings.vlit_start == "generator" and not row.writer else backbone
    return final, [
        # another seed for each data seed: tuning's luck must not repeat itself
        pipeline.vlit(
            start, final, data.final, profile.training.vlit, readings, 100 * seed + tuning
        )
        for tuning in range(profile.sizes.tuning_seeds)
    ]


def _ranking(row: Ranking, backbone: Source, profile: Profile, data: Data, seed: int) -> Stage:
    """The initial pairs as the row ranks them."""
    readings = profile.readings
    samples, scores = initial_pool(backbone, profile, readings, data, seed)
    if row.control is not None:
        if row.control == "constant":
            shown = images = ranking_stages.constant(samples)
        else:
            shown, images = ranking_stages.shuffled(samples, seed), data.initial
        batch_size = profile.scoring.i2c_batch_size
        scores = pipeline.scores(backbone, shown, images, readings, batch_size)
    return ranking_stages.ranking(
        samples, scores, data.initial_graphs, by=row.by, share=profile.share, seed=seed
    )


def _readings(row: Row, profile: Profile) -> Readings:
    return Readings(**profile.readings.model_dump() | dict(row.readings))


def initial_pool(
    backbone: Source, profile: Profile, readings: Readings, data: Data, seed: int
) -> tuple[Stage, Stage]:
    """The initial data D0, filtered, and their scores."""
    sizes, settings = profile.sizes, profile.generation
    images = data.initial
    captions = pipeline.captions(backbone, images, sizes.initial_images, settings, readings, seed)
    initial = pipeline.initial(backbone, captions, images, settings, readings, seed)
    samples = pipeline.filtered(initial, readings)
    batch_size = profile.scoring.i2c_batch_size
    return samples, pipeline.scores(backbone, samples, images, readings, batch_size)


def _generator(
    row: Row, backbone: Source, profile: Profile, data: Data, seed: int
) -> Stage | Source:
    """What writes the row's final data: the backbone, or a generator trained on its samples."""
    if not (row.crm or row.clm):
        return backbone
    readings = _readings(row, profile)
    samples, scores = initial_pool(backbone, profile, readings, data, seed)
    return pipeline.generator(
        backbone,
        samples,
        pipeline.selection(samples, scores, readings, profile.share, seed, crm=row.crm),
        data.initial,
        profile.training.of(crm=row.crm, clm=row.clm),
        readings,
        seed,
        crm=row.crm,
        clm=row.clm,
    )


def _final_data(
    generator: Stage | Source,
    backbone: Source,
    profile: Profile,
    readings: Readings,
    data: Data,
    seed: int,
) -> Stage:
    """The final data D*: a draw from what the generator writes, or the best of it by I²C."""
    sizes, size = profile.sizes, profile.sizes.final_samples
    ranks = readings.final_selection == "i2c"
    written = pipeline.final(
        generator,
        data.final,
        sizes.final_images,
        None if ranks else size,
        profile.generation,
        readings,
        seed,
    )
    if not ranks:
        return written
    batch_size = profile.scoring.i2c_batch_size
    scores = pipeline.scores(backbone, written, data.final, readings, batch_size)
    return pipeline.best(written, scores, readings, size)
