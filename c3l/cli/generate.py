"""`python -m c3l generate`: instruction data about a folder of images."""

from pathlib import Path
from typing import Annotated

import typer

from c3l.cli.common import (
    BackboneOption,
    DeviceOption,
    DtypeOption,
    ImagesOption,
    LaunchOption,
    SeedOption,
    SetOption,
    format_counts,
)
from c3l.data.left_out import left_out_path
from c3l.runtime import distributed
from c3l.runtime.errors import printable
from c3l.runtime.progress import echo


def command(
    backbone: BackboneOption,
    images: ImagesOption,
    out: Annotated[
        Path, typer.Option("--out", help="a new folder, or one of an earlier run", metavar="DIR")
    ],
    n: Annotated[
        int, typer.Option("--n", min=1, help="samples of the final data", metavar="N")
    ] = 5000,
    initial: Annotated[
        int | None,
        typer.Option(
            "--initial",
            min=1,
            help="images to learn from (default: 1334, at most four in five)",
            metavar="N",
        ),
    ] = None,
    final: Annotated[
        int | None,
        typer.Option(
            "--final",
            min=1,
            help="images to write about (default: as many as the samples take)",
            metavar="N",
        ),
    ] = None,
    seed: SeedOption = 0,
    set_: SetOption = None,
    train: Annotated[
        bool,
        typer.Option(
            "--train/--no-train", help="enhance the generator first, or write with it as it is"
        ),
    ] = True,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size", min=1, help="texts and answers at a time (default: 16)", metavar="N"
        ),
    ] = None,
    launch: LaunchOption = None,
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
    changes = set_ or []
    if batch_size:
        changes = [*changes, f"generation.batch_size={batch_size}"]
    settings = MethodSettings().changed(changes)
    if train and (shared := launcher.request_launch(launch)):
        shared.check(settings.training, settings.readings.tuning, "training")
    from c3l.generate import generate

    result = generate(
        backbone,
        images,
        out,
        n=n,
        initial=initial,
        final=final,
        seed=seed,
        settings=settings,
        train=train,
        device=device,
        dtype=dtype,
    )
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
