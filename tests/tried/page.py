"""docs/commands.md, from what was typed and what came of it."""

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from tests.tried.shell import Outcome
from tests.tried.trials import INSTALL, SMALL, TABLES, Section, Trial

HEAD, TAIL = 45, 15
"""Of a long output, the lines that are shown."""

INTRODUCTION = """\
# Every command, as typed and as printed

`tox -e tried` (or `python -m tests.tried`) types these commands in a clean clone, as somebody would
who has just found this project: a new environment, an empty home folder, no settings. It writes
this page, and fails where a command ends in another way than it should.

The first block below each sentence has what was typed and what came on standard error, the second
has the results, which go to standard output. In brackets: seconds of the clock, then of the
processor.
"""


def render(sections: tuple[Section, ...], done: Mapping[Trial, Outcome], about: dict) -> str:
    """The page; `about` is what the table at its top says first."""
    parts = [INTRODUCTION, facts(about | times(done))]
    for section in sections:
        tried = [(trial, done[trial]) for trial in section.trials if trial in done]
        if tried:
            parts.append(f"## {section.title}\n\n{section.about}\n")
            if section is TABLES:
                parts.append(f'```\nexport SMALL="{SMALL}"\n```\n')
            parts += [one(trial, outcome) for trial, outcome in tried]
    return "\n".join(parts)


def facts(about: Mapping[str, str]) -> str:
    """The table at the page's top."""
    return "\n".join(["| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in about.items()), ""])


def times(done: Mapping[Trial, Outcome]) -> dict[str, str]:
    """How long a new user waits."""
    found = {}
    if INSTALL in done:
        found["install"] = f"{done[INSTALL].seconds:.0f} s, packages downloaded"
    for trial, outcome in done.items():
        if trial.number and outcome.number is not None and "table4" in trial.line:
            found[f"first number on the screen, `{trial.line}`, {trial.about.lower()}"] = (
                f"**{outcome.number:.0f} s**"
            )
    found["commit"] = ", ".join(dict.fromkeys(outcome.commit for outcome in done.values()))
    found["all of this page"] = f"{sum(outcome.seconds for outcome in done.values()) / 60:.0f} min"
    return found


def machine() -> dict[str, str]:
    """Where and when."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    kind = names[0] if names else platform.machine()
    gpu = "a GPU" if Path("/dev/nvidia0").exists() else "no GPU"
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores ({kind}), {memory:.0f} GiB of memory, {gpu}",
        "load by other work when it began": f"{os.getloadavg()[0]:.1f}",
    }


def one(trial: Trial, outcome: Outcome) -> str:
    """What was typed and what came of it."""
    shown = trial.shown or not outcome.well(trial)
    took = f"{outcome.seconds:.1f} s, {outcome.processor:.1f} s; exit code {outcome.code}"
    screen = "\n".join([f"$ {trial.line}", *(cut(outcome.err) if shown else [])])
    parts = [f"{trial.about} ({took})\n\n```text\n{screen}\n```\n"]
    if shown and outcome.out.strip():
        lines = "\n".join(cut(outcome.out))
        parts.append(f"```text\n{lines}\n```\n")
    return "\n".join(parts)


def cut(text: str) -> list[str]:
    """The lines, those in the middle of many left out."""
    lines = [line.rstrip().replace("```", "'''") for line in text.strip("\n").split("\n")]
    if lines == [""]:
        return []
    if len(lines) <= HEAD + TAIL:
        return lines
    left = len(lines) - HEAD - TAIL
    return [*lines[:HEAD], f"[… {left} lines left out …]", *lines[-TAIL:]]
