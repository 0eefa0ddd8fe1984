"""What is added from outside: by entry points of installed packages and by plugin files."""

import os
import subprocess
import sys

import pytest

from c3l.runtime import plugins
from c3l.runtime.errors import UserError
from c3l.runtime.plugins import Registry
from tests.repro.toy import ROOT


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch):
    monkeypatch.setenv(plugins.VARIABLE, "")
    monkeypatch.setattr(plugins, "_started", set())


def package(folder, group: str, name: str, text: str):
    """An installed package with one entry point, which names `entry` of a module of that text."""
    (folder / f"{name}_package.py").write_text(text)
    about = folder / f"{name}_package-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-package\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{group}]\n{name} = {name}_package:entry\n")


def test_an_entry_point_is_loaded_when_its_registry_is_first_read(tmp_path, monkeypatch):
    package(tmp_path, "c3l.things", "cup", "print('read')\nentry = 'a cup'\n")
    monkeypatch.syspath_prepend(tmp_path)
    things = Registry("c3l.things", {"ball": "a ball"})
    things["bowl"] = "a bowl"
    assert "cup_package" not in sys.modules
    assert dict(things) == {"ball": "a ball", "bowl": "a bowl", "cup": "a cup"}
    assert dict(Registry("c3l.others", {})) == {}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("broken", "1 / 0", "cannot be loaded: ZeroDivisionError: division by zero."),
        ("empty", "", "cannot be loaded: AttributeError"),
        ("ball", "entry = 1", "has the name of another one"),
    ],
)
def test_a_broken_entry_point_is_one_sentence_each_time(tmp_path, monkeypatch, name, text, words):
    package(tmp_path, "c3l.things", name, text)
    monkeypatch.syspath_prepend(tmp_path)
    things = Registry("c3l.things", {"ball": "a ball"})
    for _ in range(2):
        with pytest.raises(UserError) as raised:
            things["ball"]
        assert f"The plugin {name} of the package {name}-package (c3l.things)" in str(raised.value)
        assert words in str(raised.value) and "\n" not in str(raised.value)


def test_a_file_is_run_once_and_handed_to_other_processes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "from pathlib import Path\nPath('runs').open('a').write('x')\n"
    )
    plugins.request_files(["score", "--plugin", "mine.py", "--plugin=./mine.py"])
    plugins.run_files()
    assert dict(Registry("c3l.none", {})) == {}
    assert (tmp_path / "runs").read_text() == "x"
    assert os.environ[plugins.VARIABLE] == str(tmp_path / "mine.py")
    code = "from c3l.runtime.plugins import Registry; len(Registry('c3l.none', {}))"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
    assert (tmp_path / "runs").read_text() == "xx"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import nothing_of_that_name", "cannot be run: ModuleNotFoundError: No module named"),
        ("def (", "cannot be run: SyntaxError"),
        ("raise SystemExit(0)", "cannot be run: SystemExit"),
        ("raise ValueError('a\\nb')", "cannot be run: ValueError: a."),
        (None, "is no Python file"),
    ],
)
@pytest.mark.parametrize("module", ["c3l", "repro"])
def test_a_broken_file_is_one_sentence_and_exit_2(tmp_path, text, words, module):
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    command = [sys.executable, "-m", module, "--help", "--plugin", str(tmp_path / "mine.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"The plugin {tmp_path / 'mine.py'} {words}")
    assert done.stderr.count("\n") == 1


def test_a_module_is_named_alike_in_every_process(tmp_path):
    one, other = tmp_path / "a" / "mine.py", tmp_path / "b" / "mine.py"
    assert plugins.module_name(one) == plugins.module_name(one) != plugins.module_name(other)
