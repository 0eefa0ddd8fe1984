"""The store: artefacts are whole or absent, damage is found, processes share."""

import errno
import multiprocessing
import os
import signal
import stat
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from c3l.artifacts.files import digest_files
from c3l.artifacts.store import Source, Stage, Store
from c3l.runtime.errors import UserError
from tests.c3l import store_stages as toy

spawn = multiprocessing.get_context("spawn")


def make(root: Path, stage: Stage) -> None:
    """In a child process."""
    Store(root).make(stage)


def calls(folder: Path) -> list[str]:
    return sorted(path.name.rsplit("-", 1)[0] for path in folder.glob("*"))


def test_a_stage_is_made_once_with_its_inputs(tmp_path):
    a = toy.stage(tmp_path / "calls", "a")
    b = toy.stage(tmp_path / "calls", "b", left=a, right=a)
    store = Store(tmp_path / "store")
    path = store.make(b)
    assert (path / "a" / "text").read_text() == "a a b"
    assert Store(tmp_path / "store").make(b) == path
    assert calls(tmp_path / "calls") == ["a", "b"]
    manifest = store.manifest(b)
    assert manifest["facts"] == {"parts": 2}
    assert manifest["inputs"] == {"left": a.key, "right": a.key}
    assert manifest["files"].keys() == {"a/text", "length"}
    assert not list(store.root.glob("*/.*"))


def test_the_key_holds_everything_that_matters_and_nothing_else(tmp_path):
    base = toy.stage(tmp_path, "a")
    others = [
        toy.stage(tmp_path, "b"),
        toy.stage(tmp_path, "a", seed=1),
        toy.stage(tmp_path, "a", more=base),
        Stage("toy", 2, toy.write_text, base.config),
        Stage("other", 1, toy.write_text, base.config),
    ]
    assert len({base.key, *(stage.key for stage in others)}) == 6
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        (folder / "deep").mkdir(parents=True)
        (folder / "deep" / "weights").write_bytes(b"\0\1")
    sources = [Source.from_path(folder) for folder in folders]
    assert len({toy.stage(tmp_path, x=source).key for source in sources}) == 1
    (folders[1] / "deep" / "weights").write_bytes(b"\0\2")
    assert digest_files(folders[1]) != sources[0].key


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(["a/text", "length", "manifest.json"]),
    damage=st.sampled_from(["flip", "truncate", "remove"]),
    place=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
)
def test_any_damage_is_found_and_made_again(tmp_path_factory, name, damage, place, bit):
    tmp_path = tmp_path_factory.mktemp("damage")
    stage = toy.stage(tmp_path / "calls", "some text")
    path = Store(tmp_path / "store").make(stage)
    content = (path / name).read_bytes()
    position = int(place * len(content))
    match damage:
        case "flip":
            flipped = bytes([content[position] ^ 1 << bit])
            (path / name).write_bytes(content[:position] + flipped + content[position + 1 :])
        case "truncate":
            (path / name).write_bytes(content[:position])
        case "remove":
            (path / name).unlink()
    store = Store(tmp_path / "store")
    assert store.make(stage) == path
    assert store.manifest(stage)["facts"] == {"parts": 0}
    assert (path / "a" / "text").read_text() == "some text"
    again = len(calls(tmp_path / "calls")) == 2
    aside = list((tmp_path / "store" / "damaged" / "toy").glob("*"))
    assert again == bool(aside)
    # A flip that leaves the manifest's JSON value as it was (white space) is no damage.
    assert again or (name, damage) == ("manifest.json", "flip")


def test_damage_is_named(tmp_path, caplog):
    stage = toy.stage(tmp_path / "calls")
    path = Store(tmp_path / "store").make(stage)
    (path / "length").write_text("7")
    Store(tmp_path / "store").make(stage)
    assert str(path) in caplog.text
    assert "length does not match its digest" in caplog.text


def test_a_damaged_input_is_made_again_before_it_is_used(tmp_path):
    a = toy.stage(tmp_path / "calls", "a")
    b = toy.stage(tmp_path / "calls", "b", left=a)
    (Store(tmp_path / "store").make(a) / "a" / "text").write_text("lie")
    path = Store(tmp_path / "store").make(b)
    assert (path / "a" / "text").read_text() == "a b"


def test_what_is_damaged_while_a_stage_reads_it_is_not_used(tmp_path):
    """Neither when the stage is done with it, nor when it fails for it."""
    for text, made in (("b", ["a", "a", "b", "b", "once"]), ("fails", ["a", "a", "fails", "once"])):
        a = toy.stage(tmp_path / text, "a")
        b = toy.stage(tmp_path / text, text, run=toy.damage_input_once, left=a)
        store = Store(tmp_path / "store" / text)
        assert (store.make(b) / "a" / "text").read_text() == f"a {text}"
        assert calls(tmp_path / text) == made
        assert (store.path(a) / "length").read_text() == "0"
        assert len(list(store.root.glob("damaged/toy/*"))) == 1


def test_what_was_kept_of_a_damaged_input_is_not_used(tmp_path):
    a = toy.stage(tmp_path / "calls", "a")
    b = toy.stage(tmp_path / "calls", run=toy.crash_once, left=a)
    store = Store(tmp_path / "store")
    for crashes in (True, True, False):  # twice, for the second time the shard is not there
        process = spawn.Process(target=make, args=(store.root, b))
        process.start()
        process.join()
        assert process.exitcode == (-signal.SIGKILL if crashes else 0)
        if crashes and len(calls(tmp_path / "calls")) == 1:
            (store.path(a) / "length").unlink()
    assert calls(tmp_path / "calls") == ["a", "a", "x"]


def test_what_is_always_damaged_is_said(tmp_path):
    b = toy.stage(tmp_path, "b", run=toy.damage_input, left=toy.stage(tmp_path, "a"))
    with pytest.raises(UserError, match=r"damaged 3 times .* have the disk"):
        Store(tmp_path / "store").make(b)


def test_a_source_that_is_another_one_by_now_is_not_used(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a").write_text("one")
    (tmp_path / "images" / "b").write_text("not counted")
    source, store = Source.from_path(tmp_path / "images", ["a"]), Store(tmp_path / "store")
    stage = Stage("toy", 1, toy.nothing, {}, {"images": source})
    (tmp_path / "images" / "b").write_text("another")
    assert store.make(stage)
    store.discard(stage)
    (tmp_path / "images" / "a").write_text("two")
    with pytest.raises(UserError, match="not what it was when the run began"):
        store.make(stage)
    (tmp_path / "images" / "a").unlink()
    with pytest.raises(UserError, match="a cannot be read"):
        store.make(stage)


def test_damage_that_one_process_saw_whole_is_found_by_it(tmp_path):
    a = toy.stage(tmp_path / "calls", "a")
    store = Store(tmp_path / "store")
    path = store.make(a)
    time.sleep(0.2)
    assert store.find(a)
    (path / "length").write_text("1")
    with pytest.raises(UserError, match="length was damaged"):
        store.read(a, "length")
    assert store.find(a) is None
    with pytest.raises(UserError, match=r"manifest\.json was damaged"):
        store.metadata(a)


def test_what_was_set_aside_is_kept_once(tmp_path):
    stage, store = toy.stage(tmp_path / "calls"), Store(tmp_path / "store")
    for text in ("7", "8"):
        (store.make(stage) / "length").write_text(text)
        assert store.find(stage) is None
    (aside,) = store.root.glob("damaged/toy/*")
    assert (aside / "length").read_text() == "8"


def test_two_processes_share_the_work(tmp_path):
    stage = toy.stage(tmp_path / "calls", run=toy.slow)
    both = [spawn.Process(target=make, args=(tmp_path / "store", stage)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert len(calls(tmp_path / "calls")) == 1


def test_a_killed_stage_goes_on_from_its_shards(tmp_path):
    stage = toy.stage(tmp_path / "calls", run=toy.crash_once)
    process = spawn.Process(target=make, args=(tmp_path / "store", stage))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    store = Store(tmp_path / "store")
    assert store.find(stage) is None
    store.remove_leftovers()
    assert not list(store.root.glob("*/.tmp-*"))
    path = store.make(stage)
    assert store.manifest(stage)["facts"]["shard"] == "kept"
    assert not (path / "half").exists()
    assert not list(store.root.glob("*/.*"))


def test_sweeping_leaves_the_living_alone(tmp_path):
    stage = toy.stage(tmp_path / "calls", run=toy.slow)
    store = Store(tmp_path / "store")
    process = spawn.Process(target=make, args=(store.root, stage))
    process.start()
    while not list(store.root.glob("*/.tmp-*")):
        time.sleep(0.01)
    store.remove_leftovers()
    process.join()
    assert process.exitcode == 0
    assert store.find(stage)


def test_a_failed_stage_leaves_nothing(tmp_path):
    store = Store(tmp_path / "store")
    with pytest.raises(ValueError, match="no such luck"):
        store.make(toy.stage(tmp_path, run=toy.fail))
    assert not list(store.root.glob("toy/.tmp-*"))


def test_what_builds_on_an_unscored_stage_is_unscored(tmp_path):
    nothing = toy.stage(tmp_path / "calls", run=toy.unscored)
    user = toy.stage(tmp_path / "calls", "b", left=toy.stage(tmp_path / "calls", "c", x=nothing))
    store = Store(tmp_path / "store")
    store.make(user)
    assert store.manifest(user)["facts"] == {"unscored": "it wrote nothing"}
    assert not (tmp_path / "calls").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_store_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch, number):
    stage = toy.stage(tmp_path / "calls")
    store = Store(tmp_path / "store")

    def no_rename(source, target):
        raise OSError(number, os.strerror(number), str(source))

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", no_rename)
        with pytest.raises(UserError, match=os.strerror(number)):
            store.make(stage)
    assert not list(store.root.glob("toy/.tmp-*"))
    assert store.make(stage)


def test_a_runs_folder_below_a_file_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        Store(tmp_path / "file" / "store")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_runs_folder_is_one_sentence(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(UserError, match="cannot be written"):
        Store(tmp_path)
