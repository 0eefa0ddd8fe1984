"""`python -m c3l generate`: instruction data about a folder of images."""

from pathlib import Path
from typing import Annotated

import typer

from c3l.cli import common
from c3l.cli.common import option
from c3l.data.left_out import format_counts, left_out_path
from c3l.runtime import distributed
from c3l.runtime.errors import printable
from c3l.runtime.progress import echo


def command(
    backbone: common.BackboneOption,
    images: common.ImagesOption,
    out: Annotated[Path, option("--out", "DIR", "a new folder, or one of an earlier run")],
    n: Annotated[int, option("--n", "N", "samples of the final data", min=1)] = 5000,
    initial: Annotated[
        int | None,
        option(
            "--initial", "N", "images to learn from (default: 1334, at most four in five)", min=1
        ),
    ] = None,
    final: Annotated[
        int | None,
        option(
            "--final", "N", "images to write about (default: as many as the samples take)", min=1
        ),
    ] = None,
    seed: common.SeedOption = 0,
    set_: common.SetOption = None,
    train: Annotated[
        bool,
        typer.Option(
            "--train/--no-train", help="enhance the generator first, or write with it as it is"
        ),
    ] = True,
    device: common.DeviceOption = None,
    dtype: common.DtypeOption = None,
    batch_size: Annotated[
        int | None, option("--batch-size", "N", "texts and answers at a time (default: 16)", min=1)
    ] = None,
    launch: common.LaunchOption = None,
) -> None:
    r"""Write instruction data about your own images: the whole method.

    The backbone captions some of the images and writes pairs about them, learns from the best
    of these, and writes about the others. OUT then holds data.json (LLaVA's layout), data.jsonl,
    data.parquet and README.md, the dataset card; `datasets.load_dataset(OUT)` opens it. If the
    images do not yield as many samples as requested, the command says so.

    All steps are kept in OUT/.store: the same command resumes after an interruption, and a changed
    reading repeats only the steps that it affects. Remove that folder when you no longer need it.

    Example:
      python -m c3l generate --backbone llava-hf/llava-1.5-7b-hf \
          --images photos --out data --n 5000
    """
    from c3l.settings import MethodSettings
    from c3l.stages import launcher

    distributed.require_single_process("generate")
    if train:
        distributed.check_launch()
    batch = [f"generation.batch_size={batch_size}"] if batch_size else []
    settings = MethodSettings().changed([*(set_ or []), *batch])
    if train and (shared := launcher.request_launch(launch)):
        shared.check(settings.training, settings.readings.tuning, "training")
    from c3l.generate import generate

    counts = {"n": n, "initial": initial, "final": final}
    options = {"seed": seed, "settings": settings, "device": device, "dtype": dtype}
    result = generate(backbone, images, out, train=train, **counts, **options)
    echo(
        f"{result.samples:,} samples about {result.images:,} images are in {printable(str(out))}; "
        "see its README.md."
    )
    if result.samples < n:
        echo(f"{n:,} were requested, but the images gave no more valid ones.")
    if result.dropped:
        echo(f"Not in the data: {format_counts(result.dropped)}.")
    if result.unreadable:
        echo(f"Images left out: {format_counts(result.unreadable)}.")
    if left_out_path(out).exists():
        echo(f"What is left out is listed in {left_out_path(out)}.")
    echo(f"{result.stages_run} stages were run, {result.stages_stored} taken from the store.")
