"""Real images and benchmarks laid out for a profile: a COCO folder and a Hub cache made here."""

import json

import huggingface_hub.constants
import pytest

from benchmarks import real
from c3l.artifacts.store import Store
from c3l.runtime.errors import UserError
from c3l.samples import ImageFolder
from repro import inputs
from repro import profile as profiles
from repro.checks import doctor
from tests.repro import toy


def lay_out(coco, out, **changes):
    return real.link_data(coco, out, **({"initial": 6, "final": 4, "seed": 0} | changes))


def test_a_profile_runs_on_what_was_laid_out(coco, cache, tmp_path, tiny_llava):
    out = tmp_path / "data" / "coco"
    said = lay_out(coco, out)
    assert json.loads((out / "data.json").read_text()) == said
    assert said["benchmarks"]["pope"] == f"lmms-lab/POPE@{cache}"
    assert not list(out.parent.glob(".*"))
    parts = [ImageFolder(out / part / "images") for part in ("initial", "final")]
    first, second = (set(part.names()) for part in parts)
    assert (len(first), len(second)) == (6, 4) and not first & second
    assert all(part[name].size == (32, 24) for part in parts for name in part.names())
    path = toy.profile(tmp_path / "profile", tiny_llava)
    profile = profiles.load(str(path), [f"data={out}"])
    found = [finding for finding in doctor.examine_profile(profile, tmp_path) if finding.needed]
    assert not [finding.remedy for finding in found if finding.remedy]
    made = inputs.resolve_inputs(profile, Store(tmp_path / "store"))
    assert made.benchmarks.keys() == {"SEED", "POPE", "POPE AUC", "MMB", "LLaVA^W"}


def test_the_seed_decides_what_is_drawn(coco):
    assert (
        real.draw_images(coco, 6, 4, 0)
        == real.draw_images(coco, 6, 4, 0)
        != real.draw_images(coco, 6, 4, 1)
    )


def test_another_year_and_half_a_download_are_refused(coco, cache, tmp_path):
    (coco / "COCO_train2014_000000000007.jpg").unlink()
    with pytest.raises(UserError, match="holds 11 of 12 images of COCO train2014"):
        lay_out(coco, tmp_path / "out")
    other = tmp_path / "train2017"
    other.mkdir()
    (other / "000000000009.jpg").touch()
    with pytest.raises(UserError, match=r"holds no images of COCO train2014 .*give the unpacked"):
        lay_out(other, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_not_touched_and_nothing_is_half_made(coco, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    with pytest.raises(UserError, match="lmms-lab/SEED-Bench is not in the Hub's cache"):
        lay_out(coco, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="is there already"):
        lay_out(coco, tmp_path / "out")


def test_more_than_there_are(coco, tmp_path):
    with pytest.raises(UserError, match="10 and 4 images are more than the 12 there"):
        lay_out(coco, tmp_path / "out", initial=10)
