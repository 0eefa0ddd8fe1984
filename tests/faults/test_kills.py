"""A run that is killed, or told to stop, or whose disk fails, ends as one left alone.

The short version runs with all tests, the long one by `tox -e faults`.
"""

from collections import Counter

from tests.faults.kills import Trial
from tests.faults.moments import KINDS, LONG, in_order, kills, others

KILLS, FAILURES, STOPS = (100, 12, 12) if LONG else (10, 3, 2)
SEED = 6


def test_whatever_happens_to_it_a_run_ends_with_the_same_table(
    small_profile, undisturbed, tmp_path, record_fault
):
    moments = kills(KILLS, SEED)
    moments += others(FAILURES, ["ENOSPC", "EIO", "EROFS"], SEED)
    moments += others(STOPS, ["SIGTERM", "SIGINT"], SEED)
    trial = Trial(small_profile, undisturbed, tmp_path, record_fault)
    trial.go(in_order(moments))
    assert sum(trial.hit.values()) == len(moments)
    assert {kind for kind, _ in trial.hit} == set(KINDS)
    if LONG:
        calls = Counter(call for _, call in trial.hit)
        assert {"open", "write", "fsync", "rename", "remove", "from outside"} <= calls.keys()
