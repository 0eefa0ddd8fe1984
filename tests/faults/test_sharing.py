"""Two processes on one store, and the lock of one that is dead."""

import multiprocessing
import os
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

from c3l.artifacts.store import Stage, Store
from tests.c3l import store_stages as stages
from tests.faults import world
from tests.faults.moments import Moment
from tests.faults.running import Running, contents, leftovers, what_lasts

spawn = multiprocessing.get_context("spawn")


def test_two_runs_of_one_table_share_the_work(small_profile, undisturbed, tmp_path, record_fault):
    """What has no artefact any more is made once by either of them, and both say the same."""
    runs = tmp_path / "runs"
    shutil.copytree(undisturbed, runs)
    lacking = ["captions", "initial", "filtered", "scores", "selection", "evaluation"]
    for kind in lacking:
        shutil.rmtree(runs / "store" / kind)
    shutil.rmtree(runs / "small")
    with record_fault("two at once", "one table, one store"):
        both = []
        for number in range(2):
            said, notes = tmp_path / f"said-{number}", tmp_path / f"notes-{number}"
            noted = Moment("evaluation", 0, "note").environment(runs, notes)
            command = world.options(small_profile, runs, jobs=1)
            both.append((Running(command, said, noted), notes))
        with both[0][0] as first, both[1][0] as second:
            codes = [run.process.wait(timeout=1200) for run in (first, second)]
            assert codes == [0, 0], first.said.read_text() + second.said.read_text()
        renamed = [line for _, notes in both if notes.exists() for line in notes.open()]
        count = len(list((runs / "store" / "evaluation").iterdir()))
        assert Counter(Counter(renamed).values()) == {1: count}
        assert not leftovers(runs)
        assert what_lasts(runs) == what_lasts(undisturbed)
        assert (
            contents(runs).items()
            >= {
                name: digests
                for name, digests in contents(undisturbed).items()
                if name.startswith("evaluation/")
            }.items()
        )


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path, record_fault):
    """Of one that died at work, and of a file that names a process which is another one by now."""
    stage = stages.stage(tmp_path / "calls", run=stages.crash_once)
    with record_fault("two at once", "a lock left by a dead process"):
        process = spawn.Process(target=make, args=(tmp_path / "store", stage))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        (lock,) = (tmp_path / "store" / "locks").glob(f"{stage.key}.lock")
        lock.write_text(str(os.getpid()))
        started = time.monotonic()
        assert Store(tmp_path / "store").make(stage)
        assert time.monotonic() - started < 10


def make(root: Path, stage: Stage) -> None:
    """In a child process."""
    Store(root).make(stage)
