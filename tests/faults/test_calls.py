"""The store under a fault in every single call that changes a file: none is left out."""

import itertools
import multiprocessing
import sys
from pathlib import Path

import pytest

from c3l.artifacts import provenance
from c3l.artifacts.shards import in_shards
from c3l.artifacts.store import Job, Stage, Store
from c3l.runtime.errors import UserError
from tests.faults.inject import sitecustomize
from tests.faults.moments import LONG
from tests.faults.running import damaged, leftovers

fork = multiprocessing.get_context("fork")


def in_two_shards(job: Job) -> dict:
    shards = in_shards(job, "numbers", list(range(600)), sum)
    (job.out / "deep").mkdir()
    (job.out / "deep" / "sums").write_text(" ".join(map(str, shards)))
    (job.out / "count").write_text(str(len(shards)))
    return {"shards": len(shards)}


FIRST = Stage("toy", 1, in_two_shards)
LAST = Stage("toy", 1, in_two_shards, {"second": True}, {"first": FIRST})


def make(runs: Path, mark: Path, nth: int, do: str) -> None:
    """In a child process; the exit status of the command line."""
    sitecustomize.install(str(runs), str(mark), "toy", nth, do, past=False, at_the_latest=False)
    try:
        Store(runs / "store").make(LAST)
    except UserError as error:
        assert "cannot be written" in str(error)
        sys.exit(2)


@pytest.mark.parametrize("do", ["kill run", "ENOSPC", *(["EIO", "EROFS"] if LONG else [])])
def test_after_a_fault_in_any_call_the_store_is_sound_and_goes_on(tmp_path, record_fault, do):
    what = "SIGKILL" if do == "kill run" else f"failing with {do}"
    provenance.versions(), provenance.commit()  # once, not in every child
    for nth in itertools.count(1):
        runs, mark = tmp_path / f"{nth}" / "runs", tmp_path / f"{nth}" / "mark"
        runs.mkdir(parents=True)
        process = fork.Process(target=make, args=(runs, mark, nth, do))
        process.start()
        process.join()
        if not mark.exists():
            assert process.exitcode == 0
            break
        with record_fault("calls", f"the store: each of its calls in turn {what}"):
            assert process.exitcode in ((-9,) if do == "kill run" else (0, 2))
            assert not damaged(runs)
            store = Store(runs / "store")
            store.remove_leftovers()
            assert not list(store.root.glob("*/.tmp-*"))
            path = store.make(LAST)
            assert (path / "deep" / "sums").read_text() == "130816 48884"
            assert not leftovers(runs)
    assert nth > 50  # two stages with two shards each
