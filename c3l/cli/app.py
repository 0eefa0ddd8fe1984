"""The method's own command line: `python -m c3l generate | score | train | convert`.

What is asked for goes to files, all words to standard error. Exit codes: 0 done, 2 bad usage or
input (one sentence), 130 interrupted, 141 whoever read standard output or error is gone.
"""

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from c3l.cli import convert as convert
from c3l.cli.common import MARKUP, LaunchOption, run_app
from c3l.data.left_out import left_out_path
from c3l.runtime import distributed, progress
from c3l.runtime.errors import UserError, printable, short_repr
from c3l.runtime.progress import echo

if TYPE_CHECKING:
    from c3l.readings import Readings

# Everything else is imported by the commands: `--help` answers at once.

app = typer.Typer(
    add_completion=False,
    no_args_is_help=False,
    rich_markup_mode=MARKUP,
    help="The method of C³L on one's own images: write, score and learn from instruction data."
    "\n\nExample:\n"
    "  python -m c3l generate --backbone PATH --images DIR --out DIR --n 5000",
)
app.add_typer(convert.app, name="convert")

BackboneOption = Annotated[
    str, typer.Option("--backbone", help="a folder or a Hub id", metavar="PATH|ID")
]
ImagesOption = Annotated[
    Path, typer.Option("--images", help="the folder that holds the images", metavar="DIR")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="another reading or setting: score_form=logratio_mean, training.epochs=2 (all of "
        "them: c3l/readings.py, c3l/settings.py)",
        metavar="KEY=VALUE",
    ),
]
DtypeOption = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        help="float32, bfloat16 or float16 (default: as saved; float32 on a processor)",
        metavar="NAME",
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", help="of all that is random", metavar="N")]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device", help="cpu, cuda or mps (default: cuda where there is one)", metavar="NAME"
    ),
]


@app.callback()
def commands() -> None:
    """One's own images and data."""


@app.command()
def generate(
    backbone: BackboneOption,
    images: ImagesOption,
    out: Annotated[
        Path,
        typer.Option("--out", help="a new folder, or one of an earlier run", metavar="DIR"),
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
    r"""Write instruction data about one's own images: the whole method.

    The backbone captions some of the images and writes pairs about them, learns from the best
    of these, and writes about the others. OUT then holds data.json (LLaVA's layout), data.jsonl,
    data.parquet and README.md, the data's card; `datasets.load_dataset(OUT)` opens it. If the
    images do not give as many samples as asked for, there are fewer, and it says so.

    All steps are kept in OUT/.store: the same command goes on after an interruption, and another
    reading makes only what it touches anew. Remove that folder when you need it no more.

    Example:
      python -m c3l generate --backbone llava-hf/llava-1.5-7b-hf \
          --images photos --out data --n 5000
    """
    from c3l.settings import MethodSettings
    from c3l.stages import launcher

    distributed.require_single_process("generate")
    if train:
        distributed.check_launch()
    settings = MethodSettings().changed(set_ or [])
    if batch_size:
        settings = settings.changed([f"generation.batch_size={batch_size}"])
    if train and (shared := launcher.request_launch(launch)):
        shared.check(settings.training, settings.readings.tuning, "training")
    from c3l.data.left_out import left_out_path
    from c3l.generate import generate as generate_data

    made = generate_data(
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
    where = printable(str(out))
    echo(
        f"{made.samples:,} samples about {made.images:,} images are in {where}; see its README.md."
    )
    if made.samples < n:
        echo(f"{n:,} were asked for, but the images gave no more valid ones.")
    for what, reasons in (("Not in the data", made.dropped), ("Images left out", made.unreadable)):
        if reasons:
            echo(f"{what}: {counted(reasons)}.")
    if left_out_path(out).exists():
        echo(f"What is left out is named in {left_out_path(out)}.")
    echo(f"{made.stages_run} stages were run, {made.stages_stored} taken from the store.")


@app.command()
def score(
    samples: Annotated[
        str,
        typer.Argument(
            help="a .jsonl, .json or .parquet file, a folder of `datasets`, or a Hub id",
            metavar="SAMPLES",
        ),
    ],
    backbone: BackboneOption,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help=".jsonl or .json: the data with their scores; .parquet: the scores by token",
            metavar="FILE",
        ),
    ],
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            help="the folder that holds the images (needless where the data hold them)",
            metavar="DIR",
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="refuse data in which a record cannot be a sample")
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="another reading: score_form=logratio_mean", metavar="FIELD=VALUE"
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="answers at a time", metavar="N")
    ] = 16,
    device: DeviceOption = None,
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", help="float32 (default) or bfloat16", metavar="NAME"),
    ] = None,
) -> None:
    r"""Add I²C scores to samples that one has.

    I²C is how much the image changes an answer's probability. As .json or .jsonl the data come
    back with `i2c` and `tokens` (of the answer), as lists where a conversation has several turns.
    As .parquet the file has a row a sample: its id, its score, what it was made of token by token.
    What is no sample (no image, no answer …) or cannot be scored says why (`unscored`), and is
    listed in FILE.left_out.jsonl. A later turn is scored behind the turns before it.

    Stopped, the same command goes on after the last 512 samples it had finished.

    Example:
      python -m c3l score data.json --backbone llava-hf/llava-1.5-7b-hf \
          --images coco --out scored.json --dtype bfloat16
    """
    distributed.require_single_process("score")
    readings = read_readings(set_ or [])
    from c3l.samples import read_data

    data = read_data(samples, strict=strict)
    found, folder = data.samples, data.pictures(images)
    if not found:
        raise UserError(f"there is no sample in {printable(samples)}")
    with progress.StatusLine() as work, ExitStack() as stack:
        work.begin("loading the backbone")
        from c3l.backbones import load_backbone
        from c3l.cli import score as scoring
        from c3l.runtime.locks import exclusive_output

        scoring.check_out(data, out)
        stack.enter_context(exclusive_output(out))
        model = load_backbone(backbone, device=device, dtype=dtype)
        echo(f"{len(found):,} samples to score.")
        work.begin("scores")
        without = scoring.to_file(model, data, folder, readings, out, batch_size=batch_size)
    count = len(found) - sum(without.values())
    echo(f"{count} of {len(found)} samples are scored in {out}.")
    if repeated := len(found) - len({sample.id for sample in found}):
        order = f"what is in {out} is in the order of {printable(samples)}"
        echo(f"{repeated} ids stand there more than once; {order}.")
    if without:
        echo(f"{len(found) - count} have no score: {counted(without)}.")
    if data.left_out:
        reasons = Counter(item.reason for item in data.left_out)
        echo(f"{len(data.left_out)} are no samples: {counted(reasons)}.")
    if without or data.left_out:
        echo(f"Which, and where they stand: {left_out_path(out)}.")


@app.command()
def train(
    backbone: BackboneOption,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            help="a .jsonl, .json (LLaVA) or .parquet file, a folder of `datasets`, or a Hub id",
            metavar="FILE|ID",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="a new folder", metavar="DIR")],
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            help="the folder that holds the images (default: the data hold them)",
            metavar="DIR",
        ),
    ] = None,
    generator: Annotated[
        bool,
        typer.Option("--generator", help="train a generator in place of tuning"),
    ] = False,
    scores: Annotated[
        Path | None,
        typer.Option(
            "--scores",
            help="for --generator: a .parquet file of `c3l score` (default: the data's `i2c`)",
            metavar="FILE",
        ),
    ] = None,
    seed: SeedOption = 0,
    set_: SetOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="refuse data of which something would be left out"),
    ] = False,
) -> None:
    r"""Tune a model on data, or train a generator on scored data.

    OUT becomes a folder that --backbone reads, with the training's manifest (c3l.json) and losses
    (history.json). Stopped, the same command goes on from the last checkpoint, which lies beside
    OUT until the training is finished. What cannot be trained on is counted and named in
    OUT/left_out.jsonl: images that cannot be read, empty answers, texts longer than the context,
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
    # Said at once: torch takes seconds to import.
    if not data.exists() and not is_dataset(data):
        raise UserError(f"{printable(str(data))} does not exist; give a file of samples")
    if scores and not scores.exists():
        raise UserError(f"{printable(str(scores))} does not exist; give a file of scores")
    if images and not images.is_dir():
        raise UserError(
            f"{printable(str(images))} is no folder; give the folder that holds the images"
        )
    with progress.StatusLine() as work:
        work.begin("loading the backbone")
        from c3l.cli import train as trainer
        from c3l.data.left_out import left_out_path

        work.begin("training")
        made = trainer.train(
            backbone,
            data,
            images,
            out,
            generator=generator,
            scores=scores,
            settings=settings,
            seed=seed,
            device=device,
            dtype=dtype,
            strict=strict,
        )
    metrics = made["metrics"]
    if left_out := made.get("left_out"):  # older manifests do not count it
        echo(f"Not trained on: {counted(left_out)}; named in {left_out_path(out)}.")
    where = printable(str(out))
    echo(f"Trained in {metrics['steps']:,} steps, mean loss {metrics['loss']:.3f}: {where}.")


def counted(reasons: dict[str, int]) -> str:
    """ "duplicate 3, empty 1"."""
    return ", ".join(f"{reason} {number:,}" for reason, number in sorted(reasons.items()))


def read_readings(changes: list[str]) -> "Readings":
    """The readings with changes such as "score_form=logratio". Raises UserError for a wrong one."""
    from pydantic import ValidationError

    from c3l.readings import Readings
    from c3l.runtime import parsing

    values = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise UserError(f"--set {printable(change)}: write it as field=value.")
        try:
            values[name.strip()] = parsing.from_yaml(text)
            Readings.model_validate(values)
        except ValidationError as error:  # which is a ValueError
            first = error.errors()[0]
            reason = first["msg"][0].lower() + first["msg"][1:]
            if first["type"] == "extra_forbidden":
                reason = f"there is no such reading; use one of {', '.join(Readings.model_fields)}"
            raise UserError(f"--set {printable(change)}: {reason}.") from error
        except ValueError as error:
            raise UserError(
                f"--set {printable(change)}: {short_repr(text)} is not a YAML value."
            ) from error
    return Readings.model_validate(values)


def main() -> None:
    """`python -m c3l`."""
    run_app(
        app,
        "Interrupted. Run the same command again: what generate, score and train had finished is "
        "kept.",
    )
