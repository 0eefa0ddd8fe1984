"""No command is forgotten, the page is that of the list, and what goes wrong is noticed."""

import subprocess
import sys

import pytest
import typer

import c3l.cli.app
import repro.cli
from tests.repro.toy import ROOT
from tests.test_docs import wrong_in
from tests.tried import page
from tests.tried.shell import Outcome, Shell
from tests.tried.trials import SECTIONS, Trial

TRIALS = [trial for section in SECTIONS for trial in section.trials]
APPS = {"c3l": c3l.cli.app.app, "repro": repro.cli.app}


def leaves(command, words: str) -> list[str]:
    """The words that call each command that does something."""
    found = getattr(command, "commands", None)
    if found is None:
        return [words]
    return [leaf for name, one in found.items() for leaf in leaves(one, f"{words} {name}")]


EVERY = [
    leaf
    for package, app in APPS.items()
    for leaf in leaves(typer.main.get_command(app), f"python -m {package}")
]


@pytest.mark.parametrize("command", [*EVERY, "lmms-eval --model c3l"])
def test_every_command_is_tried_and_stands_on_the_page(command):
    found = [t.line for t in TRIALS if f"{t.line} ".startswith(f"{command} ")]
    right = [t.line for t in TRIALS if t.line in found and t.code == 0]
    # COCO is 13 GB: there is only a mistake to show.
    assert right or (found and command == "python -m repro data")
    text = (ROOT / "docs" / "records" / "commands.md").read_text()
    assert all(f"\n$ {line}\n" in text for line in found)


@pytest.mark.parametrize(
    "line",
    [
        t.line
        for t in TRIALS
        if t.code == 0 and t.line.startswith(("python -m repro", "python -m c3l"))
    ],
)
def test_a_command_and_its_options_exist(line):
    assert wrong_in(line.replace("$SMALL", "")) is None


@pytest.fixture
def shell(tmp_path):
    repository = tmp_path / "repository"
    for command in ("init -q", "commit -q --allow-empty -m first"):
        git = ["git", "-c", "user.name=me", "-c", "user.email=me@example.org"]
        repository.mkdir(exist_ok=True)
        subprocess.run([*git, "-C", repository, *command.split()], check=True)
    return Shell.in_clone_of(repository, tmp_path)


def test_what_is_printed_is_kept_as_a_reader_would_have_it(shell):
    line = (
        "echo $SMALL | cut -c1-6; pwd; echo ~; printf '\\033[1mbold\\033[0m 10%%\\r100%%\\n' >&2;"
        " sleep 0.2; echo '| row | 12.3 [1, 2] |'"
    )
    done = shell.type(Trial(line, "", number=True))
    assert done.out == "--runs\n/home/you/c3l\n/home/you\n| row | 12.3 [1, 2] |\n"
    assert done.err == "100%\n"
    assert 0.2 <= done.number <= done.seconds


def test_tables_with_paths_stay_straight(shell):
    shown = shell.readable(f"| a | at {shell.clone} |\n| b | {shell.home}/x  |\nin {shell.clone}\n")
    first, second, third = shown.splitlines()
    assert first.startswith("| a | at /home/you/c3l ") and third == "in /home/you/c3l"
    assert second.startswith("| b | /home/you/x ")
    assert len(first) - len(f"| a | at {shell.clone} |") == 0
    assert str(shell.folder) not in shown


def test_nothing_of_this_machines_settings_is_there(shell, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PIP_CERT", "mine")
    shell = Shell(shell.folder)
    assert "PYTHONPATH" not in shell.env and "HF_HUB_OFFLINE" not in shell.env
    assert shell.env["PIP_CERT"] == "mine"


@pytest.mark.parametrize(
    ("line", "trial", "well"),
    [
        ("exit 2", {"code": 2}, True),
        ("exit 2", {}, False),
        ("exit 0", {"code": 2}, False),
        ("echo Traceback >&2; exit 2", {"code": 2}, False),
        ("echo '| row | unscored |'", {"number": True}, False),
        ("echo '| row | 1 |'", {"number": True}, True),
    ],
)
def test_another_end_than_expected_is_noticed(shell, line, trial, well):
    trial = Trial(line, "", **trial)
    assert shell.type(trial).well(trial) is well


def test_a_long_output_is_cut_in_the_middle_and_says_so():
    assert page.cut("", (3, 1)) == []
    assert page.cut("a\nb\n", (3, 1)) == ["a", "b"]
    lines = page.cut("\n".join(map(str, range(100))), (3, 1))
    assert lines == ["0", "1", "2", "[… 96 lines left out …]", "99"]
    assert page.cut(f"{'x' * 50} yes\n12345", (3, 1), 50) == ["x" * 50 + " …", "12345"]


def test_a_mistake_is_shown_whole_and_times_only_where_they_are_long():
    outcome = Outcome(2, 3.0, 2.5, None, "", "wrong " * 40, "commit")
    shown = page.one(Trial("c3l", "A mistake.", code=2), outcome, (3, 1))
    assert shown == f"A mistake. (exit code 2)\n\n```text\n$ c3l\n{('wrong ' * 40).strip()}\n```\n"
    outcome = Outcome(0, 12.3, 20.0, None, "long " * 40, "", "commit")
    shown = page.one(Trial("c3l", "Well.", code=0), outcome, (3, 1))
    assert "Well. (12 s, 20 s of CPU time)\n" in shown and "long …\n```" in shown


def test_it_needs_nothing_but_python():
    code = "import tests.tried.__main__, sys; print('torch' in sys.modules, 'typer' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout == "False False\n"
