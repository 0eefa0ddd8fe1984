"""What tests of faults found, as lines of JSON from which `tests.faults.report` makes a document.

A line is a JSON object:

    area      the section of docs/records/faults.md: "kill", "damage", "bad input", "judge", …
    fault     what was done to the run, in words: a row of the area's table
    tried     how many times
    survived  how often the run came out of it as it must
    lost      how often it did not; tried = survived + lost
    command   what makes the line again
    seconds   how long it took, if that is known

Lines of one area, fault and command are added up. They go to files in the folder named by the
environment variable C3L_FAULTS_DIR, one a process; without it nothing is written.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "C3L_FAULTS_DIR"
COMMAND = "tox -e faults"


def write(
    area: str,
    fault: str,
    *,
    survived: int,
    lost: int = 0,
    command: str = COMMAND,
    seconds: float | None = None,
) -> None:
    """Append a line, if there is a folder for it."""
    if not (folder := os.environ.get(VARIABLE)):
        return
    line = {
        "area": area,
        "fault": fault,
        "tried": survived + lost,
        "survived": survived,
        "lost": lost,
        "command": command,
    }
    line |= {} if seconds is None else {"seconds": round(seconds, 3)}
    path = Path(folder) / f"faults-{os.getpid()}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


@contextmanager
def record(
    area: str, fault: str, command: str = COMMAND, since: float | None = None
) -> Iterator[None]:
    """A fault that is tried once: survived if the block ends, lost if it raises.

    It began at `since` (of `time.monotonic`), or now.
    """
    started = time.monotonic() if since is None else since
    try:
        yield
    except BaseException:
        write(area, fault, survived=0, lost=1, command=command, seconds=time.monotonic() - started)
        raise
    write(area, fault, survived=1, command=command, seconds=time.monotonic() - started)
