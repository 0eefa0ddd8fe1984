"""The command line: `python -m repro TABLE | all | plan TABLE | compare TABLE | doctor | ...`.

TABLE is one of `repro.rows.TABLES`.

Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 a regression
(`regress`), 2 bad usage or input (one sentence), 130 interrupted (the next run goes on), 141
standard output closed (files are written as ever).
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from c3l.cli.common import MARKUP, LaunchOption, run_app
from c3l.runtime.errors import UserError
from repro.options import (
    EngineOption,
    JobsOption,
    JudgeModelOption,
    JudgeOption,
    ProfileOption,
    RunsOption,
    SeedsOption,
    SetOption,
    changes_of,
    default_jobs,
)
from repro.rows import ALL, TABLES
from repro.run.screen import show

if TYPE_CHECKING:
    from repro.run.run import Run

# Everything else is imported by the commands: `--help` answers at once.

app = typer.Typer(
    add_completion=False,
    no_args_is_help=False,
    rich_markup_mode=MARKUP,
    help="Run the tables of the C³L paper (IJCAI 2024) and this project's own.\n\nExample:\n"
    "  python -m repro table4 --seeds 1",
)


ABOUT = {
    "table1": "Table 1: the method beside other models, on four benchmarks.",
    "table2": "Table 2: how large and how long our data are, and others'.",
    "table3": "Table 3: tuning on our data and on data that others made.",
    "table4": "Table 4: the ablation of the two modules.",
    "table5": "Table 5: I²C against other ways to select the data.",
    "table6": "Table 6: each form of the score against the known truth.",
    "table7": "Table 7: the full method with one reading changed at a time.",
    "figure3": "Figure 3: how much of the initial data is selected, drawn.",
    "figure4": "Figure 4: images with pairs made without and with C³L.",
}


def _command(names: list[str]) -> Callable[..., None]:
    """The command that runs these tables."""

    def command(
        profile: ProfileOption = "pocket",
        seeds: SeedsOption = 3,
        set_: SetOption = None,
        judge: JudgeOption = None,
        judge_model: JudgeModelOption = None,
        runs: RunsOption = Path("runs"),
        jobs: JobsOption = None,
        engine: EngineOption = "local",
        launch: LaunchOption = None,
    ) -> None:
        from c3l.stages import launcher

        launcher.request_launch(launch)
        there = _cluster_jobs() if engine == "ray" else None
        jobs = jobs or there or default_jobs()
        run = _prepare(names, profile, seeds, changes_of(set_, judge, judge_model), runs)
        # All are written before any is shown: a reader may go away.
        for text in [*run.finish(runs / run.profile.name, jobs, engine)]:
            show(text)
        if len(names) > 1:
            from repro.analysis.compare import reports

            for text in reports(run):
                show(text)

    return command


EXAMPLE = "\n\nExample:\n  python -m repro {name} --seeds 1 --set readings.score_form=logratio"
for name in TABLES.shipped:
    app.command(name, help=ABOUT[name] + EXAMPLE.format(name=name))(_command([name]))
app.command(
    "all",
    help="Every table and figure but table 7; which claims hold." + EXAMPLE.format(name="all"),
)(_command(list(ALL)))


@app.command()
def plan(
    table: Annotated[
        str, typer.Argument(help=f"{', '.join(TABLES.shipped)}, or all", metavar="TABLE")
    ],
    profile: ProfileOption = "pocket",
    seeds: SeedsOption = 3,
    set_: SetOption = None,
    judge: JudgeOption = None,
    judge_model: JudgeModelOption = None,
    runs: RunsOption = Path("runs"),
    jobs: JobsOption = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            help="reckon for cpu, cuda or a GPU by name: A100-80GB (default: what is here)",
            metavar="NAME",
        ),
    ] = None,
) -> None:
    """What a table would take, and what of it is stored.

    Stages with time and memory, the disk they fill, what a judge is asked. Nothing of the
    profile's input need be there, if its backbones are published ones.

    Example:
      python -m repro plan table4 --seeds 1 --profile practical --device A100-80GB
    """
    from c3l.artifacts.read_only import ReadOnlyStore
    from repro import profile as profiles
    from repro.estimate.devices import device_named
    from repro.estimate.plan import render_plan
    from repro.run.run import Run

    changes = changes_of(set_, judge, judge_model)
    if table not in (*TABLES, "all"):
        raise UserError(f"There is no table {table!r}: give one of {', '.join(TABLES)}, all.")
    names = list(ALL) if table == "all" else [table]
    loaded, store = profiles.load(profile, changes), ReadOnlyStore(runs / "store")
    on, missing = device_named(device), ""
    try:
        run = Run.stored(names, loaded, [*range(seeds)], runs, fetch=False)
    except UserError as error:
        run, missing = Run.with_placeholders(names, loaded, [*range(seeds)], store), str(error)
    # Workers would share a GPU.
    jobs = jobs or (default_jobs() if on.shares.measured else 1)
    show(render_plan(run.tables, loaded, store, jobs, on, local=device is None, missing=missing))


@app.command()
def compare(
    table: Annotated[
        str, typer.Argument(help="a table or figure that has been run, or all", metavar="TABLE")
    ],
    profile: ProfileOption = "pocket",
    seeds: SeedsOption = 3,
    set_: SetOption = None,
    judge: JudgeOption = None,
    judge_model: JudgeModelOption = None,
    runs: RunsOption = Path("runs"),
) -> None:
    """Which of the paper's claims hold in what has been run.

    Each is reproduced, not reproduced, undecided or untestable, with the intervals behind it.

    Example:
      python -m repro compare all --seeds 1
    """
    from repro import profile as profiles
    from repro.analysis.compare import not_run_error, reports, tables_with_claims

    changes = changes_of(set_, judge, judge_model)
    if table not in (*tables_with_claims(), "all"):
        raise UserError(
            f"The paper claims nothing to check about {table!r}: give one of "
            f"{', '.join(tables_with_claims())}, all."
        )
    names = tables_with_claims() if table == "all" else [table]
    for name in names:  # said before the pocket world is made for nothing
        if not (runs / profiles.load(profile, changes).name / f"{name}.json").is_file():
            raise not_run_error(name)
    from repro.run.run import Run

    for text in reports(Run.stored(names, profiles.load(profile, changes), [*range(seeds)], runs)):
        show(text)


@app.command()
def report(
    profile: ProfileOption = "pocket",
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds", min=1, help="how many data seeds (default: as last run)", metavar="N"
        ),
    ] = None,
    set_: SetOption = None,
    judge: JudgeOption = None,
    judge_model: JudgeModelOption = None,
    runs: RunsOption = Path("runs"),
    out: Annotated[
        Path | None,
        typer.Option("--out", help="default: RUNS/PROFILE/report.html", metavar="FILE"),
    ] = None,
) -> None:
    """One HTML file of what has been run.

    Tables, claims, figures, and what stands behind each number. It needs no network.

    Example:
      python -m repro report --out report.html
    """
    from c3l.runtime import extras
    from repro import profile as profiles
    from repro.report import write_report

    extras.require("matplotlib", "The report")
    changes = changes_of(set_, judge, judge_model)
    options = ["--profile", profile] if profile != "pocket" else []
    options += [part for change in changes for part in ("--set", change)]
    options += ["--runs", str(runs)] if runs != Path("runs") else []
    options += ["--seeds", str(seeds)] if seeds else []
    print(write_report(profiles.load(profile, changes), seeds, runs, out, options))


@app.command()
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
    """What a profile needs, what of it is missing, and what to do.

    Looks at packages, machine, weights, data and judge. Exits with 2 where something
    is missing that nothing runs without.

    Example:
      python -m repro doctor --profile practical
    """
    from repro import profile as profiles
    from repro.checks.doctor import examine_profile, render_findings

    changes = changes_of(set_, judge, judge_model)
    findings = list(examine_profile(profiles.load(profile, changes), runs, seeds))
    show(render_findings(findings))
    if missing := sum(bool(finding.remedy) and finding.needed for finding in findings):
        raise UserError(f"{missing} of {len(findings)} things are missing: see above.")


@app.command()
def data(
    coco: Annotated[
        Path, typer.Option("--coco", help="COCO's train2014, all of it", metavar="DIR")
    ],
    out: Annotated[
        Path, typer.Option("--out", help="a new folder, filled with links", metavar="DIR")
    ],
    initial: Annotated[
        int, typer.Option("--initial", min=1, help="images to learn from", metavar="N")
    ] = 1334,
    final: Annotated[
        int, typer.Option("--final", min=1, help="other images, to write about", metavar="N")
    ] = 334,
    seed: Annotated[int, typer.Option("--seed", help="of the draw", metavar="N")] = 0,
) -> None:
    """Lay out COCO and the four benchmarks for the real profiles.

    OUT is what the profiles practical and paper name as their `data`: data/coco in this folder.

    Example:
      python -m repro data --coco ~/coco/train2014 --out data/coco
    """
    from benchmarks.real import link_data

    said = link_data(coco, out, initial=initial, final=final, seed=seed)
    print(*said["benchmarks"].values(), sep="\n")


@app.command()
def criteria(
    profile: ProfileOption = "pocket",
    set_: SetOption = None,
    runs: RunsOption = Path("runs"),
    jobs: JobsOption = None,
) -> None:
    """Measure the pocket world itself, before any row of a table.

    What its model scores, what it writes, and what tuning on perfect data gives it: the criteria
    that the world was frozen by (benchmarks/pocket/README.md).

    Example:
      python -m repro criteria --jobs 2
    """
    from c3l.artifacts.store import Store
    from repro import profile as profiles
    from repro.checks.criteria import measure

    loaded = profiles.load(profile, set_)
    show(measure(loaded, Store(runs / "store"), jobs or default_jobs(), runs / "criteria.log"))


@app.command()
def bench(
    device: Annotated[
        str | None,
        typer.Option(
            "--device", help="cpu or cuda (default: cuda where there is one)", metavar="NAME"
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="the smallest sizes: whether it runs, not how fast")
    ] = False,
    stages: Annotated[
        bool, typer.Option("--stages", help="single stages on the CPU, beside what plan reckons")
    ] = False,
) -> None:
    """How fast scoring is.

    Packed, in padded batches and one by one; and how the time grows with the number of samples.

    Example:
      python -m repro bench --device cpu
    """
    from repro.checks.bench import formula_report, scoring_report

    show(formula_report(quick) if stages else scoring_report(device, quick))


@app.command()
def regress(
    backbone: Annotated[
        str, typer.Option("--backbone", help="a folder or a Hub id", metavar="PATH|ID")
    ],
    baseline: Annotated[
        Path | None, typer.Option("--baseline", help="what it is compared with", metavar="FILE")
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="write the baseline instead of comparing with it")
    ] = False,
    tolerance: Annotated[
        float,
        typer.Option(
            "--tolerance", min=0, help="points (of 100) that may be lost", metavar="POINTS"
        ),
    ] = 0.0,
    junit: Annotated[
        Path | None, typer.Option("--junit", help="the results as JUnit XML", metavar="FILE")
    ] = None,
    benchmarks: Annotated[
        str | None,
        typer.Option("--benchmarks", help="some of the profile's: SEED,POPE", metavar="NAMES"),
    ] = None,
    profile: ProfileOption = "pocket",
    set_: SetOption = None,
    judge: JudgeOption = None,
    judge_model: JudgeModelOption = None,
    runs: RunsOption = Path("runs"),
    jobs: JobsOption = None,
) -> None:
    """Whether a model still works and scores as it did; else exit 1.

    Checks what the method takes for granted of a model, then compares its scores on the benchmarks
    with those in a baseline file (docs/regress.md).

    Example:
      python -m repro regress --backbone DIR --baseline FILE --junit regress.xml
    """
    from repro import profile as profiles
    from repro.checks.regress import MAKE_ONE, Gate, run_gate
    from repro.columns import COLUMNS

    changes = changes_of(set_, judge, judge_model)
    loaded = profiles.load(profile, changes)
    names = benchmarks.split(",") if benchmarks else list(loaded.scoring.tasks)
    if unknown := [name for name in names if name not in loaded.scoring.tasks]:
        raise UserError(
            f"There is no benchmark {unknown[0]!r} in the profile {loaded.name}: give some of "
            f"{', '.join(loaded.scoring.tasks)}."
        )
    if unknown := [name for name in names if name not in COLUMNS]:
        raise UserError(
            f"No table has a column {unknown[0]!r}, which the profile {loaded.name} gives a task: "
            "give some other --benchmarks, or add the column to repro.columns.COLUMNS."
        )
    if baseline is None:
        raise UserError(f"There is nothing to compare with: give --baseline FILE; {MAKE_ONE}.")
    gate = Gate(
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
    text, well = run_gate(gate)
    show(text)
    if not well:
        raise typer.Exit(1)


def _prepare(
    names: list[str], profile: str, seeds: int, changes: list[str] | None, runs: Path
) -> "Run":
    from repro import profile as profiles

    loaded = profiles.load(profile, changes)  # what is wrong is said at once: Run imports much
    from c3l.artifacts.store import Store
    from repro.run.run import Run

    return Run.prepare(names, loaded, list(range(seeds)), Store(runs / "store"))


def _cluster_jobs() -> int | None:
    from repro.run.ray_engine import cluster_jobs

    return cluster_jobs()


def _prepare_commands() -> None:
    """Add a command for each table that a plugin or a script has registered.

    Raises UserError where the current folder hides our own packages.
    """
    spec = find_spec("benchmarks")
    if not spec or spec.origin != str(Path(__file__).parents[1] / "benchmarks" / "__init__.py"):
        raise UserError(
            "The package benchmarks of the current folder hides this project's own; use the "
            "command c3l-repro, or run `python -m repro` in another folder."
        )
    for name in TABLES.keys() - TABLES.shipped.keys():
        about = TABLES[name].title or name
        app.command(name, help=about + EXAMPLE.format(name=name))(_command([name]))


def main() -> None:
    """Run the command line and exit."""
    run_app(
        app,
        "Interrupted. Finished stages are kept: run the same command again to go on.",
        _prepare_commands,
    )
