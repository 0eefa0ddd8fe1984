"""Run docs/python.md as it stands."""

import os
import re

import c3l
from c3l.backbones import load_backbone
from tests.c3l.pocket import BACKBONE, pictures
from tests.c3l.training import moved, weights
from tests.repro.toy import ROOT


def test_the_documented_lines_run(tmp_path, monkeypatch):
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    code = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(code) == 2
    pictures(tmp_path / "images", 3)
    os.symlink(ROOT / "benchmarks", tmp_path / "benchmarks")
    monkeypatch.chdir(tmp_path)
    exec(compile("".join(code), "docs/python.md", "exec"), {})
    samples = c3l.read_samples("data.jsonl")
    assert samples and all(isinstance(sample.meta["i2c"], float) for sample in samples)
    assert {sample.image for sample in samples} <= {*c3l.ImageFolder("images").names()}
    assert moved(weights(load_backbone(BACKBONE)), weights(load_backbone("generator")))


def test_names_of_the_package_are_loaded_on_first_use():
    for name in c3l.__all__:
        assert getattr(c3l, name) is not None
    assert c3l.examine.__module__ == "c3l.checks.conformance"
    assert c3l.scored.write_scored
