"""One HTML file of what has been run, from the tables' JSON and the artefacts in the store."""

import shlex
from pathlib import Path

from c3l.artifacts.files import write_atomically
from c3l.runtime.errors import UserError
from c3l.runtime.progress import echo
from repro.profile import Profile
from repro.report.contents import Contents
from repro.report.found import find
from repro.report.page import html

OWN = "report.html"


def write(
    profile: Profile, seeds: int | None, runs: Path, out: Path | None, options: list[str]
) -> Path:
    """Write the page of the tables below a runs folder and give its path.

    Without `seeds` every table counts with the data seeds it was last run with; without `out` the
    page lies beside the tables. `options` are those of the command line, for the commands that the
    page names. Raises UserError where nothing has been run or the file cannot be written.
    """
    folder = runs / profile.name
    found, missing, store = find(profile, seeds, runs)
    echo(f"Reading what stands behind {', '.join(found)}.")
    named = [
        {
            "table": name,
            "why": why,
            "command": shlex.join(["python", "-m", "repro", name, *options]),
        }
        for name, why in missing.items()
    ]
    page = html(Contents(found, named, profile, store, folder))
    out = out or folder / OWN
    try:
        write_atomically(out, page)
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror}).") from error
    return out
