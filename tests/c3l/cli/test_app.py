"""`python -m c3l score` in a child process: what it writes, says and exits with."""

import json
import subprocess
import sys

import pytest

from c3l.backbones import load_backbone
from c3l.relevance import in_form
from c3l.samples import Sample, write_samples
from c3l.scores import read_scores
from tests.repro.toy import ROOT


def c3l(*arguments):
    command = [sys.executable, "-m", "c3l", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.fixture
def scored(tiny_llava, tiny_images, tmp_path):
    """A function that scores samples with further options; the result and the file of scores."""

    def run(samples, *options):
        write_samples(tmp_path / "samples.jsonl", samples)
        given = ["--backbone", tiny_llava, "--images", tiny_images, "--out", tmp_path / "s.parquet"]
        return c3l("score", tmp_path / "samples.jsonl", *given, *options), tmp_path / "s.parquet"

    return run


def test_strict_refuses_before_anything_is_loaded(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '{"id": "1", "image": null, "question": "a", "answer": "b"}\n'
    )
    given = [tmp_path / "a.jsonl", "--backbone", "none", "--out", tmp_path / "b.jsonl"]
    done = c3l("score", *given, "--images", tmp_path, "--strict")
    assert done.returncode == 2 and "a.jsonl, line 1, field image" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


GOOD = [Sample(f"s{k}", f"image-{k}.png", "What is it?", "A cup.") for k in range(3)]
GONE = Sample("gone", "nowhere.png", "What is it?", "A cup.")
BLANK = Sample("blank", "image-0.png", "What is it?", " ")


def test_what_can_be_scored_is_and_the_rest_is_counted(scored):
    done, file = scored([GONE, *GOOD, BLANK], "--set", "score_form=logratio_mean")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "3 of 5 samples are scored" in done.stderr
    assert "2 have no score: empty_answer 1, image_missing 1." in done.stderr
    scores = read_scores(file)
    assert [score.id for score in scores] == ["gone", "s0", "s1", "s2", "blank"]
    assert [score.i2c for score in scores[1:4]] == pytest.approx(
        in_form(scores[1:4], "logratio_mean")
    )
    there = sorted(path.name for path in file.parent.iterdir())
    assert there == ["s.parquet", "s.parquet.left_out.jsonl", "samples.jsonl"]


def test_nothing_left_to_score_is_exit_2_and_no_file(scored):
    done, file = scored([GONE, BLANK])
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("(empty_answer 1, image_missing 1)")
    assert not file.exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--set", "score_form=best"],
            "--set score_form=best: score_form: input should be 'literal_sum'",
        ),
        (["--set", "colour=red"], "scoring has no key 'colour'; valid keys: score_form"),
        (["--set", "score_eos"], "write it as key=value"),
        (["--images", "/nowhere"], "/nowhere is no folder"),
        (["--out", "/nowhere/s.parquet"], "/nowhere is no folder"),
        (["--backbone", "/nowhere"], "no backbone at /nowhere"),
        (["--batch-size", "0"], "Invalid value for '--batch-size'"),
    ],
)
def test_bad_usage_is_one_sentence(scored, options, words):
    done, file = scored(GOOD, *options)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not file.exists()


def test_help_imports_nothing_heavy():
    code = "import c3l.cli.app, sys, json; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert not {"torch", "pandas", "PIL"} & set(json.loads(done.stdout))
    assert "score" in c3l("--help").stdout


def test_training_says_what_it_did_and_where_it_lies(tiny_llava, tiny_images, tmp_path):
    write_samples(tmp_path / "data.json", GOOD)
    given = ["--backbone", tiny_llava, "--images", tiny_images, "--data", tmp_path / "data.json"]
    given += ["--out", tmp_path / "tuned", "--set", "tuning=projector"]
    refused = c3l("train", *given, "--scores", tmp_path / "data.json")
    assert refused.returncode == 2
    assert "--scores are for a generator" in refused.stderr
    done = c3l("train", *given)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "" and "\x1b" not in done.stderr
    # A slow machine says a line a minute before.
    assert done.stderr.splitlines()[-1].startswith("Trained in 2 steps, mean loss ")
    assert load_backbone(tmp_path / "tuned").digest != load_backbone(tiny_llava).digest
