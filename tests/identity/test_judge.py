"""Who judges, and what of a reply is read, is part of an evaluation's key; its spelling is not."""

from pathlib import Path

from c3l.artifacts.store import Source
from repro import profile
from repro.stages.evaluation import evaluation

WEIGHTS, DATA = Source(Path("weights"), "w"), Source(Path("data"), "d")
AT = "scoring.judge=https://host/v1"
STRIPS = "scoring.judge_strip_thinking=true"


def key(*changes: str, task: str = "llava_w") -> str:
    return evaluation(WEIGHTS, task, DATA, profile.load("pocket", list(changes)).scoring).key


def test_what_changes_grades_changes_the_key():
    keys = [
        key(),
        key("scoring.judge=null"),
        key(AT),
        key(AT, STRIPS),
        key(AT, "scoring.judge_model=other"),
        key(AT, "scoring.judge_model=other", STRIPS),
        key("scoring.judge=http://host/v1"),
        key("scoring.judge=https://host/v2"),
    ]
    assert len(set(keys)) == len(keys)


def test_what_does_not_does_not():
    assert key(AT) == key(f"{AT}/") == key(AT, "scoring.judge_strip_thinking=false")
    assert key() == key(STRIPS)  # the pocket judge does not think
    assert key(AT, task="pope") == key(AT, STRIPS, task="pope")
    assert key(AT) == key(AT, "scoring.judge_price={input: 1, output: 1}")


def test_an_evaluation_without_the_option_is_the_one_it_was():
    """Its configuration holds nothing about the option: what was scored before is found again."""
    scoring = profile.load("pocket", [AT, "scoring.judge_model=m"]).scoring
    assert evaluation(WEIGHTS, "llava_w", DATA, scoring).config["judge"] == {
        "model": "m",
        "url": "https://host/v1",
        "key_variable": "OPENAI_API_KEY",
    }
