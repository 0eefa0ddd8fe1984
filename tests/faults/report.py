"""Write docs/records/faults.md from what tests recorded: `python -m tests.faults.report DIR`."""

import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from c3l.artifacts import provenance
from tests.faults.moments import LONG
from tests.repro.toy import ROOT

OUT = ROOT / "docs" / "records" / "faults.md"
FILES = re.compile(r"files of \w+")

INTRODUCTION = """\
# Faults tried

The faults that `tox -e faults` tries and how often. "Lost" is a run that did not come out of it as
[reliability.md](../reliability.md) promises. `tests/faults/report.py` writes this page.
"""


def read(folder: Path) -> Iterator[dict]:
    """The records of `tests.faults.record`."""
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


def render(records: Iterator[dict]) -> str:
    """Render the page: a section for each area, a line for each fault, the stages together."""
    areas: dict[str, dict[str, Counter]] = defaultdict(lambda: defaultdict(Counter))
    total: Counter = Counter()
    for record in records:
        counts = {name: record.get(name, 0) for name in ("tried", "lost", "seconds")}
        areas[record["area"]][FILES.sub("the files of any stage", record["fault"])].update(counts)
        total.update(counts)
    date = datetime.now(UTC).date().isoformat()
    version = "long" if LONG else "short"
    parts = [
        INTRODUCTION,
        f"{total['tried']} faults tried, {total['lost']} lost, in {total['seconds']:.0f} s; "
        f"the {version} version, {date}, commit {provenance.commit()}.\n",
    ]
    for area, faults in areas.items():
        lines = [
            f"- {fault}: {counts['tried']}{lost(counts)}"
            for fault, counts in sorted(faults.items())
        ]
        parts.append("\n".join([f"## {area.capitalize()}\n", *lines, ""]))
    return "\n".join(parts)


def lost(counts: Counter) -> str:
    return f", **{counts['lost']} lost**" if counts["lost"] else ""


if __name__ == "__main__":
    OUT.write_text(render(read(Path(sys.argv[1]))), encoding="utf-8")
