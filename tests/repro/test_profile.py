"""Profiles and --set: what is wrong is named, and so is what would be right."""

from pathlib import Path

import pytest

from c3l.runtime.errors import UserError
from repro import profile
from repro.rows import TABLES


def test_the_default_profile_loads_with_its_backbone_beside_it():
    pocket = profile.load("pocket")
    assert pocket.name == "pocket"
    root = Path(profile.__file__).parent.parent
    llava = root / "benchmarks/pocket/backbones/llava-7b"
    assert pocket.backbones["LLaVA-7B"].weights == str(llava)


def test_changes_are_yaml_values_applied_in_order():
    changed = profile.load(
        "pocket", ["sizes.final_images=7", "readings.score_form=logratio", "sizes.final_images=9"]
    )
    assert changed.sizes.final_images == 9
    assert changed.readings.score_form == "logratio"
    assert changed.sizes.initial_images == profile.load("pocket").sizes.initial_images


def test_paths_in_changes_are_relative_to_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changed = profile.load("pocket", ["backbones.LLaVA-7B=mine", "data=world"])
    assert changed.backbones["LLaVA-7B"].weights == str(tmp_path / "mine")
    assert changed.data == str(tmp_path / "world")


def test_a_backbone_may_be_a_model_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "llava-hf/llava-1.5-7b-hf@main"
    changed = profile.load("pocket", [f"backbones.LLaVA-7B={name}"])
    assert changed.backbones["LLaVA-7B"].weights == name
    (tmp_path / name).mkdir(parents=True)
    changed = profile.load("pocket", [f"backbones.LLaVA-7B={name}"])
    assert changed.backbones["LLaVA-7B"].weights == str(tmp_path / name)


def test_paths_in_a_file_are_relative_to_the_file(tmp_path):
    text = (profile.PROFILES / "pocket.yaml").read_text().replace("data: pocket", "data: world")
    (tmp_path / "mine.yaml").write_text(text)
    mine = profile.load(str(tmp_path / "mine.yaml"))
    assert (mine.name, mine.data) == ("mine", str(tmp_path / "world"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("sizes.final_image=7", "sizes has no key 'final_image'.*initial_images, final_images"),
        ("size=7", "a profile has no key 'size'.*sizes"),
        ("sizes.final_images.x=7", "sizes.final_images has no key 'x'; it is a value"),
        ("sizes.final_images=many", "sizes.final_images: input should be a valid integer"),
        ("sizes.final_images=0", "greater than or equal to 1"),
        ("sizes={}", "sizes.initial_images: field required"),
        ("sizes.final_images", "write it as key=value"),
        ("share=[", "is not a YAML value"),
        ("readings.score_form=best", "readings.score_form: input should be 'literal_sum'"),
        ("training.vlit.batch_size=3 4", "training.vlit.batch_size"),
        ("scoring.judge=gpt-4", "scoring.judge: it is no address of a judge"),
        ("scoring.judge=https://user:secret@host/v1", "scoring.judge: it is no address of a judge"),
        ("scoring.judge=https://host/v1?key=secret", "scoring.judge: it is no address of a judge"),
        ("scoring.judge=https:///v1", "scoring.judge: it is no address of a judge"),
        ("scoring.judge=http://host:port/v1", "scoring.judge: it is no address of a judge"),
        ("scoring.judge=http://[host/v1", "scoring.judge: it is no address of a judge"),
        ("scoring.judge_price={input: -1, output: 1}", "judge_price.input: input should be"),
        ("scoring.judge_key=sk-secret", "scoring.judge_key: string should match"),
        ("backbones.LLaVA-7B.weight=x", "backbones.LLaVA-7B has no key 'weight'; .*weights"),
        ("backbones.LLaVA-7B.tuned_on=coco", "tuned_on: input should be 'comvint'"),
        ("backbones.LLaVA-7B.tuned_on=lrv", "training.first is needed: LLaVA-7B is tuned_on"),
        ("backbones.LLaVA-7B.readings={tune: lora}", "LLaVA-7B.readings.tune: there is no such"),
        ("backbones.LLaVA-7B.readings={tuning: low}", "LLaVA-7B.readings.tuning: input should be"),
    ],
)
def test_a_wrong_change_is_one_sentence(change, words):
    with pytest.raises(UserError, match=words) as raised:
        profile.load("pocket", [change])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"a: [", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"- a", "is not a mapping"),
        (b"", "is not a mapping"),
        (b"colour: red", "data: field required|colour: there is no such key"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path, text, words):
    path = tmp_path / "p.yaml"
    path.write_bytes(text)
    with pytest.raises(UserError, match=words) as raised:
        profile.load(str(path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", sorted(path.stem for path in profile.PROFILES.glob("*.yaml")))
def test_every_profile_that_is_shipped_loads_and_knows_the_rows_backbones(name):
    labels = {row.backbone for table in TABLES.values() for row in table.rows}
    assert profile.load(name).backbones.keys() <= labels


def test_an_unknown_profile_names_the_known_ones():
    with pytest.raises(UserError, match="no profile 'pockt': give one of paper, pocket"):
        profile.load("pockt")
