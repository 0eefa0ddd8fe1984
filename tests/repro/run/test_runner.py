"""The runner: each stage once, failures and interruptions leave no worker behind."""

import multiprocessing
from pathlib import Path

import pytest

from c3l.artifacts import shards
from c3l.artifacts.graph import not_in_store
from c3l.artifacts.store import Job, Store
from c3l.runtime.errors import UserError
from repro.profile import Expected
from repro.run import runner
from repro.run.progress import Times
from tests.c3l import store_stages as toy


def give_up(job: Job) -> dict:
    raise UserError("the weights are of another world")


def run(targets, store, tmp_path, jobs=2, engine="local") -> int:
    """Run what is missing; how many stages that were."""
    todo, log = not_in_store(targets, store), tmp_path / "workers.log"
    runner.run_missing(targets, todo, store, jobs, log, Expected(), engine=engine)
    return len(todo)


def test_shared_stages_run_once_and_stored_ones_not_at_all(tmp_path):
    calls, store = tmp_path / "calls", Store(tmp_path / "store")
    base = toy.stage(calls, "base")
    targets = [toy.stage(calls, f"row {k}", x=toy.stage(calls, "base")) for k in range(3)]
    assert run(targets, store, tmp_path) == 4
    assert len(list(calls.glob("base-*"))) == 1
    assert (store.path(targets[0]) / "a" / "text").read_text() == "base row 0"
    assert run(targets, Store(store.root), tmp_path) == 0
    # What nobody reads any more need not be there; what is there has to be whole.
    (store.path(base) / "length").unlink()
    assert not_in_store(targets, Store(store.root)).keys() == {base.key}
    assert not store.path(base).exists()
    assert not_in_store(targets, Store(store.root)) == {}


def judged(job: Job) -> dict:
    """A judge that fails unless the folder of calls holds the file "up"."""
    facts = toy.write_text(job)
    up = (Path(job.config["calls"]) / "up").exists()
    return facts | ({"transient": False} if up else {"unscored": "it is down", "transient": True})


def test_a_judge_that_failed_is_asked_again_by_the_next_run(tmp_path):
    calls, store = tmp_path / "calls", Store(tmp_path / "store")
    targets = [toy.stage(calls, "judged", run=judged), toy.stage(calls, "other")]
    for up, left in ((False, 2), (False, 1), (True, 1), (True, 0)):
        if up:
            (calls / "up").touch()
        runner.discard_transient(targets, store)
        assert run(targets, store, tmp_path, jobs=1) == left
        assert store.manifest(targets[0])["facts"]["transient"] is not up
    assert not list(store.root.glob("*/.tmp-*"))


def test_a_users_error_in_a_worker_ends_the_run(tmp_path):
    store = Store(tmp_path / "store")
    bad = toy.stage(tmp_path / "calls", "bad", run=give_up)
    with pytest.raises(UserError, match="of another world"):
        run([bad, toy.stage(tmp_path / "calls", "slow", run=toy.slow)], store, tmp_path)
    assert not multiprocessing.active_children()
    assert not list(store.root.glob("*/.tmp-*"))


def test_a_killed_worker_is_said_in_one_sentence(tmp_path):
    store = Store(tmp_path / "store")
    with pytest.raises(UserError, match="killed, perhaps for lack of memory"):
        run([toy.stage(tmp_path / "calls", run=toy.crash_once)], store, tmp_path)
    assert run([toy.stage(tmp_path / "calls", run=toy.crash_once)], store, tmp_path) == 1


def made_by(calls: Path) -> dict[int, list[str]]:
    """Who made each shard: process ids."""
    found: dict[int, list[str]] = {}
    for call in calls.glob("*-*-*"):
        number, process, _ = call.name.split("-")
        found.setdefault(int(number), []).append(process)
    return found


def test_a_worker_without_a_stage_helps_with_shards(tmp_path):
    """And what it makes counts as time of the stage."""
    store = Store(tmp_path / "store")
    stage = toy.stage(tmp_path / "calls", run=toy.in_shards_of_one)
    assert run([stage], store, tmp_path) == 1
    assert store.read(stage, "squares").decode() == str([k**2 for k in range(8)])
    processes = made_by(tmp_path / "calls")
    assert [len(processes[k]) for k in range(8)] == [1] * 8
    assert len({process for (process,) in processes.values()}) == 2
    assert store.manifest(stage)["seconds"] > 8 * 0.3
    assert not list(store.root.glob("*/.*"))


def test_help_for_what_is_not_at_work_does_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 1)  # which the stage sets in this process
    store = Store(tmp_path / "store")
    stage = toy.stage(tmp_path / "calls", run=toy.in_shards_of_one)
    store.build_shards(stage)
    store.make(stage)
    store.build_shards(stage)
    assert [len(calls) for calls in made_by(tmp_path / "calls").values()] == [1] * 8
    assert [path.name for path in (store.root / "toy").iterdir()] == [stage.key]


def test_the_longest_chain_goes_first(tmp_path):
    store = Store(tmp_path / "store")
    short = toy.stage(tmp_path, "short")
    long = toy.stage(tmp_path, "end", x=toy.stage(tmp_path, "middle", x=toy.stage(tmp_path, "a")))
    todo = not_in_store([short, long], store)
    chains = runner.chains(todo, Times(Expected(seconds={"toy": 2.0}), [], store))
    assert [chains[stage.key] for stage in todo.values()] == [2.0, 6.0, 4.0, 2.0]
