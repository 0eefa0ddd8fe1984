"""From a table's rows to stages: the same stage for every row that shares it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.served import Served
from c3l.artifacts.graph import closure
from c3l.artifacts.store import Source, Stage, Store
from c3l.backbones.reach import contrast_unreached, model_type
from c3l.readings import Readings
from c3l.runtime.errors import UserError
from c3l.runtime.progress import echo
from c3l.stages import scoring, selecting, training, writing
from c3l.stages.common import Weights, backbone_source, image_source
from repro.columns import COLUMNS
from repro.profile import Profile
from repro.rows import PUBLISHED, RELEVANCE, TRUTH, Ranking, Row
from repro.stages import evaluation as driver
from repro.stages import published, ranking
from repro.stages.published import Published

Runs = list[list[Stage]]
"""The stages behind a cell: [data seed][tuning seed]."""

Cells = dict[str, dict[str, Runs]]
"""The stages behind a table: row label, column, runs."""


def stages(cells: Cells) -> list[Stage]:
    """All stages that a table reads its numbers from."""
    return [
        stage for row in cells.values() for runs in row.values() for some in runs for stage in some
    ]


def rows(tables: Mapping[str, Cells]) -> dict[str, list[str]]:
    """The rows, as "table4: CRM", that each stage is made for, by its key."""
    found: dict[str, list[str]] = {}
    for name, cells in tables.items():
        for label, row in cells.items():
            for key in closure(stages({label: row})):
                found.setdefault(key, []).append(f"{name}: {label}")
    return found


@dataclass(frozen=True)
class Data:
    """The images and benchmarks of a profile; only the files that are used count."""

    initial: Source
    final: Source
    benchmarks: dict[str, Source]
    initial_graphs: Source | None
    final_graphs: Source | None
    """Scene graphs of the images, where the world is made and the truth is known."""
    backbones: dict[str, Weights] = field(default_factory=dict)
    """By label, where rows name them."""
    published: dict[str, Published] = field(default_factory=dict)
    """Data sets that others made, where rows or backbones ask for them."""


def resolve_inputs(
    profile: Profile, store: Store, rows: Iterable[Row | Ranking] = (), *, fetch: bool = True
) -> Data:
    """What rows need of the profile's data, the pocket world made first if need be (a minute).

    Without `fetch` nothing is fetched from the Hub. Raises UserError for a folder that lacks
    something.
    """
    labels, wanted = _needed(profile, rows)
    sets = _published(profile, store) if wanted else {}
    weights = {
        label: backbone_source(profile.backbones[label].weights, fetch=fetch) for label in labels
    }
    backbones = {label: _backbone(label, profile, weights[label], sets) for label in labels}
    folder = data_folder(profile, store)
    benchmarks = {
        column: benchmark_source(folder, task) for column, task in profile.scoring.tasks.items()
    }
    sizes = profile.sizes
    return Data(
        image_source(folder / "initial" / "images", sizes.initial_images),
        image_source(folder / "final" / "images", sizes.final_images),
        benchmarks,
        *(_graphs(folder / part) for part in ("initial", "final")),
        backbones,
        sets,
    )


def placeholder_inputs(profile: Profile, rows: Iterable[Row | Ranking] = ()) -> Data:
    """The same as if all were there, to be planned with: nothing is looked at, made or fetched, and
    nothing can be run with it."""

    def there(*parts: str) -> Source:
        path = Path(*parts)
        return Source(path, f"assumed to be at {path}")

    labels, _ = _needed(profile, rows)
    folder, tasks = profile.data, profile.scoring.tasks
    sets = {}
    for name in PUBLISHED.values():
        place = (folder, "comparison", name)
        sets[name] = Published(name, there(*place, "data"), there(*place, "images"), None)
    backbones = {
        label: _backbone(label, profile, there(profile.backbones[label].weights), sets)
        for label in labels
    }
    pictures = (there(folder, part, "images") for part in ("initial", "final"))
    benchmarks = {
        column: there(folder, "benchmarks", task.removesuffix("_ppl"))
        for column, task in tasks.items()
    }
    graphs = (there(folder, part) if folder == "pocket" else None for part in ("initial", "final"))
    return Data(*pictures, benchmarks, *graphs, backbones, sets)


def _needed(profile: Profile, rows: Iterable[Row | Ranking]) -> tuple[list[str], set[str]]:
    """The labels of the profile's backbones that rows name, and the others' data."""
    rows = list(rows)
    labels = {label for row in rows for label in _labels(row)} & profile.backbones.keys()
    wanted = {row.data for row in rows if isinstance(row, Row)}
    wanted |= {profile.backbones[label].tuned_on for label in labels}
    return sorted(labels), wanted - {None}


def _labels(row: Row | Ranking) -> list[str]:
    """Of the backbones that a row names, those it is made with."""
    writer = row.writer if isinstance(row, Row) else None
    return [row.backbone, writer] if writer else [row.backbone]


def _backbone(label: str, profile: Profile, weights: Source, sets: dict[str, Published]) -> Weights:
    """A profile's backbone: its weights, or what they are tuned to first."""
    backbone = profile.backbones[label]
    if backbone.tuned_on is None:
        return weights
    theirs = sets[backbone.tuned_on]
    if theirs.data is None:
        raise UserError(
            f"The profile {profile.name} tunes {label} on {theirs.name} first: put its published "
            f"files into {Path(profile.data) / 'comparison' / theirs.name / 'data'} and their "
            "images into the folder images beside it."
        )
    samples, readings = published.comparison(theirs), profile.readings_of(label)
    return training.vlit(weights, samples, theirs.images, profile.training.first, readings, seed=0)


def data_folder(profile: Profile, store: Store) -> Path:
    """Where the profile's data lie, the pocket world made first if need be (under a minute)."""
    if profile.data != "pocket":
        return Path(profile.data)
    world = driver.pocket_world()
    if not store.find(world):
        echo("Making the pocket world.")
    return store.make(world)


def _published(profile: Profile, store: Store) -> dict[str, Published]:
    """The sets that others made, by name. In the pocket world they are made: a stage of its own,
    so that tables without them do not wait."""
    folder = Path(profile.data) / "comparison"
    if profile.data == "pocket":
        world = driver.pocket_comparison()
        if not store.find(world):
            echo("Making the pocket world's comparison sets.")
        folder = store.make(world)
    return {name: published.find_data_set(folder, name) for name in PUBLISHED.values()}


def _graphs(folder: Path) -> Source | None:
    path = folder / "graphs.jsonl"
    return Source.of(path) if path.is_file() else None


def benchmark_source(folder: Path, task: str) -> Source:
    """A benchmark's data in a folder laid out like the pocket world. Raises UserError without."""
    path = benchmark_folder(folder, task)
    return Source.of(path)


def benchmark_folder(folder: Path, task: str) -> Path:
    """Where a benchmark's data lie. Raises UserError where there are none."""
    path = folder / "benchmarks" / task.removesuffix("_ppl")
    if not any(path.glob("**/*.parquet")):
        raise UserError(f"There is no data for {task}: no parquet file in {path}.")
    return path


def stages_for_row(
    row: Row | Ranking, columns: tuple[str, ...], profile: Profile, data: Data, seeds: list[int]
) -> dict[str, Runs]:
    """The stages behind each cell of a row. A benchmark that the profile has no task for is
    unscored, and so are all columns of a row whose backbone it lacks. Columns about the truth are
    left out where it is not known."""
    if reason := _out_of_reach(row, profile) or _without_effect(row, profile, data):
        why = driver.unscored(reason)
        return {name: [[why]] for name in columns if name != TRUTH or data.final_graphs}
    backbone = data.backbones.get(row.backbone) or profile.served[row.backbone]
    if isinstance(row, Ranking):
        runs = [[_ranking(row, backbone, profile, data, seed)] for seed in seeds]
        return dict.fromkeys(columns, runs)
    cells: dict[str, Runs] = {}
    for seed in seeds:
        made = _data_set(row, profile, data, seed) if row.tuned else None
        models = _tuned(row, made, backbone, profile, seed)
        for name in columns:
            if COLUMNS[name].benchmark:
                runs = [_evaluation(model, name, profile, data) for model in models]
            elif made and COLUMNS[name].lengths:
                runs = [published.lengths(made.samples, backbone)]
            elif made and name in RELEVANCE:
                runs = [_relevance(row, made, backbone, profile)]
            elif made and data.final_graphs:  # else the column is left out, of all rows alike
                runs = [driver.truth(made.samples, made.graphs)]
            else:
                continue
            cells.setdefault(name, []).append(runs)
    return cells


def _out_of_reach(row: Row | Ranking, profile: Profile) -> str | None:
    """Why a row cannot be run with the profile's backbones, or None."""
    for label in _labels(row):
        if label in profile.backbones:
            continue
        if label not in profile.served:
            return f"the profile {profile.name} has no backbone {label}"
        if isinstance(row, Ranking) or row.tuned:
            return f"{label} is served at an address, where nothing can be trained or scored by I²C"
    return None


def _without_effect(row: Row | Ranking, profile: Profile, data: Data) -> str | None:
    """Explain why a row that changes a reading cannot be made with the profile's others, or return
    None. Where those themselves exclude each other, making its generator is an error."""
    if not (isinstance(row, Row) and row.readings and row.clm):
        return None
    label = row.writer or row.backbone
    ours, readings = profile.readings_of(label), profile.readings_of(label, **row.readings)
    kind = model_type(data.backbones[label])
    return None if contrast_unreached(ours, kind) else contrast_unreached(readings, kind)


def _evaluation(model: Weights | Served, column: str, profile: Profile, data: Data) -> Stage:
    if column not in data.benchmarks:
        return driver.unscored(f"the profile {profile.name} has no task for {column}")
    task, source = profile.scoring.tasks[column], data.benchmarks[column]
    return driver.evaluation(model, task, source, profile.scoring)


@dataclass(frozen=True)
class DataSet:
    """What the models of a row and data seed are tuned on."""

    samples: Stage
    images: Source
    graphs: Source | None
    writer: Weights | None = None
    """What wrote it, where that is the backbone that is tuned, or was trained from it."""


def _data_set(row: Row, profile: Profile, data: Data, seed: int) -> DataSet:
    if row.data is not None:
        theirs = data.published[row.data]
        samples = published.comparison(theirs)
        if row.cut:
            samples = published.cut(samples, profile.sizes.final_samples, seed)
        return DataSet(samples, theirs.images, theirs.graphs)
    label = row.writer or row.backbone
    readings, backbone = profile.readings_of(label, **row.readings), data.backbones[label]
    generator = _generator(row, backbone, profile, readings, data, seed)
    samples = _final_data(generator, backbone, profile, readings, data, seed)
    writer = None if row.writer else generator
    return DataSet(samples, data.final, data.final_graphs, writer)


def _tuned(
    row: Row, made: DataSet | None, backbone: Weights | Served, profile: Profile, seed: int
) -> list[Weights | Served]:
    """The models that are scored: tuned on the data set, or without one the backbone as it is."""
    seeds = range(profile.sizes.tuning_seeds)
    if made is None:
        return [backbone for _ in seeds]
    readings = profile.readings_of(row.backbone, **row.readings)
    start = made.writer if made.writer and readings.vlit_start == "generator" else backbone
    settings = profile.training.vlit
    return [
        # another seed for each data seed: tuning's luck must not repeat itself
        training.vlit(start, made.samples, made.images, settings, readings, 100 * seed + tuning)
        for tuning in seeds
    ]


def _relevance(row: Row, made: DataSet, backbone: Weights, profile: Profile) -> Stage:
    """How much the backbone, as it is, sees the image in each sample of the data set."""
    readings = profile.readings_of(row.backbone, **row.readings)
    batch_size = profile.scoring.i2c_batch_size
    scores = scoring.scores(backbone, made.samples, made.images, readings, batch_size)
    return driver.relevance(backbone, made.samples, scores, readings)


def _ranking(row: Ranking, backbone: Weights, profile: Profile, data: Data, seed: int) -> Stage:
    """The initial pairs as the row ranks them."""
    readings = profile.readings_of(row.backbone)
    samples, scores = initial_pool(backbone, profile, readings, data, seed)
    if row.control is not None:
        if row.control == "constant":
            shown = images = ranking.constant(samples)
        else:
            shown, images = ranking.shuffled(samples, seed), data.initial
        batch_size = profile.scoring.i2c_batch_size
        scores = scoring.scores(backbone, shown, images, readings, batch_size)
    return ranking.ranking(
        samples,
        scores,
        data.initial_graphs,
        by=row.by,
        share=profile.share,
        seed=seed,
        alone=_alone(backbone, samples, profile) if row.by == "ifd" else None,
    )


def initial_pool(
    backbone: Weights, profile: Profile, readings: Readings, data: Data, seed: int
) -> tuple[Stage, Stage]:
    """The initial data D0, filtered, and their scores."""
    sizes, settings = profile.sizes, profile.generation
    images = data.initial
    captions = writing.captions(backbone, images, sizes.initial_images, settings, readings, seed)
    initial = writing.initial(backbone, captions, images, settings, readings, seed)
    samples = writing.filtered(initial, readings)
    batch_size = profile.scoring.i2c_batch_size
    return samples, scoring.scores(backbone, samples, images, readings, batch_size)


def _generator(
    row: Row, backbone: Weights, profile: Profile, readings: Readings, data: Data, seed: int
) -> Weights:
    """What writes the row's final data: the backbone, or a generator trained on its samples."""
    if not (row.crm or row.clm):
        return backbone
    samples, selection = _selection(row, backbone, profile, readings, data, seed)
    return training.generator(
        backbone,
        samples,
        selection,
        data.initial,
        profile.training.settings_for(crm=row.crm, clm=row.clm),
        readings,
        seed,
        crm=row.crm,
        clm=row.clm,
    )


def _selection(
    row: Row, backbone: Weights, profile: Profile, readings: Readings, data: Data, seed: int
) -> tuple[Stage, Stage]:
    """The samples a generator learns from, and what the row's method chooses of them."""
    share, known = profile.share if row.share is None else row.share, {}
    if row.selection == "vigc":
        settings, count = profile.generation, profile.sizes.initial_images
        samples = writing.vigc(backbone, data.initial, count, settings, readings, seed)
    else:
        samples, scores = initial_pool(backbone, profile, readings, data, seed)
        if row.selection == "i2c":
            made = selecting.selection(samples, scores, readings, share, seed, crm=row.crm)
            return samples, made
        if row.selection not in ("self_instruct", "random"):
            known["scores"] = scores
        if row.selection == "ifd":
            known["alone"] = _alone(backbone, samples, profile)
    return samples, selecting.rival_selection(
        row.selection, samples, readings, share, seed, **known
    )


def _alone(backbone: Weights, samples: Stage, profile: Profile) -> Stage:
    return scoring.answer_logprobs(backbone, samples, profile.scoring.i2c_batch_size)


def _final_data(
    generator: Weights,
    backbone: Weights,
    profile: Profile,
    readings: Readings,
    data: Data,
    seed: int,
) -> Stage:
    """The final data D*: a draw from what the generator writes, or the best of it by I²C."""
    sizes, size = profile.sizes, profile.sizes.final_samples
    ranks = readings.final_selection == "i2c"
    written = writing.final(
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
    scores = scoring.scores(backbone, written, data.final, readings, batch_size)
    return selecting.best(written, scores, readings, size)
