"""Locks on a file system that has none: a sentence wherever one is taken."""

import errno
import fcntl
from pathlib import Path

import pytest
from filelock import FileLock, Timeout
from typer.testing import CliRunner

from c3l.artifacts.shards import in_shards
from c3l.artifacts.store import Job, Stage, Store
from c3l.cli.app import app
from c3l.cli.train import train
from c3l.generate import generate
from c3l.runtime.errors import UserError
from c3l.runtime.locks import exclusive_output, locked
from c3l.samples import Sample, write_samples


@pytest.fixture(params=[errno.ENOLCK, errno.EOPNOTSUPP])
def no_locks(request, monkeypatch):
    def flock(*_):
        raise OSError(request.param, "no locks")

    monkeypatch.setattr(fcntl, "flock", flock)


def make(job: Job) -> dict:
    return {}


def test_no_lock_is_a_sentence_at_every_place(no_locks, tmp_path, tiny_llava, tiny_images):
    (tmp_path / "d.jsonl").touch()
    job = Job(tmp_path, tmp_path, {}, {}, {}, None)
    takers = [
        lambda: Store(tmp_path / "store").make(Stage("nothing", 1, make)),
        lambda: in_shards(job, "some", [1], lambda *_: 1),
        lambda: train(tiny_llava, tmp_path / "d.jsonl", tiny_images, tmp_path / "tuned"),
        lambda: generate(tiny_llava, tiny_images, tmp_path / "made"),
    ]
    for take in takers:
        with pytest.raises(UserError, match=r"lies on a file system without locks \(.*local disk"):
            take()


def test_a_lock_is_one_processes_and_leaves_nothing(tmp_path):
    with exclusive_output(tmp_path / "out"):
        with (
            pytest.raises(UserError, match="another run is at work on"),
            exclusive_output(tmp_path / "out"),
        ):
            pass
        with pytest.raises(Timeout), locked(tmp_path / ".out.lock", timeout=0):
            pass
    assert not list(tmp_path.iterdir())
    with pytest.raises(KeyError), exclusive_output(tmp_path / "out"):
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_locked_for_another_reason_says_so(tmp_path):
    (tmp_path / ".out.lock").mkdir()
    said = r"out cannot be written \(Is a directory\)"
    with pytest.raises(UserError, match=said), exclusive_output(tmp_path / "out"):
        pass


def test_two_scorings_do_not_share_a_file(tmp_path, tiny_llava, tiny_images):
    write_samples(tmp_path / "in.jsonl", [Sample("a", "image-0.png", "What is this?", "A cat.")])
    out = tmp_path / "out.jsonl"
    ask = ["score", tmp_path / "in.jsonl", "--backbone", tiny_llava, "--images", tiny_images]
    run = [*map(str, ask), "--out", str(out)]
    with exclusive_output(out):
        refused = CliRunner().invoke(app, run)
    assert isinstance(refused.exception, UserError)
    assert "another run is at work on" in str(refused.exception)
    assert not out.exists()
    assert CliRunner().invoke(app, run).exit_code == 0
    assert out.exists() and not (tmp_path / ".out.jsonl.lock").exists()


def test_no_result_takes_the_place_of_the_root():
    with pytest.raises(UserError, match="no place for a result"), exclusive_output(Path("/")):
        pass


def test_a_lock_stays_one_holders_when_lmms_eval_is_at_work(tmp_path):
    """lmms-eval makes filelock's own locks those of a whole process."""
    evaluator = pytest.importorskip("lmms_eval.evaluator")
    before = type(FileLock).__call__
    try:
        evaluator._enable_reentrant_filelocks()
        with FileLock(tmp_path / "theirs"), FileLock(tmp_path / "theirs", timeout=0):
            pass  # what it does
        with (
            exclusive_output(tmp_path / "out"),
            pytest.raises(UserError, match="another run is at work"),
            exclusive_output(tmp_path / "out"),
        ):
            pass
    finally:
        type(FileLock).__call__ = before
        evaluator._enable_reentrant_filelocks._patched = False
