"""The method alone (section 3.4): one's own images in, instruction data with scores out.

    initial data: captions → pairs → filtered → scores → selection → generator (L_r + λ·L_c)
    final data:   captions → pairs → filtered, a part of the images at a time, until there are
                  enough → drawn → scores (→ best)

Each arrow is a stage of a store in OUT/.store: what is finished is found by the next run, and a
changed reading makes anew what it touches and nothing else. All in one process, in order.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from filelock import Timeout

from c3l.artifacts import provenance
from c3l.artifacts.files import fsync
from c3l.artifacts.graph import not_in_store
from c3l.artifacts.store import Source, Stage, Store
from c3l.backbones.reach import contrast_unreached, model_type
from c3l.data.card import DatasetInfo, card
from c3l.data.left_out import LeftOut, left_out_path, write_left_out
from c3l.data.scored import with_scores, write_scored
from c3l.data.subset import Pictures, parts
from c3l.filtering import judged
from c3l.runtime.errors import UserError, printable
from c3l.runtime.locks import locked
from c3l.runtime.progress import VERBOSE, StatusLine, echo
from c3l.samples import ImageFolder, Sample, read_samples
from c3l.settings import MethodSettings
from c3l.stages import common, models, scoring, selecting, training, writing
from c3l.stages.common import backbone_source

STORE = ".store"
FILES = ("data.parquet", "data.jsonl", "data.json", "README.md")
PART = 32  # images that are written about before the samples are counted
VAIN = 4  # parts without one valid pair, after which no more images are tried


@dataclass(frozen=True)
class GenerationResult:
    """What came of it: how many samples, what is not among them by reason, stages run and found."""

    samples: int
    images: int
    dropped: dict[str, int]
    unreadable: dict[str, int]
    run: int
    found: int


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

    The initial data, from which the generator learns, are about a seeded draw of `initial` images
    (the paper's 1,334, at most four in five), the final data about as many others as it takes;
    where those do not give `n` samples the initial ones are written about too. With `final`,
    exactly so many are written about and `n` samples drawn. If the final data are to be the best by
    I²C (`Readings.final_selection`) all others are written about, or `final`. Images that cannot be
    read are left out and counted. Without `train` the backbone as it is writes the final data. A
    run that was stopped goes on where it was. Raises UserError for what the caller can mend, and
    when there is no valid sample at all.
    """
    out, folder = Path(out), ImageFolder(images)
    _check_free(out, folder.path)
    store = Store(out / STORE)
    lock = locked(store.root / "locks" / "generate.lock", timeout=0)
    try:
        with lock, models.model_options(device, dtype), StatusLine() as work:
            store.sweep()
            work.on("reading the backbone's files")
            source = backbone_source(backbone)
            readings = (settings or MethodSettings()).readings
            if train and (reason := contrast_unreached(readings, model_type(source))):
                raise UserError(reason)
            weights = Source.of(source.path, source.names, dtype) if dtype else source
            pictures = Pictures(folder, store.root / "images", seed)
            run = _Run(str(backbone), weights, pictures, store, settings, seed, work)
            samples, making, left_out = run.finish(n, initial, final, train=train)
            making = replace(making, digest=source.key)
            _write(out, samples, making, left_out)
    except Timeout as error:
        raise UserError(
            f"another run is at work on {printable(str(out))}; wait for it, or stop it"
        ) from error
    skipped = making.dropped, making.unreadable
    return GenerationResult(len(samples), making.images, *map(dict, skipped), run.made, run.found)


def _check_free(out: Path, images: Path) -> None:
    """Raise UserError where a folder of somebody else's would be written into."""
    if out.resolve().is_relative_to(images.resolve()):
        raise UserError(f"{printable(str(out))} lies among the images; give another --out")
    if not out.absolute().parent.is_dir():
        parent = printable(str(out.absolute().parent))
        raise UserError(f"{parent} is no folder; make it, or give another --out")
    ours = (out / STORE).is_dir()
    if out.exists() and not ours and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(
            f"{printable(str(out))} holds something else; give a new or an empty folder as --out"
        )


class Part(NamedTuple):
    """Images that were written about together: their captions and the valid pairs."""

    names: list[str]
    captions: Stage
    pairs: Stage
    images: Source


class _Run:
    def __init__(
        self,
        name: str,
        backbone: Source,
        pictures: Pictures,
        store: Store,
        settings: MethodSettings | None,
        seed: int,
        work: StatusLine,
    ):
        self.name, self.backbone, self.pictures, self.store = name, backbone, pictures, store
        self.settings, self.seed, self.work = settings or MethodSettings(), seed, work
        self.readings = self.settings.readings
        self.made = self.found = 0

    def finish(
        self, n: int, initial: int | None, final: int | None, *, train: bool
    ) -> tuple[list[Sample], DatasetInfo, list[LeftOut]]:
        """The final samples, how they were made, and what is not among them."""
        self.work.on("looking at the images")
        first = self.pictures.initial(initial) if train else []
        if train and not first:
            raise UserError(
                f"none of the images in {printable(str(self.pictures.folder.path))} can be read "
                f"({_counted(self.pictures.unreadable)}); give another --images"
            )
        learnt = f"{len(first):,} of them to learn from, " if train else ""
        echo(f"{self.pictures.count:,} images, {learnt}{n:,} samples to write.")
        writer = self._trained(first) if train else self.backbone
        made = self._written(writer, n, first, final)
        about = [name for part in made for name in part.names]
        dropped = self._dropped(made)
        pool = [part.pairs for part in made if self._count(part.pairs)]
        if not pool:
            raise UserError(
                f"{'the generator' if train else self.name} wrote no valid pair about {len(about)} "
                f"images ({_counted(dropped)}); try another backbone"
                + (", or --no-train to write with it as it is" if train else "")
            )
        chosen, scores = self._chosen(pool, about, n)
        samples = self._samples(chosen, scores, made)
        dropped["not_drawn"] += sum(map(self._count, pool)) - len(samples)
        making = DatasetInfo(
            backbone=self.name,
            digest=self.backbone.key,
            images=len(about),
            initial_images=len(first),
            shared_images=len({*first} & {*about}),
            trained=self._facts(writer) if isinstance(writer, Stage) else None,
            asked=n,
            dropped=dict(+dropped),
            unreadable=dict(self.pictures.unreadable),
            settings=self.settings,
            seed=self.seed,
            versions=provenance.versions(),
        )
        return samples, making, self.pictures.left_out + self._left_out(made, samples)

    def _make(self, stage: Stage, title: str) -> Stage:
        """The stage, with what it is made from, unless it is stored."""
        todo = not_in_store([stage], self.store)
        self.found += not todo
        for one in todo.values():
            self.work.on(f"{title}, {one.name}")
            self.store.make(one)
            self.made += 1
        how = "run" if todo else "from the store"
        words = f"{title}, {stage.name} {stage.key[:12]} {how}: {json.dumps(self._facts(stage))}"
        echo(words, at=VERBOSE)
        return stage

    def _facts(self, stage: Stage) -> dict:
        return self.store.manifest(stage)["facts"]

    def _count(self, pairs: Stage) -> int:
        return self._facts(pairs).get("samples", 0)

    def _part(
        self, writer: Stage | Source, name: str, names: list[str], seed: int, title: str
    ) -> Part:
        images, settings = self.pictures.linked(name, names), self.settings.generation
        captions = writing.captions(writer, images, len(names), settings, self.readings, seed)
        written = writing.initial(writer, captions, images, settings, self.readings, seed)
        pairs = writing.filtered(written, self.readings)
        for stage in (captions, written, pairs):
            self._make(stage, title)
        return Part(names, captions, pairs, images)

    def _scores(self, samples: Stage, images: Source, title: str) -> Stage:
        batch_size = self.settings.generation.batch_size
        made = scoring.scores(self.backbone, samples, images, self.readings, batch_size)
        return self._make(made, title)

    def _trained(self, names: list[str]) -> Stage:
        """The enhanced generator."""
        title = f"initial data about {len(names):,} images"
        part = self._part(self.backbone, "initial", names, self.seed, title)
        scores = self._scores(part.pairs, part.images, title)
        share, seed = self.settings.share, self.seed
        chosen = selecting.selection(part.pairs, scores, self.readings, share, seed, crm=True)
        self._make(chosen, title)
        if why := self._facts(chosen).get("unscored"):
            reasons = _counted(self._dropped([part]))
            raise UserError(
                f"there is nothing to train a generator on: {why} ({reasons}); give another "
                "backbone, or --no-train to write with this one as it is"
            )
        trained = training.generator(
            self.backbone,
            part.pairs,
            chosen,
            part.images,
            self.settings.training,
            self.readings,
            seed,
            crm=True,
            clm=True,
        )
        return self._make(trained, "training")

    def _written(
        self, writer: Stage | Source, n: int, first: list[str], final: int | None
    ) -> list[Part]:
        """The final data's parts: until there are `n` samples, or all that are to be ranked."""
        ranks = self.readings.final_selection == "i2c"
        order = chain(self.pictures.others(), [] if ranks and final is None else first)
        made: list[Part] = []
        kept = 0
        for number, names in enumerate(parts(islice(order, final), PART)):
            title = f"final data ({kept:,} of {n:,} samples)"
            # Another seed for each part, as for a stage's shards.
            seed = self.seed + 1_000_003 * (number + 1)
            made.append(self._part(writer, f"final-{number:05d}", names, seed, title))
            kept += self._count(made[-1].pairs)
            enough = kept >= n and not ranks and final is None
            if enough or (not kept and len(made) == VAIN):
                break
        return made

    def _chosen(self, pool: list[Stage], about: list[str], n: int) -> tuple[Stage, Stage]:
        """The final samples, and scores that hold theirs."""
        ranks, title = self.readings.final_selection == "i2c", "final data"
        drawn = self._make(writing.drawn(pool, None if ranks else n, self.seed), title)
        folder = self.pictures.folder.path
        scores = self._scores(drawn, Source.of(folder, about), title)
        if not ranks:
            return drawn, scores
        best = self._make(selecting.best(drawn, scores, self.readings, n), title)
        if why := self._facts(best).get("unscored"):
            raise UserError(f"the final samples cannot be ranked: {why}")
        return best, scores

    def _samples(self, chosen: Stage, scores: Stage, made: list[Part]) -> list[Sample]:
        """The final samples with caption and score."""
        from c3l.relevance import in_form
        from c3l.scores import read_scores

        captions: dict[str, str] = {}
        for part in made:
            file = self.store.path(part.captions) / "captions.json"
            captions |= json.loads(file.read_text(encoding="utf-8"))
        found = {s.id: s for s in read_scores(self.store.path(scores) / common.SCORES)}
        samples = [
            replace(sample, meta={"caption": captions[sample.image]})
            for sample in read_samples(self.store.path(chosen) / common.SAMPLES)
        ]
        theirs = [found[sample.id] for sample in samples]
        return with_scores(samples, theirs, in_form(theirs, self.readings.score_form))

    def _dropped(self, made: list[Part]) -> Counter[str]:
        """What was written and is not valid, by reason."""
        some = [stage for part in made for stage in (part.pairs, *part.pairs.stages)]
        return sum((Counter(self._facts(s).get("dropped", {})) for s in some), Counter())

    def _left_out(self, made: list[Part], samples: list[Sample]) -> list[LeftOut]:
        """The samples that were written and are not among the final ones.

        Pieces of text that are no whole sample have no name.
        """
        there = {sample.id for sample in samples}
        left_out = []
        for part in made:
            (written,) = part.pairs.stages
            if not self._count(written):
                continue
            every = read_samples(self.store.path(written) / common.SAMPLES)
            for sample, why in judged(every, blacklist=self.readings.blacklist):
                if why or sample.id not in there:
                    left_out.append(LeftOut(sample.id, sample.image, why or "not_drawn"))
        return left_out


def _counted(reasons: Counter[str]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))


def _write(out: Path, samples: list[Sample], making: DatasetInfo, left_out: list[LeftOut]) -> None:
    try:
        with _whole(out) as work:
            for name in FILES[:-1]:
                write_scored(work / name, samples)
            text = card(samples, making).encode(errors="backslashreplace")
            (work / "README.md").write_bytes(text)
            write_left_out(work, left_out)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{printable(str(out))} cannot be written ({reason})") from error


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder to write the results into; whole, they take the place of what was there."""
    work = out / STORE / ".tmp-results"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    yield work
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
