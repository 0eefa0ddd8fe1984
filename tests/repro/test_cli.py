"""The command line: one sentence and exit 2 for bad input, quick help, and a run of table 4."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.repro import toy

ROOT = Path(__file__).parent.parent.parent


def repro(*arguments: str, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "repro", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        **kwargs,
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["table9"], "No such command 'table9'"),
        (["plan", "table9"], "no table 'table9'"),
        (["table4", "--profile", "nope"], "no profile 'nope'"),
        (["table4", "--colour", "red"], "No such option: --colour"),
        (["table4", "--seeds", "0"], "Invalid value for '--seeds'"),
        (["table4", "--set", "sizes.images=3"], "sizes has no key 'images'"),
        (["table4", "--runs", __file__], "cannot be written"),
        ([], "Missing command"),
    ],
)
def test_bad_usage_is_one_sentence_and_exit_2(arguments, words):
    done = repro(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_help_imports_nothing_heavy():
    code = "import repro.cli, sys; print(sorted({'torch', 'pandas', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
    assert repro("--help").returncode == 0


def test_a_missing_backbone_is_one_sentence(tmp_path):
    path = toy.profile(tmp_path, tmp_path / "nowhere")
    done = repro("plan", "table4", "--profile", path, "--runs", tmp_path / "runs")
    assert done.returncode == 2
    assert f"no backbone in {tmp_path / 'nowhere'}" in done.stderr


def test_a_damaged_backbone_is_one_sentence(tmp_path, tiny_llava):
    broken = tmp_path / "llava"
    broken.mkdir()
    for file in tiny_llava.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    path = toy.profile(tmp_path, broken)
    done = repro("table4", "--profile", path, "--runs", tmp_path / "runs", "--seeds", 1)
    assert done.returncode == 2
    assert str(broken) in done.stderr.splitlines()[-1]
    assert not list((tmp_path / "runs").rglob(".tmp-*"))
    assert not list((tmp_path / "runs" / "toy").glob("table4*"))


def test_table_4_from_end_to_end(toy_profile, tmp_path):
    """A killed run, its resumption, and a run from the store: the same table."""
    runs = tmp_path / "runs"
    options = ["table4", "--profile", toy_profile, "--runs", runs, "--seeds", 1, "--jobs", 2]
    command = [sys.executable, "-m", "repro", *map(str, options)]
    killed = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not list((runs / "store").glob("vlit/.tmp-*")):
        assert killed.poll() is None, killed.stderr.read()
        time.sleep(0.1)
    killed.send_signal(signal.SIGTERM)
    said = killed.communicate(timeout=30)[1]
    assert killed.returncode == 130
    assert "run the same command again" in said
    made = {path: path.stat().st_ino for path in (runs / "store").glob("*/*/manifest.json")}
    assert made

    first = repro(*options)
    assert first.returncode == 0, first.stderr
    assert all(path.stat().st_ino == inode for path, inode in made.items())
    assert not list(runs.rglob(".tmp-*")) and not list(runs.rglob(".partial-*"))
    table = toy.table(runs)
    for row in table["rows"]:
        for cell in row["cells"].values():
            assert cell["unscored"] is None
            low, high = cell["interval"]
            assert 0 <= low <= cell["value"] <= high <= 100
            assert [len(some) for some in cell["extra"]["values"]] == [2]
    assert [row["cells"]["POPE"]["paper"] for row in table["rows"]] == [73.2, 74.4, 75.1, 76.0]
    files = {path.name: path.read_bytes() for path in (runs / "toy").glob("table4.*")}
    assert files.keys() == {"table4.md", "table4.csv", "table4.json"}
    assert first.stdout.strip() == files["table4.md"].decode().strip()

    for module in ("torch", "lmms_eval"):  # a stored table must not need them: they take seconds
        (tmp_path / f"{module}.py").write_text("raise ImportError('not needed')")
    second = repro(*options, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert second.returncode == 0, second.stderr
    assert second.stdout == first.stdout
    assert {path.name: path.read_bytes() for path in (runs / "toy").glob("table4.*")} == files
