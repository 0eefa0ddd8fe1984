"""`python -m c3l score`: I²C for a file of samples, in shards that survive a crash."""

import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from c3l.cli import common
from c3l.cli.common import option
from c3l.data.left_out import format_counts, left_out_path, write_left_out
from c3l.runtime import distributed, progress
from c3l.runtime.errors import UserError, printable, require_parent, writing
from c3l.runtime.progress import echo

if TYPE_CHECKING:
    from c3l.backbones import Backbone
    from c3l.readings import Readings
    from c3l.samples import Data, ImageFolder, Sample
    from c3l.scores import Score


def command(
    samples: Annotated[
        str,
        typer.Argument(
            help="a .jsonl, .json or .parquet file, a folder of `datasets`, or a Hub id",
            metavar="SAMPLES",
        ),
    ],
    backbone: common.BackboneOption,
    out: Annotated[
        Path,
        option(
            "--out",
            "FILE",
            ".jsonl or .json: the data with their scores; .parquet: the scores by token",
        ),
    ],
    images: common.DataImagesOption = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="refuse data in which a record cannot be a sample")
    ] = False,
    set_: Annotated[
        list[str] | None,
        option(
            "--set",
            "KEY=VALUE",
            "change a reading: score_form (literal_sum, literal_mean, full_vocab_sum, "
            "full_vocab_mean, renormalised, generalised, bernoulli, logratio, logratio_mean), "
            "score_eos (true, false), without_image (removed, blank, noise, mean), turns "
            "(in_conversation, alone)",
        ),
    ] = None,
    batch_size: Annotated[int, option("--batch-size", "N", "answers at a time", min=1)] = 16,
    device: common.DeviceOption = None,
    dtype: Annotated[str | None, option("--dtype", "NAME", "float32 (default) or bfloat16")] = None,
) -> None:
    r"""Add I²C scores to existing samples.

    I²C measures how much the image changes an answer's probability. As .json or .jsonl the data
    come back with `i2c` and `tokens` (of the answer), as lists where a conversation has several
    turns. A .parquet file has one row per sample: its id, its score, and the log-probabilities of
    each token behind it. A record that is no sample (no image, no answer …) or cannot be scored
    says why (`unscored`), and is listed in FILE.left_out.jsonl. A later turn is scored with the
    turns before it in its prompt.

    After an interruption the same command resumes; at most 512 samples are scored again.

    Example:
      python -m c3l score data.json --backbone llava-hf/llava-1.5-7b-hf \
          --images coco --out scored.json --dtype bfloat16
    """
    distributed.require_single_process("score")
    from c3l.readings import Readings
    from c3l.runtime.overrides import apply_overrides

    readings = apply_overrides(Readings(), set_ or [], "scoring")
    from c3l.samples import read_data

    data = read_data(samples, strict=strict)
    folder, total = data.pictures(images), len(data.samples)
    if not total:
        raise UserError(f"there is no sample in {printable(samples)}")
    with progress.StatusLine() as work, ExitStack() as stack:
        work.begin("loading the backbone")
        from c3l.backbones import load_backbone
        from c3l.runtime.locks import exclusive_output

        check_out(data, out)
        stack.enter_context(exclusive_output(out))
        model = load_backbone(backbone, device=device, dtype=dtype)
        echo(f"{total:,} samples to score.")
        work.begin("scores")
        without_score = to_file(model, data, folder, readings, out, batch_size=batch_size)
    count = total - sum(without_score.values())
    echo(f"{count} of {total} samples are scored in {out}.")
    if repeated := total - len({sample.id for sample in data.samples}):
        order = f"the order in {out} is that of {printable(samples)}"
        echo(f"{repeated} ids occur more than once; {order}.")
    if without_score:
        echo(f"{total - count} have no score: {format_counts(without_score)}.")
    if data.left_out:
        reasons = Counter(item.reason for item in data.left_out)
        echo(f"{len(data.left_out)} are no samples: {format_counts(reasons)}.")
    if without_score or data.left_out:
        echo(f"They are listed in {left_out_path(out)}.")


def to_file(
    backbone: "Backbone",
    data: "Data",
    images: "ImageFolder",
    readings: "Readings",
    out: Path,
    *,
    batch_size: int,
) -> dict[str, int]:
    """Score the samples of `data` into `out` and return how many have no score, by reason.

    A .parquet file holds the scores alone, a row a sample, token by token (`c3l.scores`); .jsonl
    and .json all records with their I²C. What has no score, sample or not, is listed beside it
    (`c3l.data.left_out`). Raises UserError, and writes nothing, when no sample has a score.
    """
    from c3l.artifacts.files import atomic_path
    from c3l.data.scored import score_fields, write_scores_into
    from c3l.samples import content_of
    from c3l.scores import unscored, write_scores

    check_out(data, out)
    folder, samples = _shards_folder(out), data.samples
    with writing(out):
        scores = score_in_shards(backbone, samples, images, readings, batch_size, folder)
        reasons = unscored(scores)
        if sum(reasons.values()) == len(scores):
            shutil.rmtree(folder)
            none = f"none of the {len(scores)} samples of {data.name} has a score"
            raise UserError(f"{none} ({format_counts(reasons)})")
        if out.suffix == ".parquet":
            with atomic_path(out) as path:
                write_scores(path, scores, [*map(content_of, samples)])
        else:
            write_scores_into(data, out, [score_fields(score, score.i2c) for score in scores])
        write_left_out(out, data.list_left_out(score.unscored for score in scores))
    shutil.rmtree(folder)
    return reasons


def score_in_shards(
    backbone: "Backbone",
    samples: "Sequence[Sample]",
    images: "ImageFolder",
    readings: "Readings",
    batch_size: int,
    folder: Path,
) -> "list[Score]":
    """Return the scores of the samples, in their order; finished shards stay below `folder`.

    The name of their folder holds all that scores depend on, the images' bytes among it: shards of
    other samples or of another backbone are never taken for these.
    """
    from c3l import relevance
    from c3l.artifacts.files import digest
    from c3l.artifacts.shards import in_shards
    from c3l.artifacts.stage import Job
    from c3l.samples import to_fields
    from c3l.scores import from_record, to_record

    pictures = {name: images.digest(name) for name in dict.fromkeys(s.image for s in samples)}
    config = [backbone.digest, str(backbone.dtype), readings.model_dump(mode="json"), batch_size]
    key = digest([config, [to_fields(sample) for sample in samples], pictures])
    # All about one image together: then the model reads it once.
    rank = {name: position for position, name in enumerate(pictures)}
    order = sorted(range(len(samples)), key=lambda i: rank[samples[i].image])

    def work(shard: list[int]) -> list[dict]:
        part = [samples[i] for i in shard]
        scores = relevance.score(backbone, part, images, readings, batch_size=batch_size)
        return [to_record(score) for score in scores]

    (folder / key).mkdir(parents=True, exist_ok=True)
    job = Job(folder, folder / key, inputs={}, keys={}, config={}, seed=None)
    records = [one for shard in in_shards(job, "scores", order, work, "samples") for one in shard]
    by_index = dict(zip(order, map(from_record, records), strict=True))
    return [by_index[i] for i in range(len(samples))]


def check_out(data: "Data", out: Path) -> None:
    """Raise UserError unless the result can be written to `out`: better now than after hours."""
    from c3l.data.formats import SUFFIXES
    from c3l.data.scored import scored_records

    if out.suffix not in SUFFIXES:
        raise UserError(f"{out}: unknown format; use a name ending in {', '.join(SUFFIXES)}")
    require_parent(out)
    if out.is_dir():
        raise UserError(f"{out} is a folder; give the name of a file as --out")
    if left_out_path(out).is_dir():
        raise UserError(f"{left_out_path(out)} is a folder; move it, or give another --out")
    for path in (out, left_out_path(out)):
        with suppress(OSError):  # one of them does not exist: no file, or data of the Hub
            if path.samefile(data.name):
                raise UserError(f"{path} holds the data themselves; give another --out")
    if out.suffix != ".parquet":
        scored_records(data, out.suffix, [{}] * len(data.samples))
    with writing(out):
        _shards_folder(out).mkdir(exist_ok=True)


def _shards_folder(out: Path) -> Path:
    return out.with_name(f".{out.name}.scoring")
