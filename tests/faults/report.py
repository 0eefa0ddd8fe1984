"""Write docs/reliability.md from what tests recorded: `python -m tests.faults.report DIR`."""

import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from tabulate import tabulate

from c3l.artifacts import provenance
from tests.faults.moments import LONG
from tests.repro.toy import ROOT

OUT = ROOT / "docs" / "reliability.md"

INTRODUCTION = """\
# Reliability

Runs of this suite take hours to days: none may be lost, and no number may come from a damaged one.
Below is every fault that the tests try, how often, and how often the run came out of it as it must.
The tests write this page.

What a run must do: after a kill the next run of the same command makes nothing again that was
finished, leaves no temporary file, and ends with the table and the artefacts of a run that nothing
happened to, byte for byte apart from dates. SIGINT and SIGTERM end it within five seconds, with a
sentence on how to go on (exit 130). A disk that is full, read-only or failing ends it with one
sentence (exit 2). A damaged file is found by its digest when it is read, or, if nobody is about to
read it, when it is younger than its manifest; it is named, set aside under `RUNS/store/damaged`
(the last one of each artefact) and made again.
"""

DETERMINISM = """\
## What is the same, and what is not

The same seed on the same machine gives the same bytes of every file of every artefact, whatever
happened on the way. Dates, seconds and memory stand in `manifest.json`, clock times also in
`lmms_eval.log`; a table's dates are `made`, `core_seconds` and `wall_clock_seconds`, and `commit`
says what the code was. Other batch sizes and other shards change sums in their last digits and
select the same samples in float32.

Other bytes are to be expected

- on another machine, another build of torch, or with another number of threads a worker (`--jobs 1`
  lets it have all processors unless OMP_NUM_THREADS says otherwise, more jobs one each) or of
  processes that train (`--launch`): sums are added up in another order;
- on a GPU: kernels differ between devices, and some add up in no fixed order;
- in half precision, whose steps are coarser than such differences: selections may change;
- where a judge or a model is asked at an address: it answers as it likes.
"""


def read(folder: Path) -> Iterator[dict]:
    """The records of `tests.faults.record`."""
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


def render(records: Iterator[dict]) -> str:
    """The page: a section an area, a row a fault and command."""
    areas: dict[str, dict[tuple[str, str], list]] = defaultdict(dict)
    for record in records:
        rows = areas[record["area"]]
        row = rows.setdefault((record["fault"], record["command"]), [0, 0, 0, 0.0])
        for place, name in enumerate(("tried", "survived", "lost")):
            row[place] += record[name]
        row[3] += record.get("seconds", 0.0)
    counts = [row for rows in areas.values() for row in rows.values()]
    sums = [sum(row[place] for row in counts) for place in range(4)]
    made = datetime.now(UTC).date().isoformat()
    version = "long" if LONG else "short"
    parts = [
        INTRODUCTION,
        f"{sums[0]} faults tried, {sums[1]} survived, {sums[2]} lost, in {sums[3]:.0f} s; "
        f"the {version} version, {made}, commit {provenance.commit()}.\n",
    ]
    for area, rows in areas.items():
        lines = [
            [fault, *row[:3], f"{row[3]:.0f}", f"`{command}`"]
            for (fault, command), row in sorted(rows.items())
        ]
        head = ["fault", "tried", "survived", "lost", "seconds", "made by"]
        parts.append(f"## {area.capitalize()}\n\n{tabulate(lines, head, tablefmt='pipe')}\n")
    return "\n".join([*parts, DETERMINISM])


if __name__ == "__main__":
    OUT.write_text(render(read(Path(sys.argv[1]))), encoding="utf-8")
