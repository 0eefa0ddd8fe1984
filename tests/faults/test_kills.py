"""A run that is killed, or told to stop, or whose disk fails, ends as one left alone.

The short version runs with all tests, the long one by `tox -e faults`.
"""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.faults.kills import Trial
from tests.faults.moments import KINDS, LONG, in_order, kills, others

KILLS, FAILURES, STOPS = (100, 12, 12) if LONG else (10, 3, 2)
RUNS = 2 if LONG else 1  # at a time, each with its share of the moments
SEED = 6


def test_whatever_happens_to_it_a_run_ends_with_the_same_table(
    small_profile, undisturbed, tmp_path, record_fault
):
    moments = kills(KILLS, SEED)
    moments += others(FAILURES, ["ENOSPC", "EIO", "EROFS"], SEED)
    moments += others(STOPS, ["SIGTERM", "SIGINT"], SEED)
    shares = [in_order(moments[start::RUNS]) for start in range(RUNS)]
    trials = [
        Trial(small_profile, undisturbed, tmp_path / f"{number}", record_fault)
        for number in range(RUNS)
    ]
    with ThreadPoolExecutor(RUNS) as pool:
        list(pool.map(Trial.go, trials, shares))
    hit = sum((trial.hit for trial in trials), Counter())
    assert sum(hit.values()) == len(moments)
    assert {kind for kind, _ in hit} == set(KINDS)
    if LONG:
        calls = Counter(call for _, call in hit)
        assert {"open", "write", "fsync", "rename", "remove", "from outside"} <= calls.keys()
