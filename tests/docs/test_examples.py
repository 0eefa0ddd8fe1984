"""Run every Python example of README and docs as its page says."""

import importlib
import os
import re
import subprocess
import sys

import pytest
import yaml

from tests.benchmarks import data
from tests.docs.pages import ROOT, blocks, python_examples
from tests.repro import toy

SMALL = [
    *("--set", "sizes.initial_images=4", "--set", "sizes.final_images=4"),
    *("--set", "sizes.final_samples=8", "--jobs", "1"),
    *("--set", "training.joint.epochs=1", "--set", "training.joint.anchor_tokens=8"),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, pocket_runs):
    """The examples share what they make, as their reader's do."""
    return pocket_runs(tmp_path_factory.mktemp("runs"))


EXTENDING = (ROOT / "docs" / "extending.md").read_text()
TASKS = {"realworldqa.py": {"RealWorldQA": "realworldqa"}, "mme.py": {"MME": "mme"}}


@pytest.fixture
def mine(tmp_path, name):
    """A profile with the pocket models and the benchmark of an example: 4 or 12 questions."""
    world = toy.world(tmp_path / "world")
    rows = [
        {"image": data.image(k), "question": f"Is there a ball, number {k}?", "answer": answer}
        for k, answer in enumerate(("yes", "no", "yes", "A"))
    ]
    text = data.TEXT
    features = {"image": data.Image(), "question": text, "answer": text}
    data.write(world / "benchmarks" / "realworldqa", rows, features, "test")
    rows = [
        {"image": data.image(k // 2), "question": f"Is it {k}?", "answer": ("Yes", "No")[k % 2]}
        | {"question_id": f"{k // 2}.png", "category": ("count", "color", "code_reasoning")[k // 4]}
        for k in range(12)
    ]
    features |= {"question_id": text, "category": text}
    data.write(world / "benchmarks" / "mme", rows, features, "test")
    values = yaml.safe_load((ROOT / "repro" / "profiles" / "pocket.yaml").read_text())
    values["data"] = str(world)
    values["scoring"]["tasks"] = TASKS[name]
    for label in ("LLaVA-7B", "LLaVA-13B"):
        place = ROOT / "repro" / "profiles" / values["backbones"][label]
        values["backbones"][label] = str(place.resolve())
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize("name", python_examples())
def test_an_example_runs_as_its_page_says(name, tmp_path, runs, request):
    script, words = python_examples()[name]
    assert len(script.splitlines()) < 40
    if "mine.yaml" in words:
        words[words.index("mine.yaml")] = str(request.getfixturevalue("mine"))
    if "repro" in words:  # a table
        words += ["--runs", str(runs), *SMALL]
    (tmp_path / name).write_text(script)
    words = [str(tmp_path / name) if word == name else word for word in words]
    done = subprocess.run(
        [sys.executable, *words[1:]],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
    assert "unscored" not in done.stdout


def test_whatever_can_be_added_has_an_example():
    page = ROOT / "docs" / "extending.md"
    headings = re.findall(r"^## An? (.*)$", page.read_text(), re.MULTILINE)
    assert headings == [
        *("backbone", "selector", "score form", "reading", "benchmark", "row", "column")
    ]
    assert len(blocks(page, "python")) == 8  # two of benchmarks


def test_the_registries_are_where_the_page_says():
    rows = re.findall(r"^\| [\w, ]+ \| `([\w.]+)` \|.*\| (.*) \|$", EXTENDING, re.MULTILINE)
    assert len(rows) == 6
    for place, group in rows:
        module, _, name = place.rpartition(".")
        registry = getattr(importlib.import_module(module), name)
        assert getattr(registry, "group", None) == (None if group == "–" else group.strip("`"))
