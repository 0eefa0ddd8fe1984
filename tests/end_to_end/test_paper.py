"""The profile `paper` as it is, with other sizes and paths: from a COCO folder and a Hub's cache,
laid out as its user does, to a table."""

import json

import pytest
import yaml

from benchmarks import real
from repro.profile import PROFILES
from repro.rows import BASELINE, C3L
from tests.repro import toy


@pytest.fixture
def paper(coco, cache, writer, tmp_path):
    """The profile's file beside the data that it names; toy.profile's sizes."""
    data = tmp_path / "data" / "coco"
    real.link_data(coco, data, initial=6, final=4, seed=0)
    toy.comparison(data / "comparison")
    small = yaml.safe_load(toy.profile(tmp_path / "toy-profile", writer).read_text())
    values = yaml.safe_load((PROFILES / "paper.yaml").read_text())
    values |= {"data": "data/coco", "backbones": values["backbones"]}
    for backbone in ("LLaVA-7B", "LLaVA-13B", "MiniGPT-4", "MiniGPT-4 (Vicuna-7b)"):
        values["backbones"][backbone]["weights"] = str(writer)
    for part in ("sizes", "share", "generation"):
        values[part] = small[part]
    values["sizes"]["tuning_seeds"] = 1
    values["training"]["first"] |= {"batch_size": 2, "accumulation": 1, "learning_rate": 1e-5}
    for kind in ("joint", "contrastive"):
        values["training"][kind] |= {"anchor_tokens": 8}
    values["scoring"] |= {"answer_tokens": 8, "batch_size": 8}
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_the_paper_profile_prints_table_4(paper, tmp_path):
    runs = tmp_path / "runs"
    done = toy.repro("table4", "--profile", paper, "--runs", runs, "--seeds", 1)
    assert done.returncode == 0, done.stderr
    cells = {row["label"]: row["cells"] for row in toy.table(runs)["rows"]}
    for label in (BASELINE.label, C3L.label):
        assert {name: cell["unscored"] for name, cell in cells[label].items()} == {
            "SEED": None,
            "POPE": None,
            "POPE AUC": None,
        }
    assert cells[C3L.label]["SEED"]["metric"] == "seed_image"  # by letter, as published
    tunings = _manifests(runs, "vlit")
    (comparison,) = (made["key"] for made in _manifests(runs, "comparison"))
    # Tuned on others' data first, once; all that was made later began from that, and by LoRA.
    (first,) = (made["key"] for made in tunings if made["inputs"]["samples"] == comparison)
    later = [made for made in tunings if made["key"] != first] + _manifests(runs, "captions")
    assert {made["inputs"]["backbone"] for made in later} == {first}
    assert {made["config"]["readings"]["tuning"] for made in tunings} == {"lora"}


def _manifests(runs, kind: str) -> list[dict]:
    return [json.loads(path.read_text()) for path in runs.glob(f"store/{kind}/*/manifest.json")]
