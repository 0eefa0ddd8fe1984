"""Type every command as a new user would, in a clean clone, and keep what was printed.

    python -m tests.tried                 in a temporary folder; writes docs/records/commands.md
    python -m tests.tried --in FOLDER     clone, environment and outcomes are kept there; the next
                                          time goes on with what has not been typed yet
    python -m tests.tried --in FOLDER --only bench --only doctor
                                          types these again and leaves the others on the page

The clone is of HEAD. Nothing is needed but Python 3.11, git and a package index. Exits with 1 where
a command ends in another way than `tests/tried/trials.py` says.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.tried import page
from tests.tried.shell import Outcome, Shell
from tests.tried.trials import INSTALL, SECTIONS, Trial

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "records" / "commands.md"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.tried",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--in", dest="folder", type=Path, metavar="FOLDER")
    parser.add_argument("--only", action="append", metavar="WORD")
    asked = parser.parse_args()
    about = page.machine()
    with tempfile.TemporaryDirectory(prefix="tried-") as temporary:
        shell = Shell.in_clone_of(ROOT, (asked.folder or Path(temporary)).resolve())
        kept = shell.folder / "outcomes.json"
        done = read(kept)
        for trial in (trial for section in SECTIONS for trial in section.trials):
            if trial is INSTALL:
                wanted = not shell.installed
            elif asked.only:
                wanted = any(word in trial.line for word in asked.only)
            else:
                wanted = trial not in done
            if wanted:
                done[trial] = outcome = shell.type(trial)
                well = "" if outcome.well(trial) else f" NOT AS EXPECTED\n{outcome.err}"
                print(f"{outcome.seconds:7.1f} s  {trial.line}{well}", file=sys.stderr, flush=True)
                kept.write_text(json.dumps([[asdict(t), asdict(o)] for t, o in done.items()]))
        about |= {"versions": shell.versions()}
    PAGE.write_text(page.render(SECTIONS, done, about), encoding="utf-8")
    wrong = [trial.line for trial, outcome in done.items() if not outcome.well(trial)]
    print(f"{len(done)} commands tried, not as expected: {wrong or 'none'}.", file=sys.stderr)
    return 1 if wrong else 0


def read(kept: Path) -> dict[Trial, Outcome]:
    """What was tried before and would be tried in the same way now."""
    if not kept.exists():
        return {}
    found = {Trial(**trial): Outcome(**outcome) for trial, outcome in json.loads(kept.read_text())}
    trials = {trial for section in SECTIONS for trial in section.trials}
    return {trial: outcome for trial, outcome in found.items() if trial in trials}


if __name__ == "__main__":
    sys.exit(main())
