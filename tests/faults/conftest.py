"""Fixtures of the tests of faults."""

import pytest

from tests.faults import record


@pytest.fixture(scope="session")
def record_fault():
    """`with record_fault(area, fault): …` counts a fault, survived unless the block raises."""
    return record.record
