"""A plugin file adds a selector and a table, as seen by the command line and by workers."""

import os
import sys
from importlib.util import find_spec

import pytest

from c3l.artifacts.store import Store
from c3l.runtime import plugins
from tests.faults import world
from tests.repro import toy
from tests.repro.run.test_runner import run

PLUGIN = """
from dataclasses import replace

from c3l.artifacts.store import Job, Stage
from c3l.selection import SELECTORS
from repro.rows import C3L, TABLES, Table


def longest(samples, scores):
    return [float(len(sample.answer.split())) for sample in samples]


def write(job: Job) -> dict:
    from c3l.selection import SELECTORS

    (job.out / "text").write_text(SELECTORS["longest"].__module__)
    return {}


SELECTORS["longest"] = longest
row = replace(C3L, label="longest answers", selection="longest", base=C3L.label)
TABLES["longest"] = Table("The longest answers, against I2C", (C3L, row), ("SEED",))
stage = Stage("written", 1, write, {}, {})
"""


@pytest.fixture
def plugin(tmp_path):
    file = tmp_path / "longest.py"
    file.write_text(PLUGIN)
    return file


def test_a_table_of_a_plugin_is_a_command(plugin, tmp_path):
    done = toy.repro("--help", "--plugin", plugin)
    assert "The longest answers, against I2C" in done.stdout, done.stderr
    options = ["--profile", world.profile(tmp_path), "--runs", tmp_path / "runs"]
    planned = toy.repro("plan", "longest", "--plugin", plugin, *options)
    assert planned.returncode == 0, planned.stderr
    assert "| selection  |        6 |" in planned.stdout  # by the plugin's as well, of three seeds


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_stage_of_a_plugin_is_made_by_a_worker(plugin, tmp_path, monkeypatch, engine):
    # Not by importing it: what the engine tells Ray counts from its first import on.
    if engine == "ray" and find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    monkeypatch.setenv(plugins.VARIABLE, "")
    plugins.request_files(["--plugin", str(plugin)])
    from c3l.selection import SELECTORS
    from repro.rows import TABLES

    monkeypatch.delitem(SELECTORS, "longest")
    monkeypatch.delitem(TABLES, "longest")
    stage = sys.modules[plugins.module_name(plugin)].stage
    store = Store(tmp_path / "store")
    assert run([stage], store, tmp_path, engine=engine) == 1
    assert store.read(stage, "text").decode() == plugins.module_name(plugin)
    assert os.environ[plugins.VARIABLE] == str(plugin)
