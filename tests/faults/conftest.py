"""Fixtures of the tests of faults."""

import signal

import pytest

from tests.faults import record, world
from tests.repro import toy


@pytest.fixture(scope="session", autouse=True)
def heard_signals():
    """What a script starts in the background is deaf to Ctrl-C, and so is whatever that starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def record_fault():
    """`with record_fault(area, fault): …` counts a fault, survived unless the block raises."""
    return record.record


@pytest.fixture(scope="session")
def small_profile(tmp_path_factory):
    """The pocket profile made small."""
    return world.profile(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def undisturbed(small_profile, tmp_path_factory):
    """The runs folder of a run that nothing happened to."""
    runs = tmp_path_factory.mktemp("undisturbed") / "runs"
    done = toy.repro(*world.options(small_profile, runs))
    assert done.returncode == 0, done.stderr
    return runs
