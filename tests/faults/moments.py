"""Moments of a run at which something happens to it, drawn over every kind of stage."""

import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

LONG = bool(os.environ.get("C3L_FAULTS_LONG"))
"""Whether to try all that `tox -e faults` does, or what every run of the tests does."""

INJECT = Path(__file__).parent / "inject"

KINDS = (
    "captions",
    "initial",
    "filtered",
    "scores",
    "selection",
    "generator",
    "final",
    "vlit",
    "evaluation",
    "tables",
)
"""Whose files the fault is about: the stages in the order of the pipeline, then the tables."""

CALLS = {
    "captions": 20,
    "initial": 20,
    "filtered": 15,
    "scores": 18,
    "selection": 14,
    "generator": 60,
    "final": 24,
    "vlit": 60,
    "evaluation": 100,
    "tables": 18,
}
"""About how many calls change files of a stage; a larger number is as good as the last."""


@dataclass(frozen=True)
class Moment:
    """At the `nth` call about files of a kind of stage, or at the rename that finishes the first
    one, whichever comes first. `past` is the first removal after that rename instead.

    `do`: "kill run" (the process that was started, and with it its worker), "kill worker" (this one
    alone), "SIGINT" (all processes of the run, as by Ctrl-C), "SIGTERM" (the one that was started),
    or the name of an error that the call fails with.
    With a `delay` the kill comes from outside, so many seconds later, wherever the run then is.
    """

    kind: str
    nth: int
    do: str
    delay: float | None = None
    past: bool = False

    @property
    def jobs(self) -> int:
        """A second worker costs as much as the first, which is mostly importing torch; what comes
        from outside meets two at work."""
        return 1 if self.delay is None else 2

    def environment(self, runs: Path, mark: Path) -> dict[str, str]:
        """For a run in the folder `runs`; the file `mark` says what happened, if it did."""
        fault = {
            "folder": str(runs),
            "mark": str(mark),
            "kind": self.kind,
            "nth": self.nth,
            "do": self.do if self.delay is None else "mark",
            "past": self.past,
        }
        path = os.pathsep.join(filter(None, [str(INJECT), os.environ.get("PYTHONPATH")]))
        return os.environ | {"C3L_FAULT": json.dumps(fault), "PYTHONPATH": path}


def kills(count: int, seed: int) -> list[Moment]:
    """Moments of SIGKILL, as many for each kind of stage as for another.

    Two in three from within, of the run or of a worker; of a kind's other moments one is the
    removal after the last rename, the others come from outside and hit what libraries write in C.
    """
    rng = random.Random(seed)
    drawn = []
    for place, kind in enumerate(KINDS):
        share = count // len(KINDS) + (place < count % len(KINDS))
        inside = share - share // 3
        numbers = sorted(rng.randint(1, CALLS[kind]) for _ in range(inside))
        drawn += [Moment(kind, nth, rng.choice(["kill run", "kill worker"])) for nth in numbers]
        outside = [Moment(kind, 1, "kill run", delay=rng.random()) for _ in range(share // 3)]
        drawn += [*outside[1:], *(replace(one, delay=None, past=True) for one in outside[:1])]
    return drawn


def others(count: int, actions: Sequence[str], seed: int) -> list[Moment]:
    """Moments of these actions in turn, each at a kind of stage and a call that are drawn."""
    rng = random.Random(seed)
    kinds = [rng.choice(KINDS) for _ in range(count)]
    return [
        Moment(kind, rng.randint(1, CALLS[kind]), actions[place % len(actions)])
        for place, kind in enumerate(kinds)
    ]


def in_order(moments: Sequence[Moment]) -> list[Moment]:
    """As one run can meet them: by stage, and of a stage those that leave it unfinished first.

    The tables are written by the run itself, within milliseconds: no worker, no delay.
    """

    def place(moment: Moment) -> tuple:
        return KINDS.index(moment.kind), moment.past, moment.delay is not None, moment.nth

    return [
        replace(one, do=one.do.replace("worker", "run"), delay=None)
        if one.kind == "tables"
        else one
        for one in sorted(moments, key=place)
    ]
