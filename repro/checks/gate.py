"""Options of `python -m repro regress`, and the baseline that they allow to compare with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import BENCHMARKS, Benchmark
from c3l.runtime.errors import UserError
from repro.checks.baseline import Baseline, read_baseline
from repro.columns import COLUMNS
from repro.profile import Profile
from repro.stages.evaluation import evaluation_settings

MAKE_ONE = "the same command with --update makes one, of the backbone's present scores"


@dataclass(frozen=True)
class Gate:
    """The options of the command."""

    backbone: str
    """A folder or a Hub id."""
    baseline: Path
    profile: Profile
    runs: Path
    jobs: int
    benchmarks: list[str]
    """Names among the profile's."""
    tolerance: float
    """In points of 0 to 100."""
    update: bool
    """Write the baseline instead of comparing with it."""
    junit: Path | None

    def benchmark(self, name: str) -> Benchmark:
        return BENCHMARKS[self.profile.scoring.tasks[name]]

    def settings(self, name: str) -> dict:
        """Settings of a benchmark's evaluation, which a baseline must share."""
        return evaluation_settings(self.profile.scoring.tasks[name], self.profile.scoring)


def benchmark_names(profile: Profile, names: str | None) -> list[str]:
    """Return the benchmarks of a comma-separated list, or all of the profile's."""
    selected = names.split(",") if names else list(profile.scoring.tasks)
    for name in selected:
        if name not in profile.scoring.tasks:
            raise UserError(
                f"There is no benchmark {name!r} in the profile {profile.name}: give some of "
                f"{', '.join(profile.scoring.tasks)}."
            )
        if name not in COLUMNS:
            raise UserError(
                f"No table has a column {name!r}, which the profile {profile.name} gives a task: "
                "give some other --benchmarks, or add the column to repro.columns.COLUMNS."
            )
    return selected


def changes(then: dict, now: dict) -> list[tuple[str, Any, Any]]:
    """Return each key whose value differs, in their order, with both values."""
    keys = sorted(then.keys() | now.keys())
    return [(key, then.get(key), now.get(key)) for key in keys if then.get(key) != now.get(key)]


def comparable_baseline(gate: Gate) -> Baseline:
    """Read the baseline. Raises UserError where its benchmarks were evaluated otherwise."""
    if not gate.baseline.exists():
        raise UserError(f"There is no baseline {gate.baseline}: {MAKE_ONE}.")
    baseline = read_baseline(gate.baseline)
    tasks = gate.profile.scoring.tasks
    for name in gate.benchmarks:
        if name not in baseline.benchmarks:
            raise UserError(f"The baseline {gate.baseline} has no {name}: {MAKE_ONE}.")
        for key, then, now in changes(baseline.benchmarks[name].settings, gate.settings(name)):
            raise UserError(
                f"The baseline {gate.baseline} has {name} with {key} {then}, the profile "
                f"{gate.profile.name} with {now}: give --set, or {MAKE_ONE}."
            )
    lost = baseline.benchmarks.keys() - tasks.keys()
    if lost and set(gate.benchmarks) == tasks.keys():
        raise UserError(
            f"The baseline {gate.baseline} has {', '.join(sorted(lost))}, for which the profile "
            f"{gate.profile.name} has no task: give it one, or {MAKE_ONE}."
        )
    return baseline
