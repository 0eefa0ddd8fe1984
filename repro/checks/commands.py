"""Commands of `repro.cli` that check a machine, the pocket world, speed, or a model."""

from pathlib import Path
from typing import Annotated

import typer

from c3l.cli.common import option
from c3l.runtime.errors import UserError
from repro.options import (
    JobsOption,
    JudgeModelOption,
    JudgeOption,
    ProfileOption,
    RunsOption,
    SetOption,
    default_jobs,
    load_profile,
)
from repro.run.screen import show

# Everything else is imported by the commands: `--help` answers at once.


def doctor(
    profile: ProfileOption = "pocket",
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="data seeds of `all`, for the disk it needs")
    ] = 3,
    set_: SetOption = None,
    judge: JudgeOption = None,
    judge_model: JudgeModelOption = None,
    runs: RunsOption = Path("runs"),
) -> None:
    """Check what a profile needs and how to get what is missing.

    Checks packages, machine, weights, data and judge. Exits with 2 where something is missing that
    every run needs.

    Example:
      python -m repro doctor --profile practical
    """
    from repro.checks.doctor import examine_profile, render_findings

    findings = [*examine_profile(load_profile(profile, set_, judge, judge_model), runs, seeds)]
    show(render_findings(findings))
    if missing := sum(bool(finding.remedy) and finding.needed for finding in findings):
        raise UserError(f"{missing} of {len(findings)} things are missing: see above.")


def data(
    coco: Annotated[Path, option("--coco", "DIR", "COCO's train2014, all of it")],
    out: Annotated[Path, option("--out", "DIR", "a new folder, filled with links")],
    initial: Annotated[
        int, option("--initial", "N", "number of images to learn from", min=1)
    ] = 1334,
    final: Annotated[
        int, option("--final", "N", "number of other images, to write about", min=1)
    ] = 334,
    seed: Annotated[int, option("--seed", "N", "seed of the draw")] = 0,
) -> None:
    """Lay out COCO and the four benchmarks for the real profiles.

    The profiles practical and paper look for it at data/coco in this folder.

    Example:
      python -m repro data --coco ~/coco/train2014 --out data/coco
    """
    from benchmarks.real import link_data

    summary = link_data(coco, out, initial=initial, final=final, seed=seed)
    print(*summary["benchmarks"].values(), sep="\n")


def criteria(
    profile: ProfileOption = "pocket",
    set_: SetOption = None,
    runs: RunsOption = Path("runs"),
    jobs: JobsOption = None,
) -> None:
    """Measure the pocket world itself, before any row of a table.

    Its model's scores, the pairs it writes, and its gain from tuning on perfect data: the criteria
    that the world was frozen by (benchmarks/pocket/README.md).

    Example:
      python -m repro criteria --jobs 2
    """
    from c3l.artifacts.store import Store
    from repro.checks.criteria import measure

    loaded, store = load_profile(profile, set_), Store(runs / "store")
    show(measure(loaded, store, jobs or default_jobs(), runs / "criteria.log"))


def bench(
    device: Annotated[
        str | None, option("--device", "NAME", "cpu or cuda (default: cuda if there is one)")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="the smallest sizes: a check that it runs, no timing")
    ] = False,
    stages: Annotated[
        bool, typer.Option("--stages", help="single stages on the CPU, beside plan's estimates")
    ] = False,
) -> None:
    """Measure the speed of scoring.

    Packed, in padded batches and one by one; then its growth with the number of samples.

    Example:
      python -m repro bench --device cpu
    """
    from repro.checks.bench import formula_report, scoring_report

    show(formula_report(quick) if stages else scoring_report(device, quick))


def regress(
    backbone: Annotated[str, option("--backbone", "PATH|ID", "a folder or a Hub id")],
    baseline: Annotated[
        Path | None, option("--baseline", "FILE", "the scores to compare with")
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="write the baseline instead of comparing with it")
    ] = False,
    tolerance: Annotated[
        float, option("--tolerance", "POINTS", "points (of 100) that it may lose", min=0)
    ] = 0.0,
    junit: Annotated[
        Path | None, option("--junit", "FILE", "write the results as JUnit XML")
    ] = None,
    benchmarks: Annotated[
        str | None, option("--benchmarks", "NAMES", "some of the profile's: SEED,POPE")
    ] = None,
    profile: ProfileOption = "pocket",
    set_: SetOption = None,
    judge: JudgeOption = None,
    judge_model: JudgeModelOption = None,
    runs: RunsOption = Path("runs"),
    jobs: JobsOption = None,
) -> None:
    """Check that a model works and scores as before; else exit 1.

    Checks what the method requires of a model, then compares its scores on the benchmarks with
    those in a baseline file (docs/regress.md).

    Example:
      python -m repro regress --backbone DIR --baseline FILE --junit regress.xml
    """
    from repro.checks.gate import MAKE_ONE, Gate, benchmark_names
    from repro.checks.regress import run_gate

    loaded = load_profile(profile, set_, judge, judge_model)
    names = benchmark_names(loaded, benchmarks)
    if baseline is None:
        raise UserError(f"There is nothing to compare with: give --baseline FILE; {MAKE_ONE}.")
    text, passed = run_gate(
        Gate(
            backbone=backbone,
            baseline=baseline,
            profile=loaded,
            runs=runs,
            jobs=jobs or default_jobs(),
            benchmarks=names,
            tolerance=tolerance,
            update=update,
            junit=junit,
        )
    )
    show(text)
    if not passed:
        raise typer.Exit(1)
