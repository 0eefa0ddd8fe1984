"""`python -m c3l train`: a backbone tuned on data, or a generator trained on scored data.

The one place that trains from files: checkpoints beside the result until it is there, whole.
"""

import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from c3l.cli import common
from c3l.cli.common import option
from c3l.data.left_out import format_counts, left_out_path, write_left_out
from c3l.runtime import distributed, progress
from c3l.runtime.errors import UserError, printable, require_parent, writing
from c3l.runtime.progress import echo

if TYPE_CHECKING:
    from c3l.backbones import Backbone
    from c3l.settings import MethodSettings
    from c3l.training_data import TrainingData

MANIFEST = "c3l.json"


def command(
    backbone: common.BackboneOption,
    data: Annotated[
        Path,
        option(
            "--data",
            "FILE|ID",
            "a .jsonl, .json (LLaVA) or .parquet file, a folder of `datasets`, or a Hub id",
        ),
    ],
    out: Annotated[Path, option("--out", "DIR", "a new folder")],
    images: common.DataImagesOption = None,
    generator: Annotated[
        bool, typer.Option("--generator", help="train a generator instead of tuning")
    ] = False,
    scores: Annotated[
        Path | None,
        option(
            "--scores",
            "FILE",
            "for --generator: a .parquet file of `c3l score` (default: the data's `i2c`)",
        ),
    ] = None,
    seed: common.SeedOption = 0,
    set_: common.SetOption = None,
    device: common.DeviceOption = None,
    dtype: common.DtypeOption = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="refuse data of which something would be left out")
    ] = False,
) -> None:
    r"""Tune a model on data, or train a generator on scored data.

    OUT becomes a folder that --backbone reads, with the training's manifest (c3l.json) and losses
    (history.json). After an interruption the same command resumes from the last checkpoint, which
    lies beside OUT until the training is finished. What cannot be trained on is counted and listed
    in OUT/left_out.jsonl: images that cannot be read, empty answers, texts longer than the context,
    for a generator samples without a score. On several GPUs: `accelerate launch --config_file
    c3l/launch/ddp.yaml -m c3l train …` (docs/real-size.md).

    Example:
      python -m c3l train --backbone llava-hf/llava-1.5-7b-hf \
          --data data/data.json --images photos --out tuned

    Example:
      python -m c3l train --generator --backbone llava-hf/llava-1.5-7b-hf \
          --data scored.jsonl --images photos --out generator --set share=0.2
    """
    from c3l.data.formats import is_dataset
    from c3l.settings import MethodSettings

    settings = MethodSettings().changed(set_ or [])
    if scores and not generator:
        raise UserError("--scores are for a generator; give --generator too, or leave them out")
    # At once: torch takes seconds to import.
    for path, content in ((data, "samples"), (scores, "scores")):
        if path and not path.exists() and not (path is data and is_dataset(path)):
            raise UserError(f"{printable(str(path))} does not exist; give a file of {content}")
    if images and not images.is_dir():
        raise UserError(
            f"{printable(str(images))} is no folder; give the folder that holds the images"
        )
    with progress.StatusLine() as work:
        work.begin("training")
        options = {"seed": seed, "device": device, "dtype": dtype, "strict": strict}
        scored = {"generator": generator, "scores": scores}
        manifest = train(backbone, data, images, out, settings=settings, **scored, **options)
    metrics = manifest["metrics"]
    if left_out := manifest.get("left_out"):  # older manifests do not count it
        echo(f"Not trained on: {format_counts(left_out)}; listed in {left_out_path(out)}.")
    folder = printable(str(out))
    echo(f"Trained in {metrics['steps']:,} steps, mean loss {metrics['loss']:.3f}: {folder}.")


def train(
    backbone: str | Path,
    data: str | Path,
    images: Path | None,
    out: Path,
    *,
    generator: bool = False,
    scores: Path | None = None,
    settings: "MethodSettings | None" = None,
    seed: int = 0,
    device: str | None = None,
    dtype: str | None = None,
    strict: bool = False,
) -> dict[str, Any]:
    """Train a copy of the backbone and save it in the folder `out`, with a manifest (MANIFEST).

    On image and question → answer (VLIT, section 4.1), or as a `generator` by L_r + λ·L_c (sections
    3.2 and 3.3), which needs scores: those in the data (its `i2c`), or a file of `c3l score`.
    `images` is the folder of data that do not hold their images themselves. A training that was
    stopped goes on from its last checkpoint, which lies beside `out` meanwhile; it is the same one
    if weights, samples, images, settings and seed are. A finished one is not repeated.
    Under `accelerate launch` each process calls this with the same, and the first writes.

    What cannot be trained on is left out before the first step, counted in the manifest
    (`left_out`) and named in `out` (`c3l.data.left_out`); with `strict` it is an error. Returns the
    manifest. Raises UserError for what the caller can mend.
    """
    from c3l.artifacts.files import read_checked
    from c3l.backbones import load_backbone
    from c3l.backbones.loading import usual_dtype
    from c3l.runtime.locks import exclusive_output
    from c3l.settings import MethodSettings
    from c3l.training_data import read_training_data, too_long, without_answer_or_image

    settings, out = settings or MethodSettings(), out.resolve()
    with distributed.process_group(device) as own_device, ExitStack() as stack:

        def read() -> "TrainingData":
            require_parent(out)
            if distributed.is_main_process():
                stack.enter_context(exclusive_output(out))
            empty = out.is_dir() and not any(out.iterdir())
            if out.exists() and not empty and read_checked(out / MANIFEST) is None:
                remedy = "give a new or an empty folder as --out"
                raise UserError(f"{printable(str(out))} holds something else; {remedy}")
            readings = settings.readings if generator else None
            return read_training_data(data, images, scores=scores, readings=readings, strict=strict)

        training_data = distributed.run_on_all(read)
        samples, pictures = training_data.samples, training_data.images
        training_data.leave_out(without_answer_or_image(samples, pictures), strict=strict)
        where = {"device": own_device, "dtype": dtype or usual_dtype(own_device)}
        model = distributed.run_on_all(lambda: load_backbone(backbone, **where))
        reasons = too_long(model, training_data.samples, pairs=generator)
        training_data.leave_out(reasons, strict=strict)
        sources = {"from": str(backbone), "data": Path(data).name}
        return _train(model, training_data, out, settings, seed, sources)


def _train(
    model: "Backbone",
    training_data: "TrainingData",
    out: Path,
    settings: "MethodSettings",
    seed: int,
    sources: dict[str, str],
) -> dict[str, Any]:
    from c3l import training
    from c3l.artifacts import files, provenance
    from c3l.samples import to_fields
    from c3l.selection import groups, top_share

    data, generator = training_data.data, training_data.values is not None
    task = {
        "trained": "generator" if generator else "vlit",
        "backbone": model.digest,
        "samples": files.digest(files.without_infinities([*map(to_fields, data.samples)])),
        "images": training_data.digest_images(),
        "scores": files.digest(training_data.values) if generator else None,
        "readings": settings.readings.model_dump(mode="json"),
        "training": settings.training.model_dump(mode="json"),
        "share": settings.share if generator else None,
        "seed": seed,
        "dtype": str(model.dtype).removeprefix("torch."),
    }
    if training_data.reasons:  # an image that is mended makes another training
        task["left_out"] = files.digest(sorted(training_data.reasons.items()))
    if manifest := files.read_checked(out / MANIFEST):
        if manifest["task"] == task:
            return manifest
        raise UserError(f"{printable(str(out))} holds another training; give another --out")
    checkpoints = out.with_name(f".{out.name}.training-{files.digest(task)[:16]}")
    checkpoints.mkdir(exist_ok=True)
    options = (training_data.images, settings.training, settings.readings, seed, checkpoints)
    samples = training_data.samples
    if generator:
        values = [training_data.values[i] for i in training_data.indices]
        targets = top_share(samples, values, settings.share, settings.readings.share_within)
        image_groups = groups(samples, values, settings.readings.group)
        metrics = training.train_generator(model, targets, image_groups, *options, checked=True)
    else:
        metrics = training.tune(model, samples, *options, checked=True)

    def write() -> None:
        if distributed.is_main_process():
            manifest = {"task": task, **sources, "left_out": training_data.counts}
            manifest |= {"versions": provenance.versions(), "commit": provenance.commit()}
            history = files.without_infinities(metrics.pop("history"))
            with writing(out), files.atomic_folder(out) as work:
                model.save(work)
                text = json.dumps(history, indent=1, sort_keys=True)
                (work / "history.json").write_text(text)
                write_left_out(work, training_data.left_out)
                files.write_checked(work / MANIFEST, manifest | {"metrics": metrics})
            shutil.rmtree(checkpoints)

    distributed.run_on_all(write)
    return files.read_checked(out / MANIFEST)
