"""`c3l score` fed what it and others really write, with something unscored in it."""

import json

import pytest

from c3l.backbones import load_backbone
from c3l.cli import score
from c3l.data.left_out import left_out_path
from c3l.data.scored import with_scores, write_scored
from c3l.readings import Readings
from c3l.runtime.errors import UserError
from c3l.samples import Sample, read_data, read_samples, write_samples
from c3l.scores import read_scores
from c3l.training_data import read_training_data
from tests.c3l.people import ANSWER, ASK, IMAGE, MORE, READ, SAY, SET_ASIDE, SPELLINGS, llava

TALK = llava(ASK, SAY, *MORE, {"from": "human", "value": "And?"}, id="talk")
GONE = llava(ASK, SAY, id="gone", image="nowhere.png")
PEOPLES = [TALK, *READ.values(), *(value for _, value in SET_ASIDE.values()), GONE]


@pytest.fixture(scope="module")
def scored(tiny_llava, tiny_images):
    backbone = load_backbone(tiny_llava, device="cpu")

    def run(source, out):
        data = read_data(source)
        images = data.pictures(tiny_images)
        without = score.to_file(backbone, data, images, Readings(), out, batch_size=4)
        return data, without

    return run


def as_json(records, path):
    if path.suffix == ".json":
        path.write_text("\ufeff" + json.dumps(records), encoding="utf-8")
    else:
        path.write_text("\ufeff" + "\n".join(map(json.dumps, records)), encoding="utf-8")
    return path


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_five_spellings_of_one_record_have_one_score(scored, tmp_path):
    records = [llava(ASK | {"value": text}, SAY, id=str(k)) for k, text in enumerate(SPELLINGS)]
    scored(as_json(records, tmp_path / "in.json"), tmp_path / "out.json")
    values = [record["i2c"] for record in json.loads((tmp_path / "out.json").read_text())]
    assert values == pytest.approx([values[0]] * len(values), abs=1e-6)


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_what_score_writes_it_scores_again(scored, tmp_path, suffix):
    """In order and shape, with a byte-order mark, once for .json and lines; the list names all."""
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    data, without = scored(as_json(PEOPLES, tmp_path / f"in{suffix}"), first)
    scored(first, second)
    assert first.read_bytes() == second.read_bytes()
    records = json.loads(first.read_text()) if suffix == ".json" else lines(first)
    names = ("i2c", "tokens", "unscored")
    bare = [{k: v for k, v in record.items() if k not in names} for record in records]
    assert bare == [value if isinstance(value, dict) else {"record": value} for value in PEOPLES]
    assert records[0]["unscored"] == [None, None, "no_answer"]
    assert [type(value) for value in records[0]["i2c"]] == [float, float, type(None)]
    assert without == {"image_missing": 1} and records[-1]["unscored"] == "image_missing"
    left = lines(left_out_path(first))
    assert [item["why"] for item in left] == [
        "no_answer",
        *(why for why, _ in SET_ASIDE.values()),
        "image_missing",
    ]
    unit = "record" if suffix == ".json" else "line"
    assert left[0] == {
        "what": "talk-2",
        "where": f"in{suffix}, {unit} 1, turn 3",
        "why": "no_answer",
    }
    assert left[-1]["what"] == "gone" and len(data.turns) == len(data.samples) + len(left) - 1


def test_scores_by_token_have_a_row_for_each_sample(scored, tmp_path):
    data, _ = scored(as_json(PEOPLES, tmp_path / "in.json"), tmp_path / "out.parquet")
    scores = read_scores(tmp_path / "out.parquet")
    assert [one.id for one in scores] == [sample.id for sample in data.samples]
    assert [one.id for one in scores if one.unscored] == ["gone"]
    # Each turn has the score of its own that training takes from the data.
    scored(tmp_path / "in.json", tmp_path / "out.json")
    values = [sample.meta.get("i2c") for sample in read_data(tmp_path / "out.json").samples]
    assert values == [None if one.unscored else one.i2c for one in scores]


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet"])
def test_what_generate_writes_is_scored(scored, tmp_path, suffix):
    samples = [
        Sample("a", IMAGE, "What is it?", ANSWER, "conversation", {"caption": "A cup"}),
        Sample("b", IMAGE, "Is it red?", ANSWER),
        Sample("c", "nowhere.png", "What is it?", ANSWER),
    ]
    found = read_scores_of(scored, samples, tmp_path)
    write_scored(tmp_path / f"data{suffix}", with_scores(samples, found, [s.i2c for s in found]))
    scored(tmp_path / f"data{suffix}", tmp_path / "again.jsonl")
    again = read_samples(tmp_path / "again.jsonl")
    assert [one.meta.get("i2c") for one in again] == [one.i2c for one in found[:2]] + [None]
    assert again[0].meta["caption"] == "A cup" and again[2].meta["unscored"] == "image_missing"


def read_scores_of(scored, samples, folder):
    write_scored(folder / "bare.json", samples)
    scored(folder / "bare.json", folder / "bare.parquet")
    return read_scores(folder / "bare.parquet")


def test_the_data_are_never_written_over(scored, tmp_path):
    """By their own name, through a link, or by the list of what is left out."""
    content = as_json(PEOPLES, tmp_path / "in.json").read_bytes()
    (tmp_path / "link.json").symlink_to("in.json")
    listed = as_json([READ["question and answer"]], tmp_path / "o.jsonl.left_out.jsonl")
    write_samples(tmp_path / "in.parquet", [Sample("a", IMAGE, "What is it?", ANSWER)])
    given = [("in.json", "in.json"), ("in.json", "link.json"), ("in.parquet", "in.parquet")]
    for source, out in [*given, (listed.name, "o.jsonl")]:
        with pytest.raises(UserError, match="holds the data themselves"):
            scored(tmp_path / source, tmp_path / out)
    assert (tmp_path / "in.json").read_bytes() == content
    assert len(read_data(tmp_path / "in.parquet").samples) == 1


def test_scores_of_another_file_with_the_same_ids_are_refused(scored, tiny_images, tmp_path):
    names = ("a.json", "b.json", "c.json")
    given = dict(zip(names, (ANSWER, "A cat.", ANSWER), strict=True))
    for name, answer in given.items():
        image = f"elsewhere/{IMAGE}" if name == "c.json" else IMAGE
        as_json([llava(ASK, SAY | {"value": answer}, image=image)], tmp_path / name)
    scored(tmp_path / "a.json", tmp_path / "a.parquet")
    how = {"scores": tmp_path / "a.parquet", "readings": Readings()}
    for name in ("a.json", "c.json"):
        assert read_training_data(tmp_path / name, tiny_images, **how).values
    with pytest.raises(UserError, match="scores another r than that of"):
        read_training_data(tmp_path / "b.json", tiny_images, **how)
