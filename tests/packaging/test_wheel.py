"""The wheel, installed outside the checkout, in a folder that has a `benchmarks` of its own."""

import configparser
import importlib.util
import os
import stat
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from c3l.runtime.extras import EXTRAS
from tests.c3l.pocket import BACKBONE, CHANGES, pictures
from tests.faults import world
from tests.repro.toy import ROOT

# Where tox has just installed what the tests need, a missing builder is a fault, and shows.
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("hatchling") is None and "TOX_ENV_NAME" not in os.environ,
    reason="hatchling is not installed; run `pip install -e '.[test]'` again",
)
OPTIONAL = ("lmms_eval", "loguru", "openai", "tenacity", "bitsandbytes", "matplotlib")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (file,) = folder.glob("*.whl")
    return file


class Installed:
    """Links to the packages of this environment, with the wheel in place of the checkout."""

    def __init__(self, folder: Path, wheel: Path, without: tuple[str, ...] = ()):
        venv.create(folder / "venv", symlinks=True)
        self.bin = folder / "venv" / "bin"
        (site,) = (folder / "venv").glob("lib/python*/site-packages")
        left_out = {name.casefold() for name in without}
        for package in (Path(path) for path in sys.path if path.endswith("site-packages")):
            for part in package.iterdir():
                name = part.name.partition("-")[0].partition(".")[0].casefold()
                ours = name in ("c3l", "_c3l") or "editable" in name
                link = site / part.name
                if not (ours or name in left_out or part.suffix == ".pth" or link.exists()):
                    link.symlink_to(part)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
        entries = configparser.ConfigParser()
        entries.read_string(next(site.glob("c3l-*.dist-info/entry_points.txt")).read_text())
        for name, target in entries["console_scripts"].items():
            self._write_script(name, *target.split(":"))
        # A user's own folder: nothing of ours may take its packages for ours.
        self.folder = folder / "work"
        for name in ("benchmarks", "tables"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "benchmarks" / "__init__.py").write_text("raise SystemExit('not ours')\n")

    def _write_script(self, name: str, module: str, function: str) -> None:
        script = self.bin / name
        script.write_text(
            f"#!{self.bin / 'python'}\nimport sys\nfrom {module} import {function}\n"
            f"if __name__ == '__main__':\n    sys.exit({function}())\n"
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)

    def run(self, program: str, *arguments) -> subprocess.CompletedProcess:
        """Run a program of the environment in the user's folder."""
        hidden = ("PYTHONPATH", "COVERAGE_PROCESS_START")
        env = {name: value for name, value in os.environ.items() if name not in hidden}
        command = [self.bin / program, *map(str, arguments)]
        return subprocess.run(
            command, cwd=self.folder, env=env, capture_output=True, text=True, check=False
        )


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """With all extras."""
    return Installed(tmp_path_factory.mktemp("installed"), wheel)


@pytest.fixture(scope="module")
def without_extras(wheel, tmp_path_factory):
    """Without the packages that no other dependency brings along."""
    return Installed(tmp_path_factory.mktemp("without"), wheel, OPTIONAL)


def test_the_wheel_holds_three_packages_and_their_data(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    top = {name.partition("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {
        "c3l",
        "repro",
        "benchmarks",
    }
    for package in ("c3l", "repro", "benchmarks"):
        files = {
            file.relative_to(ROOT).as_posix()
            for file in (ROOT / package).rglob("*")
            if file.is_file() and "__pycache__" not in file.parts
        }
        assert files <= names, sorted(files - names)[:5]
        assert f"{package}/py.typed" in names
    assert {"repro/tables/paper.yaml", "repro/tables/claims.yaml"} <= names


def test_the_driver_plans_a_table(installed, tmp_path):
    options = ["--profile", world.profile(tmp_path), "--runs", tmp_path / "runs", "--seeds", 1]
    planned = installed.run("c3l-repro", "plan", "table4", *options)
    assert planned.returncode == 0, planned.stderr
    assert "would run" in planned.stdout
    hidden = installed.run("python", "-m", "repro", "plan", "table4", *options)
    assert (hidden.returncode, hidden.stdout) == (2, "")
    assert hidden.stderr.count("\n") == 1 and "run c3l-repro instead" in hidden.stderr


def test_lmms_eval_finds_the_model_and_pandas_finds_pytables(installed):
    code = (
        "from lmms_eval.models import get_model\n"
        "print(get_model('c3l').__module__)\n"
        "import c3l, repro.paper\n"
        "print(c3l.__file__, len(repro.paper.load()))\n"
    )
    (installed.folder / "look.py").write_text(code)
    done = installed.run("python", "look.py")
    assert done.returncode == 0, done.stderr
    module, ours = done.stdout.splitlines()[-2:]
    assert module == "c3l.lmms"
    assert ours.startswith(str(installed.bin.parent)) and int(ours.split()[-1]) > 5
    if importlib.util.find_spec("tables") is None:
        pytest.skip("PyTables is not installed")
    code = (
        "import pandas as pd\n"
        "pd.DataFrame({'a': [1, 2]}).to_hdf('frame.h5', key='frame')\n"
        "print(pd.read_hdf('frame.h5')['a'].sum())\n"
    )
    (installed.folder / "tables").rmdir()
    (installed.folder / "look.py").write_text(code)
    done = installed.run("python", "look.py")
    assert done.stdout == "3\n", done.stderr


def test_the_method_needs_no_extra(without_extras, tmp_path):
    run, images = without_extras.run, pictures(tmp_path / "images", 2)
    data = ["--backbone", BACKBONE, "--images", images]
    small = [part for change in CHANGES for part in ("--set", change)]
    done = run("c3l", "generate", *data, "--out", "out", "--n", 2, "--no-train", *small)
    assert done.returncode == 0, done.stderr
    done = run("c3l", "score", "out/data.jsonl", *data, "--out", "scored.jsonl")
    assert done.returncode == 0, done.stderr
    done = run("c3l", "train", "--data", "scored.jsonl", *data, "--out", "tuned", *small)
    assert done.returncode == 0, done.stderr
    tuning = ["--data", "scored.jsonl", "--set", "tuning=qlora"]
    done = run("c3l", "train", *tuning, *data, "--out", "four-bit")
    assert done.returncode == 2
    assert "tuning qlora needs bitsandbytes: pip install 'c3l[quant]'" in done.stderr


def test_a_command_says_which_extra_it_needs(without_extras, tmp_path):
    assert set(OPTIONAL) <= EXTRAS.keys()
    options = ["--profile", world.profile(tmp_path), "--runs", tmp_path / "runs"]
    for command, words in (
        ("table4", "A benchmark needs lmms-eval: pip install 'c3l[eval]'"),
        ("report", "The report needs matplotlib: pip install 'c3l[report]'"),
    ):
        done = without_extras.run("c3l-repro", command, *options)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.splitlines()[-1] == words
