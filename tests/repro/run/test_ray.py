"""`--engine ray`, on one machine with two workers."""

import os
import signal
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from c3l.artifacts.store import Store
from c3l.runtime.errors import UserError
from tests.c3l import store_stages as stages
from tests.faults import world
from tests.faults.running import Running, contents, leftovers, made, what_lasts
from tests.repro import toy
from tests.repro.run.test_runner import made_by, run

# Not by importing it: what the engine tells Ray counts from its first import on.
pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")


def test_a_worker_killed_in_the_middle_costs_only_its_shard(tmp_path, capfd, caplog):
    """Whether it made the stage or helped with it. Other shards and stages are made once. Then an
    error of the user's: one sentence, with what was warned of before."""
    store, calls = Store(tmp_path / "store"), tmp_path / "calls"
    crashed = stages.stage(tmp_path / "beside", "crashed", run=stages.crash_once)
    killed = stages.stage(calls, "3", run=stages.in_shards_of_one, x=crashed)
    wrong = stages.stage(calls, run=stages.warn_and_give_up, x=killed)
    with pytest.raises(UserError, match=r"^the weights are of another world$"):
        run([wrong], store, tmp_path, engine="ray")
    assert store.metadata(crashed)["shard"] == "kept"
    assert len(list((tmp_path / "beside").iterdir())) == 1
    assert store.read(killed, "squares").decode() == str([k**2 for k in range(8)])
    processes = made_by(calls)
    assert [len(processes[k]) for k in range(8)] == [1, 1, 1, 2, 1, 1, 1, 1]
    assert len({process for some in processes.values() for process in some}) >= 2
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.count("A worker was lost (The worker died unexpectedly") == 2
    assert len(said.err.splitlines()) == 3
    assert caplog.messages == ["the weights look odd"]
    assert not list((store.root / "locks").glob("ray-*"))
    assert not list(store.root.glob("*/.tmp-*"))


@pytest.fixture(scope="module")
def shards_of_one(tmp_path_factory):
    """An environment in which each image is a shard."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(
        "import c3l.artifacts.shards\nc3l.artifacts.shards.SHARD = 1\n"
    )
    return os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{toy.ROOT}"}


def test_same_tables_byte_for_byte(tmp_path, shards_of_one):
    """As the local engine's, by a run that was stopped, went on, and lost a worker."""
    profile = world.profile(tmp_path)
    local, runs = tmp_path / "local", tmp_path / "ray"
    one = ["--set", "scoring.tasks={SEED: seedbench_ppl}"]
    done = toy.repro(*world.options(profile, local), *one, env=shards_of_one)
    assert done.returncode == 0, done.stderr
    command = [*world.options(profile, runs), *one, "--engine", "ray"]
    with Running(command, tmp_path / "stopped", shards_of_one) as stopped:
        wait_for(lambda: list(runs.glob("store/captions/.tmp-*")), stopped)
        started = time.monotonic()
        stopped.process.send_signal(signal.SIGTERM)
        assert stopped.process.wait(timeout=60) == 130, stopped.said.read_text()
        assert time.monotonic() - started < 5
        assert stopped.all_dead(seconds=10)
    with Running(command, tmp_path / "killed", shards_of_one) as killed:
        wait_for(lambda: list(runs.glob("store/vlit/.tmp-*")), killed)
        before = made(runs)
        os.kill(busiest(killed), signal.SIGKILL)
        assert killed.process.wait(timeout=600) == 0, killed.said.read_text()
        assert killed.all_dead(seconds=10)
    assert "A worker was lost" in killed.said.read_text()
    assert before
    assert before.items() <= made(runs).items()
    assert not leftovers(runs)
    assert contents(runs) == contents(local)
    assert what_lasts(runs) == what_lasts(local)


def wait_for(condition, running: Running) -> None:
    while not condition():
        assert running.process.poll() is None, running.said.read_text()
        time.sleep(0.02)


def busiest(running: Running) -> int:
    """The worker that has taken most time."""
    workers = [
        process
        for process in map(psutil.Process, running.alive())
        if process.cmdline()[:1] == ["ray::_do"]
    ]
    return max(workers, key=lambda process: sum(process.cpu_times()[:2])).pid


def test_without_ray_it_is_said_how_to_get_it(tmp_path):
    (tmp_path / "ray.py").write_text("raise ImportError('not here')")
    env = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{toy.ROOT}"}
    done = toy.repro("table4", "--engine", "ray", "--runs", tmp_path / "runs", env=env)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install 'c3l[ray]'" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_machine_that_does_not_see_the_runs_folder_says_so(tmp_path):
    from repro.run.ray_engine import _do

    error, _ = _do("make", None, tmp_path, Path(tmp_path / "no mark"), {}, tmp_path / "log")
    assert isinstance(error, UserError)
    assert f"does not see the runs folder {tmp_path}" in str(error)


@pytest.mark.parametrize(
    ("address", "words"),
    [("127.0.0.1:1", "No Ray answers at 127.0.0.1:1"), ("ray://head:10001", "give HOST:PORT")],
)
def test_a_cluster_that_is_not_there_is_one_sentence(tmp_path, address, words):
    env = os.environ | {"RAY_ADDRESS": address}
    done = toy.repro("table4", "--engine", "ray", "--runs", tmp_path / "runs", env=env)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
