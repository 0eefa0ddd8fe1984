"""What a run would do, without doing it."""

from tabulate import tabulate

from c3l.store import Store
from repro import runner
from repro.profile import Profile
from repro.progress import Times, duration
from repro.recipe import Cells, stages


def report(tables: dict[str, Cells], profile: Profile, store: Store, jobs: int) -> str:
    """Markdown: stages by name, run, stored and shared; the time and memory to expect."""
    targets = [stage for cells in tables.values() for stage in stages(cells)]
    everything, todo = runner.everything(targets), runner.missing(targets, store)
    times = Times(profile.expected.seconds, everything.values(), store)
    depths = {s.name: len(runner.everything([s])) for s in everything.values()}
    lines = []
    for name in sorted(depths, key=depths.__getitem__):
        some = [stage for stage in everything.values() if stage.name == name]
        left = [stage for stage in some if stage.key in todo]
        stored = sum(store.path(stage).exists() for stage in some)
        lines.append([name, len(some), stored, len(left), f"{times.expected(some[0]):.0f} s"])
    alone = sum(
        len(runner.everything(stages({label: row})))
        for cells in tables.values()
        for label, row in cells.items()
    )
    head = ["stage", "needed", "stored", "to run", "one takes"]
    workers = max(1, min(jobs, len(todo)))
    expected = max([times.total(todo.values(), jobs), *runner.chains(todo, times).values()])
    return "\n".join(
        [
            tabulate(lines, head, tablefmt="pipe", colalign=["left"] + ["right"] * 4),
            "",
            f"{len(todo)} of {len(everything)} stages would run; rows share "
            f"{alone - len(everything)} that each would run alone.",
            f"Expected: {duration(expected)} and "
            f"{workers * profile.expected.memory_gib:.1f} GiB with {workers} workers.",
        ]
    )
