"""Write docs/records/commands.md from the commands typed and their output."""

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from tests.tried.shell import Outcome
from tests.tried.trials import INSTALL, SMALL, TABLES, Section, Trial

WIDTH = 80
"""Characters shown of a line of a command that succeeds; what a mistake prints is shown whole."""

INTRODUCTION = """\
# Every command, as typed and as printed

`tox -e tried` (or `python -m tests.tried`) types these commands in a clean clone, as somebody would
who has just found this project: a new environment, an empty home folder, no settings. It writes
this page, and fails where a command ends in another way than it should.

The first block below each sentence shows the command and its standard error, the second its
standard output; the middle of a long output and the ends of wide lines are left out. In brackets:
wall-clock and CPU time from 10 seconds on, and the exit code where it is not 0.
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
            parts += [one(trial, outcome, section.lines) for trial, outcome in tried]
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


def one(trial: Trial, outcome: Outcome, lines: tuple[int, int]) -> str:
    """Render one command: its sentence, what was typed, and the first and last lines printed."""
    printed = trial.shown or not outcome.well(trial)
    width = WIDTH if trial.code == 0 and outcome.well(trial) else None
    screen = [f"$ {trial.line}", *(cut(outcome.err, lines, width) if printed else [])]
    parts = [trial.about + cost(outcome), fenced(screen)]
    if printed and outcome.out.strip():
        parts.append(fenced(cut(outcome.out, lines, width)))
    return "\n\n".join(parts) + "\n"


def cost(outcome: Outcome) -> str:
    """Describe the time of a command that took 10 s, and an exit code other than 0, in brackets."""
    parts = []
    if outcome.seconds >= 10:
        parts.append(f"{outcome.seconds:.0f} s, {outcome.processor:.0f} s of CPU time")
    if outcome.code != 0:
        parts.append(f"exit code {outcome.code}")
    return f" ({'; '.join(parts)})" if parts else ""


def fenced(lines: list[str]) -> str:
    return "\n".join(["```text", *lines, "```"])


def cut(text: str, lines: tuple[int, int], width: int | None = None) -> list[str]:
    """Return the first and last `lines` of a text, each at most `width` characters wide."""
    head, tail = lines
    full = [line.rstrip().replace("```", "'''") for line in text.strip("\n").split("\n")]
    if full == [""]:
        return []
    if width:
        full = [line if len(line) <= width else f"{line[:width].rstrip()} …" for line in full]
    if len(full) <= head + tail + 1:
        return full
    hidden = len(full) - head - tail
    return [*full[:head], f"[… {hidden} lines left out …]", *full[-tail:]]
