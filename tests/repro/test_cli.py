"""The command line: one sentence and exit 2 for bad input, and quick help."""

import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from repro import profile as profiles
from repro.cli import app
from repro.options import changes_of
from repro.rows import ALL, TABLES
from tests.repro import toy
from tests.repro.toy import ROOT, repro


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
        (["compare", "table6"], "claims nothing to check about 'table6'"),
        (["compare", "table4", "--runs", "nowhere"], "run `python -m repro table4`"),
        (["report", "--runs", "nowhere"], "run `python -m repro all`"),
        (["table1", "--judge", "gpt-4"], "--judge: it is no address of a judge"),
        (["plan", "table1", "--judge", "http://me:sk-1@host/v1"], "--judge: it is no address"),
        (["doctor", "--judge", "https://host/v1?key=sk-1"], "--judge: it is no address"),
        (["all", "--judge-model", "x", "--judge", "host/v1"], "--judge: it is no address"),
        (["plan", "table4", "--device", "tpu"], "no device tpu: give cpu, cuda"),
        (["report", "--seeds", "0"], "Invalid value for '--seeds'"),
        ([], "Missing command"),
    ],
)
def test_bad_usage_is_one_sentence_and_exit_2(arguments, words):
    done = repro(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "sk-1" not in done.stderr


@pytest.mark.parametrize("set_", [[], ["scoring.judge=null"], ["scoring.judge=https://other/v1"]])
def test_the_judges_options_stand_for_settings_and_win(set_):
    changes = changes_of(set_, "https://host/v1", "null")
    scoring = profiles.load("pocket", changes).scoring
    assert (scoring.judge, scoring.judge_model) == ("https://host/v1", "null")
    assert (
        scoring
        == profiles.load(
            "pocket", ["scoring.judge=https://host/v1", 'scoring.judge_model="null"']
        ).scoring
    )
    assert changes_of(set_, None, None) == set_


def test_help_imports_nothing_heavy():
    code = "import repro.cli, sys; print(sorted({'torch', 'pandas', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
    assert repro("--help").returncode == 0


def test_every_table_has_its_command():
    said = repro("--help").stdout
    for name in TABLES:
        title = f"{name[:-1].capitalize()} {name[-1]}:"
        assert title in said
        assert title in repro(name, "--help").stdout


def test_all_is_every_table_and_what_they_share_is_counted_once(tmp_path, tiny_llava):
    path = toy.profile(tmp_path, tiny_llava)

    def planned(table: str) -> int:
        command = ["plan", table, "--profile", str(path), "--runs", str(tmp_path / "runs")]
        done = CliRunner().invoke(app, [*command, "--seeds", "1"])  # one process for all
        assert done.exit_code == 0, done.output
        return int(re.search(r"(\d+) of \1 stages would run", done.output)[1])

    each = [planned(name) for name in ALL]
    assert max(each) < planned("all") < sum(each)


def test_a_missing_backbone_is_one_sentence(tmp_path):
    path = toy.profile(tmp_path, tmp_path / "nowhere")
    done = repro("plan", "table4", "--profile", path, "--runs", tmp_path / "runs")
    assert done.returncode == 2
    assert f"no backbone at {tmp_path / 'nowhere'}" in done.stderr


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


@pytest.mark.parametrize(
    ("file", "code"),
    [("benchmarks/__init__.py", 2), ("benchmarks.py", 2), ("c3l.py", 2), ("benchmarks/data", 0)],
)
def test_a_directory_that_hides_our_packages_is_one_sentence(tmp_path, file, code):
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.touch()
    done = subprocess.run(
        [sys.executable, "-m", "repro", "plan", "--help"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == code, done.stderr
    hint = f"{path} hides this project's own package of that name: run c3l-repro instead"
    assert done.stderr.startswith(hint if code else "")
    assert len(done.stderr.splitlines()) == (1 if code else 0)
