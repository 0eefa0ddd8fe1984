"""`python -m c3l generate` on a few pocket pictures: what lies there, killed and changed."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import datasets
import pytest
import yaml
from filelock import FileLock

from c3l.artifacts.store import Store
from c3l.generate import FILES, generate
from c3l.instructions import CLASSES
from c3l.runtime.errors import UserError
from c3l.samples import ImageFolder, read_data, read_samples
from c3l.settings import MethodSettings
from tests.c3l.pocket import BACKBONE, CHANGES, pictures
from tests.repro.toy import ROOT

N, PICTURES = 20, 9


def command(images: Path, out: Path) -> list[str]:
    made = [sys.executable, "-m", "c3l", "generate", "--backbone", BACKBONE.relative_to(ROOT)]
    made += ["--images", images, "--out", out, "--n", N]
    return [*map(str, made), *(part for change in CHANGES for part in ("--set", change))]


def again(images: Path, out: Path, *changes: str, **options):
    """The same once more in this process, with further changes."""
    settings = MethodSettings().changed([*CHANGES, *changes])
    here = os.getcwd()
    os.chdir(ROOT)  # the backbone's name is written into the card
    try:
        options = {"n": N, "settings": settings} | options
        return generate(str(BACKBONE.relative_to(ROOT)), images, out, **options)
    finally:
        os.chdir(here)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = pictures(tmp_path_factory.mktemp("own"), PICTURES)
    (folder / "some" / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def finished(images, tmp_path_factory):
    """What an undisturbed run left, and what it said."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    done = subprocess.run(command(images, out), capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return out, done.stderr


def contents(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in FILES}


def test_the_data_are_the_same_in_every_file_and_datasets_opens_them(finished, images, tmp_path):
    out, said = finished
    samples = read_samples(out / "data.parquet")
    assert samples == read_samples(out / "data.jsonl") == read_samples(out / "data.json")
    assert len(samples) == N
    assert f"{N} samples about" in said and "Images left out: image_unreadable 1." in said
    opened = datasets.load_dataset(str(out), cache_dir=str(tmp_path))["train"]
    assert opened["id"] == [sample.id for sample in samples]
    assert all(isinstance(score, float) for score in opened["i2c"])
    assert all(count > 0 for count in opened["tokens"])
    assert {*opened["instruction"]} <= {*CLASSES}
    assert all(opened["caption"])
    for name in opened["image"]:
        assert ImageFolder(images)[name]
    assert {path.name for path in out.iterdir()} == {*FILES, ".store", "left_out.jsonl"}


def test_what_is_left_out_is_named(finished):
    """Images by their paths, pairs by their ids: in = out + left out."""
    out, said = finished
    left_out = [json.loads(line) for line in (out / "left_out.jsonl").read_text().splitlines()]
    assert f"listed in {out / 'left_out.jsonl'}" in said
    assert ("some/broken.png", "image_unreadable") in {(i["what"], i["why"]) for i in left_out}
    pairs = [item for item in left_out if not item["why"].startswith("image")]
    written = [
        sample.id
        for folder in (out / ".store" / "initial").iterdir()
        if json.loads((folder / "manifest.json").read_text())["inputs"].get("backbone")
        for sample in read_samples(folder / "samples.jsonl")
    ]
    there = {sample.id for sample in read_samples(out / "data.jsonl")}
    named = {item["what"] for item in pairs}
    assert named and not named & there and named | there <= set(written)
    card = (out / "README.md").read_text()
    rows = dict(re.findall(r"^\| (\w+) +\| +(\d+) \|$", card, re.MULTILINE))
    for why, count in Counter(item["why"] for item in pairs).items():
        assert int(rows[why]) >= count  # pieces of text that have no name count too


def test_the_scores_are_those_of_score(finished, images, tmp_path):
    from c3l.backbones import load_backbone
    from c3l.cli.score import to_file

    out, _ = finished
    samples = read_samples(out / "data.jsonl")
    bare = tmp_path / "bare.json"
    to_file(
        load_backbone(BACKBONE),
        read_data(out / "data.json"),
        ImageFolder(images),
        MethodSettings().readings,
        bare,
        batch_size=16,
    )
    for ours, theirs in zip(samples, read_samples(bare), strict=True):
        assert ours.meta["i2c"] == pytest.approx(theirs.meta["i2c"], abs=1e-4)
        assert ours.meta["tokens"] == theirs.meta["tokens"]


def test_the_card_tells_what_is_there(finished):
    out, _ = finished
    _, head, text = (out / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(head)["configs"][0]["data_files"] == "data.parquet"
    samples = read_samples(out / "data.jsonl")
    for name in {sample.instruction for sample in samples}:
        count = sum(sample.instruction == name for sample in samples)
        row = next(line for line in text.splitlines() if line.startswith(f"| {name}"))
        assert row.split("|")[2].strip() == str(count)
    bars = [line for line in text.splitlines() if "█" in line]
    assert sum(int(line.split("█")[0].split()[-1]) for line in bars) == len(samples)
    assert "| `tuning`" in text and "changed" in text
    assert "To be filled in" in text and "image_unreadable" in text
    assert str(BACKBONE.relative_to(ROOT)) in text
    assert str(Path.home()) not in text and str(out) not in text


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(finished, images, tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen(command(images, out), cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list(out.glob(".store/generator/.partial-*/checkpoint-*/trainer_state.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not any((out / name).exists() for name in FILES)
    made = again(images, out)
    assert made.stages_stored >= 5  # all before the training
    assert contents(out) == contents(finished[0])
    assert not [*out.rglob(".tmp-*"), *out.rglob(".partial-*")]


def test_another_reading_makes_only_what_it_touches_anew(finished, images, tmp_path):
    out = shutil.copytree(finished[0], tmp_path / "out", symlinks=True)
    assert again(images, out).stages_run == 0
    assert contents(out) == contents(finished[0])
    last = again(images, out, "score_form=logratio_mean", "share_within=class")
    assert 0 < last.stages_run < last.stages_run + last.stages_stored
    kinds = {path.name: len([*path.glob("[!.]*")]) for path in (out / ".store").glob("*")}
    # The initial data's, and the final data's anew, for the generator is another.
    assert kinds["generator"] == kinds["selection"] == 2
    assert kinds["scores"] == 3
    assert contents(out) != contents(finished[0])


def test_what_does_not_suffice_is_said_and_kept(images, tmp_path):
    made = again(images, tmp_path / "out", "pair_temperature=0", n=500, train=False)
    assert made.samples == len(read_samples(tmp_path / "out" / "data.jsonl")) < 500
    assert made.images == PICTURES
    assert made.unreadable == {"image_unreadable": 1}
    best = again(
        images, tmp_path / "out", "pair_temperature=0", "final_selection=i2c", n=5, train=False
    )
    chosen = read_samples(tmp_path / "out" / "data.jsonl")
    assert best.samples == len(chosen) == 5
    assert best.stages_run == 3  # the pool as a whole, its scores, the best; all texts were there
    assert best.dropped["not_drawn"] == made.samples - 5


def test_the_images_of_the_two_data_are_others_where_there_are_enough(images, tmp_path):
    out = tmp_path / "out"
    made = again(images, out, n=6, initial=4, final=3)
    initial, final = (
        {path.name for path in (out / ".store" / "images" / part).rglob("*.png")}
        for part in ("initial", "final-00000")
    )
    assert (len(initial), len(final)) == (4, 3)
    assert not initial & final
    assert made.images == 3


def test_one_run_at_a_time_and_none_among_the_images(images, tmp_path):
    with pytest.raises(UserError, match="lies among the images"):
        again(images, images / "out")
    store = Store(tmp_path / "out" / ".store")
    lock = FileLock(store.root / "locks" / "generate.lock")
    with lock:
        given = command(images, tmp_path / "out")
        done = subprocess.run(given, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, "another run is at work" in done.stderr) == (2, True), done.stderr


def test_a_broken_generator_ends_with_a_sentence(tiny_llava, images, tmp_path):
    settings = MethodSettings().changed([*CHANGES, "generation.caption_tokens=4"])
    for train, words in ((True, "nothing to train a generator on"), (False, "no valid pair")):
        with pytest.raises(UserError, match=words):
            generate(tiny_llava, images, tmp_path / "out", settings=settings, train=train)
        assert not any((tmp_path / "out" / name).exists() for name in FILES)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--out", ROOT / "tests"], "holds something else"),
        (["--out", "/nowhere/out"], "/nowhere is no folder"),
        (["--images", ROOT / "c3l"], "there is no image in"),
        (["--initial", "99"], "give a smaller --initial than 99"),
        (["--set", "training.speed=3"], "training has no key 'speed'; valid keys: learning_rate"),
        (["--set", "tuning=best"], "readings.tuning: input should be 'language+projector'"),
        (["-v", "-q"], "give either -v or -q"),
    ],
)
def test_bad_usage_is_one_sentence(images, tmp_path, options, words):
    given = [*command(images, tmp_path / "out"), *map(str, options)]
    done = subprocess.run(given, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_json_is_llavas_layout(finished):
    for record in json.loads((finished[0] / "data.json").read_text()):
        human, gpt = record["conversations"]
        assert human["value"].startswith("<image>\n") and human["from"] == "human"
        assert gpt["from"] == "gpt" and isinstance(record["i2c"], float)


def test_a_contrast_without_effect_is_said_before_anything_is_written(images, tmp_path):
    with pytest.raises(UserError, match="L_c would reach no weight of the model"):
        again(images, tmp_path / "out", "tuning=projector")
    assert not any((tmp_path / "out").rglob("manifest.json"))
