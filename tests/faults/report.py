"""Write docs/records/faults.md from what tests recorded: `python -m tests.faults.report DIR`."""

import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from tabulate import tabulate

from c3l.artifacts import provenance
from tests.faults.moments import LONG
from tests.repro.toy import ROOT

OUT = ROOT / "docs" / "records" / "faults.md"
FILES = re.compile(r"files of \w+")

INTRODUCTION = """\
# Faults tried

The faults that `tox -e faults` tries, how often, and how often the run did not come out of it as
[reliability.md](../reliability.md) promises. `tests/faults/report.py` writes this page.
"""


def read(folder: Path) -> Iterator[dict]:
    """The records of `tests.faults.record`."""
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


def render(records: Iterator[dict]) -> str:
    """Render the page: a section for each area, a row for each fault, the stages together."""
    areas: dict[str, dict[str, list]] = defaultdict(dict)
    for record in records:
        fault = FILES.sub("the files of any stage", record["fault"])
        row = areas[record["area"]].setdefault(fault, [0, 0, 0.0])
        values = (record["tried"], record["lost"], record.get("seconds", 0.0))
        row[:] = [total + value for total, value in zip(row, values)]
    rows = [row for faults in areas.values() for row in faults.values()]
    tried, lost, seconds = (sum(row[column] for row in rows) for column in range(3))
    date = datetime.now(UTC).date().isoformat()
    version = "long" if LONG else "short"
    parts = [
        INTRODUCTION,
        f"{tried} faults tried, {lost} lost, in {seconds:.0f} s; "
        f"the {version} version, {date}, commit {provenance.commit()}.\n",
    ]
    for area, faults in areas.items():
        lines = [[fault, *row[:2], f"{row[2]:.0f}"] for fault, row in sorted(faults.items())]
        head = ["fault", "tried", "lost", "seconds"]
        parts.append(f"## {area.capitalize()}\n\n{tabulate(lines, head, tablefmt='pipe')}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    OUT.write_text(render(read(Path(sys.argv[1]))), encoding="utf-8")
