"""One HTML file of a runs folder, from the tables' JSON and the artefacts in the store."""

import shlex
from pathlib import Path

from c3l.runtime.progress import echo
from repro.profile import Profile
from repro.report.contents import Contents
from repro.report.page import render_page
from repro.report.tables import find_tables
from repro.run.screen import write_result


def write_report(
    profile: Profile, seeds: int | None, runs: Path, out: Path | None, options: list[str]
) -> Path:
    """Write the page of the tables below a runs folder, and return its path.

    Without `seeds` every table counts with the data seeds it was last run with. Without `out` the
    page lies beside the tables. `options` are those of the command line, for the commands that the
    page names. Raises UserError where nothing has been run or the file cannot be written.
    """
    folder = runs / profile.name
    tables, missing, store = find_tables(profile, seeds, runs)
    echo(f"Reading the artefacts of {', '.join(tables)}.")
    commands = [
        {
            "table": name,
            "why": reason,
            "command": shlex.join(["python", "-m", "repro", name, *options]),
        }
        for name, reason in missing.items()
    ]
    page = render_page(Contents(tables, commands, profile, store, folder))
    out = out or folder / "report.html"
    write_result(out, page)
    return out
