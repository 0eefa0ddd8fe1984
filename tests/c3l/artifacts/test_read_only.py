"""A store that is only read: nothing below it is made, moved, mended or opened for writing."""

import os
import sys
from pathlib import Path

import pytest

from c3l.artifacts.graph import not_in_store
from c3l.artifacts.read_only import NotStoredError, ReadOnlyStore
from c3l.artifacts.store import Job, Stage, Store

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate")
watched: dict[str, list] = {}


def _watch(event: str, arguments: tuple) -> None:
    for root, seen in watched.items():
        writes = event in CHANGES or (event == "open" and arguments[2] & WRITES)
        if writes and str(arguments[0]).startswith(root):
            seen.append((event, *arguments))


sys.addaudithook(_watch)


@pytest.fixture
def writes(tmp_path):
    """What is written below the test's folder from now on."""
    seen = watched[str(tmp_path)] = []
    yield seen
    del watched[str(tmp_path)]


def write(job: Job) -> dict:
    (job.out / "file").write_text("text")
    return {"lines": 1}


FIRST = Stage("first", 1, write, {})
SECOND = Stage("second", 1, write, {}, {"first": FIRST})


def test_the_watch_sees_what_a_store_writes(tmp_path, writes):
    Store(tmp_path / "store").make(FIRST)
    assert {event for event, *_ in writes} >= {"open", "os.mkdir", "os.rename"}


def test_what_is_there_is_read_and_nothing_is_written(tmp_path, request):
    path = Store(tmp_path / "store").make(SECOND)
    writes = request.getfixturevalue("writes")
    store = ReadOnlyStore(tmp_path / "store")
    store.remove_leftovers()
    assert store.make(SECOND) == store.find(SECOND) == path
    assert store.metadata(SECOND) == {"lines": 1}
    assert store.read(SECOND, "file") == b"text"
    assert not not_in_store([SECOND], store)
    assert writes == []


def test_what_is_damaged_is_absent_and_stays(tmp_path, request, caplog):
    path = Store(tmp_path / "store").make(SECOND)
    (path / "file").write_text("other")
    leftover = path.with_name(".tmp-somebody")
    leftover.mkdir()
    writes = request.getfixturevalue("writes")
    store = ReadOnlyStore(tmp_path / "store")
    store.remove_leftovers()
    store.discard(FIRST)
    assert store.find(SECOND) is None
    assert "is damaged" in caplog.text
    assert list(not_in_store([SECOND], store).values()) == [SECOND]
    with pytest.raises(NotStoredError, match="not there or damaged"):
        store.make(SECOND)
    assert writes == []
    assert leftover.is_dir()
    assert (path / "file").read_text() == "other"


def test_a_folder_that_is_not_there_holds_nothing(tmp_path, writes):
    store = ReadOnlyStore(tmp_path / "nowhere" / "store")
    store.remove_leftovers()
    assert store.find(FIRST) is store.manifest(FIRST) is store.progress(FIRST) is None
    assert list(not_in_store([SECOND], store).values()) == [FIRST, SECOND]
    assert writes == []
    assert not Path(tmp_path / "nowhere").exists()
