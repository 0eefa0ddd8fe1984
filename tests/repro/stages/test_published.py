"""Sets that others made: what is read, what is dropped and why, and how long the texts are."""

import json
from dataclasses import replace

import pandas as pd
import pytest
from PIL import Image
from scipy import stats

import repro.analysis.table
from c3l.artifacts.store import Source, Store
from c3l.runtime.errors import UserError
from c3l.samples import ImageFolder, Sample, read_samples, write_samples
from repro import profile
from repro.columns import COLUMNS
from repro.render import markdown
from repro.rows import C3L, CUT, LENGTHS, OURS, PUBLISHED, SETS, TABLES, Row, Table
from repro.stages import published
from repro.stages.evaluation import truth
from repro.stages.published import RECORD


def messages(*texts: str) -> list[dict]:
    return [{"from": ("human", "gpt")[k % 2], "value": text} for k, text in enumerate(texts)]


@pytest.fixture
def folder(tmp_path):
    """A set of two files: two conversations of LLaVA's, three records of LRV's."""
    (tmp_path / "toy" / "images" / "train").mkdir(parents=True)
    (tmp_path / "toy" / "data").mkdir()
    for name in ("a.png", "train/b.jpg", "twice.png", "twice.jpg"):
        Image.new("RGB", (4, 4)).save(tmp_path / "toy" / "images" / name)
    two = messages("<image>\nOne two three?", "One two.", "One?", "One.")
    llava = [
        {"id": "x", "image": "a.png", "conversations": two},
        {"id": "x", "image": "gone.png", "conversations": two},
    ]
    lrv = [
        {"image_id": "b", "question": "One two?", "answer": "One two three.", "task": "t"},
        {"image_id": "twice", "question": "Which?", "answer": "This."},
        {"image_id": "b", "question": "Why?", "answer": " "},
    ]
    for name, records in (("1.json", llava), ("2.json", lrv)):
        (tmp_path / "toy" / "data" / name).write_text(json.dumps(records))
    return tmp_path


def test_a_set_is_read_whole_and_every_dropped_turn_has_its_reason(folder):
    store = Store(folder / "store")
    stage = published.comparison(published.find_data_set(folder, "toy"))
    samples = read_samples(store.make(stage) / "samples.jsonl")
    assert samples == [
        Sample("x-0", "a.png", "One two three?", "One two.", meta={RECORD: "1"}),
        Sample("x-1", "a.png", "One?", "One.", meta={RECORD: "1"}),
        Sample("2-1", "train/b.jpg", "One two?", "One two three.", meta={"task": "t", RECORD: "3"}),
    ]
    images = ImageFolder(folder / "toy" / "images")
    assert all(images[sample.image].size == (4, 4) for sample in samples)
    facts = store.manifest(stage)["facts"]
    assert facts["dropped"] == {"image_missing": 3, "empty_answer": 1}
    assert facts["read"] == facts["samples"] + sum(facts["dropped"].values()) == 7
    assert facts["records"] == 5
    lines = (store.path(stage) / "left_out.jsonl").read_text().splitlines()
    assert [tuple(json.loads(line).values()) for line in lines] == [
        ("x-0", "1.json, record 2", "image_missing"),
        ("x-1", "1.json, record 2", "image_missing"),
        ("2-2", "2.json, record 2", "image_missing"),
        ("2-3", "2.json, record 3", "empty_answer"),
    ]


def test_a_set_counts_by_its_files(folder):
    before = published.comparison(published.find_data_set(folder, "toy")).key
    assert published.comparison(published.find_data_set(folder, "toy")).key == before
    Image.new("RGB", (4, 4), "red").save(folder / "toy" / "images" / "a.png")
    assert published.comparison(published.find_data_set(folder, "toy")).key != before


def test_a_set_that_is_not_there_is_unscored_and_says_where_to_put_it(tmp_path):
    store = Store(tmp_path / "store")
    stage = published.comparison(published.find_data_set(tmp_path, "lrv"))
    for wants in (stage, published.cut(stage, 3, seed=0), truth(stage, None)):
        store.make(wants)
        assert "no file in comparison/lrv/data" in store.manifest(wants)["facts"]["unscored"]


def test_a_set_without_any_image_is_a_sentence(folder):
    for path in (folder / "toy" / "images").rglob("*.*"):
        path.unlink()
    stage = published.comparison(published.find_data_set(folder, "toy"))
    with pytest.raises(UserError, match=r"no sample of toy can be used .*'image_missing': 7"):
        Store(folder / "store").make(stage)


@pytest.fixture
def some(tmp_path):
    """A function from samples to a source that stands for the stage which made them."""

    def some(samples: list[Sample]) -> Source:
        (tmp_path / "some").mkdir()
        write_samples(tmp_path / "some" / "samples.jsonl", samples)
        return Source.from_path(tmp_path / "some")

    return some


def test_a_cut_is_a_seeded_draw_in_order(tmp_path, some):
    samples = [Sample(f"{k:02}", "a.png", "Why?", "So.") for k in range(40)]
    source, store = some(samples), Store(tmp_path / "store")
    drawn = {}
    for size, seed in ((10, 0), (10, 1), (50, 0)):
        stage = published.cut(source, size, seed)
        drawn[size, seed] = read_samples(store.make(stage) / "samples.jsonl")
        facts = store.manifest(stage)["facts"]
        assert facts["samples"] + facts["not_drawn"] == 40
        assert drawn[size, seed] == sorted(drawn[size, seed], key=lambda sample: sample.id)
    assert len(drawn[10, 0]) == len(drawn[10, 1]) == 10
    assert drawn[10, 0] != drawn[10, 1]
    assert drawn[50, 0] == samples


def test_table_2_counts_as_by_hand(tmp_path, some, tiny_llava, monkeypatch):
    """A conversation of two turns and a single sample that names no record."""
    samples = [
        Sample("x-0", "a.png", "one two  three", "one", meta={RECORD: "1"}),
        Sample("x-1", "a.png", "one", "one two three four", meta={RECORD: "1"}),
        Sample("y", "b.png", "one two", "ab"),
    ]
    store = Store(tmp_path / "store")
    stage = published.lengths(some(samples), Source.from_path(tiny_llava))
    store.make(stage)
    monkeypatch.setitem(TABLES, "table9", Table("Ours", (Row("Ours"),), LENGTHS))
    cells = {"Ours": {column: [[stage]] for column in LENGTHS}}
    loaded = profile.load("pocket")
    (row,) = repro.analysis.table.finished_table("table9", cells, loaded, [0], store)["rows"]
    values = {column: cell["value"] for column, cell in row["cells"].items()}
    assert values == {
        "instances": 2,
        "Q len": 2,
        "A len": 2,
        "words a record": 6,
        # a token is a byte here, a space three
        "Q tokens": pytest.approx((20 + 3 + 9) / 3, abs=1e-4),
        "A tokens": pytest.approx((3 + 24 + 2) / 3, abs=1e-4),
    }
    assert all(cell["n"] == 3 for cell in row["cells"].values())
    assert markdown.format_cell(row["cells"]["instances"]) == "2.0"
    assert markdown.format_cell(row["cells"]["A tokens"]).startswith("9.7 [-")


def test_lengths_are_spread_over_data_seeds():
    frames = [
        [pd.DataFrame({"image_id": ["a"], RECORD: ["1"], "answer_words": [words]})]
        for words in (2, 6)
    ]
    lengths, instances = COLUMNS["A len"], COLUMNS["instances"]
    half = stats.t.ppf(0.975, 1) * 2
    estimate = lengths.estimate(lengths.influence(frames))
    assert estimate == pytest.approx((4, 4 - half, 4 + half))
    assert instances.estimate(instances.influence(frames)) == (1, None, None)


def test_ours_is_the_full_methods_data_and_what_all_else_in_table_3_is_compared_with():
    assert replace(OURS, label=C3L.label) == C3L
    assert TABLES["table2"].rows == SETS
    rows = {row.label: row for row in TABLES["table3"].rows}
    assert rows.pop("Ours") == OURS
    assert {row.base for row in rows.values()} == {"Ours"}
    for label, name in PUBLISHED.items():
        assert (rows[label].data, rows[label].cut) == (name, False)
    assert [(row.data, row.cut) for row in CUT] == [(name, True) for name in PUBLISHED.values()]
