"""The command line: `python -m repro TABLE | all | plan TABLE | compare TABLE | doctor | ...`.

TABLE is one of `repro.rows.TABLES`.

Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 a regression
(`regress`), 2 bad usage or input (one sentence), 130 interrupted (the next run goes on), 141
standard output closed (files are still written).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from c3l.cli.common import MARKUP, LaunchOption, option, run_app
from c3l.runtime.errors import UserError
from repro.checks import commands
from repro.options import (
    EngineOption,
    JobsOption,
    Shared,
    changes_of,
    default_jobs,
    load_profile,
    with_shared_options,
)
from repro.rows import ALL, TABLES
from repro.run.screen import show

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
    "table2": "Table 2: the size and the text lengths of each data set.",
    "table3": "Table 3: tuning on our data and on published data sets.",
    "table4": "Table 4: the ablation of the two modules.",
    "table5": "Table 5: I²C beside other ways to select the data.",
    "table6": "Table 6: each form of the score beside the known truth.",
    "table7": "Table 7: the full method with one reading changed at a time.",
    "figure3": "Figure 3: results by the selected share of the initial data.",
    "figure4": "Figure 4: images with pairs made without and with C³L.",
}


def _command(names: list[str]) -> Callable[..., None]:
    """Return the command that runs these tables."""

    @with_shared_options
    def command(
        shared: Shared,
        jobs: JobsOption = None,
        engine: EngineOption = "local",
        launch: LaunchOption = None,
    ) -> None:
        from c3l.stages import launcher

        launcher.request_launch(launch)
        if engine == "ray":
            from repro.run.ray_engine import cluster_jobs

            on_cluster = cluster_jobs()  # checks the cluster, also with --jobs
            jobs = jobs or on_cluster
        # Errors of the profile come before slow imports.
        loaded = shared.load_profile()
        from c3l.artifacts.store import Store
        from repro.run.run import Run

        run = Run.prepare(names, loaded, [*range(shared.seeds)], Store(shared.runs / "store"))
        # Write all tables before any is printed: a reader may go away.
        for text in [*run.finish(shared.runs / loaded.name, jobs or default_jobs(), engine)]:
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
    help="Every table and figure but table 7, and the claims that hold."
    + EXAMPLE.format(name="all"),
)(_command(list(ALL)))


@app.command()
@with_shared_options
def plan(
    shared: Shared,
    table: Annotated[
        str, typer.Argument(help=f"{', '.join(TABLES.shipped)}, or all", metavar="TABLE")
    ],
    jobs: JobsOption = None,
    device: Annotated[
        str | None,
        option(
            "--device",
            "NAME",
            "estimate for cpu, cuda or a GPU by name: A100-80GB (default: this machine)",
        ),
    ] = None,
) -> None:
    """Print what a table would run, and what of it is stored.

    Stages with time and memory, disk, and the judge's calls. The profile's input need not exist if
    its backbones are published ones.

    Example:
      python -m repro plan table4 --seeds 1 --profile practical --device A100-80GB
    """
    from c3l.artifacts.read_only import ReadOnlyStore
    from repro.estimate.devices import device_named
    from repro.estimate.plan import render_plan
    from repro.run.run import Run

    if table not in (*TABLES, "all"):
        raise UserError(f"There is no table {table!r}: give one of {', '.join(TABLES)}, all.")
    names = list(ALL) if table == "all" else [table]
    loaded, seeds = shared.load_profile(), [*range(shared.seeds)]
    store, on, missing = ReadOnlyStore(shared.runs / "store"), device_named(device), ""
    try:
        run = Run.stored(names, loaded, seeds, shared.runs, fetch=False)
    except UserError as error:
        run = Run.prepare(names, loaded, seeds, store, placeholders=True)
        missing = str(error)
    # Workers would share a GPU.
    jobs = jobs or (default_jobs() if on.measured else 1)
    show(render_plan(run.tables, loaded, store, jobs, on, local=device is None, missing=missing))


@app.command()
@with_shared_options
def compare(
    shared: Shared,
    table: Annotated[
        str, typer.Argument(help="a table or figure that has been run, or all", metavar="TABLE")
    ],
) -> None:
    """Check the paper's claims against the tables that have been run.

    Each is reproduced, not reproduced, undecided or untestable, with the intervals behind it.

    Example:
      python -m repro compare all --seeds 1
    """
    from repro.analysis.compare import not_run_error, reports, tables_with_claims

    names, loaded = tables_with_claims(), shared.load_profile()
    if table not in (*names, "all"):
        raise UserError(
            f"The paper claims nothing to check about {table!r}: give one of "
            f"{', '.join(names)}, all."
        )
    names = names if table == "all" else [table]
    for name in names:  # before the pocket world is made for nothing
        if not (shared.runs / loaded.name / f"{name}.json").is_file():
            raise not_run_error(name)
    from repro.run.run import Run

    for text in reports(Run.stored(names, loaded, [*range(shared.seeds)], shared.runs)):
        show(text)


@app.command()
@with_shared_options
def report(
    shared: Shared,
    seeds: Annotated[
        int | None, option("--seeds", "N", "number of data seeds (default: as last run)", min=1)
    ] = None,
    out: Annotated[
        Path | None, option("--out", "FILE", "the page (default: RUNS/PROFILE/report.html)")
    ] = None,
) -> None:
    """Write one HTML file of the tables that have been run.

    Tables, claims, figures, and the samples and artefacts behind each number. It needs no network.

    Example:
      python -m repro report --out report.html
    """
    from c3l.runtime import extras
    from repro.report import write_report

    extras.require("matplotlib", "The report")
    changes, runs = changes_of(shared.set_, shared.judge, shared.judge_model), shared.runs
    options = ["--profile", shared.profile] if shared.profile != "pocket" else []
    options += [part for change in changes for part in ("--set", change)]
    options += ["--runs", str(runs)] if runs != Path("runs") else []
    options += ["--seeds", str(seeds)] if seeds else []
    print(write_report(load_profile(shared.profile, changes), seeds, runs, out, options))


for name in ("doctor", "data", "criteria", "bench", "regress"):
    app.command(name)(getattr(commands, name))


def _add_commands() -> None:
    """Add a command for each table that a plugin or a script has registered."""
    for name in TABLES.keys() - TABLES.shipped.keys():
        about = TABLES[name].title or name
        app.command(name, help=about + EXAMPLE.format(name=name))(_command([name]))


def main() -> None:
    """Run the command line and exit."""
    run_app(
        app,
        "Interrupted. Finished stages are kept: run the same command again to go on.",
        _add_commands,
    )
