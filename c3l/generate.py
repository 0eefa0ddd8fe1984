"""The method on a folder of images: `c3l.method` up to the generator, then data in batches.

The final data are written about some images at a time: captions → pairs → filtered, until there are
`n` samples → drawn → scores (→ best). Each step is a stage of a store in OUT/.store.
"""

import json
import os
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

from filelock import Timeout

from c3l.artifacts import provenance
from c3l.artifacts.files import fsync
from c3l.artifacts.graph import not_in_store
from c3l.artifacts.store import Source, Stage, Store
from c3l.data.card import DatasetInfo, dataset_card
from c3l.data.left_out import LeftOut, format_counts, left_out_path, write_left_out
from c3l.data.scored import with_scores, write_scored
from c3l.data.subset import ImageSubset, in_batches
from c3l.filtering import judged
from c3l.method import Images, WrittenData, augmented_pipeline, write_data
from c3l.reach import contrast_unreached, model_type
from c3l.runtime.errors import UserError, printable, require_parent, write_error
from c3l.runtime.locks import locked
from c3l.runtime.progress import VERBOSE, StatusLine, echo
from c3l.samples import ImageFolder, Sample, read_samples
from c3l.settings import MethodSettings
from c3l.stages import models, scoring, selecting, writing
from c3l.stages.common import SAMPLES, SCORES, backbone_source

STORE = ".store"
FILES = ("data.parquet", "data.jsonl", "data.json", "README.md")
BATCH = 32  # images that are written about before the samples are counted
EMPTY_BATCHES = 4  # first batches without one valid pair, after which no more images are tried


@dataclass(frozen=True)
class GenerationResult:
    """Numbers of samples and images, of what is not among them by reason, and of stages."""

    samples: int
    images: int
    dropped: dict[str, int]
    unreadable: dict[str, int]
    stages_run: int
    stages_stored: int


def generate(
    backbone: str | Path,
    images: str | Path,
    out: str | Path,
    *,
    n: int = 5000,
    initial: int | None = None,
    final: int | None = None,
    seed: int = 0,
    settings: MethodSettings | None = None,
    train: bool = True,
    device: str | None = None,
    dtype: str | None = None,
) -> GenerationResult:
    """Write `n` samples about the images of a folder to `out`, as FILES; fewer where images end.

    The generator learns from data about a seeded draw of `initial` images (the paper's 1,334, at
    most four in five). The final data are about as many others as it takes, then the initial ones;
    with `final`, about exactly so many, of which `n` samples are drawn; about all others where the
    best by I²C are chosen (`Readings.final_selection`). Unreadable images are left out and counted.
    Without `train` the backbone as it is writes. A run that was stopped goes on where it was.
    Raises UserError for what the caller can mend, and when there is no valid sample at all.
    """
    out, folder = Path(out), ImageFolder(images)
    _check_free(out, folder.path)
    settings = settings or MethodSettings()
    store = Store(out / STORE)
    lock = locked(store.root / "locks" / "generate.lock", timeout=0)
    try:
        with lock, models.model_options(device, dtype), StatusLine() as status:
            store.remove_leftovers()
            status.begin("reading the backbone's files")
            source = backbone_source(backbone)
            if train and (reason := contrast_unreached(settings.readings, model_type(source))):
                raise UserError(reason)
            weights = Source.from_path(source.path, source.names, dtype) if dtype else source
            subset = ImageSubset(folder, store.root / "images", seed)
            run = _Run(str(backbone), weights, subset, store, settings, seed, status)
            samples, info, left_out = run.write(n, initial, final, train=train)
            info = replace(info, digest=source.key)
            _save(out, samples, info, left_out)
    except Timeout as error:
        raise UserError(
            f"another run is at work on {printable(str(out))}; wait for it, or stop it"
        ) from error
    return GenerationResult(
        len(samples), info.images, info.dropped, info.unreadable, run.stages_run, run.stages_stored
    )


def _check_free(out: Path, images: Path) -> None:
    """Raise UserError where the folder holds anything but an earlier run."""
    if out.resolve().is_relative_to(images.resolve()):
        raise UserError(f"{printable(str(out))} lies among the images; give another --out")
    require_parent(out)
    reusable = (out / STORE).is_dir() or (out.is_dir() and not any(out.iterdir()))
    if out.exists() and not reusable:
        raise UserError(
            f"{printable(str(out))} holds something else; give a new or an empty folder as --out"
        )


@dataclass(frozen=True)
class Batch:
    """Images that were written about together."""

    names: list[str]
    data: WrittenData


@dataclass
class _Run:
    """One run of `generate`: makes each stage when its turn comes, and says how far it is."""

    backbone_name: str
    backbone: Source
    subset: ImageSubset
    store: Store
    settings: MethodSettings
    seed: int
    status: StatusLine
    stages_run: int = 0
    stages_stored: int = 0

    def write(
        self, n: int, initial: int | None, final: int | None, *, train: bool
    ) -> tuple[list[Sample], DatasetInfo, list[LeftOut]]:
        """Return the final samples, how they were made, and what is not among them."""
        self.status.begin("looking at the images")
        initial_names = self.subset.initial(initial) if train else []
        if train and not initial_names:
            raise UserError(
                f"none of the images in {printable(str(self.subset.folder.path))} can be read "
                f"({format_counts(self.subset.unreadable)}); give another --images"
            )
        to_learn = f"{len(initial_names):,} of them to learn from, " if train else ""
        echo(f"{self.subset.count:,} images, {to_learn}{n:,} samples to write.")
        writer = self._train(initial_names) if train else self.backbone
        batches = self._write_batches(writer, n, initial_names, final)
        names = [name for batch in batches for name in batch.names]
        dropped = self._dropped(batches)
        pool = [batch.data.samples for batch in batches if self._count(batch.data.samples)]
        if not pool:
            raise UserError(
                f"{'the generator' if train else self.backbone_name} wrote no valid pair about "
                f"{len(names)} images ({format_counts(dropped)}); try another backbone"
                + (", or --no-train to write with it as it is" if train else "")
            )
        final, scores = self._choose(pool, names, n)
        samples = self._read(final, scores, batches)
        dropped["not_drawn"] += sum(map(self._count, pool)) - len(samples)
        info = DatasetInfo(
            backbone=self.backbone_name,
            digest=self.backbone.key,
            images=len(names),
            initial_images=len(initial_names),
            shared_images=len({*initial_names} & {*names}),
            trained=self._facts(writer) if isinstance(writer, Stage) else None,
            requested=n,
            dropped=dict(+dropped),
            unreadable=dict(self.subset.unreadable),
            settings=self.settings,
            seed=self.seed,
            versions=provenance.versions(),
        )
        return samples, info, self.subset.left_out + self._left_out(batches, samples)

    def _make(self, title: str, *stages: Stage) -> None:
        """Make the stages that are not stored, with what they are made from."""
        for stage in stages:
            todo = not_in_store([stage], self.store)
            self.stages_stored += not todo
            for step in todo.values():
                self.status.begin(f"{title}, {step.name}")
                self.store.make(step)
                self.stages_run += 1
            origin = "run" if todo else "from the store"
            facts = json.dumps(self._facts(stage))
            echo(f"{title}, {stage.name} {stage.key[:12]} {origin}: {facts}", minimum=VERBOSE)

    def _facts(self, stage: Stage) -> dict:
        return self.store.manifest(stage)["facts"]

    def _count(self, samples: Stage) -> int:
        return self._facts(samples).get("samples", 0)

    def _images(self, name: str, names: list[str]) -> Images:
        return Images(self.subset.linked(name, names), len(names))

    def _train(self, names: list[str]) -> Stage:
        title = f"initial data about {len(names):,} images"
        images = self._images("initial", names)
        steps = augmented_pipeline(self.backbone, images, None, self.settings, self.seed)
        data = steps.initial
        self._make(title, data.captions, data.pairs, data.samples, steps.scores, steps.selection)
        if reason := self._facts(steps.selection).get("unscored"):
            reasons = format_counts(self._dropped([Batch(names, data)]))
            raise UserError(
                f"there is nothing to train a generator on: {reason} ({reasons}); give another "
                "backbone, or --no-train to write with this one as it is"
            )
        self._make("training", steps.generator)
        return steps.generator

    def _write_batches(
        self, writer: Stage | Source, n: int, initial_names: list[str], final: int | None
    ) -> list[Batch]:
        """Write until there are `n` samples, or about all images if the best are to be chosen."""
        generation, readings = self.settings.generation, self.settings.readings
        choose_best = readings.final_selection == "i2c"
        others = [] if choose_best and final is None else initial_names
        order = chain(self.subset.remaining(), others)
        batches, count = [], 0
        for number, names in enumerate(in_batches(islice(order, final), BATCH)):
            # Another seed for each batch, as for a stage's shards.
            seed = self.seed + 1_000_003 * (number + 1)
            images = self._images(f"final-{number:05d}", names)
            data = write_data(writer, images, generation, readings, seed)
            title = f"final data ({count:,} of {n:,} samples)"
            self._make(title, data.captions, data.pairs, data.samples)
            batches.append(Batch(names, data))
            count += self._count(data.samples)
            enough = count >= n and not choose_best and final is None
            if enough or (not count and len(batches) == EMPTY_BATCHES):
                break
        return batches

    def _choose(self, pool: list[Stage], names: list[str], n: int) -> tuple[Stage, Stage]:
        """Return the final samples, drawn or the best, and scores that hold theirs."""
        readings, title = self.settings.readings, "final data"
        choose_best = readings.final_selection == "i2c"
        draw = writing.draw(pool, None if choose_best else n, self.seed)
        images = Source.from_path(self.subset.folder.path, names)
        batch_size = self.settings.generation.batch_size
        scores = scoring.scores(self.backbone, draw, images, readings, batch_size)
        self._make(title, draw, scores)
        if not choose_best:
            return draw, scores
        best = selecting.best(draw, scores, readings, n)
        self._make(title, best)
        if reason := self._facts(best).get("unscored"):
            raise UserError(f"the final samples cannot be ranked: {reason}")
        return best, scores

    def _read(self, final: Stage, scores: Stage, batches: list[Batch]) -> list[Sample]:
        """Return the final samples with caption and score."""
        from c3l.relevance import in_form
        from c3l.scores import read_scores

        files = [self.store.path(batch.data.captions) / "captions.json" for batch in batches]
        parts = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        captions = {image: caption for part in parts for image, caption in part.items()}
        by_id = {score.id: score for score in read_scores(self.store.path(scores) / SCORES)}
        samples = [
            replace(sample, meta={"caption": captions[sample.image]})
            for sample in read_samples(self.store.path(final) / SAMPLES)
        ]
        sample_scores = [by_id[sample.id] for sample in samples]
        values = in_form(sample_scores, self.settings.readings.score_form)
        return with_scores(samples, sample_scores, values)

    def _dropped(self, batches: list[Batch]) -> Counter[str]:
        """Count what was written and is not valid, by reason."""
        stages = [stage for batch in batches for stage in (batch.data.pairs, batch.data.samples)]
        return sum((Counter(self._facts(s).get("dropped", {})) for s in stages), Counter())

    def _left_out(self, batches: list[Batch], samples: list[Sample]) -> list[LeftOut]:
        """Return the samples that were written and are not among the final ones.

        Pieces of text that are no whole sample have no name.
        """
        final_ids = {sample.id for sample in samples}
        left_out = []
        for batch in batches:
            if not self._count(batch.data.pairs):
                continue
            written = read_samples(self.store.path(batch.data.pairs) / SAMPLES)
            for sample, reason in judged(written, blacklist=self.settings.readings.blacklist):
                if reason or sample.id not in final_ids:
                    left_out.append(LeftOut(sample.id, sample.image, reason or "not_drawn"))
        return left_out


def _save(out: Path, samples: list[Sample], info: DatasetInfo, left_out: list[LeftOut]) -> None:
    """Write the results beside an earlier run's, and then in their place."""
    work = out / STORE / ".tmp-results"
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir()
        for name in FILES[:-1]:
            write_scored(work / name, samples)
        text = dataset_card(samples, info).encode(errors="backslashreplace")
        (work / "README.md").write_bytes(text)
        write_left_out(work, left_out)
        for name in FILES:
            fsync(work / name)
        for name in FILES:
            os.replace(work / name, out / name)
        if left_out_path(work).exists():
            os.replace(left_out_path(work), left_out_path(out))
        else:
            left_out_path(out).unlink(missing_ok=True)
        work.rmdir()
        fsync(out)
    except OSError as error:
        raise write_error(out, error) from error
