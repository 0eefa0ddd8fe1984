"""The inputs of a profile's tables: images, benchmarks, backbones and published data sets."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import BENCHMARKS
from c3l.artifacts.store import Source, Store
from c3l.method import Images
from c3l.runtime.errors import UserError
from c3l.runtime.progress import echo
from c3l.stages.common import Weights, backbone_source, image_source
from c3l.stages.training import vlit
from repro.profile import Profile
from repro.rows import PUBLISHED, Ranking, Row
from repro.stages import evaluation, published
from repro.stages.published import Published


@dataclass(frozen=True)
class Inputs:
    """The sources of all tables' stages; only the files that are used count."""

    initial: Images
    final: Images
    benchmarks: dict[str, Source]
    initial_graphs: Source | None
    final_graphs: Source | None
    """Scene graphs of the images, where the world is synthetic and the truth is known."""
    backbones: dict[str, Weights] = field(default_factory=dict)
    """By label, where rows name them."""
    published: dict[str, Published] = field(default_factory=dict)
    """Data sets that others made, where rows or backbones need them."""


def resolve_inputs(
    profile: Profile, store: Store, rows: Iterable[Row | Ranking] = (), *, fetch: bool = True
) -> Inputs:
    """Return what rows need, and make the pocket world first if need be (a minute).

    Without `fetch` nothing is fetched from the Hub. Raises UserError for a folder that lacks
    something.
    """
    labels, sets = _needed(profile, rows)
    published_sets = _published(profile, store) if sets else {}
    weights = {
        label: backbone_source(profile.backbones[label].weights, fetch=fetch) for label in labels
    }
    folder, sizes = data_folder(profile, store), profile.sizes
    return Inputs(
        _images(folder / "initial" / "images", sizes.initial_images),
        _images(folder / "final" / "images", sizes.final_images),
        {column: benchmark_source(folder, task) for column, task in profile.scoring.tasks.items()},
        _graphs(folder / "initial"),
        _graphs(folder / "final"),
        {label: _backbone(label, profile, weights[label], published_sets) for label in labels},
        published_sets,
    )


def placeholder_inputs(profile: Profile, rows: Iterable[Row | Ranking] = ()) -> Inputs:
    """Return the same inputs for planning only: nothing is read, made or fetched."""

    def source(*parts: str) -> Source:
        path = Path(*parts)
        return Source(path, f"assumed to be at {path}")

    labels, _ = _needed(profile, rows)
    weights = {label: source(profile.backbones[label].weights) for label in labels}
    folder, sizes = profile.data, profile.sizes
    published_sets = {
        name: Published(
            name,
            source(folder, "comparison", name, "data"),
            source(folder, "comparison", name, "images"),
            None,
        )
        for name in PUBLISHED.values()
    }
    return Inputs(
        Images(source(folder, "initial", "images"), sizes.initial_images),
        Images(source(folder, "final", "images"), sizes.final_images),
        {
            column: source(folder, "benchmarks", BENCHMARKS[task].folder or task)
            for column, task in profile.scoring.tasks.items()
        },
        *(source(folder, part) if folder == "pocket" else None for part in ("initial", "final")),
        {label: _backbone(label, profile, weights[label], published_sets) for label in labels},
        published_sets,
    )


def labels_of(row: Row | Ranking) -> list[str]:
    """Return the labels of the backbones that a row is made with."""
    writer = row.writer if isinstance(row, Row) else None
    return [row.backbone, writer] if writer else [row.backbone]


def data_folder(profile: Profile, store: Store) -> Path:
    """Return the folder of the profile's data; the pocket world is made first if need be."""
    if profile.data != "pocket":
        return Path(profile.data)
    world = evaluation.pocket_world()
    if not store.find(world):
        echo("Making the pocket world.")
    return store.make(world)


def benchmark_source(folder: Path, task: str) -> Source:
    """Return a benchmark's data in a folder laid out like the pocket world, as an input."""
    return Source.from_path(benchmark_folder(folder, task))


def benchmark_folder(folder: Path, task: str) -> Path:
    """Return the folder of a benchmark's data. Raises UserError where it holds none."""
    path = folder / "benchmarks" / (BENCHMARKS[task].folder or task)
    if not any(path.glob("**/*.parquet")):
        raise UserError(f"There is no data for {task}: no parquet file in {path}.")
    return path


def _needed(profile: Profile, rows: Iterable[Row | Ranking]) -> tuple[list[str], set[str]]:
    """Return the labels of the profile's backbones that rows name, and the published data sets."""
    rows = list(rows)
    labels = {label for row in rows for label in labels_of(row)} & profile.backbones.keys()
    sets = {row.data for row in rows if isinstance(row, Row)}
    sets |= {profile.backbones[label].tuned_on for label in labels}
    return sorted(labels), sets - {None}


def _images(folder: Path, count: int) -> Images:
    return Images(image_source(folder, count), count)


def _graphs(folder: Path) -> Source | None:
    path = folder / "graphs.jsonl"
    return Source.from_path(path) if path.is_file() else None


def _backbone(label: str, profile: Profile, weights: Source, sets: dict[str, Published]) -> Weights:
    """Return the weights of a backbone, tuned on a published data set first if its profile says."""
    backbone = profile.backbones[label]
    if backbone.tuned_on is None:
        return weights
    dataset = sets[backbone.tuned_on]
    if dataset.data is None:
        raise UserError(
            f"The profile {profile.name} tunes {label} on {dataset.name} first: put its published "
            f"files into {Path(profile.data) / 'comparison' / dataset.name / 'data'} and their "
            "images into the folder images beside it."
        )
    samples, readings = published.comparison(dataset), profile.readings_of(label)
    return vlit(weights, samples, dataset.images, profile.training.first, readings, seed=0)


def _published(profile: Profile, store: Store) -> dict[str, Published]:
    """Return the published data sets by name. The pocket world's are a stage of their own, so that
    tables without them do not wait."""
    folder = Path(profile.data) / "comparison"
    if profile.data == "pocket":
        world = evaluation.pocket_comparison()
        if not store.find(world):
            echo("Making the pocket world's comparison sets.")
        folder = store.make(world)
    return {name: published.find_data_set(folder, name) for name in PUBLISHED.values()}
